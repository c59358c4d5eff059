"""`wave open`, `wave close`, `wave times`, `wave list`: whether waves take interviews, and why."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import Context, Refused, read_waves, say, wave_named
from gateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from flows.wave import Wave
    from storage.waves import Word

_Wave = Annotated[str, typer.Argument(help="The wave's id, as in its file.")]


def commands(context: Context) -> typer.Typer:
    app = typer.Typer(help="Open and close waves; list them.", no_args_is_help=True)

    @app.command("open")
    def open_wave(wave: _Wave) -> None:
        """Take interviews from now on, whatever times the file gives."""
        from storage.waves import OPEN

        _tell(context(run_folder=True), wave, OPEN)

    @app.command("close")
    def close_wave(wave: _Wave) -> None:
        """Take no more interviews. Who is in the middle of one may finish; results and withdrawal stay."""
        from storage.waves import CLOSE

        _tell(context(run_folder=True), wave, CLOSE)

    @app.command("times")
    def times_of_wave(wave: _Wave) -> None:
        """Take an earlier word back: the times in the wave's file decide again."""
        from storage.waves import TIMES

        _tell(context(run_folder=True), wave, TIMES)

    @app.command("list")
    def list_waves() -> None:
        """Show each wave: whether it is open and why, its codes and times, how many took part."""
        from storage.database import check_schema, open_engine
        from storage.waves import Progress, read_words, tallies

        settings = context(run_folder=True)
        waves, engine = read_waves(settings), open_engine(settings.database_url)
        check_schema(engine)
        words, progress, now = read_words(engine), tallies(engine), datetime.now(UTC)
        for wave in waves:
            is_open, why = standing(wave, words.get(wave.id), now)
            done = progress.get(wave.id, Progress(0, 0))
            typer.echo(f"{wave.id}: {'open' if is_open else 'closed'}, {why}")
            typer.echo(f"  file        {wave.file}")
            typer.echo(f"  instrument  {wave.instrument.reference}")
            typer.echo(f"  codes       {', '.join(dict.fromkeys((wave.code, *wave.codes)))}")
            if wave.sms_sender:
                typer.echo(f"  texts       {', '.join(wave.keywords)} to {wave.sms_sender}")
            typer.echo(f"  opens       {_moment(wave.opening.opens_at)}")
            typer.echo(f"  closes      {_moment(wave.opening.closes_at)}")
            typer.echo(f"  interviews  {done.interviews:,}, of them complete {done.completes:,}")

    return app


def standing(wave: "Wave", word: "Word | None", now: datetime) -> tuple[bool, str]:
    """Whether a wave is open, and why."""
    from storage.waves import OPEN, TIMES

    if word is not None and word.word != TIMES:
        return word.word == OPEN, f"by the operator's word of {_moment(_at(word))}"
    opening = wave.opening
    if opening.opens_at is not None and now < opening.opens_at:
        return False, "not yet by the times in its file"
    if opening.closes_at is not None and now >= opening.closes_at:
        return False, "over by the times in its file"
    limited = opening.opens_at or opening.closes_at
    return True, "by the times in its file" if limited else "for its file gives no times"


def _tell(settings: Settings, wave_id: str, word: str) -> None:
    import redis

    from gateway.jobs import connect
    from storage.database import check_schema, open_engine
    from storage.embedded import embedded_url
    from storage.waves import copy_word, read_words, say_word

    wave = wave_named(settings, wave_id)
    engine = open_engine(settings.database_url)
    check_schema(engine)
    _refuse_clash(wave, word, read_waves(settings), read_words(engine))
    said = say_word(engine, wave.id, word)
    try:
        copy_word(connect(settings.redis_url or embedded_url(settings.data_dir)), wave.id, said)
    except redis.RedisError:
        say("the live store is not reached: gateways hear of it from the database, within half a minute")
    is_open, why = standing(wave, said, datetime.now(UTC))
    typer.echo(f"{wave.id}: {'open' if is_open else 'closed'}, {why}")


def _refuse_clash(wave: "Wave", word: str, waves: "tuple[Wave, ...]", words: "dict[str, Word]") -> None:
    """Raises Refused if `word` would open a wave beside one that answers to the same."""
    from flows.waves import shared_ways
    from storage.waves import Word

    now = datetime.now(UTC)
    if not standing(wave, Word(0, word), now)[0]:
        return
    for other in waves:
        shared = [what for _, what in shared_ways(wave, other)] if other.id != wave.id else []
        if shared and standing(other, words.get(other.id), now)[0]:
            raise Refused(
                f"{other.id} ({other.file}) is open and answers to {', '.join(shared)} too; close it first"
            )


def _at(word: "Word") -> datetime:
    return datetime.fromtimestamp(word.at / 1000, UTC)


def _moment(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def refuse_ids(engine: "Engine", waves: "Sequence[Wave]") -> None:
    """Raises Refused for an id that no release could have, as long as it can still be changed.

    A wave that people have taken part in goes on.
    """
    from flows.wave import unfit_id
    from storage.waves import tallies

    unfit = {wave.id: said for wave in waves if (said := unfit_id(wave))}
    begun = tallies(engine) if unfit else {}
    for wave, said in unfit.items():
        if wave not in begun:
            raise Refused(said)
        say(f"{said}. This wave goes on without releases; mind it for the next")
