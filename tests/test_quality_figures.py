"""The quality report's figures with and without doubtful interviews, who took part, weights and rates."""

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from storage.analysis.disclosure import reason
from storage.analysis.flags import Thresholds
from storage.analysis.quality import aapor_rates
from storage.analysis.quality_page import page
from storage.analysis.quality_parts import Quality, Rate, Rates
from storage.analysis.quality_rules import public
from storage.analysis.release import Rules
from storage.analysis.table import table_16_6_2
from storage.database import open_engine
from tests.estimation_material import anybody
from tests.quality_material import (
    INSTRUMENT,
    OPENING,
    interview_id,
    margins,
    rating,
    report,
    tell,
)
from tests.quality_material import record as record
from tests.stores import give_schema
from tests.test_pages import browser as browser

# ---------------------------------------------------------------- figures with and without


def share(q: Quality, side: str) -> dict[tuple[str, str], tuple[int, float | None]]:
    return {
        (e.service, e.measure): (e.n, e.share)
        for p in q.figures
        for e in [p.every if side == "every" else p.rest]
    }


def test_figures_with_and_without(record: Engine) -> None:
    """Ten satisfied, of whom four straight in two services; ten not."""
    content = [rating("AABBA", "ABABB"), rating("AABBA", "BBABB")]
    tell(record, INSTRUMENT, content * 3)
    tell(record, INSTRUMENT, [rating("AAAAA", "BBBBB")] * 4, first=6)
    tell(record, INSTRUMENT, [rating("ABABA", overall="dissatisfied")] * 10, first=10)
    q = report(record, thresholds=Thresholds(same_ratings=99)).quality
    assert (q.doubtful.n, q.doubtful.of) == (4, 20)
    assert share(q, "every")["health", "overall"] == (20, 0.5)
    assert share(q, "rest")["health", "overall"] == (16, 6 / 16)
    shown = public(q, Rules()).figures
    # Four are too few to be told apart, so neither figure is in the public table: both are blank.
    assert {(e.mark, e.n, e.share) for p in shown for e in (p.every, p.rest)} == {("c", 0, None)}


@pytest.fixture(scope="module")
def waves() -> Iterator[tuple[Engine, Iterator[int]]]:
    """One record for all examples, and the numbers of their waves."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/waves.sqlite3")
        give_schema(engine, INSTRUMENT)
        yield engine, count()
        engine.dispose()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 60),
    straight=st.integers(1, 3),
    part=st.floats(0.05, 0.95),
)
def test_flags_never_change_a_figure(
    waves: tuple[Engine, Iterator[int]], seed: int, size: int, straight: int, part: float
) -> None:
    """Whatever is flagged, the figures of all are the table's; the others are those of the rest alone."""
    chance = Random(seed)
    people = [anybody(INSTRUMENT, chance) for _ in range(size)]
    (engine, numbers), wave = waves, f"w{next(waves[1])}"
    first = 1000 * next(numbers)
    tell(engine, INSTRUMENT, people, wave=wave, first=first,
         seconds=lambda n, i: 1 + Random(f"{seed}{n - first}").random() * 9)  # fmt: skip
    before = table_16_6_2(engine, INSTRUMENT, wave).estimates
    made = report(engine, wave, thresholds=Thresholds(fast_part=part, straight_services=straight))
    assert table_16_6_2(engine, INSTRUMENT, wave).estimates == before
    national = {(e.service, e.measure): e for e in before if not e.domain}
    assert {(p.every.service, p.every.measure): p.every for p in made.quality.figures} == national
    kept = [p for n, p in enumerate(people) if interview_id(first + n) not in made.flags.doubtful]
    tell(engine, INSTRUMENT, kept, wave=f"{wave}-rest", first=first + 500)
    rest = {
        (e.service, e.measure): (e.n, e.share, e.se)
        for e in table_16_6_2(engine, INSTRUMENT, f"{wave}-rest").estimates
        if not e.domain
    }
    assert {
        (p.rest.service, p.rest.measure): (p.rest.n, p.rest.share, p.rest.se) for p in made.quality.figures
    } == rest
    assert_nothing_to_subtract(made.quality)


