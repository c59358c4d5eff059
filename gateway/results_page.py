"""What the results page of a release shows: its figures, put into the order and words of the page.

Everything is read off the release as published; nothing is computed but places on the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flows.instrument import Instrument
from flows.wave import Wave
from gateway.pages import charts
from gateway.pages.boundaries import Boundaries
from gateway.pages.words import Words
from gateway.published import Edition, comparable
from gateway.results_answers import AnswersFigure, answers_figure
from gateway.results_table import Line, line_of, reasons, why_hidden
from gateway.results_trend import TrendFigure, trend_figure
from storage.analysis.estimates import ATTRIBUTES, OVERALL, Estimate
from storage.analysis.labels import Labels
from storage.analysis.release import Release

#: Breakdowns in the order of the page, and whether their categories have an order of their own.
BREAKDOWNS = {
    "region": False,
    "sex": False,
    "age": True,
    "residence": False,
    "disability": True,
    "wealth": True,
}


@dataclass(frozen=True, slots=True)
class Card:
    """A service at a glance."""

    service: str
    name: str
    share: str  # as a number with a sign
    low: str
    high: str
    line: Line


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its table."""

    id: str
    title: str
    kind: str  # dots | bars | trend
    chart: charts.Chart
    lines: tuple[Line, ...]
    national: str  # with a sign
    description: str
    not_shown: tuple[tuple[str, str], ...]  # why -> whom


@dataclass(frozen=True, slots=True)
class Area:
    """A region on the office's own map."""

    label: str
    outline: str
    x: int
    y: int
    share: str
    shade: int


@dataclass(frozen=True, slots=True)
class Map:
    tiles: tuple[charts.Tile, ...]
    areas: tuple[Area, ...]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Phone:
    """What to dial for the results. `at_once`: they come first; else they are in the menu of who answered."""

    code: str
    at_once: bool


@dataclass(frozen=True, slots=True)
class View:
    """The page of one service."""

    release: Release
    service: str
    name: str
    period: str
    cards: tuple[Card, ...]
    figures: tuple[Figure, ...]
    answers: AnswersFigure | None  # in place of the attributes' bars
    mean: Line
    mean_why: str
    map: Map | None
    trend: TrendFigure
    margins: str
    citation: str


def view(
    release: Release,
    editions: Sequence[Edition],
    service: str,
    instrument: Instrument,
    labels: Labels,
    words: Words,
    boundaries: Boundaries | None,
    address: str = "",
    by: str = "",
) -> View:
    """The page of `service`, by default the release's first.

    `address`: of the results on the web. `by`: the breakdown whose trend is asked for.
    """
    services = list(dict.fromkeys(e.service for e in release.estimates))
    service = service if service in services else services[0]
    by_place = {(e.service, e.measure, e.domain): e for e in release.estimates}
    national = by_place[service, OVERALL, ()]
    figures = [_attributes(release, service, labels, words)]
    for variable, has_order in BREAKDOWNS.items():
        rows = [
            (labels.option(variable, e.domain[0][1]), e)
            for e in release.estimates
            if (e.service, e.measure) == (service, OVERALL) and [v for v, _ in e.domain] == [variable]
        ]
        if rows:
            drawn = charts.chart(rows, national, ordered=not has_order)
            figures.append(_figure(variable, "dots", drawn, rows, national, labels.service(service), words))
    breakdowns = {f.id: f.title for f in figures[1:]}
    mean = by_place.get((service, ATTRIBUTES, ()))
    if mean is not None:
        row = line_of(words["mean_row"], mean, words, whole=True)
        figures[0] = replace(figures[0], lines=(*figures[0].lines, row))
    return View(
        release=release,
        service=service,
        name=labels.service(service),
        period=max(e.period for e in release.estimates),
        cards=tuple(_card(s, by_place[s, OVERALL, ()], labels, words) for s in services),
        figures=tuple(figures),
        answers=answers_figure(release, service, instrument, labels, words),
        mean=line_of("", mean, words) if mean else Line("", "", "", "", "", True),
        mean_why=why_hidden(mean, words) if mean else words["why_u"],
        map=_map(release, service, instrument, labels, boundaries),
        trend=trend_figure(comparable(editions, release), service, labels, words, breakdowns, by),
        margins=_margins(release),
        citation=citation(release, words, address),
    )


def citation(release: Release, words: Words, address: str = "") -> str:
    """How to name the release in a publication."""
    where = f" {address}/{release.wave}/{release.version}" if address else ""
    return (
        f"{release.owner} ({release.issued[:4]}). {words['indicator']}. {words['wave']} {release.wave},"
        f" {words['version']} {release.version}, {words.date(release.issued)}.{where}"
    )


