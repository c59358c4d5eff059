"""Variables that results are broken down and raked by, read off the marks of interviews.

    sex, region, residence   the item of that role: its options
    age                      the age item's groups
    disability               "with": a Washington Group domain at code 3 or 4 (a lot, cannot at all);
                             "without": all domains answered, none at 3 or 4; else not known
    wealth                   q1 (poorest) to q5, by the office's score file (`load_wealth`); not income

Which of them there are is the instrument's data. An interview on an older version of the instrument is
read through that version's own items. "Not known" is -1: no published category, but kept in the totals.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.instrument import UNANSWERED, Fault, Instrument, Item
from flows.questionnaire import POSITIONS
from storage.analysis.intervals import Ints

#: Interviews x items: the character codes of `interview.marks`.
Marks = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

_BY_ITEM = ("sex", "age", "region", "residence")
_DIFFICULT = 3  # Washington Group: disability = at least one domain at 3 or 4
WITH, WITHOUT = "with", "without"
QUINTILES = ("q1", "q2", "q3", "q4", "q5")
NOT_ASKED = "not_asked"
NOT_KNOWN = -1


class OfficeFileError(ValueError):
    """A file of the office is wrong. `faults` lists every one, each with file, row or key, and the fix."""

    def __init__(self, faults: Iterable[Fault]):
        self.faults = tuple(faults)
        super().__init__("\n".join(str(f) for f in self.faults))


@dataclass(frozen=True, slots=True)
class Wealth:
    """The office's wealth score: points an answer, and the four sums from which the next fifth begins."""

    source: str
    issued: date
    points: Mapping[str, Mapping[str, float]]  # item -> option (or "not_asked") -> points
    cuts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable to break down by: its id, its categories, and how to read it off."""

    id: str
    categories: tuple[str, ...]
    wealth: Wealth | None = None

    def of(self, instrument: Instrument, marks: Marks) -> Ints:
        """Each interview's place in `categories`, -1 where not known. `instrument`: that of the marks."""
        if self.wealth is not None:
            return _quintiles(self.wealth, instrument, marks)
        if self.id == "disability":
            return _disability(instrument, marks)
        item = next((i for i in instrument.items if i.role == self.id), None)
        if item is None:
            return np.full(len(marks), NOT_KNOWN, dtype=np.int64)
        place = {category: n for n, category in enumerate(self.categories)}
        return look_up(item, {option: place[option] for option in options_of(item) if option in place}, marks)


def variables(instrument: Instrument, wealth: Wealth | None = None) -> tuple[Variable, ...]:
    """What this instrument can be broken down by, in the order of publication."""
    found = []
    for role in _BY_ITEM:
        item = next((i for i in instrument.items if i.role == role), None)
        if item is not None and options_of(item):
            found.append(Variable(role, options_of(item)))
    if any(i.role == "disability" for i in instrument.items):
        found.append(Variable("disability", (WITH, WITHOUT)))
    if wealth is not None:
        found.append(Variable("wealth", QUINTILES, wealth))
    return tuple(found)


def options_of(item: Item) -> tuple[str, ...]:
    """The ids behind its marks: options of a scale, or the groups of a number."""
    return tuple(x.id for x in (item.scale.options if item.scale else item.groups))


def look_up(item: Item, values: Mapping[str, int], marks: Marks, otherwise: int = NOT_KNOWN) -> Ints:
    """`values` of the item's options or groups, by interview; `otherwise` for any other mark."""
    table = np.full(256, otherwise, dtype=np.int64)
    letters = [o.mark for o in item.scale.options] if item.scale else POSITIONS
    for option, letter in zip(options_of(item), letters, strict=False):
        if option in values:
            table[ord(letter)] = values[option]
    return table[marks[:, item.index]]


def possible(item: Item, instrument: Instrument, marks: Marks) -> Bools:
    """Whether the item was, or could still be, asked: no answer given before rules it out."""
    if not item.ask_if:
        return np.ones(len(marks), dtype=np.bool_)
    some = np.zeros(len(marks), dtype=np.bool_)
    for every in item.ask_if:
        all_of = np.ones(len(marks), dtype=np.bool_)
        for index, wanted in every:
            column = marks[:, index]
            table = np.zeros(256, dtype=np.bool_)
            table[np.frombuffer(wanted.encode(), dtype=np.uint8)] = True
            met = table[column]
            unsaid = column == ord(UNANSWERED)
            if unsaid.any():
                met |= unsaid & possible(instrument.items[index], instrument, marks)
            all_of &= met
        some |= all_of
    return some


