"""The quality report of a wave: how the data came about, what is missing in them, which interviews look
doubtful and what those do to the figures. Definitions, thresholds and sources: docs/quality.md.

    paradata      counts of what happened, from the database
    papers        the interviews, as arrays
    flags         which of them look doubtful
    sensitivity   figures with and without those, composition, weights
    deliveries    what became of the messages
    quality       this module: the report, exact, for staff
    quality_parts what a report consists of; its JSON
    quality_rules what of it may be read outside
    quality_page  the page

Nothing here changes an answer, a figure or a release. The response rates come from whoever counts
dispositions of invited numbers; without a sample they are None, and completion is of those who dialled.
Interviews made up here are left out of all of it, as if never held, unless they are asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from sqlalchemy import Engine

from flows.instrument import NONRESPONSE_MARKS, UNANSWERED, Instrument
from storage.analysis import dispositions
from storage.analysis.deliveries import read_deliveries
from storage.analysis.domains import Wealth, possible
from storage.analysis.flags import (
    FAST_HALF,
    FAST_SCREENS,
    FLAGS,
    SAME_ANSWERS,
    STRAIGHT,
    Flags,
    Thresholds,
    find_flags,
    much_rated,
    services_rated,
    straight_lining,
)
from storage.analysis.margins import Margins
from storage.analysis.papers import Papers, read_papers, sheets_of
from storage.analysis.paradata import Paradata, median, read_paradata
from storage.analysis.quality_parts import (
    OVER,
    SIGNS,
    ItemQuality,
    Mix,
    Quality,
    Rate,
    Rates,
    StraightService,
    Timing,
    part,
)
from storage.analysis.raking import Limits
from storage.analysis.sensitivity import National, coverage
from storage.analysis.sheets import Progress, read_groups
from storage.analysis.table import Draw
from storage.database import reading
from storage.models import COMPLETE


def aapor_rates(engine: Engine, wave: str, simulated: bool = False) -> Rates | None:
    """The rates of the wave's invited sample, as they go into `quality`; None without one."""
    found = dispositions.rates(dispositions.count_dispositions(engine, wave, simulated))
    if found is None:
        return None
    return Rates(
        dict(found.counts), found.e, tuple(Rate(r.name, r.formula, r.meaning, r.value) for r in found.rates)
    )


@dataclass(frozen=True)
class Report:
    """A report, and which interviews its flags are about."""

    quality: Quality
    flags: Flags


def quality(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    *,
    made: date,
    rates: Rates | None = None,
    margins: Margins | None = None,
    wealth: Wealth | None = None,
    limits: Limits | None = None,
    fewest: int = 1,
    probability_sample: bool = False,
    draw: Draw | None = None,
    simulated: bool = False,
    thresholds: Thresholds | None = None,
    told: Progress | None = None,
) -> Report:
    """The exact report of one wave, from one state of the database, with the arguments of its table.

    draw: of the figures, coverage and weights; all else is of every interview of the wave. simulated: with
    interviews made up here, which makes it a demonstration; `rates` must be of the same.
    Raises NoMarks, and RakingError where margins and respondents do not fit.
    """
    limit = thresholds or Thresholds()
    said: Progress = told or (lambda what, done, total: None)
    with reading(engine) as db:
        basis, groups = read_groups(db, instrument, wave, simulated)
        said("counting what happened", 0, 1)
        went = read_paradata(db, instrument, wave, simulated)
        deliveries = read_deliveries(db, wave, simulated)
        said("counting what happened", 1, 1)
        papers = [read_papers(db, group, wave, draw is not None, said) for group in groups]
        said("looking for flags", 0, 1)
        flags = find_flags(db, instrument, wave, papers, went, limit, simulated)
        said("looking for flags", 1, 1)
    items = _items(instrument, papers, went)
    straight = straight_lining(instrument, papers)
    judged = {name: _judged(name, papers, flags, limit) for name in FLAGS}
    sheets, doubts = sheets_of(papers, flags.doubtful, draw)
    del papers  # a million interviews are not held twice
    national = National(
        instrument, wave, basis.period, margins=margins, wealth=wealth, limits=limits, fewest=fewest,
        probability_sample=probability_sample, draw=draw,
    )  # fmt: skip
    figures, weights, refused = national.compare(sheets, doubts)
    interviews = sum(went.dispositions.values())
    over = sum(n for name, n in went.dispositions.items() if name in OVER)
    made_report = Quality(
        wave=wave,
        made=made.isoformat(),
        instruments=basis.instruments,
        first_date=basis.first_date.isoformat() if basis.first_date else "",
        last_date=basis.last_date.isoformat() if basis.last_date else "",
        interviews=interviews,
        simulated=basis.simulated,
        left_out=went.made_up - basis.simulated,
        public=False,
        weighted=margins is not None,
        thresholds=limit,
        rates=rates,
        dispositions=tuple(
            part(name, n, interviews) for name, n in sorted(went.dispositions.items(), key=_largest)
        ),
        completion=part(COMPLETE, went.dispositions.get(COMPLETE, 0), over),
        items=items,
        mixes={name: _mix(mix, interviews) for name, mix in went.mixes.items()},
        straight=tuple(StraightService(s.service, part("alike", s.alike, s.n), s.expected) for s in straight),
        flags=tuple(
            part(name, len(flags.of[name]), interviews if of is None else of) for name, of in judged.items()
        ),
        doubtful=part("doubtful", len(flags.doubtful), interviews),
        happenings=(
            part("resumed", went.resumed, interviews),
            part("switched_language", went.switched_language, interviews),
            part("several_interviews", went.several, interviews),
            part("withdrawn", went.withdrawn, interviews + went.withdrawn),
        ),
        conflicts=tuple(part(what, n, interviews) for what, n in went.conflicts.items()),
        deliveries=deliveries,
        coverage=coverage(sheets, national.known, margins),
        weights=weights,
        figures=figures,
        no_figures=refused,
        design_weighted=draw is not None,
    )
    return Report(made_report, flags)


