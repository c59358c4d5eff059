"""The quality report of a wave: how the data came about, what is missing in them, which interviews look
doubtful and what those do to the figures. Definitions, thresholds and sources: docs/quality.md.

    paradata      counts of what happened, from the database
    flags         which interviews look doubtful
    sensitivity   figures with and without them, composition, weights
    quality       this module: the report, exact, for staff; its JSON
    quality_rules what of it may be read outside
    quality_page  the page

Nothing here changes an answer, a figure or a release. The response rates come from whoever counts
dispositions of invited numbers; without a sample they are None, and completion is of those who dialled.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib import import_module
from typing import Any

import numpy as np
from sqlalchemy import Engine

from flows.instrument import NONRESPONSE_MARKS, UNANSWERED, Instrument
from storage.analysis.disclosure import DisclosureRules
from storage.analysis.domains import Wealth, possible
from storage.analysis.flags import (
    FAST_HALF,
    FAST_SCREENS,
    FLAGS,
    SAME_ANSWERS,
    STRAIGHT,
    Flags,
    Papers,
    Thresholds,
    find_flags,
    much_rated,
    read_papers,
    services_rated,
    straight_lining,
)
from storage.analysis.margins import Margins
from storage.analysis.paradata import Answering, Paradata, read_paradata
from storage.analysis.raking import Limits
from storage.analysis.sensitivity import (
    Category,
    Coverage,
    National,
    Pair,
    Weighting,
    coverage,
    respondents_of,
)
from storage.analysis.sheets import Progress, read_groups, read_sheet
from storage.analysis.table import Draw, drawn_only
from storage.database import reading
from storage.models import COMPLETE, IN_PROGRESS

FORMAT = 1  # of quality.json
FILE, STAFF_FILE = "quality.json", "quality_staff.json"
SIGNS = ("valid", "not_applicable", "dont_know", "refused", "not_reached")
_REACHED = ("complete", "partial", "break_off", "in_progress")  # dispositions that are interviews

__all__ = [
    "FILE", "FORMAT", "SIGNS", "STAFF_FILE", "Category", "Coverage", "ItemQuality", "Mix", "Pair", "Part",
    "Quality", "Rate", "Rates", "StraightService", "Timing", "Weighting", "aapor_rates", "as_json", "quality",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """So many of so many. mark "c": hidden, so that nobody is recognised."""

    key: str
    n: int | None
    of: int | None
    share: float | None
    mark: str = ""


def part(key: str, n: int, of: int) -> Part:
    """A share is None, not 0, where there is nothing to share."""
    return Part(key, n, of, n / of if of else None)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long answers took. `n`: answers that have a time."""

    n: int | None
    median_seconds: float | None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class ItemQuality:
    """One question."""

    item: str
    question: str  # number in the official questionnaire
    service: str
    label: str
    left: Part  # unfinished interviews that stopped here, of those that came here: the hazard
    answers: tuple[Part, ...]  # SIGNS, of the interviews that it applied to or might have
    invalid: int | None  # replies that no rule accepts
    per_100: float | None  # the same, by 100 answers
    ussd: Timing
    sms: Timing
    mark: str = ""  # "c": invalid and per_100 are hidden


@dataclass(frozen=True, slots=True)
class StraightService:
    """Ratings of one service: alike throughout, of those who rated all its attributes."""

    service: str
    alike: Part
    expected: float | None  # share alike if answers were independent of each other


@dataclass(frozen=True, slots=True)
class Mix:
    """Interviews of one mode, network or language. `complete`: of those that are over."""

    key: str  # "" = not known
    interviews: Part
    complete: Part


@dataclass(frozen=True, slots=True)
class Rate:
    """An outcome rate by AAPOR's definition."""

    name: str
    formula: str
    meaning: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """Of the invited sample. counts by group (I P R NC O U X); e: estimated share eligible."""

    counts: Mapping[str, int | None]
    e: float | None
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """The report. Counted interviews throughout: one a respondent."""

    wave: str
    made: str  # ISO date
    instruments: tuple[str, ...]
    first_date: str  # ISO, "" without an interview
    last_date: str
    interviews: int | None
    simulated: int | None  # of these, made up
    public: bool  # False: exact, for staff only
    weighted: bool
    thresholds: Thresholds
    rates: Rates | None
    dispositions: tuple[Part, ...]
    completion: Part  # complete, of all that consented and are over
    items: tuple[ItemQuality, ...]
    mixes: Mapping[str, tuple[Mix, ...]]  # mode, network, language
    straight: tuple[StraightService, ...]
    flags: tuple[Part, ...]
    doubtful: Part  # with at least one flag that is a doubt
    happenings: tuple[Part, ...]  # resumed, switched_language, several_interviews, withdrawn
    conflicts: tuple[Part, ...]  # interviews with requests that did not fit, by what
    coverage: tuple[Coverage, ...]
    weights: tuple[Weighting, ...]
    figures: tuple[Pair, ...]
    no_figures: str  # why there is no comparison
    rules: DisclosureRules | None = None  # of a public one
    design_weighted: bool = False  # by the probabilities of the sample's draw


