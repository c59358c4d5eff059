"""A figure of a release as a row of a table, in the words of a language."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.pages import charts
from gateway.pages.words import Words
from storage.analysis.display import RELATIVE, WIDE
from storage.analysis.estimates import Estimate


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table."""

    label: str
    share: str
    interval: str
    base: str
    why: str  # not shown because, or how to read it; "" = shown
    hidden: bool
    whole: bool = False  # the sum or mean under the others


def line_of(label: str, e: Estimate, words: Words, whole: bool = False) -> Line:
    """A figure as a row of a table, in the words of a language."""
    hidden = e.mark in charts.HIDDEN or e.share is None
    interval = ""
    if not hidden and e.low is not None and e.high is not None:
        interval = words.say(
            "to", low=words.bare(charts.written(e, e.low)), high=words.bare(charts.written(e, e.high))
        )
    why = why_hidden(e, words) if hidden else words["review"] if e.mark == "*" else ""
    base = "" if e.mark == "c" else words.number(e.n)
    return Line(
        label, "" if hidden else words.share(charts.written(e, e.share)), interval, base, why, hidden, whole
    )


def why_hidden(e: Estimate, words: Words) -> str:
    """Why it is not shown, in words for everybody."""
    if e.mark == "c":
        return words["why_c"]
    return words["why_wide"] if e.notes and e.notes[-1] in (WIDE, RELATIVE) else words["why_u"]


def reasons(hidden: Iterable[tuple[str, Estimate]], words: Words) -> tuple[tuple[str, str], ...]:
    """Why -> whom, of figures that are not shown."""
    found: dict[str, dict[str, None]] = {}
    for label, e in hidden:
        found.setdefault(why_hidden(e, words), {})[label] = None
    return tuple((why, ", ".join(whom)) for why, whom in found.items())