def _largest(named: tuple[str, int]) -> tuple[int, str]:
    return -named[1], named[0]


def _judged(name: str, papers: Sequence[Papers], flags: Flags, limit: Thresholds) -> int | None:
    """Of how many interviews the flag says something: a share of all would flatter. None: of all."""
    if name in (FAST_HALF, FAST_SCREENS):
        return flags.timed
    if name == STRAIGHT:
        return sum(int((services_rated(p)[0] >= limit.straight_services).sum()) for p in papers)
    if name == SAME_ANSWERS:
        return sum(int(much_rated(p, limit.same_ratings).sum()) for p in papers)
    return None


# ---------------------------------------------------------------- items


def _items(instrument: Instrument, papers: Sequence[Papers], went: Paradata) -> tuple[ItemQuality, ...]:
    states = _states(instrument, papers)
    found = []
    for item in instrument.items:
        left = went.left.get(item.id, 0)
        times = went.times.get(item.id, {})
        answered, counts = states[item.id]
        asked = sum(counts)
        invalid = went.invalid.get(item.id, 0)
        found.append(
            ItemQuality(
                item=item.id,
                question=item.number,
                service=item.service,
                label=item.label,
                left=part("left", left, answered + left),
                answers=tuple(part(sign, n, asked) for sign, n in zip(SIGNS, counts, strict=True)),
                invalid=invalid,
                per_100=100 * invalid / answered if answered else None,
                ussd=_timing(times.get("ussd", {})),
                sms=_timing(times.get("sms", {})),
            )
        )
    return tuple(found)


def _timing(tenths: Mapping[int, int]) -> Timing:
    return Timing(sum(tenths.values()), median(tenths))


def _states(instrument: Instrument, papers: Sequence[Papers]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Of each item: answers in all, and by SIGNS among those who consented and to whom it may apply."""
    found: dict[str, tuple[int, tuple[int, ...]]] = {}
    for item in instrument.items:
        answered, counts = 0, [0] * len(SIGNS)
        for p in papers:
            theirs = p.group.instrument.by_id.get(item.id)
            if theirs is None:
                continue
            column = p.marks[:, theirs.index]
            answered += int((column != ord(UNANSWERED)).sum())
            base = p.consented & possible(theirs, p.group.instrument, p.marks)
            base &= p.given.get(p.group.instrument.blocks[theirs.block].id, np.True_)
            if theirs.role == "consent":
                base = np.ones(len(column), dtype=np.bool_)
            letters = np.bincount(column[base], minlength=256)
            missing = [int(letters[ord(NONRESPONSE_MARKS[name])]) for name in SIGNS[1:4]]
            unsaid = int(letters[ord(UNANSWERED)])
            for k, n in enumerate([int(letters.sum()) - sum(missing) - unsaid, *missing, unsaid]):
                counts[k] += n
        found[item.id] = answered, tuple(counts)
    return found


def _mix(mix: Mapping[str, Mapping[str, int]], interviews: int) -> tuple[Mix, ...]:
    found = []
    for key, stood in sorted(mix.items(), key=lambda kv: (kv[0] == "", -sum(kv[1].values()), kv[0])):
        n = sum(stood.values())
        over = sum(stood.get(name, 0) for name in OVER)
        found.append(Mix(key, part(key, n, interviews), part(COMPLETE, stood.get(COMPLETE, 0), over)))
    return tuple(found)
