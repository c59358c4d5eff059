"""The codebook: what each variable of a file is and what each of its codes means, as rows of a table.

One row a variable and code; a variable without codes (an id, a time, a number) has one row. `option` is
the answer's stable id behind a code; `iso` its place in ISO 3166-2. Made from `dictionary`.
"""

from collections.abc import Iterable, Iterator

from flows.instrument import Instrument
from storage.analysis.columns import LONG_LABELS
from storage.analysis.dictionary import Code, Variable, view_variables

COLUMNS = (
    "file", "variable", "label", "type", "question", "service", "attribute", "role", "option", "code", "iso",
    "code_label", "nonresponse",
)  # fmt: skip
#: Of files that leave the house, also: what was asked, and of whom.
FILE_COLUMNS = (*COLUMNS, "wording", "universe")

Row = tuple[str, ...]


def codebook(instrument: Instrument) -> Iterator[Row]:
    """Of the views, rows in the order of `COLUMNS`; labels in the instrument's default language."""
    for variable in view_variables(instrument):
        for row in _rows("wide.csv", variable, instrument.default_language, coded=False):
            yield row[: len(COLUMNS)]
    for name, (kind, label) in LONG_LABELS.items():
        yield ("long.csv", name, label, kind, *("",) * 9)


def file_codebook(files: Iterable[tuple[str, Iterable[Variable]]], language: str) -> Iterator[Row]:
    """Of files that leave the house, rows in the order of `FILE_COLUMNS`: name and variables of each."""
    for name, variables in files:
        for variable in variables:
            yield from _rows(name, variable, language, coded=True)


def _rows(file: str, variable: Variable, language: str, *, coded: bool) -> Iterator[Row]:
    item = variable.item
    about = (item.number, item.service, item.attribute, item.role) if item else ("",) * 4
    head = (file, variable.name, variable.label, variable.kind, *about)
    asked = (variable.question.get(language, ""), variable.universe)
    for code in variable.codes:
        yield (*head, *_code(code, variable, language, coded), *asked)
    if not variable.codes:
        limits = "" if variable.least is None else f"{variable.least} to {variable.most}"
        yield (*head, "", "", "", limits, "", *asked)


def _code(code: Code, variable: Variable, language: str, coded: bool) -> Row:
    of_item = variable.item is not None
    option = code.option if coded or (of_item and variable.what != "group") else ""
    shown = code.code if coded else code.value
    return option, str(shown), code.iso, code.labels[language], str(int(code.missing)) if of_item else ""
