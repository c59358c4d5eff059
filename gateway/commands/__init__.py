"""The command line's verbs, one file a subject; `main.py` puts them together.

Each has `commands(context)`, where `context(*needs, run_folder=...)` reads the settings as main.py does.
What a verb runs is imported when it runs, so that `--help` is at once there.
"""

import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from gateway.settings import PREFIX, Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from flows.wave import Wave


class Refused(Exception):
    """A verb cannot do what was asked. Says what to do."""


#: Reads the settings: the names of those needed, and whether what `run` made counts too.
Context = Callable[..., Settings]


def say(message: str) -> None:
    """A line for the operator, apart from what a verb prints as its result."""
    typer.echo(f"dial16: {message}", err=True)


def read_waves(settings: Settings) -> tuple["Wave", ...]:
    """The waves and their instruments, checked whole; one at least. Raises InstrumentError."""
    from flows.waves import load_waves

    return load_waves(settings.wave_files, settings.instrument_dirs)


def one_wave(waves: "Sequence[Wave]", asked: str) -> "Wave":
    """The wave with the id asked for, or the only one. Raises Refused naming those there are."""
    ids = ", ".join(w.id for w in waves)
    found = [w for w in waves if w.id == asked] if asked else list(waves)
    if not found:
        raise Refused(f"no wave {asked!r}; there are: {ids}")
    if len(found) > 1:
        raise Refused(f"several waves are fielded; say which with --wave: {ids}")
    return found[0]


def wave_or_first(settings: Settings, asked: str | None) -> "Wave":
    """The wave with the id asked for; the first where none is, or where it is over and has no file."""
    waves = read_waves(settings)
    return next((w for w in waves if w.id == asked), waves[0])


def wave_named(settings: Settings, wave: str) -> "Wave":
    """The wave with this id. Raises Refused naming those there are."""
    return one_wave(read_waves(settings), wave)


def need_wave(engine: "Engine", settings: Settings, asked: str) -> None:
    """Raises ExportError for a wave that neither the wave files nor the record know, naming those they do."""
    from storage.analysis.exports.interviews import check_wave
    from storage.database import reading

    with reading(engine) as db:
        check_wave(db, asked, [w.id for w in read_waves(settings)])


def about_file(error: OSError) -> str:
    """What to do about a file or folder that cannot be written or read; "" where the error names none."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of an open file: without its name
        return "the disk is full, or your share of it: make room, then run this again"
    named = error.filename2 or error.filename  # of two: where to
    if not isinstance(named, (str, bytes, os.PathLike)):
        return ""
    settings = f"{PREFIX}DATA_DIR and {PREFIX}RELEASES_DIR"
    match error.errno:
        case errno.EEXIST | errno.ENOTDIR:
            what = "is a file, or under one, where a folder is needed: name another, or move the file away"
        case errno.EISDIR | errno.ENOTEMPTY:
            what = "is a folder where a file is needed: name another place, or move the folder away"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            what = (
                f"may not be used by this user: name another place (or in {settings}), or change its rights"
            )
        case errno.ENOENT:
            what = f"is not there, and cannot be made: see that the name is right (or in {settings})"
        case _:
            what = f"{error.strerror}: name another place"
    return f"{os.fsdecode(named)}: {what}"