def aapor_rates(engine: Engine, wave: str) -> Rates | None:
    """The rates of the wave's invited sample; None without one, or where no campaigns are kept at all."""
    try:
        outcomes: Any = import_module("storage.analysis.dispositions")
    except ModuleNotFoundError:
        return None
    found = outcomes.rates(outcomes.count_dispositions(engine, wave))
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
    simulated: bool = True,
    thresholds: Thresholds | None = None,
    told: Progress | None = None,
) -> Report:
    """The exact report of one wave, from one state of the database, with the arguments of its table.

    draw, simulated: of the figures, coverage and weights; all else is of every interview of the wave.
    Raises NoMarks, and RakingError where margins and respondents do not fit.
    """
    limit = thresholds or Thresholds()
    said: Progress = told or (lambda what, done, total: None)
    with reading(engine) as db:
        basis, groups = read_groups(db, instrument, wave)
        said("counting what happened", 0, 1)
        went = read_paradata(db, instrument, wave)
        said("counting what happened", 1, 1)
        papers = [read_papers(db, group, wave) for group in groups]
        said("looking for flags", 0, 1)
        flags = find_flags(db, instrument, wave, papers, went, limit)
        doubtful = respondents_of(db, flags.doubtful)
        said("looking for flags", 1, 1)
        figured = groups if simulated else read_groups(db, instrument, wave, simulated)[1]
        sheets = [read_sheet(db, group, wave, said, pseudonyms=True) for group in figured]
    sheets = drawn_only(sheets, draw)
    national = National(
        instrument, wave, basis.period, margins=margins, wealth=wealth, limits=limits, fewest=fewest,
        probability_sample=probability_sample, draw=draw,
    )  # fmt: skip
    figures, weights, refused = national.compare(sheets, doubtful)
    interviews = sum(went.dispositions.values())
    over = sum(n for name, n in went.dispositions.items() if name in _REACHED and name != IN_PROGRESS)
    made_report = Quality(
        wave=wave,
        made=made.isoformat(),
        instruments=basis.instruments,
        first_date=basis.first_date.isoformat() if basis.first_date else "",
        last_date=basis.last_date.isoformat() if basis.last_date else "",
        interviews=interviews,
        simulated=basis.simulated,
        public=False,
        weighted=margins is not None,
        thresholds=limit,
        rates=rates,
        dispositions=tuple(
            part(name, n, interviews) for name, n in sorted(went.dispositions.items(), key=_largest)
        ),
        completion=part(COMPLETE, went.dispositions.get(COMPLETE, 0), over),
        items=_items(instrument, papers, went),
        mixes={name: _mix(mix, interviews) for name, mix in went.mixes.items()},
        straight=tuple(
            StraightService(s.service, part("alike", s.alike, s.n), s.expected)
            for s in straight_lining(instrument, papers)
        ),
        flags=tuple(
            part(name, len(flags.of[name]), _judged(name, papers, flags, limit, interviews)) for name in FLAGS
        ),
        doubtful=part("doubtful", len(flags.doubtful), interviews),
        happenings=(
            part("resumed", went.resumed, interviews),
            part("switched_language", went.switched_language, interviews),
            part("several_interviews", went.several, interviews),
            part("withdrawn", went.withdrawn, interviews + went.withdrawn),
        ),
        conflicts=tuple(part(what, n, interviews) for what, (_, n) in went.conflicts.items()),
        coverage=coverage(sheets, national.known, margins),
        weights=weights,
        figures=figures,
        no_figures=refused,
        design_weighted=draw is not None,
    )
    return Report(made_report, flags)


def _largest(named: tuple[str, int]) -> tuple[int, str]:
    return -named[1], named[0]


def _judged(name: str, papers: Sequence[Papers], flags: Flags, limit: Thresholds, interviews: int) -> int:
    """Of how many interviews the flag says something: a share of all would flatter."""
    if name in (FAST_HALF, FAST_SCREENS):
        return flags.timed
    if name == STRAIGHT:
        return sum(int((services_rated(p)[0] >= limit.straight_services).sum()) for p in papers)
    if name == SAME_ANSWERS:
        return sum(int(much_rated(p, limit.same_ratings).sum()) for p in papers)
    return interviews


# ---------------------------------------------------------------- items


def _items(instrument: Instrument, papers: Sequence[Papers], went: Paradata) -> tuple[ItemQuality, ...]:
    states = _states(instrument, papers)
    found = []
    for item in instrument.items:
        left = went.left.get(item.id, 0)
        answering = went.answering.get(item.id)
        answered, counts = states[item.id]
        asked = sum(counts)
        invalid = went.invalid[item.id].replies if item.id in went.invalid else 0
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
                ussd=_timing(answering, "ussd"),
                sms=_timing(answering, "sms"),
            )
        )
    return tuple(found)


def _timing(answering: Answering | None, mode: str) -> Timing:
    return Timing(answering.timed(mode), answering.median(mode)) if answering else Timing(0, None)


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
    for key, dispositions in sorted(mix.items(), key=lambda kv: (kv[0] == "", -sum(kv[1].values()), kv[0])):
        n = sum(dispositions.values())
        over = sum(dispositions.get(name, 0) for name in _REACHED if name != IN_PROGRESS)
        found.append(Mix(key, part(key, n, interviews), part(COMPLETE, dispositions.get(COMPLETE, 0), over)))
    return tuple(found)


# ---------------------------------------------------------------- JSON


def as_json(report: Quality) -> str:
    """The text of quality.json; its fields are explained in docs/quality.md."""
    data = {"format": FORMAT, **asdict(report)}
    data["figures"] = [_pair(p) for p in report.figures]
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def _pair(p: Pair) -> dict[str, Any]:
    def side(e: Any) -> dict[str, Any]:
        return {name: getattr(e, name) for name in ("n", "share", "low", "high", "mark")}

    return {
        "service": p.every.service, "measure": p.every.measure,
        "with_doubtful": side(p.every), "without_doubtful": side(p.rest), "points": points(p),
    }  # fmt: skip


def points(p: Pair) -> float | None:
    """Percentage points that a figure gains or loses without the doubtful interviews."""
    if p.every.share is None or p.rest.share is None:
        return None
    return round(100 * (p.rest.share - p.every.share), 6)
