"""What of a quality report may be read outside: the same disclosure rules as the figures', no small cells.

Counts of 1 to `least` - 1 are hidden. What is hidden next to a published total must not follow from it: where
the hidden parts of a whole are one only, or add up to less than `least`, the next smallest goes with them.
Counts that several tables make of the same people are hidden together (`quality_links`).
What is left is rounded to `rounding`; shares have one decimal, or none on a base under a hundred. Nought is
shown: that nobody did something tells of nobody.

Figures with and without the doubtful interviews are two tables that can be subtracted, and the difference is
what the doubtful ones said. So all three go through disclosure control as one table, "all = doubtful + rest",
beside what the release hides already: the rest is hidden wherever the doubtful are too few, or all alike.
Nor may the rest be subtracted from that of an earlier report, which other thresholds or answers made.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from storage.analysis.deliveries import LOST, Delivery, Some
from storage.analysis.disclosure import DisclosureRules, key, protect, rounded
from storage.analysis.display import decimals, display
from storage.analysis.estimates import Domain, Estimate, blanked
from storage.analysis.quality_links import (
    ENDED,
    MIXED,
    STOPPED,
    covered,
    group,
    hidden_coverage,
    hidden_interviews,
    left,
    mixed,
    stood,
)
from storage.analysis.quality_parts import (
    ItemQuality,
    Mix,
    Part,
    Quality,
    Rates,
    StraightService,
    Timing,
)
from storage.analysis.release import Rules
from storage.analysis.sensitivity import DOUBTFUL, Category, Coverage, Pair, Weighting
from storage.models import COMPLETE, WITHDRAWN

HIDDEN = "c"
#: What names an estimate: wave, service, measure, domain.
Key = tuple[str, str, str, Domain]
_FEW = 100  # base under which a percentage has no decimal, as in `display`


def hide(counts: Sequence[int], least: int) -> list[bool]:
    """Which parts of a published whole are hidden. Noughts never are. counts: of people."""
    hidden = [0 < n < least for n in counts]
    while any(hidden):
        out = [n for n, h in zip(counts, hidden, strict=True) if h]
        shown = [(n, k) for k, (n, h) in enumerate(zip(counts, hidden, strict=True)) if not h and n]
        if (len(out) > 1 and sum(out) >= least) or not shown:
            break
        hidden[min(shown)[1]] = True
    return hidden


class _Public:
    def __init__(self, rules: DisclosureRules):
        self.rules = rules

    def count(self, n: int | None) -> int | None:
        """Rounded."""
        if n is None:
            return None
        return int((n + self.rules.rounding / 2) // self.rules.rounding) * self.rules.rounding

    def small(self, n: int | None) -> bool:
        return n is not None and 0 < n < self.rules.least

    def shown(self, p: Part) -> Part:
        places = 3 if (p.of or 0) >= _FEW else 2
        share = None if p.share is None else round(p.share, places)
        return replace(p, n=self.count(p.n), of=self.count(p.of), share=share)

    def one(self, p: Part) -> Part:
        """A part beside its complement, which is published with it."""
        if self.small(p.n) or self.small((p.of or 0) - (p.n or 0)) or self.small(p.of):
            return Part(p.key, None, None if self.small(p.of) else self.count(p.of), None, HIDDEN)
        return self.shown(p)

    def part(self, p: Part, hidden: bool) -> Part:
        """A part of a published whole."""
        return Part(p.key, None, self.count(p.of), None, HIDDEN) if hidden else self.shown(p)

    def whole(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """All parts of one whole."""
        hidden = hide([p.n or 0 for p in parts], self.rules.least)
        return tuple(self.part(p, h) for p, h in zip(parts, hidden, strict=True))

    def share(self, p: Part, parts: Collection[Domain], of: Domain, hidden: Collection[Domain]) -> Part:
        """A part beside its complement, `parts`, which with their sum `of` are cells of a system."""
        if of in hidden:
            return Part(p.key, None, None, None, HIDDEN)
        return self.part(p, any(cell in hidden for cell in parts))

    def some(self, parts: Sequence[Some]) -> tuple[Some, ...]:
        """All parts of one whole, hidden by whom they are about: one person may have had ten messages."""
        hidden = hide([p.respondents or 0 for p in parts], self.rules.least)
        found = []
        for p, h in zip(parts, hidden, strict=True):
            if h:
                found.append(Some(p.key, None, self.count(p.of), None, None, HIDDEN))
                continue
            shown = self.shown(Part(p.key, p.n, p.of, p.share))
            found.append(Some(p.key, shown.n, shown.of, shown.share, self.count(p.respondents)))
        return tuple(found)

    def timing(self, t: Timing) -> Timing:
        if self.small(t.n):
            return Timing(None, None, HIDDEN)
        return Timing(self.count(t.n), t.median_seconds)


def public(
    report: Quality,
    rules: Rules,
    hidden_before: Collection[Key] = (),
    earlier: Sequence[Mapping[str, Any]] = (),
) -> Quality:
    """The report as it may be read outside. hidden_before: keys of what the wave's releases hide; earlier:
    the wave's quality.json that are out, as read."""
    ours = _Public(rules.disclosure)
    linked = hidden_interviews(report, rules.disclosure)
    covers = hidden_coverage(report.coverage, rules.disclosure)
    return replace(
        report,
        interviews=ours.count(report.interviews),
        public=True,
        rates=_rates(ours, report.rates, linked),
        dispositions=tuple(ours.part(p, stood(p.key) in linked) for p in report.dispositions),
        completion=ours.share(report.completion, (stood(COMPLETE), STOPPED), ENDED, linked),
        items=tuple(_item(ours, item, linked) for item in report.items),
        mixes={by: tuple(_mix(ours, by, m, linked) for m in mixes) for by, mixes in report.mixes.items()},
        straight=tuple(
            StraightService(s.service, p, None if p.mark else _round(s.expected, 3))
            for s in report.straight
            for p in [ours.one(s.alike)]
        ),
        flags=tuple(ours.one(p) for p in report.flags),
        doubtful=ours.one(report.doubtful),
        happenings=tuple(
            # Of it and the interviews together: beside the interviews that would tell it.
            replace(ours.part(p, stood(WITHDRAWN) in linked), of=None)
            if stood(WITHDRAWN) in linked
            else ours.shown(p)
            if p.key == WITHDRAWN
            else ours.one(p)
            for p in report.happenings
        ),
        conflicts=tuple(ours.one(p) for p in report.conflicts),
        deliveries=_deliveries(ours, report.deliveries),
        coverage=tuple(_coverage(ours, c, covers) for c in report.coverage),
        weights=tuple(_weighting(ours, w) for w in report.weights if not ours.small(w.respondents)),
        figures=_figures(report.figures, rules, hidden_before, earlier),
        no_figures="not comparable" if report.no_figures else "",
        rules=rules.disclosure,
    )


