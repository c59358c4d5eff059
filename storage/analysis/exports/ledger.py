"""The book of exports: every export of row-level data has a row that says who had it made, of what, how far
it is, how many rows it holds, its digest, and when the file goes.

An export is made at once, into a folder (`export_now`), or by a worker, as one archive in the folder of
archives (`ask`, then `make`, which needs the row's id only and may be run again after a crash). `file_of`
is what a download serves: the file never changes once it has its name, so that a download broken off can
be resumed. `sweep` removes what has expired and what no row speaks for, and gives up what nobody works on any
more.
"""

import os
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from sqlalchemy import Engine, Row, insert, select, update

from flows.instrument import Instrument
from storage.analysis.dictionary import DictionaryError
from storage.analysis.exports.data_package import digest
from storage.analysis.exports.formats import Made, export_files, formats_named
from storage.analysis.exports.interviews import check_instrument, check_wave
from storage.analysis.exports.microdata import Asked, ExportError, Progress, Values
from storage.analysis.exports.whole import remove_leftovers, whole_path
from storage.database import reading, writing
from storage.models import ExportAudit, table_of

WAITING, RUNNING, DONE, FAILED, EXPIRED = "waiting", "running", "done", "failed", "expired"
INTERNAL = "internal"  # the plain CSV of the views, for the office itself
KEPT = timedelta(days=14)  # an archive may be fetched for so long
_SILENT = timedelta(hours=1)  # without progress for so long, the worker is gone
_TOLD_SECONDS = 1.0  # progress is written no more often than this
_ARCHIVE = re.compile(r"([0-9a-f]{32})\.zip\Z")

_export = table_of(ExportAudit)


@dataclass(frozen=True, slots=True)
class Progressed:
    """How an export stands."""

    id: str
    state: str
    step: str
    done: int
    total: int
    rows: int | None
    digest: str | None
    expires_at: datetime | None
    error: str | None


def ask(
    engine: Engine,
    asked: Asked,
    formats: Iterable[str],
    by: str,
    *,
    now: datetime | None = None,
    kept: timedelta = KEPT,
) -> str:
    """Write down an export that a worker is to make; its id. Raises ExportError."""
    now = now or datetime.now(UTC)
    return _write_down(engine, asked, formats_named(formats), by, now, WAITING, now + kept)


def new_purpose() -> str:
    """The purpose of an export that is to be joined with none."""
    return uuid.uuid4().hex


@contextmanager
def audited(
    engine: Engine, asked: Asked, formats: Iterable[str], by: str
) -> Iterator[tuple[Progress, Callable[[int, str], None]]]:
    """The row of an export made at once: for its progress, and for its rows and digest at the end."""
    export = _write_down(engine, asked, tuple(formats), by, datetime.now(UTC), RUNNING, None)

    def finished(rows: int, total: str) -> None:
        _set(engine, export, state=DONE, rows=rows, digest=total, made_at=datetime.now(UTC))

    with _failing(engine, export):
        yield _telling(engine, export), finished


def export_now(
    engine: Engine,
    instrument: Instrument,
    asked: Asked,
    key: bytes,
    folder: Path,
    formats: Iterable[str],
    by: str,
    *,
    weights: Path | None = None,
    about: Values | None = None,
    progress: Progress | None = None,
    others_left_out: bool = False,
) -> Made:
    """Make an export into `folder`, and write it down. The arguments are those of `export_files`.

    Waves on another questionnaire are refused, unless they are to be left out.
    """
    wanted = formats_named(formats)
    with audited(engine, asked, wanted, by) as (told, finished):
        if not others_left_out:
            _check(engine, instrument, asked)

        def both(what: str, done: int, total: int) -> None:
            told(what, done, total)
            if progress is not None:
                progress(what, done, total)

        made = export_files(
            engine, instrument, asked, key, folder, wanted, weights=weights, about=about, progress=both
        )
        finished(made.rows, made.digest)
    return made


def _check(engine: Engine, instrument: Instrument, asked: Asked) -> None:
    with reading(engine) as db:
        check_instrument(db, instrument, asked)


def wave_of(engine: Engine, export: str) -> str | None:
    """The wave that this export is of; None: of all, or there is no such export."""
    with reading(engine) as db:
        return db.execute(select(_export.c.wave).where(_export.c.id == export)).scalar()


def make(
    engine: Engine,
    instrument: Instrument,
    key: bytes,
    archives: Path,
    export: str,
    about: Values | None = None,
    fielded: Collection[str] = (),
) -> Path | None:
    """Make the export of this id into its archive; what a job does. None if there is nothing to do.

    fielded: waves that are known though nobody may have taken part yet, see `check_wave`. Raises what went
    wrong, after writing it down.
    """
    now = datetime.now(UTC)
    with writing(engine) as db:
        # Whoever gets the row makes it; one that is silent may be taken from a worker that is gone.
        took = db.execute(
            update(_export)
            .where(
                _export.c.id == export,
                _export.c.state.in_((WAITING, FAILED))
                | ((_export.c.state == RUNNING) & (_export.c.progressed_at < now - _SILENT)),
            )
            .values(state=RUNNING, progressed_at=now, error=None, step="", done=0, total=0)
        )
        if took.rowcount == 0:
            return None
        row = db.execute(select(_export).where(_export.c.id == export)).one()
    asked = Asked(row.variant, row.purpose, row.wave, row.language, row.simulated, row.excel)
    archives.mkdir(parents=True, exist_ok=True)
    path = _archive(archives, export)
    with _failing(engine, export), TemporaryDirectory(dir=archives, prefix=".making.") as place:
        told = _telling(engine, export)
        with reading(engine) as db:
            check_wave(db, asked.wave, fielded)
        _check(engine, instrument, asked)
        made = export_files(
            engine, instrument, asked, key, Path(place), row.formats.split(), about=about, progress=told
        )
        told("archive", 0, 0)
        zipped = Path(place) / path.name  # there a killed worker's is found
        with whole_path(zipped) as name, ZipFile(name, "w", ZIP_DEFLATED) as archive:
            for file in made.files:
                archive.write(file, file.name)
        total, size = digest(zipped), zipped.stat().st_size
        os.replace(zipped, path)
        try:
            _set(
                engine, export, state=DONE, rows=made.rows, digest=total, bytes=size,
                made_at=datetime.now(UTC), step="",
            )  # fmt: skip
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def progress_of(engine: Engine, export: str) -> Progressed | None:
    """How the export stands; None for an unknown id."""
    row = _row(engine, export)
    if row is None:
        return None
    return Progressed(
        row.id, row.state, row.step, row.done, row.total, row.rows, row.digest, row.expires_at, row.error
    )


