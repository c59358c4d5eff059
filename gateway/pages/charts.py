"""Where the marks of a chart stand. Its template draws them: templates/charts.html.

The axis is the percentage itself: a plot runs from 0 to 100 per cent of its width, so that a mark at
x = "64.7%" is a share of 64.7 per cent, on a phone and on a desk, and text keeps its size. Nothing is left
out of the axis: a share is read by its distance from 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from storage.analysis.estimates import Estimate
from storage.analysis.release import percent

ROW, LINE, TOP, FOOT = 27, 15, 8, 22  # px: a row, each further line of its label, above the rows, the axis
_LABEL = 17  # characters in a line of a label: what a third of a small phone holds
HIDDEN = ("c", "u")


def written(e: Estimate, value: float | None) -> str:
    """A share of this figure as a percentage, with the decimals that its release gave it: 62 stays 62.0.

    A release rounds share, error and interval of a figure alike, so the finest of them tells.
    """
    if value is None:
        return ""
    parts = (percent(v).partition(".")[2] for v in (e.share, e.se, e.low, e.high, e.width))
    return f"{100 * value:.{max(map(len, parts))}f}"


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure in a chart, in per cent as published."""

    label: str
    lines: tuple[str, ...]  # the label as it is broken
    y: int  # px, of the middle of its row
    share: str
    low: str
    high: str
    review: bool  # shown, but under review


@dataclass(frozen=True, slots=True)
class Chart:
    """Rows from top to bottom. `hidden`: labels with the marks ("c", "u") of what may not be drawn."""

    marks: tuple[Mark, ...]
    national: str  # where the line stands, in per cent; "" = no line
    height: int
    hidden: tuple[tuple[str, Estimate], ...]

    @property
    def plot(self) -> int:
        """Height of the rows alone."""
        return self.height - FOOT


@dataclass(frozen=True, slots=True)
class Point:
    label: str
    x: str  # per cent of the width
    share: str
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class Trend:
    """National figures over time; `ribbon`: its corners in per cent, y downwards, none with one point."""

    points: tuple[Point, ...]
    ribbon: str
    line: str


def chart(
    rows: Sequence[tuple[str, Estimate]], national: Estimate | None = None, *, ordered: bool = True
) -> Chart:
    """Dots or bars with their intervals, the largest share on top if `ordered`, else as they come."""
    shown = [(label, e) for label, e in rows if e.mark not in HIDDEN and e.share is not None]
    if ordered:
        shown.sort(key=lambda row: -(row[1].share or 0))
    marks, y = [], TOP
    for label, e in shown:
        lines = tuple(wrap(label, _LABEL)) or (label,)
        height = ROW + LINE * (len(lines) - 1)
        share, low, high = (written(e, v) for v in (e.share, e.low, e.high))
        marks.append(Mark(label, lines, y + height // 2, share, low, high, e.mark == "*"))
        y += height
    line = written(national, national.share) if national and national.mark not in HIDDEN else ""
    hidden = tuple((label, e) for label, e in rows if e.mark in HIDDEN or e.share is None)
    return Chart(tuple(marks), line, y + FOOT, hidden)


def trend(figures: Sequence[tuple[str, Estimate]]) -> Trend:
    """Figures in the order of time, evenly apart: waves are not years, and their labels say when."""
    shown = [(label, e) for label, e in figures if e.mark not in HIDDEN and e.share is not None]
    step = 100 / max(len(shown), 1)
    points = tuple(
        Point(label, f"{step * (n + 0.5):.4g}", written(e, e.share), written(e, e.low), written(e, e.high))
        for n, (label, e) in enumerate(shown)
    )
    if len(points) < 2:
        return Trend(points, "", "")

    def corners(at: Sequence[tuple[str, str]]) -> str:
        return " ".join(f"{x},{100 - float(y):.4g}" for x, y in at if y)

    upper, lower = [(p.x, p.high) for p in points], [(p.x, p.low) for p in reversed(points)]
    return Trend(points, corners(upper + lower), corners([(p.x, p.share) for p in points]))


# ---------------------------------------------------------------- the map

#: Where each region of Ghana stands in the grid: column, row. 190 of the 195 north-south and west-east orders
#: of the regions' centres are kept (own layout, checked on the statistical office's boundaries).
TILES = {
    "GH-UW": (1, 0), "GH-UE": (2, 0), "GH-SV": (1, 1), "GH-NP": (2, 1), "GH-NE": (3, 1),
    "GH-BO": (0, 2), "GH-BE": (1, 2), "GH-OT": (2, 2),
    "GH-AF": (0, 3), "GH-AH": (1, 3), "GH-EP": (2, 3), "GH-TV": (3, 3),
    "GH-WN": (0, 4), "GH-WP": (1, 4), "GH-CP": (2, 4), "GH-AA": (3, 4),
}  # fmt: skip
#: Where a class of the map begins, in per cent.
CLASSES = (0, 50, 60, 70, 80)


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    code: str  # two letters
    column: int
    row: int
    share: str  # "" = not shown
    shade: int  # its class, -1 = not shown


def tiles(rows: Sequence[tuple[str, str, Estimate]]) -> tuple[Tile, ...]:
    """Label, ISO 3166-2 code and figure of each region -> tiles; who has no place in the grid falls out."""
    return tuple(
        Tile(label, iso[-2:], *TILES[iso], written(e, e.share) if shade_of(e) >= 0 else "", shade_of(e))
        for label, iso, e in rows
        if iso in TILES
    )


def shade_of(e: Estimate) -> int:
    """The class of a figure as published; -1 if it is not shown."""
    if e.mark in HIDDEN or e.share is None:
        return -1
    return sum(float(percent(e.share)) >= begins for begins in CLASSES) - 1