def assert_nothing_to_subtract(q: Quality) -> None:
    """A reader with both columns learns of the doubtful only what could be published of them."""
    exact = {(p.every.service, p.every.measure): p for p in q.figures}
    rules = Rules()
    for p in public(q, rules).figures:
        assert p.every.mark == p.rest.mark or not {p.every.mark, p.rest.mark} & {"c", "u"}
        truth = exact[p.every.service, p.every.measure]
        apart = truth.every.n - truth.rest.n
        if p.every.share is not None and apart and p.every.measure != "attributes":
            assert not reason(apart, truth.every.positive - truth.rest.positive, rules.disclosure)


# ---------------------------------------------------------------- who took part, and weights


def test_coverage_and_the_cost_of_weights(record: Engine, tmp_path: Path) -> None:
    sexes = ["female", "female", "female", "male", "refused"]
    tell(record, INSTRUMENT, [{**rating("AABBA"), "respondent.sex": s} for s in sexes])
    q = report(record, margins=margins(tmp_path, female=500, male=500)).quality
    sex = q.coverage[0]
    assert (sex.table, sex.source, sex.issued, sex.not_known) == ("sex", "Census 2021", "2021-06-27", 1)
    assert {c.category: (c.n, c.share, c.population) for c in sex.categories} == {
        "female": (3, 0.75, 0.5), "male": (1, 0.25, 0.5)
    }  # fmt: skip
    others = {c.table: c for c in q.coverage[1:]}
    assert set(others) == {"age", "region", "residence", "disability"}
    assert {c.population for c in others["age"].categories} == {None}
    [w] = q.weights
    # One fifth did not say; the rest share four: women 2/3 each, the man 2, who said nothing 1.
    assert w.deff == pytest.approx(5 * (3 * (2 / 3) ** 2 + 2**2 + 1) / 5**2)
    assert [w.least, w.most] == pytest.approx([2 / 3, 2.0])
    assert (w.deff_before, w.respondents, w.raked) == (1.0, 5, True)
    plain = report(record).quality
    assert [(x.deff, x.raked) for x in plain.weights] == [(1.0, False)]
    assert plain.coverage[0].categories[0].population is None


def test_where_the_rest_does_not_fit_the_margins(record: Engine, tmp_path: Path) -> None:
    """The only man is doubtful: without him there is nobody to stand for men."""
    people = [{**rating("AABBA", "ABABB"), "respondent.sex": "female"}] * 3
    tell(record, INSTRUMENT, [*people, {**rating("AAAAA", "BBBBB"), "respondent.sex": "male"}])
    made = report(
        record, margins=margins(tmp_path, female=500, male=500), thresholds=Thresholds(same_ratings=99)
    )
    assert made.quality.figures == ()
    assert "table sex, male" in made.quality.no_figures
    assert public(made.quality, Rules()).no_figures == "not comparable"  # the reason names a small group


# ---------------------------------------------------------------- response rates


def test_rates_are_given_or_said_to_be_unknown(record: Engine) -> None:
    tell(record, INSTRUMENT, [OPENING] * 3)
    rates = Rates({"I": 30, "P": 4, "R": 40, "NC": 20, "O": 0, "U": 6, "X": 0}, 1.0,
                  (Rate("RR1", "I / (I+P+R+NC+O+U)", "completes", 0.3),))  # fmt: skip
    q = report(record, rates=rates).quality
    assert q.rates == rates
    shown = public(q, Rules()).rates
    assert shown is not None
    # 4 is small, 6 is small, together they are ten: both hidden, and with them what they make.
    assert shown.counts == {"I": 30, "P": None, "R": 40, "NC": 20, "O": 0, "U": None, "X": 0}
    assert [r.value for r in shown.rates] == [None]
    assert "Nobody was invited" in page(report(record).quality, INSTRUMENT)
    assert aapor_rates(record, "w") is None  # nobody was