def file_of(engine: Engine, archives: Path, export: str, now: datetime | None = None) -> Path:
    """The archive to serve, by Range too: once there it never changes. Its strong ETag is the digest.

    Raises ExportError saying why there is none: unknown, not made yet, failed, expired.
    """
    row = _row(engine, export)
    if row is None or row.variant == INTERNAL:
        raise ExportError("no such export: ask for one with main.py export --job")
    if row.state in (WAITING, RUNNING):
        raise ExportError("the export is not made yet: ask again later")
    if row.state == FAILED:
        raise ExportError(f"the export failed: {row.error}")
    path = _archive(archives, export)
    late = row.expires_at is not None and row.expires_at <= (now or datetime.now(UTC))
    if late or row.state == EXPIRED or not path.is_file():
        raise ExportError("the export has expired: ask for a new one")
    return path


def asked_by(engine: Engine, export: str) -> str | None:
    """Who asked for it; None for an unknown id."""
    row = _row(engine, export)
    return None if row is None else row.asked_by


def open_of(engine: Engine, by: str) -> int:
    """How many of their exports are not made yet."""
    not_made = _export.c.state.in_((WAITING, RUNNING))
    with reading(engine) as db:
        return len(db.execute(select(_export.c.id).where(_export.c.asked_by == by, not_made)).all())


def waiting(engine: Engine) -> list[str]:
    """Ids of exports that a worker is to make, oldest first: a wiped Redis has forgotten their jobs."""
    with reading(engine) as db:
        which = select(_export.c.id).where(_export.c.state == WAITING).order_by(_export.c.asked_at)
        return list(db.execute(which).scalars())


def sweep(engine: Engine, archives: Path, now: datetime | None = None) -> int:
    """Remove archives past their time; how many. Safe to run at any time and several at once.

    Also those that no row speaks for: a worker may have ended between making one and writing it down, and a
    database restored from a backup does not know the later ones.
    """
    now = now or datetime.now(UTC)
    with writing(engine) as db:
        over = [
            row.id
            for row in db.execute(
                select(_export.c.id).where(_export.c.state == DONE, _export.c.expires_at <= now)
            )
        ]
        silent = (_export.c.state == RUNNING) & (_export.c.progressed_at < now - _SILENT)
        gone = "the worker ended before it was made: run it again"
        db.execute(update(_export).where(silent).values(state=FAILED, error=gone))
    for export in over:
        _archive(archives, export).unlink(missing_ok=True)
        _set(engine, export, state=EXPIRED)
    remove_leftovers(archives)
    for path in list(archives.iterdir()) if archives.is_dir() else ():
        if named := _ARCHIVE.match(path.name):
            row = _row(engine, named[1])  # looked up one by one: whoever makes it has the row running
            if row is None or row.state not in (RUNNING, DONE):
                path.unlink(missing_ok=True)
    return len(over)


# ---------------------------------------------------------------- the row


def _archive(archives: Path, export: str) -> Path:
    return archives / f"{uuid.UUID(hex=export).hex}.zip"  # nothing but an id becomes a path


def _row(engine: Engine, export: str) -> Row[Any] | None:
    with reading(engine) as db:
        return db.execute(select(_export).where(_export.c.id == export)).first()


def _write_down(
    engine: Engine,
    asked: Asked,
    formats: tuple[str, ...],
    by: str,
    now: datetime,
    state: str,
    expires_at: datetime | None,
) -> str:
    if not by.strip():
        raise ExportError("say who the export is for: --by NAME")
    export = uuid.uuid4().hex
    with writing(engine) as db:
        db.execute(
            insert(_export).values(
                id=export, asked_at=now, asked_by=by.strip(), variant=asked.variant, purpose=asked.purpose,
                formats=" ".join(formats), wave=asked.wave, language=asked.language, excel=asked.excel,
                simulated=asked.simulated, state=state, progressed_at=now, expires_at=expires_at,
            )
        )  # fmt: skip
    return export


def _set(engine: Engine, export: str, **values: Any) -> None:
    with writing(engine) as db:
        db.execute(
            update(_export).where(_export.c.id == export).values(progressed_at=datetime.now(UTC), **values)
        )


def _telling(engine: Engine, export: str) -> Progress:
    """Writes progress into the row, now and then: each time is a transaction."""
    last = -_TOLD_SECONDS

    def told(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _TOLD_SECONDS:
            last = time.monotonic()
            _set(engine, export, step=what, done=done, total=total)

    return told


@contextmanager
def _failing(engine: Engine, export: str) -> Iterator[None]:
    """Writes down that it failed. Only our own words: another error's may hold an answer."""
    try:
        yield
    except BaseException as error:
        ours = isinstance(error, (ExportError, DictionaryError))
        _set(engine, export, state=FAILED, error=str(error) if ours else type(error).__name__)
        raise
