"""Flags: counted interviews that look less trustworthy than the others. A flag deletes nothing.

    fast_half      answered over USSD in under half of the time that the same questions usually take
    fast_screens   answered over USSD in under two seconds a question, on average
    straight       the same code on all attributes of every service rated, and at least two were
    same_answers   complete, much rated, and all answers the same as another complete interview's
    several        its respondent completed more than one interview in the wave
    several_days   begun on one day and last seen on another, UTC
    out_of_order   a request came late, twice over or diverging

The first five are doubts: figures are computed with and without them (`doubtful`). The last two only say
how the interview went. Flags are computed when asked for and kept nowhere: what is usual changes with every
answer that arrives. Thresholds, with their sources: docs/quality.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from flows.instrument import UNANSWERED, Instrument, Item
from storage.analysis import paradata
from storage.analysis.domains import Bools
from storage.analysis.intervals import Ints
from storage.analysis.papers import Papers
from storage.analysis.paradata import Paradata, median

FAST_HALF, FAST_SCREENS, STRAIGHT = "fast_half", "fast_screens", "straight"
SAME_ANSWERS, SEVERAL = "same_answers", "several"
SEVERAL_DAYS, OUT_OF_ORDER = "several_days", "out_of_order"
DOUBTS = (FAST_HALF, FAST_SCREENS, STRAIGHT, SAME_ANSWERS, SEVERAL)
FLAGS = (*DOUBTS, SEVERAL_DAYS, OUT_OF_ORDER)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on an interview is flagged. Sources: docs/quality.md."""

    fast_part: float = 0.5  # of the sum of the medians of the questions that it answered
    fast_seconds: float = 2.0  # a question, on average
    fast_answers: int = 8  # timed answers over USSD that an interview needs to be judged
    straight_services: int = 2  # rated alike throughout
    same_ratings: int = 10  # answered attributes and overalls: less of them coincide by chance

    def __post_init__(self) -> None:
        if not (0 < self.fast_part < 1 and self.fast_seconds > 0):
            raise ValueError("thresholds: give 0 < fast_part < 1 and fast_seconds > 0")
        if min(self.fast_answers, self.straight_services, self.same_ratings) < 1:
            raise ValueError("thresholds: fast_answers, straight_services and same_ratings must be 1 or more")


@dataclass(frozen=True, slots=True)
class Straight:
    """One service: who rated all of its attributes, and how many of them all alike."""

    service: str
    n: int
    alike: int
    expected: float | None  # share that would be alike if the answers knew nothing of each other


@dataclass(frozen=True)
class Flags:
    """Which interviews carry which flag."""

    of: Mapping[str, frozenset[str]]  # flag -> interview ids
    timed: int  # interviews that could be judged for speed

    @property
    def doubtful(self) -> frozenset[str]:
        return frozenset().union(*(self.of[name] for name in DOUBTS))

    def by_interview(self) -> dict[str, tuple[str, ...]]:
        """Interview -> its flags, in the order of FLAGS."""
        found: dict[str, list[str]] = {}
        for name in FLAGS:
            for interview in self.of[name]:
                found.setdefault(interview, []).append(name)
        return {interview: tuple(found[interview]) for interview in sorted(found)}


def find_flags(
    db: Connection,
    instrument: Instrument,
    wave: str,
    papers: Sequence[Papers],
    went: Paradata,
    thresholds: Thresholds,
    simulated: bool,
) -> Flags:
    """Every flag of the wave's interviews, which `papers` and `went` are of too."""
    given = paradata.bound(instrument, wave, simulated)
    usual = {item: found for item, times in went.times.items() if (found := median(times["ussd"]))}
    half, screens, timed = paradata.fast_interviews(
        db, given, usual, thresholds.fast_part, thresholds.fast_seconds, thresholds.fast_answers
    )
    straight: set[str] = set()
    for p in papers:
        straight |= _names(p, _straight_rows(p, thresholds.straight_services))
    return Flags(
        {
            FAST_HALF: frozenset(half),
            FAST_SCREENS: frozenset(screens),
            STRAIGHT: frozenset(straight),
            SAME_ANSWERS: frozenset().union(*(_names(p, _same_rows(p, thresholds)) for p in papers)),
            SEVERAL: frozenset(
                counted
                for counted, complete in paradata.several_interviews(db, given)
                if complete and counted
            ),
            SEVERAL_DAYS: frozenset(paradata.interviews_of_several_days(db, given)),
            OUT_OF_ORDER: frozenset(paradata.interviews_out_of_order(db, given)),
        },
        timed,
    )


