"""The published figures as tables for people: estimates.csv and estimates.xlsx, one row a figure.

answers.csv, and a sheet of the workbook, have how people answered: one row an option of an item, national.
Percentages as released, already rounded; a figure that may not be shown has empty cells and its mark.
"""

import csv
import io
from collections.abc import Iterable, Iterator
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
#: Of answers.csv; what has the name of a column above is the same.
ANSWER_COLUMNS = {
    **{name: COLUMNS[name] for name in ("wave", "period", "service", "service_label", "measure")},
    "measure_label": COLUMNS["measure_label"],
    "option": "Answer, by id",
    "code": "Its code: 3 and 2 are positive answers, 1 and 0 negative",
    "label": "Answer",
    "percent": "Share of those with a valid answer who gave this one, per cent",
    **{name: COLUMNS[name] for name in ("se", "low", "high", "n", "mark", "notes")},
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


def answer_rows(release: Release, labels: Labels) -> Iterator[list[Cell]]:
    """The cells of each answer, in the order of ANSWER_COLUMNS; None for an empty cell."""
    for a in release.answers:
        e = a.figure
        yield [
            e.wave, e.period, e.service, labels.service(e.service), e.measure, labels.measure(e.measure),
            a.option, a.code, labels.answer(e.service, e.measure, a.option), *_numbers(e)[:5], e.mark,
            "; ".join(e.notes),
        ]  # fmt: skip


def figures_csv(release: Release, labels: Labels) -> str:
    """estimates.csv: UTF-8, a heading, an empty cell for no value; safe to open in a spreadsheet."""
    return _csv(COLUMNS, rows(release, labels))


def answers_csv(release: Release, labels: Labels) -> str:
    """answers.csv: likewise."""
    return _csv(ANSWER_COLUMNS, answer_rows(release, labels))


def _csv(columns: Iterable[str], table: Iterable[list[Cell]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in table:
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
        sheets = [("Figures", COLUMNS, rows(release, labels))]
        if release.answers:
            sheets.append(("Answers", ANSWER_COLUMNS, answer_rows(release, labels)))
        for title, names, table in sheets:
            sheet = book.add_worksheet(title)
            sheet.freeze_panes(1, 0)
            for column, name in enumerate(names):
                sheet.write_string(0, column, name, bold)
            n = 0
            for n, row in enumerate(table, 1):
                for column, cell in enumerate(row):
                    if isinstance(cell, str):
                        sheet.write_string(n, column, cell)
                    elif cell is not None:
                        sheet.write_number(n, column, cell)
            sheet.autofilter(0, 0, n, len(names) - 1)
        columns = book.add_worksheet("Columns")
        columns.set_column(0, 0, 20)
        columns.set_column(1, 1, 80)
        explained = list(COLUMNS.items())
        if release.answers:  # on their sheet some columns are others, and "percent" is of one answer
            explained += [(f"Answers: {k}", t) for k, t in ANSWER_COLUMNS.items() if COLUMNS.get(k) != t]
        for n, (name, text) in enumerate(explained):
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
            f"{rules.disclosure.group}, an answer given by fewer than {rules.disclosure.least}, or needed to "
            f"hide such a figure; then the NCHS standard for "
            f"proportions (n and effective n at least {rules.display.n}, width of the interval under "
            f"{rules.display.wide}). Counts are rounded to {rules.disclosure.rounding}.",
        ),
        ("Software", release.software),
    ]
