"""An Excel workbook: data by code, data by label, codebook, counts of each answer, read me.

Text is written as text, whatever it begins with: nothing becomes a formula, a number or a link.
A sheet holds 1,048,576 rows; more than that is refused, with the formats that have no such limit.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from storage.analysis.codebook import FILE_COLUMNS
from storage.analysis.dictionary import Variable
from storage.analysis.exports.csv_files import codebook_rows
from storage.analysis.exports.microdata import ExportError, Microdata, Progress, Row, batches
from storage.analysis.exports.read_me import facts, paragraphs

ROWS = 1_048_576 - 1  # of a sheet, under its header
_TEXT = 32_767  # characters of a cell
COUNT_COLUMNS = ("variable", "label", "valid", "not applicable", "don't know", "refused", "not reached",
                 "withheld", "empty")  # fmt: skip


def write_xlsx(data: Microdata, folder: Path, told: Progress) -> list[Path]:
    """data.xlsx. Raises ExportError above the rows that a sheet holds."""
    import xlsxwriter  # type: ignore[import-untyped,unused-ignore]

    if data.count > ROWS:
        raise ExportError(
            f"{data.count} interviews do not fit a sheet of {ROWS} rows: give --wave, or take csv or parquet"
        )
    path = folder / "data.xlsx"
    options = {
        "constant_memory": True, "tmpdir": str(folder),
        "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False,
    }  # fmt: skip
    names = [v.name for v in data.variables]
    with xlsxwriter.Workbook(str(path), options) as book:
        book.set_properties(
            {"title": data.instrument.title[:255], "created": data.made_at.replace(tzinfo=None)}
        )
        days = book.add_format({"num_format": "yyyy-mm-dd"})
        head = book.add_format({"bold": True})

        def sheet(name: str, columns: Iterable[str], rows: Iterable[Row], total: int) -> None:
            page = book.add_worksheet(name)
            page.freeze_panes(1, 0)
            for at, column in enumerate(columns):
                page.write_string(0, at, column, head)
            done = 0
            for batch in batches(rows):
                for row in batch:
                    done += 1
                    for at, value in enumerate(row):
                        _write(page, done, at, value, days)
                told(f"{path.name}: {name}", done, total or done)

        sheet("codes", names, _dated(data.variables, data.rows()), data.count)
        sheet("labels", names, _dated(data.variables, data.rows(worded=True)), data.count)
        sheet("codebook", FILE_COLUMNS, codebook_rows(data), 0)
        sheet("counts", COUNT_COLUMNS, counts(data), 0)
        about = [*facts(data), *(("", text) for text in paragraphs(data))]
        sheet("read me", ("", ""), about, 0)
    return [path]


def _write(page: Any, row: int, column: int, value: Any, days: Any) -> None:
    if isinstance(value, str):
        page.write_string(row, column, value[:_TEXT])
    elif isinstance(value, date):
        page.write_datetime(row, column, value, days)
    elif value is not None:
        page.write_number(row, column, value)


def _dated(variables: tuple[Variable, ...], rows: Iterable[Row]) -> Iterator[Row]:
    days = {n for n, v in enumerate(variables) if v.kind == "date"}
    for row in rows:
        yield tuple(date.fromisoformat(cell) if n in days and cell else cell for n, cell in enumerate(row))


def counts(data: Microdata) -> Iterator[Row]:
    """For each variable made from an item with codes: how many answers, and how many of each reason."""
    for v in data.variables:
        if v.item is None or not v.codes:
            continue
        found = data.counts(v)
        reasons = {c.option: c.code for c in v.missing}
        missing = [
            found.get(reasons[n], 0) if n in reasons else None
            for n in ("not_applicable", "dont_know", "refused", "not_reached", "withheld")
        ]
        valid = data.count - sum(m or 0 for m in missing) - found.get(None, 0)
        yield (v.name, v.label, valid, *missing, found.get(None, 0))
