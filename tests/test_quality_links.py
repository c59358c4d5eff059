"""What the public report hides in one table cannot be reckoned from its others: a reader solves for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog  # type: ignore[import-untyped]

from storage.analysis import quality_links
from storage.analysis.disclosure import DisclosureRules
from storage.analysis.estimates import Domain
from storage.analysis.flags import Thresholds
from storage.analysis.quality_parts import ItemQuality, Mix, Part, Quality, Rates, Timing, part
from storage.analysis.quality_rules import public
from storage.analysis.release import Rules
from storage.analysis.sensitivity import Category, Coverage

LEAST = 10
#: Nothing is rounded, so that a reader has every shown count exactly.
RULES = Rules(disclosure=DisclosureRules(least=LEAST, rounding=1))
OVER, NOT = ("complete", "partial", "break_off"), ("partial", "break_off")
STOOD = (*OVER, "in_progress", "refusal", "ineligible")
MODES, LANGUAGES, ITEMS = ("ussd", "sms"), ("en", "ak", "ee"), ("a", "b", "c")
#: Of the sample, who has no interview: unpublished, but in a group.
ASIDE = {"R": "opted_out", "X": "not_in_service", "NC": "no_reply", "U": "no_report"}
GROUPS = {"I": ("complete",), "P": ("partial",), "R": ("refusal", "break_off"), "X": ("ineligible",)}

Cell = tuple[str, ...]


class Reader:
    """Unknown numbers of people, none negative, and what is published of their sums."""

    def __init__(self, truth: Mapping[Cell, int]):
        self.place = {cell: n for n, cell in enumerate(truth)}
        self.truth = np.array(list(truth.values()), dtype=float)
        self.known: list[Any] = []

    def sum_of(self, cells: Sequence[Cell]) -> Any:
        row = np.zeros(len(self.place))
        row[[self.place[c] for c in cells]] = 1
        return row

    def learn(self, cells: Sequence[Cell], n: int | None) -> None:
        """n: as published; None: hidden."""
        if n is not None:
            assert n == self.sum_of(cells) @ self.truth
            self.known.append(self.sum_of(cells))

    def reckons(self, cells: Sequence[Cell]) -> bool:
        """Whether these sum up to one number in every solution."""
        row, rows = self.sum_of(cells), np.array(self.known)
        ends = [linprog(s * row, A_eq=rows, b_eq=rows @ self.truth).fun * s for s in (1, -1)]
        return bool(ends[1] - ends[0] < 0.5)


def made_up(seed: int) -> tuple[Quality, Counter[Cell]]:
    """An exact report of whoever was invited, and they: disposition, mode, language, last item."""
    chance = Random(seed)
    people: Counter[Cell] = Counter({
        cell: 0 for cell in product(STOOD, MODES, LANGUAGES, ITEMS) if cell[0] in (*NOT, "in_progress")
        or cell[3] == ITEMS[0]
    } | {("aside", name): chance.choice([0, 3, 40]) for name in ASIDE.values()})  # fmt: skip
    likely = [chance.choice(w) for w in ((300,), (4, 30), (30, 60), (0, 2), (4, 25), (0, 8))]
    for stood in chance.choices(STOOD, likely, k=chance.choice([300, 900, 3000])):
        last = chance.choices(ITEMS, (60, 30, 4))[0] if stood in (*NOT, "in_progress") else ITEMS[0]
        mode, language = chance.choices(MODES, (96, 4))[0], chance.choices(LANGUAGES, (80, 15, 5))[0]
        people[stood, mode, language, last] += 1

    def count(*wanted: Sequence[str], by: int = 0, key: str = "") -> int:
        names = wanted[0] if wanted else STOOD
        return sum(n for c, n in people.items() if c[0] in names and (not key or c[by] == key))

    interviews, none = count(), Timing(0, None)
    mixes = {
        name: tuple(
            Mix(key, part(key, count(by=by, key=key), interviews),
                part("complete", count(OVER[:1], by=by, key=key), count(OVER, by=by, key=key)))
            for key in keys if count(by=by, key=key)
        )
        for by, (name, keys) in enumerate((("mode", MODES), ("language", LANGUAGES)), 1)
    }  # fmt: skip
    groups = {name: count(GROUPS.get(name, ())) + people["aside", ASIDE.get(name, "")] for name in
              ("I", "P", "R", "NC", "O", "U", "X")}  # fmt: skip
    answers = tuple(part(sign, n, 100) for sign, n in (("valid", 60), ("refused", 20), ("not_reached", 20)))
    report = Quality(
        wave="w", made="2026-11-23", instruments=(), first_date="", last_date="", interviews=interviews,
        simulated=0, left_out=0, public=False, weighted=False, thresholds=Thresholds(),
        rates=Rates(groups, None, ()),
        dispositions=tuple(part(d, n, interviews) for d in STOOD if (n := count((d,)))),
        completion=part("complete", count(OVER[:1]), count(OVER)),
        items=tuple(
            ItemQuality(i, i, "", i, part("left", n, n + 80), answers, 0, 0.0, none, none)
            for i in ITEMS for n in [count((*NOT, "in_progress"), by=3, key=i)]
        ),
        mixes=mixes, straight=(), flags=(), doubtful=part("doubtful", 0, interviews), happenings=(),
        conflicts=(), deliveries=(), coverage=(), weights=(), figures=(), no_figures="",
    )  # fmt: skip
    return report, people


def small_ones_reckoned(seed: int) -> tuple[list[str], int]:
    """Counts of 1 to 9 that a reader of the public report can tell, and how many shares are shown."""
    exact, people = made_up(seed)
    shown, reader = public(exact, RULES), Reader(people)

    def them(names: Sequence[str] = STOOD, by: int = 0, key: str = "") -> list[Cell]:
        return [c for c in people if c[0] in names and (not key or c[by] == key)]

    small: dict[str, list[Cell]] = {}

    def told(name: str, cells: list[Cell], n: int | None) -> None:
        reader.learn(cells, n)
        if 0 < sum(people[c] for c in cells) < LEAST:
            small[name] = cells

    told("all", them(), shown.interviews)
    for p in shown.dispositions:
        told(p.key, them((p.key,)), p.n)
    missing = set(STOOD) - {p.key for p in shown.dispositions}
    reader.learn(them(tuple(missing)), 0)
    told("complete", them(OVER[:1]), shown.completion.n)
    told("over", them(OVER), shown.completion.of)
    told("not complete", them(NOT), None)
    told("other", them([d for d in STOOD if d not in OVER]), None)
    for by, name in enumerate(("mode", "language"), 1):
        there = {m.key for m in shown.mixes[name]}
        for key in (MODES, LANGUAGES)[by - 1]:
            if key not in there:
                reader.learn(them(by=by, key=key), 0)
        for m in shown.mixes[name]:
            told(f"{m.key}", them(by=by, key=m.key), m.interviews.n)
            told(f"{m.key} over", them(OVER, by, m.key), m.complete.of)
            told(f"{m.key} complete", them(OVER[:1], by, m.key), m.complete.n)
            told(f"{m.key} not complete", them(NOT, by, m.key), None)
            told(f"{m.key} other", them([d for d in STOOD if d not in OVER], by, m.key), None)
    for i in shown.items:
        told(f"left {i.item}", them((*NOT, "in_progress"), 3, i.item), i.left.n)
    assert shown.rates is not None
    for name, n in shown.rates.counts.items():
        aside = [("aside", ASIDE[name])] if name in ASIDE else []
        if cells := them(GROUPS.get(name, ())) + aside:
            told(f"group {name}", cells, n)
    reader.learn(list(people), sum(people.values()))  # how many were invited
    kept = [shown.completion, *(m.complete for mix in shown.mixes.values() for m in mix)]
    return [name for name, cells in small.items() if reader.reckons(cells)], sum(
        p.share is not None for p in kept
    )


def test_no_small_count_of_interviews_can_be_reckoned(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [small_ones_reckoned(seed) for seed in range(12)]
    assert [names for names, _ in found] == [[]] * len(found)
    assert sum(shares for _, shares in found) > len(found)  # and not because all is hidden
    monkeypatch.setattr(
        quality_links, "hidden_counts",
        lambda cells, lines, rules, known: {c for c, n in cells.items() if 0 < n < rules.least},
    )  # fmt: skip
    assert any(small_ones_reckoned(seed)[0] for seed in range(3))  # the reader does find what is there


# ---------------------------------------------------------------- coverage

REGIONS, SEXES, PLACES = ("north", "south", "east", "west"), ("female", "male"), ("rural", "urban")
TABLES = (("region",), ("region", "sex"), ("residence", "sex"), ("sex",), ("residence",))
VARIABLES = {"region": (0, REGIONS), "sex": (1, SEXES), "residence": (2, PLACES)}


def covered(people: Mapping[Cell, int], names: tuple[str, ...], values: Sequence[str]) -> list[Cell]:
    return [c for c in people if all(c[VARIABLES[v][0]] == x for v, x in zip(names, values, strict=True))]


def cells_reckoned(seed: int) -> tuple[int, int, int]:
    """Of cells of 1 to 9: how many there are and a reader can tell; and how many cells are shown."""
    chance = Random(seed)
    cells = product((*REGIONS, ""), (*SEXES, ""), (*PLACES, ""))
    likely = {"north": 60, "south": 20, "east": 5, "west": 9, "": 1}
    silent = chance.choice([1, 2, 9])
    people: dict[Cell, int] = {c: chance.randrange(silent if "" in c else 2 * likely[c[0]]) for c in cells}
    tables = []
    for names in TABLES:
        each = [
            Category("*".join(v), sum(people[c] for c in covered(people, names, v)), None, None)
            for v in product(*(VARIABLES[n][1] for n in names))
        ]
        known = sum(c.n or 0 for c in each)
        tables.append(Coverage("x", names, "", "", tuple(each), sum(people.values()) - known))
    shown = public(replace(made_up(0)[0], coverage=tuple(tables)), RULES).coverage
    reader, small = Reader(people), []
    reader.learn(list(people), sum(people.values()))
    for table in shown:
        rest = set(people)
        for c in table.categories:
            theirs = covered(people, table.variables, c.category.split("*"))
            rest -= set(theirs)
            reader.learn(theirs, c.n)
            if 0 < sum(people[x] for x in theirs) < LEAST:
                small.append(theirs)
        reader.learn(sorted(rest), table.not_known)
    told = sum(c.n is not None for t in shown for c in t.categories)
    return len(small), sum(reader.reckons(c) for c in small), told


def test_no_small_count_of_respondents_can_be_reckoned() -> None:
    small, reckoned, shown = (sum(counts) for counts in zip(*map(cells_reckoned, range(12)), strict=True))
    assert small > 9 and reckoned == 0 and shown > 12 * 20 / 2


def test_what_nothing_can_help_hides_all_that_is_tied_to_it() -> None:
    """Three people in all: each of the numbers about them, and none about others."""
    a, b, total, other, more = (((name, ""),) for name in ("a", "b", "total", "other", "more"))
    cells: dict[Domain, int] = {total: 3, a: 3, b: 0, other: 40, more: 40}
    assert quality_links.hidden_counts(
        cells, [(total, (a, b)), (other, (more,))], RULES.disclosure, (total,)
    ) == {a}


def test_an_item_that_few_answered_or_did_not_reach() -> None:
    """Who left is shown as so many of those who came: less them, so many answered."""
    exact, _ = made_up(0)

    def told(left: int, *answers: int) -> tuple[Part, list[int | None]]:
        signs = ("valid", "not_applicable", "dont_know", "refused", "not_reached")
        parts = tuple(part(s, n, sum(answers)) for s, n in zip(signs, answers, strict=True))
        item = ItemQuality("x", "x", "", "x", part("left", left, left + sum(answers[:4])), parts, 0, 0.0,
                           Timing(0, None), Timing(0, None))  # fmt: skip
        [shown] = public(replace(exact, items=(item,), dispositions=(), mixes={}, rates=None), RULES).items
        return shown.left, [p.n for p in shown.answers]

    # 215 came, 15 left: 200 answered. Of those, so, two are hidden; who did not come so far is no partner.
    left, answers = told(15, 150, 3, 17, 30, 17)
    assert (left.n, left.of) == (15, 215) and answers == [150, None, None, 30, 17]
    # All who came answered: that many would tell the four who did not come.
    left, answers = told(0, 150, 0, 17, 30, 4)
    assert (left.n, left.of) == (0, None) and answers == [150, 0, None, 30, None]
