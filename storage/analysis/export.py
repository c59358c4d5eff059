"""The record as CSV files, for the office itself: long, wide, the codebook, and what deviates from the
official source. What leaves the house is made by `exports`.

UTF-8 with a header line, times in ISO 8601 (UTC), an empty cell for no value. Text that a spreadsheet
would take for a formula gets an apostrophe before it; numbers are never touched.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, Engine

from flows.instrument import Instrument
from storage.analysis.codebook import COLUMNS, codebook
from storage.analysis.deviations import deviations_of
from storage.analysis.exports.csv_files import safe
from storage.analysis.exports.whole import remove_leftovers, whole_text
from storage.analysis.views import interviews_wide, quoted
from storage.database import reading

#: Called with the file's name, rows written so far, and rows in all.
Progress = Callable[[str, int, int], None]

_ROWS_AT_ONCE = 2000


def export_csv(
    engine: Engine,
    instrument: Instrument,
    folder: Path,
    progress: Progress | None = None,
    wave: str | None = None,
) -> list[Path]:
    """Write long.csv, wide.csv, codebook.csv and, where the instrument has such a list, deviations.md.

    Each file appears whole or not at all; long and wide come from one state of the database.
    wave: of this one alone, with the columns that its own `instrument` has; else all, as the views have them.
    Returns the files.
    """
    told = progress or (lambda name, done, total: None)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    written = []
    with reading(engine) as db:
        for name, view, order in (
            ("long.csv", "responses_long", "interview, position"),
            ("wide.csv", "interviews_wide", "interview"),
        ):
            if wave is not None and view == "interviews_wide":
                view = f"({interviews_wide(instrument)}) w"
            with whole_text(folder / name) as file:
                _write_view(db, view, order, wave, file, partial(told, name))
            written.append(folder / name)
    rows = list(codebook(instrument))
    with whole_text(folder / "codebook.csv") as file:
        _write_rows(file, COLUMNS, rows)
    told("codebook.csv", len(rows), len(rows))
    written.append(folder / "codebook.csv")
    for name, text in deviations_of(instrument).items():
        with whole_text(folder / name) as file:
            file.write(text)
        written.append(folder / name)
    return written


def _write_view(
    db: Connection, view: str, order: str, wave: str | None, file: TextIO, told: Callable[[int, int], None]
) -> None:
    which = view if wave is None else f"{view} WHERE wave = {quoted(wave)}"
    # Not bound text: ids may hold a colon. psycopg takes a lone "%" for a parameter of its own.
    which = which.replace("%", "%%") if db.dialect.name == "postgresql" else which
    total = int(db.exec_driver_sql(f"SELECT COUNT(*) FROM {which}").scalar_one())
    result = db.exec_driver_sql(
        f"SELECT * FROM {which} ORDER BY {order}", execution_options={"yield_per": _ROWS_AT_ONCE}
    )
    done = 0
    writer = csv.writer(file, lineterminator="\n")
    with closing(result):  # also when it fails: it holds a cursor of the server
        writer.writerow(list(result.keys()))
        for rows in result.partitions(_ROWS_AT_ONCE):
            writer.writerows(safe(row) for row in rows)
            done += len(rows)
            told(done, total)
    if not done:
        told(0, total)


def _write_rows(file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(safe(row) for row in rows)
