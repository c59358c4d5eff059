"""Where the bars of the four answers stand: negative ones left of a middle line, positive ones right of it.

The two inner answers touch the line, the two outer ones stand outside them, so that both halves can be
compared from row to row (Heiberger and Robbins, Design of Diverging Stacked Bar Charts for Likert Scales,
Journal of Statistical Software 57(5), 2014). The axis is in per cent to both sides and as long as the
longest bar needs: a place is a percentage of its width.

A half whose single answers are not all published is drawn whole and hatched, as long as the published share
of positive answers says; a row without a published share is not drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from math import ceil
from textwrap import wrap

from gateway.pages.charts import HIDDEN, LINE, written
from storage.analysis.estimates import Estimate

NEGATIVE, POSITIVE = (1, 0), (2, 3)  # codes, from the middle line outwards
BAR, GAP, RULE, FOOT = 20, 15, 9, 20  # px: a bar, below it to the next label, above what stands apart, axis
_STEP = 25  # per cent between ticks
_LABEL = 26  # characters in a line of a label: what a small phone holds beside the figure
_NARROW = 8  # per cent of the axis: two digits on a small phone


@dataclass(frozen=True, slots=True)
class Segment:
    """An answer's part of a bar; x and width in per cent of the axis."""

    code: str  # 0 to 3, "x" of a half that is not told apart
    x: str
    width: str
    middle: str
    text: str  # "" = too narrow


@dataclass(frozen=True, slots=True)
class Row:
    """One item. px: `top` of its label, `y` of its bar; `low`, `high`: where its share's interval stands."""

    label: str
    lines: tuple[str, ...]  # the label as it is broken
    top: int
    y: int
    figure: Estimate  # of the positive answers together
    segments: tuple[Segment, ...]
    low: str
    high: str
    apart: bool  # a rule above it
    bar: int = BAR


@dataclass(frozen=True, slots=True)
class Diverging:
    """Rows from top to bottom. `ticks`: place and per cent."""

    rows: tuple[Row, ...]
    ticks: tuple[tuple[str, str], ...]
    middle: str
    height: int
    hidden: tuple[tuple[str, Estimate], ...]  # whose share may not be drawn

    @property
    def plot(self) -> int:
        """Height of the rows alone."""
        return self.height - FOOT


#: An item: its label, its published share of positive answers, and who chose each code: a figure an option,
#: as a code may have several (one was reworded between two versions of a questionnaire in the same wave).
Item = tuple[str, Estimate, Mapping[int, Sequence[Estimate]]]


def is_shown(e: Estimate | None) -> bool:
    """Whether a figure may be drawn."""
    return e is not None and e.mark not in HIDDEN and e.share is not None


def together(figures: Sequence[Estimate]) -> str:
    """Per cent that chose one of these options, with the decimals that all have; "" if one is not shown."""
    if not figures or not all(map(is_shown, figures)):
        return ""
    shares = [written(e, e.share) for e in figures]
    places = min(len(share.partition(".")[2]) for share in shares)
    return f"{sum(map(Decimal, shares)):.{places}f}"


def diverging(items: Sequence[Item], last: Item | None = None) -> Diverging:
    """The items, the largest positive share on top, and `last` apart below them all."""
    drawn = sorted((i for i in items if is_shown(i[1])), key=lambda i: -(i[1].share or 0))
    if last is not None and is_shown(last[1]):
        drawn.append(last)
    lengths = {id(i): (_half(i, NEGATIVE), _half(i, POSITIVE)) for i in drawn}
    left, right = (
        max(_STEP, _STEP * ceil(max((sum(w for _, w in halves[side]) for halves in lengths.values()),
                                    default=0) / _STEP))
        for side in (0, 1)
    )  # fmt: skip

    def place(per_cent: float) -> str:
        return f"{100 * (per_cent + left) / (left + right):.4g}"

    rows, y = [], 0
    for item in drawn:
        label, figure, _ = item
        lines = tuple(wrap(label, _LABEL)) or (label,)
        apart = item is last and len(drawn) > 1
        top = y
        y += (RULE if apart else 0) + LINE * len(lines) + 6
        negative, positive = lengths[id(item)]
        segments = [*reversed(_segments(negative, -1, left, right)), *_segments(positive, 1, left, right)]
        low, high = (
            place(float(written(figure, v))) if v is not None else "" for v in (figure.low, figure.high)
        )
        rows.append(Row(label, lines, top, y, figure, tuple(segments), low, high, apart))
        y += BAR + GAP
    ticks = tuple((place(v), str(abs(v))) for v in range(-left, right + 1, _STEP))
    everybody = [*items, last] if last is not None else items
    hidden = tuple((label, figure) for label, figure, _ in everybody if not is_shown(figure))
    return Diverging(tuple(rows), ticks, place(0), y + FOOT, hidden)


def _half(item: Item, codes: tuple[int, int]) -> list[tuple[str, float]]:
    """Code and length of a half's parts from the middle line outwards, in per cent as published."""
    _, figure, chosen = item
    known = [together(chosen.get(code, ())) for code in codes]
    if all(known):
        return [(str(code), float(share)) for code, share in zip(codes, known, strict=True)]
    share = float(written(figure, figure.share))
    return [("x", share if codes is POSITIVE else 100 - share)]


def _segments(half: Sequence[tuple[str, float]], side: int, left: int, right: int) -> list[Segment]:
    made, at = [], 0.0
    for code, length in half:
        start = at if side > 0 else -at - length
        at += length
        x, width = 100 * (start + left) / (left + right), 100 * length / (left + right)
        text = str(Decimal(str(length)).quantize(Decimal(1), ROUND_HALF_UP))
        if code == "x" or width < _NARROW:
            text = ""
        if length > 0:
            made.append(Segment(code, f"{x:.4g}", f"{width:.4g}", f"{x + width / 2:.4g}", text))
    return made
