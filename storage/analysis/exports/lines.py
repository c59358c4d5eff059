"""Rows of the wide and of the long file as lines of CSV text, at the speed that a million interviews need.

A cell is worked out once for each variable and mark (or value), escaping included, and a line is these cells
joined. What a cell is, the caller says: the same lines are written for people and on the way to Parquet.
"""

import csv
from collections.abc import Callable, Iterator
from io import StringIO
from operator import getitem, itemgetter
from typing import Any

from storage.analysis.dictionary import Variable
from storage.analysis.exports.microdata import Microdata

#: A value of a variable -> its cell, escaped as `quoted` does.
Cell = Callable[[Variable, Any], str]

_REMEMBERED = 10_000  # values of one variable, of those that come again


class _Cells(dict[Any, str]):
    """Value -> cell, worked out when first met."""

    def __init__(self, made: Callable[[Any], str], remembered: int = _REMEMBERED):
        super().__init__()
        self.made, self.remembered = made, remembered

    def __missing__(self, value: Any) -> str:
        cell = self.made(value)
        if len(self) < self.remembered:
            self[value] = cell
        return cell


def quoted(value: Any) -> str:
    """A cell as `csv` writes it."""
    if isinstance(value, str) and value.isalnum():  # as every id is: nothing to escape
        return value
    line = StringIO()
    csv.writer(line, lineterminator="").writerow((value, None))
    return line.getvalue()[:-1]


def wide_lines(data: Microdata, cell: Cell, worded: bool = False) -> Iterator[tuple[str, int, int]]:
    """Text, interviews in it, and lines; by the batch. worded: the words for each code, not the code."""

    def made(variable: Variable) -> Callable[[Any], str]:
        words = {c.code: c.labels[data.language] for c in variable.codes} if worded else {}
        return lambda value: cell(variable, words.get(value, value))

    tables = [_table(data, v, made(v)) for v in data.variables]
    for batch in data.marked():
        lines = [",".join(map(getitem, tables, row)) for row in batch]
        yield "\n".join(lines) + "\n", len(batch), len(lines)


def long_lines(data: Microdata, cell: Cell) -> Iterator[tuple[str, int, int]]:
    """The same of the long file: a line a value of an item, in the order of the wide one."""
    first = [n for n, v in enumerate(data.variables) if v.name in {w.name for w in data.long}]
    items = [n for n, v in enumerate(data.variables) if v.item is not None]
    heads = [_table(data, data.variables[n], _bound(cell, data.variables[n])) for n in first]
    rests = [_table(data, data.variables[n], _rest(data, data.variables[n], cell)) for n in items]
    head_of, items_of = itemgetter(*first), itemgetter(*items)
    for batch in data.marked():
        texts, count = [], 0
        for row in batch:
            values = list(filter(None, map(getitem, rests, items_of(row))))
            if values:
                head = ",".join(map(getitem, heads, head_of(row))) + ","
                texts.append(head + ("\n" + head).join(values) + "\n")
                count += len(values)
        yield "".join(texts), len(batch), count


def _table(data: Microdata, variable: Variable, made: Callable[[Any], str]) -> dict[Any, str]:
    codes = data.codes(variable)
    if codes is not None:
        return {mark: made(code) for mark, code in codes.items()}
    once = variable.name in ("interview", "respondent")  # or nearly so: not worth remembering
    return _Cells(made, 0 if once else _REMEMBERED)


def _bound(cell: Cell, variable: Variable) -> Callable[[Any], str]:
    return lambda value: cell(variable, value)


def _rest(data: Microdata, variable: Variable, cell: Cell) -> Callable[[Any], str]:
    """What follows the ids in a line of the long file; "" where the item has no value."""
    item = variable.item
    assert item is not None
    words = {c.code: c.labels[data.language] for c in variable.codes}
    missing = {c.code for c in variable.missing}
    columns = data.long[-8:]

    def rest(value: Any) -> str:
        if value is None:
            return ""
        about = (variable.name, item.id, item.service or None, item.attribute or None)
        if variable.what == "number":
            cells: tuple[Any, ...] = (*about, None, value, 0, None)
        else:
            cells = (*about, value, None, int(value in missing), words.get(value))
        return ",".join(cell(column, c) for column, c in zip(columns, cells, strict=True))

    return rest