def _names(papers: Papers, rows: Bools) -> set[str]:
    return {i.decode("ascii") for i in papers.ids[rows].tolist()}


# ---------------------------------------------------------------- straight-lining


def straight_lining(instrument: Instrument, papers: Sequence[Papers]) -> list[Straight]:
    """By service, among those with an answer on the scale to each of its attributes.

    Expected: sum over the codes of the product of each attribute's share of that code, among the same.
    """
    found = []
    for service in _services(instrument):
        n = alike = 0
        shares: list[Counter[int]] = []
        for p in papers:
            items = _attributes(p.group.instrument, service)
            shares = shares or [Counter() for _ in items]
            if len(items) != len(shares):
                continue  # a version that asks other attributes: no one rate
            whole, same = _rated(p, items)
            n, alike = n + int(whole.sum()), alike + int(same.sum())
            for counter, item in zip(shares, items, strict=True):
                codes = _codes(item)[p.marks[whole, item.index]]
                counter.update(dict(enumerate(np.bincount(codes).tolist())))
        if not shares:
            continue
        expected = None
        if n:
            every = set().union(*shares)
            expected = float(sum(np.prod([s[code] / n for s in shares]) for code in every))
        found.append(Straight(service, n, alike, expected))
    return found


def _services(instrument: Instrument) -> list[str]:
    return list(dict.fromkeys(i.service for i in instrument.items if i.role == "attribute"))


def _attributes(instrument: Instrument, service: str) -> list[Item]:
    """None if there is only one: a single answer is always like itself."""
    found = [i for i in instrument.items if i.role == "attribute" and i.service == service]
    return found if len(found) > 1 else []


def _codes(item: Item) -> Ints:
    """Mark -> code + 1 on the item's scale, 0 for everything else."""
    table = np.zeros(256, dtype=np.int64)
    for option in item.scale.options if item.scale else ():
        table[ord(option.mark)] = option.code + 1
    return table


def _rated(papers: Papers, items: Sequence[Item]) -> tuple[Bools, Bools]:
    """Who answered all of these on their scale, and who with one code."""
    n = len(papers.marks)
    whole, same = np.full(n, bool(items)), np.full(n, bool(items))
    first: Ints | None = None
    for item in items:
        codes = _codes(item)[papers.marks[:, item.index]]
        first = codes if first is None else first
        whole &= codes > 0
        same &= codes == first
    return whole, same & whole


def services_rated(papers: Papers) -> tuple[Ints, Ints]:
    """Of each interview: services of which all attributes are rated, and of these, all alike."""
    rated = np.zeros(len(papers.marks), dtype=np.int64)
    alike = np.zeros(len(papers.marks), dtype=np.int64)
    for service in _services(papers.group.instrument):
        whole, same = _rated(papers, _attributes(papers.group.instrument, service))
        rated += whole
        alike += same
    return rated, alike


def _straight_rows(papers: Papers, least: int) -> Bools:
    rated, alike = services_rated(papers)
    return np.asarray((rated >= least) & (alike == rated))


# ---------------------------------------------------------------- identical answers


def much_rated(papers: Papers, least: int) -> Bools:
    """Complete interviews with answers to at least so many attributes and overalls."""
    ratings = [i.index for i in papers.group.instrument.items if i.role in ("attribute", "overall")]
    answered = np.zeros(len(papers.marks), dtype=np.int16)
    for column in ratings:
        answered += papers.marks[:, column] != ord(UNANSWERED)
    return np.asarray(papers.complete & (answered >= least))


def _same_rows(papers: Papers, thresholds: Thresholds) -> Bools:
    """Rows whose marks another row has too. First by a number made of them, then exactly."""
    rows = np.flatnonzero(much_rated(papers, thresholds.same_ratings))
    found = np.zeros(len(papers.marks), dtype=np.bool_)
    if len(rows) < 2:
        return found
    wide = papers.marks.shape[1]
    factors: npt.NDArray[np.uint64] = np.asarray(
        np.random.default_rng(16).integers(1, 1 << 63, size=wide, dtype=np.uint64)
    )
    key = np.zeros(len(rows), dtype=np.uint64)
    for column in range(wide):
        key += papers.marks[rows, column].astype(np.uint64) * factors[column]  # wraps around, as it may
    _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    rows = rows[counts[inverse] > 1]
    if len(rows):
        exact = np.ascontiguousarray(papers.marks[rows]).view(f"S{wide}").ravel()
        _, inverse, counts = np.unique(exact, return_inverse=True, return_counts=True)
        found[rows[counts[inverse] > 1]] = True
    return found
