"""The waves of a service over time for the page: the national trend, and beside it that of each group.

Every figure is one that a release published, of each wave's newest version; a figure that is hidden, or that
a wave has not, leaves a gap in the line. Only the newest waves are on the page, so that it stays small; every
release has a page of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.pages import charts
from gateway.pages.words import Words
from gateway.published import Edition, trend
from gateway.results_table import Line, line_of
from storage.analysis.estimates import OVERALL, Estimate
from storage.analysis.labels import Labels

MOST_WAVES = 10  # on a page: with 16 regions each takes some 2 kB of it


@dataclass(frozen=True, slots=True)
class TrendFigure:
    """The national trend. `choices`: breakdowns that have one too, with their titles; none with one wave."""

    trend: charts.Trend
    lines: tuple[Line, ...]
    unweighted: bool  # some are not weighted to the population
    waves: tuple[str, ...]
    left_out: int  # older waves
    choices: tuple[tuple[str, str], ...]
    groups: "GroupTrends | None"


@dataclass(frozen=True, slots=True)
class Panel:
    """One category. `said`: the newest figure, "" if it is not shown."""

    label: str
    trend: charts.Trend
    said: str


@dataclass(frozen=True, slots=True)
class GroupTrends:
    """A breakdown over time: a panel and a row a category. A cell: share and interval, "" if hidden."""

    by: str
    title: str
    panels: tuple[Panel, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    hidden: bool  # some are


def trend_figure(
    editions: Sequence[Edition],
    service: str,
    labels: Labels,
    words: Words,
    breakdowns: Mapping[str, str],
    by: str = "",
) -> TrendFigure:
    """The trend of a service. breakdowns: variable -> its title; `by`: the one asked for, "" = none."""
    every = trend(editions, service, OVERALL)
    figures = every[-MOST_WAVES:]
    years = [edition.period for edition, _ in figures]
    rows = []
    for edition, e in figures:
        label = edition.period if years.count(edition.period) == 1 else edition.wave
        rows.append((label + ("" if edition.weighted else "*"), e))
    choices = tuple(breakdowns.items()) if len(rows) > 1 else ()
    found = None
    if by in dict(choices):
        found = _groups([edition for edition, _ in figures], rows, service, labels, words, by, breakdowns[by])
    return TrendFigure(
        charts.trend(rows), tuple(line_of(label, e, words) for label, e in rows),
        any(not edition.weighted for edition, _ in figures), tuple(label for label, _ in rows),
        len(every) - len(figures), choices, found,
    )  # fmt: skip


def _groups(
    editions: Sequence[Edition],
    national: Sequence[tuple[str, Estimate]],
    service: str,
    labels: Labels,
    words: Words,
    by: str,
    title: str,
) -> GroupTrends | None:
    waves = [
        {e.domain[0][1]: e for e in edition.groups if e.service == service and e.domain[0][0] == by}
        for edition in editions
    ]
    known = {category for wave in waves for category in wave}
    order = [*(c for c in labels.options.get(by, {}) if c in known)]
    order += sorted(known.difference(order))
    if not order:
        return None
    panels, rows = [], []
    for category in order:
        course = [(label, wave.get(category)) for (label, _), wave in zip(national, waves, strict=True)]
        label = labels.option(by, category)
        cells = tuple(_cell(e, words) for _, e in course)
        panels.append(Panel(label, charts.trend(course), cells[-1][0]))
        rows.append((label, cells))
    rows.append((words["national"], tuple(_cell(e, words) for _, e in national)))
    return GroupTrends(
        by, title, tuple(panels), tuple(rows), any(not share for _, cells in rows for share, _ in cells)
    )


def _cell(e: Estimate | None, words: Words) -> tuple[str, str]:
    if e is None or e.mark in charts.HIDDEN or e.share is None:
        return "", ""
    low, high = (words.bare(charts.written(e, v)) for v in (e.low, e.high))
    return words.bare(charts.written(e, e.share)), f"{low}\N{EN DASH}{high}" if low and high else ""