def _round(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def _rates(ours: _Public, rates: Rates | None, linked: Collection[Domain]) -> Rates | None:
    if rates is None:
        return None
    counts = {name: None if group(name) in linked else ours.count(n) for name, n in rates.counts.items()}
    few = None in counts.values()  # with the shown groups, e or a rate would give a hidden one
    return Rates(
        counts,
        None if few else _round(rates.e, 3),
        tuple(replace(r, value=None if few else _round(r.value, 3)) for r in rates.rates),
    )


def _item(ours: _Public, item: ItemQuality, linked: Collection[Domain]) -> ItemQuality:
    """Those who left are parts of one whole over the items; answers are, within each.

    How many answered at all is what `left` is of, less those who left; so that is as good as published, and
    the signs of answers add up to it, unless those who did not come so far are hidden.
    """
    *given, not_reached = item.answers
    answered = sum(p.n or 0 for p in given)
    untold = ours.small(answered) or ours.small(not_reached.n)
    answers = ours.whole(item.answers) if untold else (*ours.whole(given), ours.shown(not_reached))
    gone = item.left
    if left(item.item) in linked or ours.small((gone.of or 0) - (gone.n or 0)):
        gone = Part(gone.key, None, None, None, HIDDEN)
    else:
        gone = ours.shown(gone)
        if untold:
            gone = replace(gone, of=None, share=None)
    few = ours.small(item.invalid)
    return replace(
        item,
        left=gone,
        answers=answers,
        invalid=None if few else ours.count(item.invalid),
        per_100=None if few or untold else _round(item.per_100, 1),
        ussd=ours.timing(item.ussd),
        sms=ours.timing(item.sms),
        mark=HIDDEN if few else "",
    )


def _mix(ours: _Public, by: str, mix: Mix, linked: Collection[Domain]) -> Mix:
    every, over, complete, stopped, _ = (mixed(by, mix.key, what) for what in MIXED)
    shown = ours.part(mix.interviews, every in linked)
    if shown.mark:
        return Mix(mix.key, shown, Part(mix.complete.key, None, None, None, HIDDEN))
    return Mix(mix.key, shown, ours.share(mix.complete, (complete, stopped), over, linked))


def _deliveries(ours: _Public, rows: Sequence[Delivery]) -> tuple[Delivery, ...]:
    """A row to few people is not shown at all, and reasons only where what they add up to is."""
    hidden = hide([d.respondents or 0 for d in rows], ours.rules.least)
    found = []
    for d, h in zip(rows, hidden, strict=True):
        if h:
            found.append(Delivery(d.network, d.kind, None, None, (), (), HIDDEN))
            continue
        fates = ours.some(d.fates)
        told = not any(p.mark for p in fates if p.key in LOST)
        found.append(
            Delivery(
                d.network, d.kind, ours.count(d.messages), ours.count(d.respondents), fates,
                ours.some(d.reasons) if told else (),
            )
        )  # fmt: skip
    return tuple(found)


def _coverage(ours: _Public, table: Coverage, hidden: Collection[Domain]) -> Coverage:
    places = 3 if sum(c.n or 0 for c in table.categories) >= _FEW else 2
    return replace(
        table,
        categories=tuple(
            Category(c.category, None, None, _round(c.population, 4), HIDDEN)
            if covered(table, c.category) in hidden
            else Category(c.category, ours.count(c.n), _round(c.share, places), _round(c.population, 4))
            for c in table.categories
        ),
        not_known=None if covered(table, None) in hidden else ours.count(table.not_known),
    )


def _weighting(ours: _Public, w: Weighting) -> Weighting:
    """The extreme weights are those of single people: left out."""
    return replace(
        w, respondents=ours.count(w.respondents) or 0, n_eff=float(ours.count(int(w.n_eff)) or 0),
        deff=round(w.deff, 2), deff_before=round(w.deff_before, 2), least=None, most=None,
        at_cap=None,
    )  # fmt: skip


def _figures(
    pairs: Sequence[Pair],
    rules: Rules,
    hidden_before: Collection[Key],
    earlier: Sequence[Mapping[str, Any]],
) -> tuple[Pair, ...]:
    """One pattern of suppression on both columns."""
    every = [p.every for p in pairs]
    apart = [
        replace(p.every, domain=DOUBTFUL, n=p.every.n - p.rest.n, positive=p.every.positive - p.rest.positive)
        for p in pairs
    ]
    out = {k for k in hidden_before if not k[3]}
    keep = {key(e) for e in every} - out
    try:
        safe = protect([*every, *(p.rest for p in pairs), *apart], rules.disclosure, out, keep)
    except ValueError:  # nothing left to hide: nothing is compared
        return ()
    of = {
        key(e): rounded(e, decimals(e, rules.display), rules.disclosure) for e in display(safe, rules.display)
    }
    found = []
    for p in pairs:
        a, b = of[key(p.every)], of[key(p.rest)]
        marks = {a.mark, b.mark} & {HIDDEN, "u"}
        if _too_near(b, earlier, rules.disclosure):
            marks.add(HIDDEN)
        if marks:  # a figure that one column hides is in neither
            a, b = (blanked(e, min(marks)) for e in (a, b))
        found.append(Pair(a, b))
    return tuple(found)


def _too_near(e: Estimate, earlier: Sequence[Mapping[str, Any]], rules: DisclosureRules) -> bool:
    """Whether a report that is out shows this figure from so nearly the same people that the two can be
    subtracted: what `differencing` asks of the release's figures, for those without the doubtful."""
    for report in earlier:
        for told in report["figures"]:
            was = told["without_doubtful"]
            if (told["service"], told["measure"]) != (e.service, e.measure) or was["mark"] in (HIDDEN, "u"):
                continue
            if (e.n, e.share) != (was["n"], was["share"]) and abs(
                e.n - was["n"]
            ) < rules.least + rules.rounding:
                return True
    return False


def hidden_keys(releases: Iterable[Sequence[Estimate]]) -> set[Key]:
    """What these releases' figures hide."""
    return {key(e) for figures in releases for e in figures if e.mark == HIDDEN}
