"""Conditions on the columns of a view, as a reader asked for them: compared, joined, and turned into SQL.

    Compared("wave", "eq", "pilot")     one column with one value; value None: is it empty
    Joined("and", (.., ..))             and | or

An empty cell equals nothing but None, as OData has it: `ne` is the opposite of `eq`, and none of the
orderings holds for one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, TableClause, and_, false, or_, true

from storage.analysis.analytics import View

Value = str | int | float | bool | datetime | None
_LEAST, _MOST = -(2**63), 2**63 - 1  # what a whole number may be in both engines


class ConditionError(ValueError):
    """A condition that cannot be asked. Names the column and what it takes."""


@dataclass(frozen=True, slots=True)
class Compared:
    column: str
    how: str  # eq | ne | gt | ge | lt | le
    value: Value


@dataclass(frozen=True, slots=True)
class Joined:
    how: str  # and | or
    parts: "tuple[Condition, ...]"


Condition = Compared | Joined

_ORDERINGS: Mapping[str, Callable[[ColumnElement[object], object], ColumnElement[bool]]] = {
    "gt": lambda c, v: c > v,
    "ge": lambda c, v: c >= v,
    "lt": lambda c, v: c < v,
    "le": lambda c, v: c <= v,
}
_TAKES = {
    "text": (str, "text in quotes"),
    "whole": (int | float, "a number"),
    "real": (int | float, "a number"),
    "flag": (bool, "true or false"),
    "time": (datetime, "a time with its zone, 2026-11-23T08:00:00Z"),
}


def sql(
    condition: Condition, view: View, relation: TableClause, opened: Mapping[str, Callable[[str], str]]
) -> ColumnElement[bool]:
    """The condition on `relation`, the view's table clause.

    opened: of columns whose values readers see sealed, what turns one back; it raises ValueError for one
    that is nobody's. Raises ConditionError.
    """
    if isinstance(condition, Joined):
        parts = [sql(p, view, relation, opened) for p in condition.parts]
        return and_(*parts) if condition.how == "and" else or_(*parts)
    name, how, value = condition.column, condition.how, condition.value
    kind = view.kind(name)
    if kind is None:
        known = ", ".join(c.name for c in view.columns)
        raise ConditionError(f"{name}: no column of {view.name}; it has {known}")
    column: ColumnElement[object] = relation.c[name]
    if value is None:
        if how in ("eq", "ne"):
            return column.is_(None) if how == "eq" else column.is_not(None)
        return false()
    wanted, words = _TAKES[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "flag"):
        raise ConditionError(f"{name}: compare it with {words}")
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise ConditionError(f"{name}: the number is too large")
    if name in opened:
        if how not in ("eq", "ne"):
            raise ConditionError(f"{name}: ids can be compared by eq and ne only")
        try:
            value = opened[name](str(value))
        except ValueError:  # nobody's
            return false() if how == "eq" else true()
    if kind == "flag":
        if how not in ("eq", "ne"):
            raise ConditionError(f"{name}: true and false can be compared by eq and ne only")
        same = column.is_(true() if value else false())
        return same if how == "eq" else or_(column.is_(false() if value else true()), column.is_(None))
    if how == "eq":
        return column == value
    if how == "ne":
        return or_(column != value, column.is_(None))
    return _ORDERINGS[how](column, value)
