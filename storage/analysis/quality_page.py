"""The quality report as a page: one file with no address in it, for a phone, a printer, a screen reader.

Each bar is a small drawing (SVG) in its table's row, next to the number it stands for. Colours follow the
reader's system, light or dark; patterns and words carry what colour does, so it prints in black.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flows.instrument import NONRESPONSE, Instrument
from storage.analysis.deliveries import Delivery, Some
from storage.analysis.estimates import ATTRIBUTES, OVERALL
from storage.analysis.labels import Labels, labels_of
from storage.analysis.quality_parts import SIGNS, ItemQuality, Mix, Part, Quality, points
from storage.analysis.sensitivity import Coverage, Pair

_TEMPLATES = Path(__file__).resolve().parent / "templates"
#: Language -> key -> words.
WORDS: dict[str, dict[str, str]] = {
    language: tomllib.loads((_TEMPLATES / f"quality.{language}.toml").read_text("utf-8"))
    for language in ("en", "fr")
}
_LONG = 62  # characters of a question where it has no label of its own
#: The parts of a stacked bar, darkest first.
_MISSING = SIGNS[1:]


def file_name(language: str, first: str = "en", stem: str = "quality") -> str:
    """quality.html in the first language, quality.fr.html in others."""
    return f"{stem}.html" if language == first else f"{stem}.{language}.html"


def page(report: Quality, instrument: Instrument, language: str = "en", stem: str = "quality") -> str:
    """The page in `language` (en or fr). Raises KeyError for a language that has no words here."""
    words, labels = WORDS[language], _labels(instrument, language)
    view = _View(report, instrument, labels, words, language)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    others = [
        (WORDS[other]["language"], other, file_name(other, stem=stem)) for other in WORDS if other != language
    ]
    return environment.get_template("quality.html").render(
        q=report, v=view, w=words, language=language, others=others
    )


def _labels(instrument: Instrument, language: str) -> Labels:
    return labels_of(instrument, language if language in instrument.languages else "")


@dataclass(frozen=True)
class _View:
    """What the template asks: words and drawings, no decisions."""

    report: Quality
    instrument: Instrument
    labels: Labels
    words: Mapping[str, str]
    language: str

    # ---- numbers

    def number(self, n: float | None) -> str:
        """1,234 or 1 234, an en dash for what is hidden."""
        if n is None:
            return "–"
        text = f"{n:,.0f}" if float(n).is_integer() else f"{n:,.1f}"
        return text if self.language == "en" else text.replace(",", "\u202f").replace(".", ",")

    def decimal(self, value: float | None, places: int = 1) -> str:
        if value is None:
            return "–"
        text = f"{value:,.{places}f}"
        return text if self.language == "en" else text.replace(",", "\u202f").replace(".", ",")

    def percent(self, share: float | None) -> str:
        if share is None:
            return "–"
        return self.decimal(100 * share) + ("%" if self.language == "en" else "\u202f%")

    def signed(self, value: float | None) -> str:
        if value is None:
            return "–"
        said = self.decimal(abs(value))
        return said if not round(value, 1) else f"{'+' if value > 0 else '−'}{said}"

    def said(self, key: str, **values: object) -> str:
        """A phrase with its values; what has no phrase, as it is."""
        return self.words.get(key, key).format(**values) if values else self.words.get(key, key)

    def flag(self, name: str) -> str:
        limit = self.report.thresholds
        return self.words[name].format(
            fast_seconds=self.number(limit.fast_seconds), straight_services=limit.straight_services
        )

    # ---- names

    def item(self, item: ItemQuality) -> str:
        """Its aspect or variable; else its label, or in another language how the question begins."""
        ours = self.instrument.by_id[item.item]
        if ours.role == OVERALL:
            return self.labels.measure(OVERALL)
        if ours.id in self.labels.measures:
            return self.labels.measure(ours.id)
        if ours.role in ("sex", "age", "region", "residence"):
            return self.labels.variable(ours.role)
        if ours.role in ("consent", "adult"):
            return self.words[ours.role]
        if self.language in (
            self.instrument.default_language,
            *(set(WORDS) - set(self.instrument.languages)),
        ):
            return item.label
        text = " ".join(self.instrument.languages[self.language].items[item.item].text.split())
        return text if len(text) <= _LONG else text[:_LONG].rsplit(" ", 1)[0] + " …"

    def numbered(self, item: ItemQuality) -> bool:
        """Whether its number is to stand before its name, which may hold it already."""
        return bool(item.question) and f" {item.question} " not in f" {self.item(item)} "

    def by_service(self, items: Sequence[ItemQuality]) -> list[tuple[str, list[ItemQuality]]]:
        """In the questionnaire's order, under the services' names; "" where there is none."""
        found: list[tuple[str, list[ItemQuality]]] = []
        for item in items:
            about = self.labels.service(item.service) if item.service else ""
            if not found or found[-1][0] != about:
                found.append((about, []))
            found[-1][1].append(item)
        return found

    def offers(self, item: ItemQuality, sign: str) -> bool:
        """Whether that reason can be given at all: a nought where it cannot says nothing."""
        return sign not in NONRESPONSE or sign in self.instrument.by_id[item.item].nonresponse

    def figure(self, pair: Pair) -> str:
        return self.labels.measure(pair.every.measure)

    def block(self, block: str) -> str:
        services = {i.service for i in self.instrument.items if i.service and self._block(i.block) == block}
        return ", ".join(self.labels.service(s) for s in sorted(services)) or self.words["every_service"]

    def _block(self, index: int) -> str:
        return self.instrument.blocks[index].id

    def mix_key(self, by: str, mix: Mix) -> str:
        if not mix.key:
            return self.words["not_known"]
        if by == "language" and mix.key in self.instrument.languages:
            return self.instrument.languages[mix.key].name
        return self.words.get(mix.key, mix.key) if by == "mode" else mix.key

    def message_row(self, delivery: Delivery) -> str:
        """Its network; under its kind's heading."""
        return delivery.network or self.words["not_known"]

    @property
    def deliveries(self) -> list[tuple[str, list[Delivery]]]:
        """By kind, most urgent first."""
        found: dict[str, list[Delivery]] = {}
        for d in self.report.deliveries:
            found.setdefault(self.said(f"kind.{d.kind}"), []).append(d)
        return list(found.items())

    def reasons(self, delivery: Delivery) -> str:
        """Each code as the aggregator gives it, with its number."""
        return " · ".join(
            f"{p.key or self.words['no_reason']} {self.number(p.n)}" for p in self.told(delivery.reasons)
        )

    def told(self, parts: Sequence[Some]) -> list[Some]:
        return [p for p in parts if p.n or p.mark]

    def category(self, table: Coverage, category: str) -> str:
        parts = zip(table.variables, category.split("*"), strict=False)
        return ", ".join(self.labels.option(v.strip(), c.strip()) for v, c in parts)

    def table(self, table: Coverage) -> str:
        return " × ".join(self.labels.variable(v) for v in table.variables)

    # ---- rows

    @property
    def left(self) -> list[ItemQuality]:
        return [i for i in self.report.items if i.left.n or i.left.mark]

    @property
    def most_left(self) -> float:
        return max((i.left.share or 0 for i in self.left), default=0)

    @property
    def missing(self) -> list[ItemQuality]:
        return [i for i in self.report.items if i.answers[0].of]

    @property
    def timed(self) -> list[ItemQuality]:
        return [
            i
            for i in self.report.items
            if i.invalid or i.mark or i.ussd.n or i.sms.n or i.ussd.mark or i.sms.mark
        ]

    @property
    def slowest(self) -> float:
        return max((i.ussd.median_seconds or 0 for i in self.report.items), default=0)

    @property
    def has_sms(self) -> bool:
        return any(i.sms.n or i.sms.mark for i in self.report.items)

    @property
    def services(self) -> list[tuple[str, list[Pair]]]:
        """Pairs by service, attributes first as released."""
        found: dict[str, list[Pair]] = {}
        for p in self.report.figures:
            if p.every.measure in (OVERALL, ATTRIBUTES):
                found.setdefault(p.every.service, []).insert(0, p)
            else:
                found.setdefault(p.every.service, []).append(p)
        return [(self.labels.service(s), pairs) for s, pairs in found.items()]

    def points(self, pair: Pair) -> float | None:
        return points(pair)

    def parts(self, parts: Sequence[Part]) -> list[Part]:
        return [p for p in parts if p.n or p.mark]

    # ---- drawings

    def bar(self, share: float | None, most: float = 1.0, mark: float | None = None) -> Markup:
        """A bar of `share` of `most`; `mark`: a line across it, what it is to be compared with."""
        drawn = ['<rect class="track" width="100%" height="10" y="3"/>']
        if share is not None and most:
            drawn.append(f'<rect class="bar" width="{_length(share, most)}%" height="10" y="3"/>')
        if mark is not None and most:
            x = _length(mark, most)
            drawn.append(f'<line class="mark" x1="{x}%" x2="{x}%" y1="0" y2="16"/>')
        return _drawn(drawn)

    def stack(self, parts: Sequence[Part], most: float) -> Markup:
        """The missing answers of one question end to end, out of `most`."""
        drawn, x = ['<rect class="track" width="100%" height="10" y="3"/>'], 0.0
        for p in parts:
            wide = _length(p.share or 0, most)
            if wide:
                drawn.append(f'<rect class="{p.key}" x="{round(x, 2)}%" width="{wide}%" height="10" y="3"/>')
            x += wide
        return _drawn(drawn)

    @property
    def most_missing(self) -> float:
        return _round_scale(sum(p.share or 0 for p in i.answers[1:]) for i in self.missing)

    @property
    def most_straight(self) -> float:
        return _round_scale(max(s.alike.share or 0, s.expected or 0) for s in self.report.straight)

    def dots(self, pair: Pair) -> Markup:
        """Both shares on one line from 0 to 100 %, with the interval of the first."""
        e, r = pair.every, pair.rest
        drawn = ['<line class="rule" x1="0" x2="100%" y1="8" y2="8"/>']
        if e.low is not None and e.high is not None:
            drawn.append(
                f'<line class="reach" x1="{_length(e.low, 1)}%" x2="{_length(e.high, 1)}%" y1="8" y2="8"/>'
            )
        if r.share is not None:
            drawn.append(f'<circle class="rest" cx="{_length(r.share, 1)}%" cy="8" r="6"/>')
        if e.share is not None:
            drawn.append(f'<circle class="every" cx="{_length(e.share, 1)}%" cy="8" r="3.5"/>')
        return _drawn(drawn)

    @property
    def missing_signs(self) -> tuple[str, ...]:
        return _MISSING


def _round_scale(shares: Iterable[float]) -> float:
    """What a full bar stands for: a round share at or above the greatest."""
    most = max(shares, default=0)
    return next((step for step in (0.05, 0.1, 0.25, 0.5) if most <= step), 1.0)


def _length(share: float, most: float) -> float:
    return round(100 * min(max(share / most, 0), 1), 2)


def _drawn(parts: Sequence[str]) -> Markup:
    """The number stands beside it, so that a reader of the page by ear need not hear it twice."""
    return Markup(
        f'<svg width="100%" height="16" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )
