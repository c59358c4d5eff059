"""CSV: the wide file by code and by label, the long file, and the codebook.

UTF-8 with a header line, an empty cell for no value. Text that a spreadsheet would take for a formula
gets an apostrophe before it; numbers are never touched, or negative ones would break.
"""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.analysis.codebook import FILE_COLUMNS, file_codebook
from storage.analysis.dictionary import Variable
from storage.analysis.exports.microdata import Microdata, Progress, Row, batches

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe(row: Iterable[Any]) -> Iterator[Any]:
    """The cells as a spreadsheet may open them."""
    for value in row:
        if isinstance(value, str) and value.startswith(_FORMULA):
            yield "'" + value
        elif isinstance(value, datetime):
            yield value.astimezone(UTC).isoformat(timespec="milliseconds")
        else:
            yield value


def by_label(data: Microdata) -> Iterator[Row]:
    """Rows of the wide file with the words for each code."""
    words = [{c.code: c.labels[data.language] for c in v.codes} for v in data.variables]
    for row in data.rows():
        yield tuple(
            w.get(cell, cell) if w and cell is not None else cell for w, cell in zip(words, row, strict=True)
        )


def write_csv(data: Microdata, folder: Path, told: Progress) -> list[Path]:
    """wide.csv (codes), wide_labels.csv (words), long.csv, codebook.csv."""
    names = [v.name for v in data.variables]
    long = [v.name for v in data.long]
    return [
        _write(data, folder / "wide.csv", names, data.rows(), data.count, told),
        _write(data, folder / "wide_labels.csv", names, by_label(data), data.count, told),
        _write(data, folder / "long.csv", long, data.long_rows(), data.long_count, told),
        _write(data, folder / "codebook.csv", FILE_COLUMNS, codebook_rows(data), 0, told),
    ]


def codebook_rows(data: Microdata) -> Iterator[Row]:
    files: list[tuple[str, Iterable[Variable]]] = [("wide.csv", data.variables), ("long.csv", data.long)]
    return file_codebook(files, data.language)


def _write(
    data: Microdata, path: Path, names: Iterable[str], rows: Iterable[Row], total: int, told: Progress
) -> Path:
    done = 0
    with path.open("w", encoding="utf-8-sig" if data.asked.excel else "utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for batch in batches(rows):
            writer.writerows(safe(row) for row in batch)
            done += len(batch)
            told(path.name, done, total or done)
    return path