def _disability(instrument: Instrument, marks: Marks) -> Ints:
    items = [i for i in instrument.items if i.role == "disability"]
    most = np.full(len(marks), 0, dtype=np.int64)
    known = np.ones(len(marks), dtype=np.bool_)
    for item in items:
        code = look_up(item, {o.id: o.code for o in item.scale.options} if item.scale else {}, marks)
        most = np.maximum(most, code)
        known &= code != NOT_KNOWN
    without = np.where(known, 1, NOT_KNOWN) if items else np.full(len(marks), NOT_KNOWN)
    return np.where(most >= _DIFFICULT, 0, without)


def _quintiles(wealth: Wealth, instrument: Instrument, marks: Marks) -> Ints:
    score = np.zeros(len(marks))
    for item_id, points in wealth.points.items():
        item = instrument.by_id.get(item_id)
        if item is None:
            return np.full(len(marks), NOT_KNOWN, dtype=np.int64)
        places = list(points)
        each = np.array([*points.values(), np.nan])
        at = look_up(item, {option: n for n, option in enumerate(places)}, marks)
        if NOT_ASKED in points:
            unsaid = marks[:, item.index] == ord(UNANSWERED)
            at = np.where(unsaid & ~possible(item, instrument, marks), places.index(NOT_ASKED), at)
        score += each[at]
    fifth = np.searchsorted(np.array(wealth.cuts), score, side="right")
    return np.where(np.isnan(score), NOT_KNOWN, fifth).astype(np.int64)


def load_wealth(path: Path, instrument: Instrument) -> Wealth:
    """The office's wealth score (docs/estimation.md has the form). Raises OfficeFileError."""
    name = str(path)
    faults: list[Fault] = []
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OfficeFileError([Fault(name, "-", f"cannot be read: {error}")]) from None
    for key in sorted(data.keys() - {"source", "date", "cuts", "points"}):
        faults.append(Fault(name, key, "unknown; known: source, date, cuts, points"))
    source, issued, cuts, points = (data.get(key) for key in ("source", "date", "cuts", "points"))
    if not isinstance(source, str) or not source.strip():
        faults.append(Fault(name, "source", "missing; say where the points come from"))
    if type(issued) is not date:
        faults.append(Fault(name, "date", "missing or no date; write 2025-10-01, without quotes"))
    if not (
        isinstance(cuts, list)
        and len(cuts) == len(QUINTILES) - 1
        and all(_is_number(c) for c in cuts)
        and all(low < high for low, high in pairwise(cuts))
    ):
        faults.append(Fault(name, "cuts", "give four numbers, ascending: where q2, q3, q4 and q5 begin"))
    if not isinstance(points, dict) or not points:
        faults.append(Fault(name, "points", 'missing; give a table an item: [points."household.fridge"]'))
        points = {}
    for item_id, row in points.items():
        item = instrument.by_id.get(item_id)
        if item is None or item.scale is None:
            faults.append(Fault(name, f"points.{item_id}", "is no choice item of the instrument"))
            continue
        wanted = set(options_of(item))
        given = row if isinstance(row, dict) else {}
        for option in sorted(wanted - given.keys()):
            faults.append(Fault(name, f"points.{item_id}.{option}", "missing; give its points"))
        for option in sorted(given.keys() - wanted - {NOT_ASKED}):
            faults.append(Fault(name, f"points.{item_id}.{option}", f"unknown; known: {', '.join(wanted)}"))
        for option, value in given.items():
            if not _is_number(value):
                faults.append(Fault(name, f"points.{item_id}.{option}", "must be a number"))
    if faults:
        raise OfficeFileError(faults)
    assert isinstance(issued, date) and isinstance(cuts, list)
    return Wealth(
        str(source), issued,
        {item: {option: float(value) for option, value in row.items()} for item, row in points.items()},
        tuple(map(float, cuts)),
    )  # fmt: skip


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
