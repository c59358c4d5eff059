"""All four answers to each statement about a service, for the page: the chart's rows, its key and its table.

A release says of each attribute, and of satisfaction overall, how many in a hundred chose each option. One
made before releases had that has no such figure, and its page shows the positive answers alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.instrument import Instrument
from gateway.pages.charts import written
from gateway.pages.diverging import Diverging, Item, diverging, is_shown, together
from gateway.pages.words import Words
from gateway.results_table import Line, line_of, reasons
from storage.analysis.estimates import ATTRIBUTES, OVERALL, Answer, Estimate
from storage.analysis.labels import Labels
from storage.analysis.release import Release

#: Codes as the bars have them from left to right, each with a sign that needs no colour.
SIGNS = {0: "\N{MINUS SIGN}\N{MINUS SIGN}", 1: "\N{MINUS SIGN}", 2: "+", 3: "++"}


@dataclass(frozen=True, slots=True)
class Key:
    """An answer in the legend and over its column."""

    code: int
    sign: str
    words: str


@dataclass(frozen=True, slots=True)
class AnswersLine:
    """A row of the table. `shares`: as SIGNS, "" = not shown; `line`: of the positive answers together."""

    line: Line
    shares: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswersFigure:
    chart: Diverging
    keys: tuple[Key, ...]
    lines: tuple[AnswersLine, ...]
    description: str
    not_shown: tuple[tuple[str, str], ...]  # why -> which items
    not_apart: tuple[tuple[str, str], ...]  # why -> items with answers that are not shown one by one


def answers_figure(
    release: Release, service: str, instrument: Instrument, labels: Labels, words: Words
) -> AnswersFigure | None:
    """The answers about a service; None if the release has none."""
    by_measure: dict[str, list[Answer]] = {}
    for answer in release.answers:
        if answer.figure.service == service:
            by_measure.setdefault(answer.figure.measure, []).append(answer)
    figures = {e.measure: e for e in release.estimates if e.service == service and not e.domain}
    items: dict[str, Item] = {
        measure: (_sentence(labels.measure(measure)), figures[measure], _by_code(answers))
        for measure, answers in by_measure.items()
        if measure in figures
    }
    if not items:
        return None
    last = items.pop(OVERALL, None)
    chart = diverging(list(items.values()), last)
    by_label = {item[0]: item for item in (*items.values(), last) if item}
    order = [*(row.label for row in chart.rows), *(label for label, _ in chart.hidden)]
    lines = [_line(by_label[label], words, whole=by_label[label] is last) for label in order]
    mean = figures.get(ATTRIBUTES)
    if mean is not None:
        lines.append(AnswersLine(line_of(words["mean_row"], mean, words, whole=True), ()))
    keys = tuple(_key(code, by_measure, service, instrument, labels.language) for code in SIGNS)
    apart = [
        (row.label, e)
        for row in chart.rows
        if any(segment.code == "x" for segment in row.segments)
        for options in by_label[row.label][2].values()
        for e in options
        if not is_shown(e)
    ]
    return AnswersFigure(
        chart, keys, tuple(lines), _description(chart, keys, words),
        reasons(chart.hidden, words), reasons(apart, words),
    )  # fmt: skip


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _by_code(answers: Iterable[Answer]) -> dict[int, list[Estimate]]:
    found: dict[int, list[Estimate]] = {}
    for answer in answers:
        found.setdefault(answer.code, []).append(answer.figure)
    return found


def _line(item: Item, words: Words, whole: bool) -> AnswersLine:
    label, figure, chosen = item
    shares = tuple(words.bare(together(chosen.get(code, ()))) for code in SIGNS)
    return AnswersLine(line_of(label, figure, words, whole), shares)


def _key(
    code: int, by_measure: dict[str, list[Answer]], service: str, instrument: Instrument, language: str
) -> Key:
    """The option words of all scales in use, in the page's language: agree / satisfied."""
    texts = instrument.languages[language].options
    said = []
    for measure, answers in by_measure.items():
        scales = [
            i.scale.id
            for i in instrument.items
            if i.scale and (i.id == measure or (i.role == measure == OVERALL and i.service == service))
        ]
        said += [texts[s].get(a.option, a.option) for s in scales for a in answers if a.code == code]
    return Key(code, SIGNS[code], " / ".join(dict.fromkeys(said)))


def _description(chart: Diverging, keys: Sequence[Key], words: Words) -> str:
    if not chart.rows:
        return words["chart_empty"]

    def said(row: int) -> tuple[str, str]:
        e = chart.rows[row].figure
        return chart.rows[row].label, words.share(written(e, e.share))

    ranked = [n for n, row in enumerate(chart.rows) if not row.apart]
    (first, high), (least, low) = said(ranked[0]), said(ranked[-1])
    return " ".join(
        [
            words.say("answers_desc", answers="; ".join(key.words for key in keys)),
            words.say("chart_desc", first=first, high=high, last=least, low=low),
        ]
    )
