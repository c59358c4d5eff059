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
from storage.analysis.exports.lines import long_lines, quoted, wide_lines
from storage.analysis.exports.microdata import Microdata, Progress, Row

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe(row: Iterable[Any]) -> Iterator[Any]:
    """The cells as a spreadsheet may open them."""
    return map(_safe, row)


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA) else value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    return value


def write_csv(data: Microdata, folder: Path, told: Progress) -> list[Path]:
    """wide.csv (codes), wide_labels.csv (words), long.csv, codebook.csv."""
    wide, labels, long, codes = (
        folder / name for name in ("wide.csv", "wide_labels.csv", "long.csv", "codebook.csv")
    )
    for path, variables, lines in (
        (wide, data.variables, wide_lines(data, _cell)),
        (labels, data.variables, wide_lines(data, _cell, worded=True)),
        (long, data.long, long_lines(data, _cell)),
    ):
        done = 0
        with path.open("w", encoding=_encoding(data), newline="") as file:
            file.write(",".join(quoted(v.name) for v in variables) + "\n")
            for text, interviews, _ in lines:
                file.write(text)
                done += interviews
                told(path.name, done, data.count)
    with codes.open("w", encoding=_encoding(data), newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FILE_COLUMNS)
        writer.writerows(safe(row) for row in codebook_rows(data))
    return [wide, labels, long, codes]


def _cell(variable: Variable, value: Any) -> str:
    return quoted(_safe(value))


def _encoding(data: Microdata) -> str:
    return "utf-8-sig" if data.asked.excel else "utf-8"


def codebook_rows(data: Microdata) -> Iterator[Row]:
    files: list[tuple[str, Iterable[Variable]]] = [("wide.csv", data.variables), ("long.csv", data.long)]
    return file_codebook(files, data.language)
