"""The published figures as a table for people: estimates.csv and estimates.xlsx, one row a figure.

Percentages as released, already rounded; a figure that may not be shown has empty cells and its mark.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from storage.analysis.estimates import Estimate
from storage.analysis.labels import Labels
from storage.analysis.release import Release, percent

MARKS = {
    "": "shown",
    "*": "shown, under review: see the note",
    "c": "not shown, so that nobody can be recognised",
    "u": "not shown: too few respondents to be reliable",
}
#: name -> what it is
COLUMNS = {
    "wave": "Wave: one fielding period",
    "period": "Year",
    "service": "Service, by id",
    "service_label": "Service",
    "measure": "overall, attributes (the mean of five), or the item of one attribute",
    "measure_label": "Measure",
    "variable_1": "Broken down by; empty: national",
    "category_1": "Category, by id",
    "category_1_label": "Category",
    "variable_2": "and by",
    "category_2": "Category, by id",
    "category_2_label": "Category",
    "percent": "Share of positive answers, per cent",
    "se": "Standard error, percentage points",
    "low": "Lower end of the 95 % interval, per cent",
    "high": "Upper end of the 95 % interval, per cent",
    "n": "Respondents with a valid answer, rounded",
    "n_eff": "Effective number of respondents, rounded",
    "deff": "Design effect",
    "df": "Degrees of freedom, rounded",
    "not_applicable": "97: not applicable, rounded",
    "dont_know": "98: don't know, rounded",
    "refused": "99: refused, rounded",
    "not_reached": "Given the questions, no answer on file, rounded",
    "mark": "Empty: shown; *, c, u: see marks",
    "notes": "What to know about this figure",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | float | int | None


def rows(release: Release, labels: Labels) -> Iterator[list[Cell]]:
    """The cells of each figure, in the order of COLUMNS; None for an empty cell."""
    for e in release.estimates:
        pairs: list[Cell] = []
        for variable, option in (*e.domain, ("", ""), ("", ""))[:2]:
            pairs += [variable, option, labels.option(variable, option) if option else ""]
        yield [
            e.wave, e.period, e.service, labels.service(e.service), e.measure, labels.measure(e.measure),
            *pairs, *_numbers(e), e.mark, "; ".join(e.notes),
        ]  # fmt: skip


def _numbers(e: Estimate) -> list[Cell]:
    def per_cent(share: float | None) -> Cell:
        return None if share is None else float(percent(share))

    errors = [per_cent(v) for v in (e.share, e.se, e.low, e.high)]
    if e.mark == "c":  # its zeros are no counts
        return [*errors, *[None] * 8]
    shown = e.mark != "u"
    return [
        *errors, e.n, int(e.n_eff) if shown else None, e.deff, e.df if shown else None,
        e.not_applicable, e.dont_know, e.refused, e.not_reached,
    ]  # fmt: skip


def figures_csv(release: Release, labels: Labels) -> str:
    """estimates.csv: UTF-8, a heading, an empty cell for no value; safe to open in a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows(release, labels):
        writer.writerow([_safe(cell) for cell in row])
    return out.getvalue()


def _safe(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return "'" + cell
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def write_figures_xlsx(release: Release, labels: Labels, path: Path) -> None:
    """estimates.xlsx: the figures, what the columns and marks mean, and what the release is."""
    import xlsxwriter  # type: ignore[import-untyped]

    # Texts are stored as texts: a label that looks like a formula or an address stays what it is.
    options = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(str(path), options) as book:
        bold = book.add_format({"bold": True})
        wrapped = book.add_format({"text_wrap": True, "valign": "top"})
        about = book.add_worksheet("Read me")
        about.set_column(0, 0, 22)
        about.set_column(1, 1, 100, wrapped)
        for n, (name, text) in enumerate(_about(release)):
            about.write_string(n, 0, name, bold)
            about.write_string(n, 1, text)
        sheet = book.add_worksheet("Figures")
        sheet.freeze_panes(1, 0)
        for column, name in enumerate(COLUMNS):
            sheet.write_string(0, column, name, bold)
        n = 0
        for n, row in enumerate(rows(release, labels), 1):
            for column, cell in enumerate(row):
                if isinstance(cell, str):
                    sheet.write_string(n, column, cell)
                elif cell is not None:
                    sheet.write_number(n, column, cell)
        sheet.autofilter(0, 0, n, len(COLUMNS) - 1)
        columns = book.add_worksheet("Columns")
        columns.set_column(0, 0, 20)
        columns.set_column(1, 1, 80)
        for n, (name, text) in enumerate(COLUMNS.items()):
            columns.write_string(n, 0, name, bold)
            columns.write_string(n, 1, text)


def _about(release: Release) -> list[tuple[str, str]]:
    rules = release.rules
    return [
        ("Title", release.title),
        ("Wave", release.wave),
        ("Version", f"{release.version}, issued {release.issued}: {release.reason}"),
        ("Published by", f"{release.owner}, {release.contact}"),
        ("Licence", release.licence),
        ("Caution", release.caution or "-"),
        ("Interviews", str(release.interviews)),
        ("Questionnaire", release.instrument),
        *(("Weighted to", f"{m.name}: {m.source}, {m.date}") for m in release.margins),
        *((f"Mark {mark or '(none)'}", text) for mark, text in MARKS.items()),
        (
            "Rules",
            f"Not shown: fewer than {rules.disclosure.least} respondents, all answers alike in a group under "
            f"{rules.disclosure.group}, or needed to hide such a figure; then the NCHS standard for "
            f"proportions (n and effective n at least {rules.display.n}, width of the interval under "
            f"{rules.display.wide}). Counts are rounded to {rules.disclosure.rounding}.",
        ),
        ("Software", release.software),
    ]
