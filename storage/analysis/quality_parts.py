"""What a quality report consists of, and its JSON. The fields are explained in docs/quality.md."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from storage.analysis.deliveries import Delivery
from storage.analysis.disclosure import DisclosureRules
from storage.analysis.flags import Thresholds
from storage.analysis.sensitivity import Coverage, Pair, Weighting
from storage.models import BREAK_OFF, COMPLETE, PARTIAL

FORMAT = 1  # of quality.json
FILE, STAFF_FILE = "quality.json", "quality_staff.json"
OVER = (COMPLETE, PARTIAL, BREAK_OFF)  # dispositions of whoever took part and is not at it any more
SIGNS = ("valid", "not_applicable", "dont_know", "refused", "not_reached")


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
    simulated: int  # of these, made up: a demonstration
    left_out: int  # made up and not in the report
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
    deliveries: tuple[Delivery, ...]
    coverage: tuple[Coverage, ...]
    weights: tuple[Weighting, ...]
    figures: tuple[Pair, ...]
    no_figures: str  # why there is no comparison
    rules: DisclosureRules | None = None  # of a public one
    design_weighted: bool = False  # by the probabilities of the sample's draw


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
