"""Where the marks of a chart stand. Its template draws them: templates/charts.html.

The axis is the percentage itself: a plot runs from 0 to 100 per cent of its width, so that a mark at
x = "64.7%" is a share of 64.7 per cent, on a phone and on a desk, and text keeps its size. Nothing is left
out of the axis: a share is read by its distance from 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from textwrap import wrap

from storage.analysis.estimates import Estimate
from storage.analysis.release import percent

ROW, LINE, TOP, FOOT = 27, 15, 8, 22  # px: a row, each further line of its label, above the rows, the axis
_LABEL = 17  # characters in a line of a label: what a third of a small phone holds
_PHONE, _DESK = 36, 64  # characters beside each other under a trend, on a small phone and on a desk
_WORD = 7  # characters that a share takes above its point
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
    spare: bool = False  # its words stand beside it only where there is room


@dataclass(frozen=True, slots=True)
class Trend:
    """Figures over time. Paths in per cent, y downwards; `ticks`: each wave's label, place, whether spare.

    A wave whose figure is not shown leaves a gap; beside gaps on both sides a ribbon is as narrow as a mark.
    """

    points: tuple[Point, ...]
    ticks: tuple[tuple[str, str, bool], ...]
    crowded: bool  # no room for what is spare, not even on a desk
    ribbon: str  # "" with fewer than two points
    line: str
    dots: str


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


def trend(figures: Sequence[tuple[str, Estimate | None]]) -> Trend:
    """Figures in the order of time, evenly apart: waves are not years, and their labels say when.

    None: that wave has no such figure.
    """
    step = 100 / max(len(figures), 1)
    wide = len(figures) * max((len(label) for label, _ in figures), default=0)
    wide = max(wide, _WORD * len(figures))
    every = max(1, ceil(wide / _PHONE))
    spare = [(len(figures) - 1 - n) % every > 0 for n in range(len(figures))]  # never the newest
    places = [f"{step * (n + 0.5):.4g}" for n in range(len(figures))]
    runs: list[list[Point]] = [[]]
    for x, (label, e), aside in zip(places, figures, spare, strict=True):
        if e is None or e.mark in HIDDEN or e.share is None:
            runs.append([])
        else:
            share, low, high = (written(e, v) for v in (e.share, e.low, e.high))
            runs[-1].append(Point(label, x, share, low, high, aside))
    points = tuple(point for run in runs for point in run)
    ticks = tuple((label, x, aside) for x, (label, _), aside in zip(places, figures, spare, strict=True))
    lines = "".join(_path([(p.x, p.share) for p in run]) for run in runs if len(run) > 1)
    dots = "".join(f"M{p.x},{_down(p.share)}h0" for p in points)
    crowded = wide > _DESK
    return Trend(points, ticks, crowded, "".join(map(_ribbon, runs)) if len(points) > 1 else "", lines, dots)


def _down(share: str) -> str:
    return f"{100 - float(share):.4g}"


def _path(corners: Sequence[tuple[str, str]]) -> str:
    return "M" + "L".join(f"{x},{_down(y)}" for x, y in corners if y)


def _ribbon(run: Sequence[Point]) -> str:
    if not run:
        return ""
    if len(run) == 1:
        (p,) = run
        at = [f"{float(p.x) + aside:.4g}" for aside in (-1.5, 1.5)]
        return _path([(at[0], p.high), (at[1], p.high), (at[1], p.low), (at[0], p.low)]) + "Z"
    return _path([*((p.x, p.high) for p in run), *((p.x, p.low) for p in reversed(run))]) + "Z"


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