def phone_of(waves: Sequence[Wave], editions: Sequence[Edition], shown: Edition) -> Phone | None:
    """How a release is seen by dialling: with the wave that shows it there, see gateway/giving_back.py. None:
    none does."""
    out = {e.wave for e in editions}
    for wave in waves:
        first = next((name for name in (wave.id, *wave.sharing.earlier) if name in out), None)
        if shown.newest and first == shown.wave:
            keys = wave.sharing.extension
            return Phone(f"{wave.code.removesuffix('#')}*{keys}#" if keys else wave.code, bool(keys))
    return None


def _margins(release: Release) -> str:
    """The tables that it is weighted to; tables of one source name it once."""
    by_source: dict[tuple[str, str], list[str]] = {}
    for m in release.margins:
        by_source.setdefault((m.source, m.date), []).append(m.name)
    return "; ".join(f"{', '.join(names)} ({source}, {date})" for (source, date), names in by_source.items())


def _attributes(release: Release, service: str, labels: Labels, words: Words) -> Figure:
    rows = [
        (_sentence(labels.measure(e.measure)), e)
        for e in release.estimates
        if e.service == service and not e.domain and e.measure not in (OVERALL, ATTRIBUTES)
    ]
    return _figure("attributes", "bars", charts.chart(rows), rows, None, labels.service(service), words)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figure(
    name: str,
    kind: str,
    drawn: charts.Chart,
    rows: Sequence[tuple[str, Estimate]],
    national: Estimate | None,
    service: str,
    words: Words,
) -> Figure:
    by_label = dict(rows)
    order = [*(m.label for m in drawn.marks), *(label for label, _ in drawn.hidden)]
    said = words["chart_empty"]
    if drawn.marks:
        high, low = max(drawn.marks, key=_share), min(drawn.marks, key=_share)
        said = words.say(
            "chart_desc",
            first=high.label,
            high=words.share(high.share),
            last=low.label,
            low=words.share(low.share),
        )
    if drawn.national:
        said += " " + words.say("chart_desc_national", share=words.share(drawn.national))
    lines = [line_of(label, by_label[label], words) for label in order]
    if national is not None:
        lines.append(line_of(words["national"], national, words, whole=True))
    return Figure(
        name, words[name], kind, drawn, tuple(lines), words.share(drawn.national), said,
        reasons(drawn.hidden, words),
    )  # fmt: skip


def _share(mark: charts.Mark) -> float:
    return float(mark.share)


def _card(service: str, e: Estimate, labels: Labels, words: Words) -> Card:
    hidden = e.mark in charts.HIDDEN
    share, low, high = ("" if hidden else charts.written(e, v) for v in (e.share, e.low, e.high))
    return Card(service, labels.service(service), share, low, high, line_of("", e, words))


def _map(
    release: Release, service: str, instrument: Instrument, labels: Labels, boundaries: Boundaries | None
) -> Map | None:
    isos = isos_of(instrument)
    rows = [
        (labels.option("region", e.domain[0][1]), isos[e.domain[0][1]], e)
        for e in release.estimates
        if (e.service, e.measure) == (service, OVERALL)
        and [v for v, _ in e.domain] == ["region"]
        and e.domain[0][1] in isos
    ]
    if not rows:
        return None
    if boundaries is None:
        found = charts.tiles(rows)
        return Map(found, (), 0, 0) if found else None
    areas = []
    for label, iso, e in rows:
        if (shape := boundaries.shapes.get(iso)) is not None:
            shade = charts.shade_of(e)
            share = charts.written(e, e.share) if shade >= 0 else ""
            areas.append(Area(label, shape.outline, shape.x, shape.y, share, shade))
    return Map((), tuple(areas), boundaries.width, boundaries.height)


def isos_of(instrument: Instrument) -> Mapping[str, str]:
    """Region -> ISO 3166-2 code."""
    item = next((i for i in instrument.items if i.role == "region"), None)
    return {o.id: o.iso for o in item.scale.options if o.iso} if item and item.scale else {}


def regions_of(instrument: Instrument) -> Mapping[str, str]:
    """ISO 3166-2 code -> official number, of each region: what a map is joined by."""
    item = next((i for i in instrument.items if i.role == "region"), None)
    return {o.iso: str(o.code) for o in item.scale.options if o.iso} if item and item.scale else {}
