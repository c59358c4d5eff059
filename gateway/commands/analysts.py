"""Analysts: a login of their own; and what gateway and workers do for them, composed from the settings."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import Context, Refused, read_waves, say, wave_or_first
from gateway.commands.exporting import SNAPSHOTS_FOLDER
from gateway.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from flows.wave import Wave
    from gateway.analysts import Analysts
    from gateway.results import ResultsPages


def commands(context: Context) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def analyst(
        name: Annotated[str, typer.Argument(help="The login: lower-case letters, digits, _.")],
        out: Annotated[Path | None, typer.Option(help="Where to write its .pgpass line.")] = None,
        remove: Annotated[bool, typer.Option("--remove", help="Take the login away.")] = False,
    ) -> None:
        """Make a PostgreSQL login that reads the schema `analytics` and nothing else, or renew its password.

        The password is written to a file that only you may read; it is never shown.
        """
        import tempfile

        from storage.analysis.analyst_role import give_login, take_login
        from storage.database import check_schema, open_engine

        settings = context(run_folder=True)
        engine = open_engine(settings.database_url)
        check_schema(engine)
        if remove:
            take_login(engine, name)
            typer.echo(f"{name} is taken away.")
            return
        path = out or Path(f"{name}.pgpass")
        try:  # first the file, its owner's alone: if it cannot be written, the login stays as it was
            handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".pgpass.")
        except OSError as error:
            raise Refused(f"{path}: cannot be written: {error.strerror}") from None
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                login = give_login(engine, name)
                file.write(login.pgpass())
            os.replace(beside, path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
        typer.echo(f"{name} {'is made' if login.new else 'has a new password'}: {path}. See docs/api.md.")
        for what in login.left_open:
            say(f"{name}: {what}")

    return app


# ---------------------------------------------------------------- in the gateway


def results_api(settings: Settings, wave: "Wave") -> "Analysts | None":
    """None without DIAL16_API_TOKENS: there is no API then."""
    if not settings.api_tokens:
        return None
    from gateway.analysts import Analysts

    return Analysts(
        settings.api_tokens, database_url=settings.database_url, live_url=settings.redis_url,
        wave=wave, key=settings.pseudonym_key, data_dir=settings.data_dir,
    )  # fmt: skip


def public_pages(settings: Settings, waves: "Sequence[Wave]") -> "ResultsPages":
    """Results and open data, from the releases' folder, and what to dial for them. Raises MapError."""
    from gateway.pages.boundaries import load_boundaries
    from gateway.published import Published
    from gateway.results import ResultsPages
    from gateway.results_page import regions_of

    instrument = waves[0].instrument
    boundaries = load_boundaries(settings.map_file, regions_of(instrument)) if settings.map_file else None
    return ResultsPages(
        Published(settings.releases_dir), instrument, boundaries=boundaries, address=settings.web_address,
        waves=waves,
    )  # fmt: skip


# ---------------------------------------------------------------- in workers


def answer_query(settings: Settings, query: str) -> None:
    """What a worker does for a question asked on the staff's page or over the API."""
    from storage.analysis import queries
    from storage.database import check_schema, open_engine

    engine = open_engine(settings.database_url)
    check_schema(engine)
    question = queries.find(engine, query)
    wave = wave_or_first(settings, question.wave if question else None)
    queries.answer(engine, wave.instrument, settings.releases_dir, query, settings.release_file, wave.owner)
    engine.dispose()


def waiting_queries(settings: Settings, now: "datetime") -> list[str]:
    """Removes drafts a day old; ids of the questions still to be answered."""
    from storage.analysis import queries
    from storage.database import open_engine

    engine = open_engine(settings.database_url)
    left = queries.waiting(engine, now)
    engine.dispose()
    return left


def take_snapshot(settings: Settings, now: "datetime") -> None:
    """What a worker does each night, if DIAL16_SNAPSHOT is on."""
    from storage.analysis import snapshot
    from storage.analysis.exports.microdata import Values
    from storage.analysis.released import keep_releases
    from storage.database import check_schema, open_engine

    if not settings.pseudonym_key:
        raise Refused(f"{PREFIX}PSEUDONYM_KEY: is not set; a worker that takes snapshots needs it")
    engine = open_engine(settings.database_url)
    check_schema(engine)
    wave = read_waves(settings)[0]
    about = Values(wave.owner, wave.contact, wave.code)
    keep_releases(engine, settings.releases_dir)
    snapshot.take_snapshot(
        engine, wave.instrument, settings.pseudonym_key, settings.data_dir / SNAPSHOTS_FOLDER, now, about
    )
    engine.dispose()
