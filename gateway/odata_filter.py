"""OData's $filter, as far as spreadsheets use it: eq ne gt ge lt le, and, or, not, brackets.

    filter  = both *( "or" both )          both = one *( "and" one )
    one     = "(" filter ")" / "not" one / name how value
    value   = 'text' ('' is one quote) / number / true / false / null / 2026-11-23T08:00:00Z

Source: OData 4.01 Part 2, section 5.1.1, and its ABNF. Functions (contains, year, ..) are refused.
"""

import re
from datetime import UTC, datetime

from storage.analysis.conditions import Compared, Condition, Joined, Value

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')"
    r"|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,12})?)?(?:Z|[+-]\d\d:\d\d))"
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<bracket>[(),]))",
    re.ASCII,
)
_HOW = ("eq", "ne", "gt", "ge", "lt", "le")
_TURNED = {"eq": "ne", "ne": "eq"}
_DEEPEST, _MOST_TOKENS = 20, 400
_DIGITS = 17  # of a number; more are more than either engine keeps


class FilterError(ValueError):
    """The filter cannot be read. Says where and what is known."""


def read_filter(text: str) -> Condition:
    """The condition that `text` states. Raises FilterError."""
    reader = _Reader(_tokens(text))
    condition = reader.either(0)
    if reader.left:
        raise FilterError(f"unexpected {reader.left[0][1][:30]!r}: join comparisons by and, or")
    return condition


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FilterError(f"cannot be read from character {at + 1} on")
        assert match.lastgroup is not None
        found.append((match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
        if len(found) > _MOST_TOKENS:
            raise FilterError(f"has more than {_MOST_TOKENS} words")
    return found


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]):
        self.left = tokens

    def next(self) -> tuple[str, str]:
        if not self.left:
            raise FilterError("ends too early")
        return self.left.pop(0)

    def at(self, *words: str) -> bool:
        return bool(self.left) and self.left[0][0] in ("word", "bracket") and self.left[0][1] in words

    def either(self, depth: int) -> Condition:
        parts = [self.both(depth)]
        while self.at("or"):
            self.next()
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Joined("or", tuple(parts))

    def both(self, depth: int) -> Condition:
        parts = [self.one(depth)]
        while self.at("and"):
            self.next()
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else Joined("and", tuple(parts))

    def one(self, depth: int) -> Condition:
        if depth > _DEEPEST:
            raise FilterError(f"has brackets more than {_DEEPEST} deep")
        if self.at("("):
            self.next()
            inside = self.either(depth + 1)
            if not self.at(")"):
                raise FilterError("a bracket is not closed")
            self.next()
            return inside
        if self.at("not"):
            self.next()
            return _denied(self.one(depth + 1))
        kind, name = self.next()
        if kind != "word":
            raise FilterError(f"a column's name is expected, not {name[:30]!r}")
        kind, how = self.next()
        if kind == "bracket":
            raise FilterError(f"{name[:30]}(..): functions are not served; use {', '.join(_HOW)}")
        if how not in _HOW:
            raise FilterError(f"{how[:30]!r} is unknown; use {', '.join(_HOW)}")
        return Compared(name, how, _value(*self.next()))


def _denied(condition: Condition) -> Condition:
    """Only what has an exact opposite: an ordering holds for no empty cell, nor does its opposite."""
    if isinstance(condition, Joined):
        how = "or" if condition.how == "and" else "and"
        return Joined(how, tuple(_denied(p) for p in condition.parts))
    if condition.how not in _TURNED:
        raise FilterError(f"not with {condition.how}: turn the comparison round instead")
    return Compared(condition.column, _TURNED[condition.how], condition.value)


def _value(kind: str, text: str) -> Value:
    if kind == "text":
        return text[1:-1].replace("''", "'")
    if kind == "time":
        head, dot, rest = text.partition(".")
        if dot:  # our clocks know microseconds
            digits = re.match(r"\d+", rest)
            assert digits is not None
            text = f"{head}.{digits[0][:6]}{rest[digits.end() :]}"
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise FilterError(f"{text} is no time") from None
    if kind == "number":
        if len(text) > _DIGITS + 8:
            raise FilterError("a number is too long")
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    if kind == "word" and text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text]
    raise FilterError(f"a value is expected, not {text[:30]!r}; text stands in single quotes")
