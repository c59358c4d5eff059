"""`export`: row-level data, for the office itself and for others; and what workers do for it."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import Context, Refused, need_wave, read_waves, wave_or_first
from gateway.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sqlalchemy import Engine

    from flows.wave import Wave

#: In the data folder: archives of exports that workers made.
EXPORTS_FOLDER = "exports"
#: And each night's copy of the data.
SNAPSHOTS_FOLDER = "snapshots"


def commands(context: Context) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def export(
        folder: Annotated[Path, typer.Argument(help="Where to write the files.")] = Path("export"),
        out: Annotated[Path | None, typer.Option(help="The same as FOLDER.")] = None,
        variant: Annotated[
            str,
            typer.Option(help="scientific or public: files for others. None: CSV for the office."),
        ] = "",
        formats: Annotated[
            list[str] | None,
            typer.Option(
                "--format", help="csv, xlsx, spss, stata, parquet, syntax, ddi, datapackage; repeatable."
            ),
        ] = None,
        all_formats: Annotated[bool, typer.Option("--all", help="Every format.")] = False,
        by: Annotated[str, typer.Option(help="Who has it made: kept in the book of exports.")] = "",
        wave: Annotated[str, typer.Option(help="A wave by its id; all if not given.")] = "",
        purpose: Annotated[
            str,
            typer.Option(help="Exports of one variant and purpose share ids; else each has its own."),
        ] = "",
        language: Annotated[str, typer.Option(help="Of the labels; else the instrument's first.")] = "",
        weights: Annotated[
            Path | None,
            typer.Option(
                help="Final weights instead of the release's: CSV interview,weight; the database's ids."
            ),
        ] = None,
        excel: Annotated[
            bool, typer.Option("--excel", help="CSV with the mark by which Excel knows UTF-8.")
        ] = False,
        simulated: Annotated[bool, typer.Option("--simulated", help="With interviews made up here.")] = False,
        job: Annotated[
            bool, typer.Option("--job", help="A worker makes it, as one archive; prints its id.")
        ] = False,
    ) -> None:
        """Write the interviews of all waves, told apart in column `wave`.

        Plain: long, wide and codebook as CSV, with the database's own ids, for the office itself. With
        --variant, --format or --all: files for others, with ids of their own. See docs/exports.md.
        """
        from storage.analysis.dictionary import SCIENTIFIC
        from storage.analysis.exports import ledger
        from storage.analysis.exports.formats import EXPORTS
        from storage.analysis.exports.microdata import Asked, Values
        from storage.database import check_schema, open_engine

        folder = out or folder
        for_others = bool(variant or formats or all_formats or job)
        settings = context(*(["PSEUDONYM_KEY"] if for_others else []), run_folder=True)
        engine = open_engine(settings.database_url)
        check_schema(engine)
        ours = wave_or_first(settings, wave)
        if wave:
            need_wave(engine, settings, wave)
        if not for_others:
            export_for_ourselves(engine, ours, folder, by, wave or None)
            return
        asked = Asked(
            variant or SCIENTIFIC, purpose or ledger.new_purpose(), wave or None, language, simulated, excel
        )
        wanted = list(EXPORTS) if all_formats else formats or ["csv"]
        if job:
            if weights is not None:
                raise Refused("--weights is a file of this machine: make the export here, without --job")
            typer.echo(enqueue_export(settings, ledger.ask(engine, asked, wanted, by)))
            return
        about = Values(ours.owner, ours.contact, ours.code)
        with progress_bars() as told:
            made = ledger.export_now(
                engine, ours.instrument, asked, settings.pseudonym_key, folder, wanted, by,
                weights=weights, about=about, progress=told,
            )  # fmt: skip
        typer.echo("\n".join(map(str, made.files)))

    return app


def export_for_ourselves(
    engine: "Engine", wave: "Wave", folder: Path, by: str, only: str | None = None
) -> None:
    """The plain CSV files, of one wave or of all, written down in the book of exports like any other."""
    import getpass
    from hashlib import sha256

    from storage.analysis.export import export_csv
    from storage.analysis.exports import ledger
    from storage.analysis.exports.formats import is_for_others, sums_of
    from storage.analysis.exports.microdata import Asked

    if is_for_others(folder):
        raise Refused(
            f"{folder}: holds an export for others, which these files may not be mixed with: give"
            " another folder, or empty this one"
        )
    rows = 0
    with (
        progress_bars() as told,
        ledger.audited(engine, Asked(ledger.INTERNAL, "", only), ["csv"], by or getpass.getuser()) as (
            noted,
            finished,
        ),
    ):

        def both(name: str, done: int, total: int) -> None:
            nonlocal rows
            rows = done if name == "wide.csv" else rows
            told(name, done, total)
            noted(name, done, total)

        written = export_csv(engine, wave.instrument, folder, both, wave=only)
        finished(rows, sha256(sums_of(written).encode()).hexdigest())
    typer.echo("\n".join(map(str, written)))


def enqueue_export(settings: Settings, export: str) -> str:
    """Have a worker make it; its id."""
    from gateway import jobs
    from storage.embedded import embedded_url

    queue, connection = jobs.open_queue(settings.redis_url or embedded_url(settings.data_dir))
    jobs.enqueue_export(queue, export)
    connection.close()
    return export


@contextmanager
def progress_bars() -> "Iterator[Callable[[str, int, int], None]]":
    """A bar for each step, on the terminal."""
    from rich.progress import Progress, TaskID

    tasks: dict[str, TaskID] = {}
    with Progress() as bar:

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name)
            bar.update(tasks[name], completed=done, total=total)

        yield told


# ---------------------------------------------------------------- in workers


def make_export(settings: Settings, export: str) -> None:
    """What a worker does for an export asked for with --job."""
    from storage.analysis.exports import ledger
    from storage.analysis.exports.microdata import Values
    from storage.database import check_schema, open_engine

    if not settings.pseudonym_key:
        raise Refused(f"{PREFIX}PSEUDONYM_KEY: is not set; a worker that makes exports needs it")
    engine = open_engine(settings.database_url)
    check_schema(engine)
    wave = wave_or_first(settings, ledger.wave_of(engine, export))
    about = Values(wave.owner, wave.contact, wave.code)
    archives = settings.data_dir / EXPORTS_FOLDER
    fielded = [w.id for w in read_waves(settings)]
    ledger.make(engine, wave.instrument, settings.pseudonym_key, archives, export, about, fielded)
    engine.dispose()


def sweep_exports(settings: Settings, now: "datetime") -> list[str]:
    """Removes expired exports and nights' copies; the ids of exports that are still to be made."""
    from storage.analysis import snapshot
    from storage.analysis.exports import ledger
    from storage.database import open_engine

    # Here, for it has to go on where no copy is taken any more: it was switched off, or each night's fails.
    snapshot.remove_old(settings.data_dir / SNAPSHOTS_FOLDER, now)
    engine = open_engine(settings.database_url)
    ledger.sweep(engine, settings.data_dir / EXPORTS_FOLDER, now)
    left = ledger.waiting(engine)
    engine.dispose()
    return left
