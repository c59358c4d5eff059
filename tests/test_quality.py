"""The quality report: every figure by hand on small records, what may leave, and the page."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser
from sqlalchemy import Engine

from flows.instrument import load
from storage.analysis.disclosure import reason
from storage.analysis.flags import FLAGS, Thresholds
from storage.analysis.labels import labels_of
from storage.analysis.margins import Margins, load_margins
from storage.analysis.paradata import median
from storage.analysis.publishing import publish, verify
from storage.analysis.quality import Part, Quality, Rate, Rates, Report, aapor_rates, as_json, quality
from storage.analysis.quality_files import earlier_reports, flags_csv, public_files, staff_files, write_files
from storage.analysis.quality_page import WORDS, page
from storage.analysis.quality_rules import hide, public
from storage.analysis.release import Rules, load_release
from storage.analysis.table import table_16_6_2
from storage.database import open_engine
from tests.estimation_material import AT, YES, Answers, anybody
from tests.quality_material import (
    conflict,
    event,
    happen,
    interview_id,
    set_interview,
    tell,
    wave_like,
)
from tests.stores import give_schema
from tests.test_pages import browser as browser
from tests.test_pages import opened
from tests.test_releases import about

HERE = Path(__file__).resolve().parent.parent
INSTRUMENT = load(HERE / "flows" / "sdg_16_6_2")
DAY = date(2026, 11, 23)
OPENING: Answers = {"opening.consent": "yes", "opening.adult": "yes"}
ASPECTS = ("access", "cost", "facility", "equal", "courtesy")
A, B = "strongly_agree", "agree"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    give_schema(engine, INSTRUMENT)
    yield engine
    engine.dispose()


def report(engine: Engine, **given_: Any) -> Report:
    return quality(engine, INSTRUMENT, "w", made=DAY, **given_)


def item(q: Quality, name: str) -> Any:
    return next(i for i in q.items if i.item == name)


def counts(parts: tuple[Part, ...]) -> dict[str, tuple[int | None, int | None]]:
    return {p.key: (p.n, p.of) for p in parts}


def rating(health: str, government: str = "", overall: str = "satisfied") -> dict[str, str | int]:
    """Ratings of health and, if given, of government services: a letter an aspect."""
    words = {"A": A, "B": B}
    answers: dict[str, str | int] = {**OPENING, **YES["health"]}
    answers |= {f"health.{a}": words[x] for a, x in zip(ASPECTS, health, strict=True)}
    answers["health.overall"] = overall
    if government:
        names = ("access", "cost", "process", "equal", "timely")
        answers |= YES["government"]
        answers |= {f"government.{a}": words[x] for a, x in zip(names, government, strict=True)}
        answers["government.overall"] = overall
    return answers


# ---------------------------------------------------------------- paradata


@pytest.mark.parametrize(
    ("tenths", "expected"),
    [({}, None), ({20: 1}, 2.0), ({20: 1, 40: 1}, 3.0), ({20: 1, 40: 1, 90: 1}, 4.0), ({20: 2, 90: 2}, 5.5),
     ({10: 3, 500: 2}, 1.0)],
)  # fmt: skip
def test_the_median_of_a_histogram(tenths: dict[int, int], expected: float | None) -> None:
    assert median(Counter(tenths)) == expected


def test_where_interviews_were_left(engine: Engine) -> None:
    sexed: Answers = {**OPENING, "respondent.sex": "male"}
    tell(engine, INSTRUMENT, [rating("AABBA")] * 4)
    tell(engine, INSTRUMENT, [sexed] * 3, first=4, disposition="break_off", last_item="respondent.age")
    tell(engine, INSTRUMENT, [sexed], first=7, disposition="in_progress", last_item="respondent.age")
    tell(engine, INSTRUMENT, [OPENING], first=8, disposition="partial", last_item="respondent.sex")
    tell(engine, INSTRUMENT, [{"opening.consent": "no"}], first=9, disposition="refusal")
    tell(engine, INSTRUMENT, [{}], first=10, disposition="withdrawn")
    q = report(engine).quality
    # The four complete ones have no sex on file: only five came to it, and one of them stopped.
    assert (item(q, "respondent.sex").left.n, item(q, "respondent.sex").left.of) == (1, 5)
    assert (item(q, "respondent.age").left.n, item(q, "respondent.age").left.of) == (4, 4)
    assert item(q, "opening.consent").left == Part("left", 0, 10, 0.0)
    assert item(q, "household.gas").left.share is None  # nobody came: no rate, not a rate of 0
    assert q.interviews == 10  # a withdrawn one is nobody's data
    assert counts(q.dispositions) == {
        "complete": (4, 10), "break_off": (3, 10), "in_progress": (1, 10), "partial": (1, 10),
        "refusal": (1, 10),
    }  # fmt: skip
    # Completed: 4 of the 8 that took part and are over; the refusal did not, one is still going on.
    assert q.completion == Part("complete", 4, 8, 0.5)
    assert counts(q.happenings)["withdrawn"] == (1, 11)


def test_answers_missing(engine: Engine) -> None:
    said = [A, "not_applicable", "dont_know", "refused", "refused"]
    people = [{**OPENING, **YES["health"], "health.access": s} for s in said]
    tell(engine, INSTRUMENT, people)
    tell(engine, INSTRUMENT, [{**OPENING, "health.need": "no"}], first=5)  # not asked
    tell(engine, INSTRUMENT, [OPENING], first=6, disposition="break_off", last_item="respondent.sex")
    tell(engine, INSTRUMENT, [{"opening.consent": "no"}], first=7, disposition="refusal")
    tell(engine, INSTRUMENT, [{}], first=8, disposition="break_off", last_item="opening.consent")
    q = report(engine).quality
    # Base 6: five who used health care and one who left before it was known; not who had no need of it,
    # nor who never agreed to take part.
    assert counts(item(q, "health.access").answers) == {
        "valid": (1, 6), "not_applicable": (1, 6), "dont_know": (1, 6), "refused": (2, 6),
        "not_reached": (1, 6),
    }  # fmt: skip
    assert counts(item(q, "opening.consent").answers)["not_reached"] == (1, 9)


def test_a_block_that_was_not_drawn_is_not_missing(engine: Engine) -> None:
    from tests.estimation_material import put

    put(engine, INSTRUMENT, [OPENING] * 3, blocks=["health"], probability=1 / 3)
    set_interview(engine, 0, consented_at=AT)
    q = report(engine).quality
    assert item(q, "health.need").answers[0].of == 3
    assert item(q, "government.need").answers[0] == Part("valid", 0, 0, None)


def test_times_and_wrong_keys(engine: Engine) -> None:
    took = {0: 2.0, 1: 4.0, 2: 9.0, 3: 0.0}  # the last was dialled in advance with the code
    tell(engine, INSTRUMENT, [OPENING] * 4, seconds=lambda n, i: took[n])
    tell(engine, INSTRUMENT, [OPENING] * 2, first=4, mode="sms", seconds=lambda n, i: {4: 30.0, 5: 55.0}[n],
         tries={"opening.adult": 3})  # fmt: skip
    tell(
        engine,
        INSTRUMENT,
        [OPENING],
        first=6,
        wave="other",
        seconds=lambda n, i: 500.0,
        tries={"opening.adult": 9},
    )
    happen(engine, event(interview_id(0), 9, "InvalidReply", "respondent.sex"))  # and never got it right
    q = report(engine).quality
    adult = item(q, "opening.adult")
    assert (adult.ussd.n, adult.ussd.median_seconds) == (3, 4.0)
    assert (adult.sms.n, adult.sms.median_seconds) == (2, 42.5)
    assert adult.invalid == 4  # two interviews, two wrong keys each
    assert adult.per_100 == pytest.approx(100 * 4 / 6)
    assert (item(q, "respondent.sex").invalid, item(q, "respondent.sex").per_100) == (1, None)
    assert item(q, "opening.consent").invalid == 0


def test_answers_that_took_minutes_count_as_ten(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [OPENING] * 3, seconds=lambda n, i: (5.0, 700.0, 90_000.0)[n])
    assert item(report(engine).quality, "opening.adult").ussd.median_seconds == 600.0


def test_who_came_how(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [OPENING] * 3, network="62001")
    tell(engine, INSTRUMENT, [OPENING] * 2, first=3, network="62002", language="fr", disposition="break_off")
    tell(engine, INSTRUMENT, [OPENING], first=5, mode="sms", network=None)
    happen(engine, event(interview_id(1), 40, "LanguageChosen"), event(interview_id(1), 41, "Resumed"),
           event(interview_id(2), 41, "Resumed"), event(interview_id(2), 45, "Resumed"))  # fmt: skip
    conflict(engine, 0, "out_of_order")
    conflict(engine, 0, "out_of_order", after=1)
    conflict(engine, 3, "diverging")
    q = report(engine).quality
    mixes = {
        by: {m.key: (m.interviews.n, m.complete.n, m.complete.of) for m in mix} for by, mix in q.mixes.items()
    }
    assert mixes["mode"] == {"ussd": (5, 3, 5), "sms": (1, 1, 1)}
    assert mixes["network"] == {"62001": (3, 3, 3), "62002": (2, 0, 2), "": (1, 1, 1)}
    assert mixes["language"] == {"en": (4, 4, 4), "fr": (2, 0, 2)}
    assert counts(q.happenings) | counts(q.conflicts) == {
        "resumed": (2, 6), "switched_language": (1, 6), "several_interviews": (0, 6), "withdrawn": (0, 6),
        "out_of_order": (1, 6), "diverging": (1, 6),
    }  # fmt: skip


# ---------------------------------------------------------------- flags


def test_straight_lining_beside_what_chance_would_give(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [rating(x) for x in ("AAAAA", "AAAAA", "BBBBB", "ABABA")])
    tell(engine, INSTRUMENT, [{**rating("AAAAA"), "health.cost": "dont_know"}], first=4)  # not all five rated
    health = next(s for s in report(engine).quality.straight if s.service == "health")
    assert health.alike == Part("alike", 3, 4, 0.75)
    # A: 3/4, 2/4, 3/4, 2/4, 3/4 of the aspects in turn, B the rest.
    assert health.expected == pytest.approx(0.75**3 * 0.5**2 + 0.25**3 * 0.5**2)
    nobody = next(s for s in report(engine).quality.straight if s.service == "primary")
    assert (nobody.alike.of, nobody.expected) == (0, None)


def test_straight_in_one_service_is_no_flag(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [rating("AAAAA"), rating("AAAAA", "BBBBB"), rating("AAAAA", "ABBBB")])
    made = report(engine)
    assert made.flags.of["straight"] == {interview_id(1)}
    assert counts(made.quality.flags)["straight"] == (1, 2)  # of those who rated two services
    strict = report(engine, thresholds=Thresholds(straight_services=1))
    assert strict.flags.of["straight"] == {interview_id(0), interview_id(1)}


def test_speeding_over_ussd_only(engine: Engine) -> None:
    pace = {5: 2.9, 6: 3.0, 7: 1.9, 8: 2.0}
    tell(
        engine, INSTRUMENT, [rating("AABBA")] * 15, seconds=lambda n, i: pace.get(n, 6.0)
    )  # ten answers each
    tell(engine, INSTRUMENT, [rating("AABBA")], first=15, mode="sms", seconds=lambda n, i: 1.0)
    few: Answers = {**OPENING, "respondent.sex": "male"}
    tell(engine, INSTRUMENT, [few], first=16, seconds=lambda n, i: 1.0)
    made = report(engine)
    # The usual time is 6.0 a question. Half of it is not under half of it, two seconds not under two.
    assert made.flags.of["fast_half"] == {interview_id(n) for n in (5, 7, 8)}
    assert made.flags.of["fast_screens"] == {interview_id(7)}
    assert counts(made.quality.flags)["fast_half"] == (3, 15)  # not the text messages, nor three answers


def test_identical_answers_and_several_interviews(engine: Engine) -> None:
    twice, other = rating("AABBA", "ABABA"), rating("AABBA", "ABABB")
    tell(engine, INSTRUMENT, [twice, other, twice, rating("ABBBB"), rating("ABBBB")])
    tell(engine, INSTRUMENT, [twice], first=5, disposition="partial", last_item="household.fridge")
    set_interview(engine, 1, last_at=AT + timedelta(days=1))
    conflict(engine, 3, "out_of_order")
    # Respondent 4 completed another one, which does not count; respondent 3 began one more.
    tell(engine, INSTRUMENT, [twice, twice], first=6)
    set_interview(engine, 6, respondent=f"{4:032x}", attempt=2, counted=False)
    set_interview(engine, 7, respondent=f"{3:032x}", attempt=2, counted=False, disposition="break_off")
    made = report(engine)
    assert {name: set(ids) for name, ids in made.flags.of.items() if ids} == {
        "same_answers": {interview_id(0), interview_id(2)},
        "several": {interview_id(4)},
        "several_days": {interview_id(1)},
        "out_of_order": {interview_id(3)},
    }
    assert made.flags.doubtful == {interview_id(n) for n in (0, 2, 4)}
    assert counts(made.quality.flags)["same_answers"] == (2, 3)
    assert counts(made.quality.happenings)["several_interviews"] == (2, 6)
    assert flags_csv(made.flags).splitlines() == [
        "interview,fast_half,fast_screens,straight,same_answers,several,several_days,out_of_order,doubtful",
        f"{interview_id(0)},0,0,0,1,0,0,0,1",
        f"{interview_id(1)},0,0,0,0,0,1,0,0",
        f"{interview_id(2)},0,0,0,1,0,0,0,1",
        f"{interview_id(3)},0,0,0,0,0,0,1,0",
        f"{interview_id(4)},0,0,0,0,1,0,0,1",
    ]


@pytest.mark.parametrize("wrong", [{"fast_part": 1.0}, {"fast_seconds": 0.0}, {"straight_services": 0}])
def test_thresholds_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="thresholds: "):
        Thresholds(**wrong)


# ---------------------------------------------------------------- figures with and without


def share(q: Quality, side: str) -> dict[tuple[str, str], tuple[int, float | None]]:
    return {
        (e.service, e.measure): (e.n, e.share)
        for p in q.figures
        for e in [p.every if side == "every" else p.rest]
    }


def test_figures_with_and_without(engine: Engine) -> None:
    """Ten satisfied, of whom four straight in two services; ten not."""
    content = [rating("AABBA", "ABABB"), rating("AABBA", "BBABB")]
    tell(engine, INSTRUMENT, content * 3)
    tell(engine, INSTRUMENT, [rating("AAAAA", "BBBBB")] * 4, first=6)
    tell(engine, INSTRUMENT, [rating("ABABA", overall="dissatisfied")] * 10, first=10)
    q = report(engine, thresholds=Thresholds(same_ratings=99)).quality
    assert (q.doubtful.n, q.doubtful.of) == (4, 20)
    assert share(q, "every")["health", "overall"] == (20, 0.5)
    assert share(q, "rest")["health", "overall"] == (16, 6 / 16)
    shown = public(q, Rules()).figures
    # Four are too few to be told apart, so neither figure is in the public table: both are blank.
    assert {(e.mark, e.n, e.share) for p in shown for e in (p.every, p.rest)} == {("c", 0, None)}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 60),
    straight=st.integers(1, 3),
    part=st.floats(0.05, 0.95),
)
def test_flags_never_change_a_figure(seed: int, size: int, straight: int, part: float) -> None:
    """Whatever is flagged, the figures of all are the table's; the others are those of the rest alone."""
    chance = Random(seed)
    people = [anybody(INSTRUMENT, chance) for _ in range(size)]
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/a.sqlite3")
        give_schema(engine, INSTRUMENT)
        tell(engine, INSTRUMENT, people, seconds=lambda n, i: 1 + Random(f"{seed}{n}").random() * 9)
        before = table_16_6_2(engine, INSTRUMENT, "w").estimates
        made = report(engine, thresholds=Thresholds(fast_part=part, straight_services=straight))
        assert table_16_6_2(engine, INSTRUMENT, "w").estimates == before
        national = {(e.service, e.measure): e for e in before if not e.domain}
        assert {(p.every.service, p.every.measure): p.every for p in made.quality.figures} == national
        kept = [p for n, p in enumerate(people) if interview_id(n) not in made.flags.doubtful]
        engine.dispose()
        alone = open_engine(f"sqlite:///{folder}/b.sqlite3")
        give_schema(alone, INSTRUMENT)
        tell(alone, INSTRUMENT, kept)
        rest = {
            (e.service, e.measure): (e.n, e.share, e.se)
            for e in table_16_6_2(alone, INSTRUMENT, "w").estimates
            if not e.domain
        }
        alone.dispose()
    assert {
        (p.rest.service, p.rest.measure): (p.rest.n, p.rest.share, p.rest.se) for p in made.quality.figures
    } == (rest)
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


def margins(folder: Path, **totals: float) -> Margins:
    path = folder / "margins.csv"
    rows = [f"sex,Census 2021,2021-06-27,sex,{name},{total}," for name, total in totals.items()]
    path.write_text("table,source,date,variables,category,total,joins\n" + "\n".join(rows) + "\n", "utf-8")
    return load_margins(path, INSTRUMENT)


def test_coverage_and_the_cost_of_weights(engine: Engine, tmp_path: Path) -> None:
    sexes = ["female", "female", "female", "male", "refused"]
    tell(engine, INSTRUMENT, [{**rating("AABBA"), "respondent.sex": s} for s in sexes])
    q = report(engine, margins=margins(tmp_path, female=500, male=500)).quality
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
    plain = report(engine).quality
    assert [(x.deff, x.raked) for x in plain.weights] == [(1.0, False)]
    assert plain.coverage[0].categories[0].population is None


def test_where_the_rest_does_not_fit_the_margins(engine: Engine, tmp_path: Path) -> None:
    """The only man is doubtful: without him there is nobody to stand for men."""
    people = [{**rating("AABBA", "ABABB"), "respondent.sex": "female"}] * 3
    tell(engine, INSTRUMENT, [*people, {**rating("AAAAA", "BBBBB"), "respondent.sex": "male"}])
    made = report(
        engine, margins=margins(tmp_path, female=500, male=500), thresholds=Thresholds(same_ratings=99)
    )
    assert made.quality.figures == ()
    assert "table sex, male" in made.quality.no_figures
    assert public(made.quality, Rules()).no_figures == "not comparable"  # the reason names a small group


# ---------------------------------------------------------------- response rates


def test_rates_are_given_or_said_to_be_unknown(engine: Engine) -> None:
    tell(engine, INSTRUMENT, [OPENING] * 3)
    rates = Rates({"I": 30, "P": 4, "R": 40, "NC": 20, "O": 0, "U": 6, "X": 0}, 1.0,
                  (Rate("RR1", "I / (I+P+R+NC+O+U)", "completes", 0.3),))  # fmt: skip
    q = report(engine, rates=rates).quality
    assert q.rates == rates
    shown = public(q, Rules()).rates
    assert shown is not None
    # 4 is small, 6 is small, together they are ten: both hidden, and with them what they make.
    assert shown.counts == {"I": 30, "P": None, "R": 40, "NC": 20, "O": 0, "U": None, "X": 0}
    assert [r.value for r in shown.rates] == [None]
    assert "Nobody was invited" in page(report(engine).quality, INSTRUMENT)
    assert aapor_rates(engine, "w") is None  # nobody was


# ---------------------------------------------------------------- what may leave


@pytest.mark.parametrize(
    ("counts_", "hidden"),
    [
        ([0, 0, 50], []),
        ([3, 0, 50], [0, 2]),  # one alone follows from the total
        ([3, 12, 50], [0, 1]),
        ([4, 4, 50, 60], [0, 1, 2]),  # eight people are still few
        ([4, 6, 50], [0, 1]),
        ([9], [0]),
        ([10, 10], []),
    ],
)
def test_small_parts_of_a_whole(counts_: list[int], hidden: list[int]) -> None:
    assert [k for k, h in enumerate(hide(counts_, 10)) if h] == hidden


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(3, 15))
def test_no_hidden_part_follows_from_the_whole(counts_: list[int], least: int) -> None:
    hidden = hide(counts_, least)
    out = [n for n, h in zip(counts_, hidden, strict=True) if h]
    shown = [n for n, h in zip(counts_, hidden, strict=True) if not h]
    assert not [n for n in shown if 0 < n < least]
    assert not out or (len(out) > 1 and sum(out) >= least) or not any(shown)


@pytest.fixture(scope="module")
def wave() -> Iterator[Report]:
    """A made-up wave of some 1,200 interviews, raked to sex."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/w.sqlite3")
        give_schema(engine, INSTRUMENT)
        wave_like(engine, INSTRUMENT)
        yield report(engine, margins=margins(Path(folder), female=9_000_000, male=8_900_000))
        engine.dispose()


def numbers(data: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number in a JSON text, with its key."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from numbers(value, name)
    elif isinstance(data, list):
        for value in data:
            yield from numbers(value, key)
    elif isinstance(data, int) and not isinstance(data, bool):
        yield key, data


def test_the_public_report_has_no_small_cell_and_nobodys_name(wave: Report) -> None:
    files = public_files(wave.quality, INSTRUMENT, Rules())
    assert sorted(files) == ["quality.fr.html", "quality.html", "quality.json"]
    data = json.loads(files["quality.json"])
    assert data["public"] is True
    cells = dict(data, thresholds={}, rules={}, format=0, weights=[])
    found = list(numbers(cells))
    assert len(found) > 300
    assert [(k, n) for k, n in found if n % 5 or 0 < n < 10] == []
    assert data["doubtful"]["n"] > 10 and data["figures"]  # not empty because all is hidden
    assert {w["most"] for w in data["weights"]} == {None}
    for text in files.values():
        assert not re.search(r"(?<![0-9a-f.])[0-9a-f]{16}", text)
    staff = staff_files(wave, INSTRUMENT)
    assert sorted(staff) == [
        "interview_flag.csv", "quality_staff.fr.html", "quality_staff.html", "quality_staff.json"
    ]  # fmt: skip
    for name in ("quality_staff.html", "quality_staff.json"):
        assert not re.search(r"(?<![0-9a-f.])[0-9a-f]{16}", staff[name])
    assert len(staff["interview_flag.csv"].splitlines()) > 50


@pytest.mark.parametrize(("small", "hidden"), [(40, False), (3, True)])
def test_no_rate_gives_a_hidden_group_back(wave: Report, small: int, hidden: bool) -> None:
    """e is (I + P + R + NC) over these and X: with it and the others, X would be known."""
    counts_ = {"I": 800, "P": 60, "R": 90, "NC": 200, "O": small, "U": 0, "X": 50}
    rates = Rates(counts_, 0.958, (Rate("RR1", "I / all", "least", 0.69),))
    files = public_files(replace(wave.quality, rates=rates), INSTRUMENT, Rules())
    told = json.loads(files["quality.json"])["rates"]
    assert (told["counts"]["O"] is None, told["e"] is None, told["rates"][0]["value"] is None) == (
        hidden,
    ) * 3
    assert ("95.8" in files["quality.html"]) != hidden


def test_a_hidden_place_stays_hidden(wave: Report) -> None:
    """What a release hides nationally is not shown by the quality report."""
    [pair] = [p for p in wave.quality.figures if (p.every.service, p.every.measure) == ("health", "overall")]
    before = [(pair.every.wave, "health", "overall", ())]
    shown = {(p.every.service, p.every.measure): p for p in public(wave.quality, Rules(), before).figures}
    assert shown["health", "overall"].every.mark == shown["health", "overall"].rest.mark == "c"
    assert shown["primary", "overall"].every.mark == ""


def test_two_reports_cannot_be_subtracted(wave: Report, tmp_path: Path) -> None:
    """The same figure out already, without a few people fewer: neither column is shown again."""
    estimates = [p.every for p in wave.quality.figures]
    first = public_files(wave.quality, INSTRUMENT, Rules())
    publish(estimates, tmp_path, about(), labels_of(INSTRUMENT), issued=DAY, beside=first)
    out = earlier_reports(tmp_path, "w")
    assert out == [json.loads(first["quality.json"])]
    assert public(wave.quality, Rules(), (), out) == public(
        wave.quality, Rules()
    )  # the same again tells nothing
    for fewer, hidden in ((5, True), (20, False)):
        moved = [
            replace(p, rest=replace(p.rest, n=p.rest.n - fewer, positive=p.rest.positive - fewer // 2))
            for p in wave.quality.figures
        ]
        shown = public(replace(wave.quality, figures=tuple(moved)), Rules(), (), out).figures
        assert {p.every.mark == p.rest.mark == "c" for p in shown} == {hidden}


def test_every_key_is_explained(wave: Report) -> None:
    text = (HERE / "docs" / "quality.md").read_text("utf-8")

    def keys(data: Any) -> Iterator[str]:
        if isinstance(data, dict):
            for name, value in data.items():
                yield name
                yield from keys(value)
        elif isinstance(data, list):
            for value in data:
                yield from keys(value)

    told = set(re.findall(r"`([A-Za-z0-9_.]+)`", text))
    assert set(keys(json.loads(as_json(wave.quality)))) - told == set()
    assert set(FLAGS) - told == set()
    for name in ("fast_part", "fast_seconds", "fast_answers", "straight_services", "same_ratings"):
        default = getattr(Thresholds(), name)
        assert re.search(rf"`{name}` \| {default:g} \|", text), f"{name}: docs say otherwise than {default:g}"


# ---------------------------------------------------------------- the page


class Tags(HTMLParser):
    """What is open, what refers elsewhere, and the text."""

    EMPTY = frozenset({"meta", "rect", "line", "circle"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.rows = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given_ = dict(attrs)
        self.ids |= {given_["id"] or ""} if "id" in given_ else set()
        self.links += [
            value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")
        ]
        self.rows += tag == "tr"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.EMPTY

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_page_stands_alone(wave: Report, language: str) -> None:
    for q in (wave.quality, public(wave.quality, Rules())):
        text = page(q, INSTRUMENT, language)
        tags = Tags(text)
        assert tags.open == []
        assert tags.rows > 150
        assert "://" not in text and "url(" not in text and "<script" not in text and "@import" not in text
        inside = {link[1:] for link in tags.links if link.startswith("#")}
        assert inside <= tags.ids and len(inside) == 10
        assert {link for link in tags.links if not link.startswith("#")} == {
            "quality.fr.html" if language == "en" else "quality.html"
        }
        assert "None" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)
    assert ("Doubtful interviews" in text) == (language == "en")


def test_what_an_office_writes_is_escaped(engine: Engine, tmp_path: Path) -> None:
    tell(
        engine,
        INSTRUMENT,
        [{**rating("AABBA"), "respondent.sex": s} for s in ("female", "male")],
        network="<b>",
    )
    path = tmp_path / "m.csv"
    head = "table,source,date,variables,category,total,joins\n"
    rows = [f"sex,<script>1</script>,2021-06-27,sex,{s},5,\n" for s in ("female", "male")]
    path.write_text(head + "".join(rows), "utf-8")
    text = page(report(engine, margins=load_margins(path, INSTRUMENT)).quality, INSTRUMENT)
    assert "<script" not in text and "&lt;script&gt;" in text and "&lt;b&gt;" in text


def test_both_languages_have_all_words() -> None:
    assert WORDS["en"].keys() == WORDS["fr"].keys()
    for key, words in WORDS["en"].items():
        assert re.findall(r"\{\w+\}", words) == re.findall(r"\{\w+\}", WORDS["fr"][key]), key


def test_a_wave_of_nobody_is_a_page_too(engine: Engine) -> None:
    made = report(engine)
    for language in WORDS:
        for q in (made.quality, public(made.quality, Rules())):
            assert Tags(page(q, INSTRUMENT, language)).open == []
    assert (made.quality.interviews, made.quality.completion.share) == (0, None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_in_a_browser(
    wave: Report, browser: Browser, tmp_path: Path, width: int, scheme: Any
) -> None:
    files = public_files(wave.quality, INSTRUMENT, Rules())
    write_files(files, tmp_path)
    for name in ("quality.html", "quality.fr.html"):
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        with opened(browser, f"file://{tmp_path / name}", **options) as shown:
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            bars = shown.locator("#missing svg .refused").count()
            assert bars > 5
            background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (int(re.findall(r"\d+", background)[0]) < 128) == (scheme == "dark")
            if shots := os.environ.get("SHOTS"):
                shown.screenshot(path=f"{shots}/{name}-{width}-{scheme}.png", full_page=True)


# ---------------------------------------------------------------- into a release, and by the verb


def test_in_a_releases_folder(wave: Report, tmp_path: Path) -> None:
    estimates = [p.every for p in wave.quality.figures]
    files = public_files(wave.quality, INSTRUMENT, Rules())
    folder = publish(estimates, tmp_path, about(), labels_of(INSTRUMENT), issued=DAY, beside=files)
    assert verify(folder) == []
    for name, text in files.items():
        assert (folder / name).read_text("utf-8") == text
        assert f"  {name}\n" in (folder / "SHA256SUMS").read_text("utf-8")
    catalogue = json.loads((folder / "dcat.jsonld").read_text("utf-8"))
    types = {d["dct:title"]: d["dcat:mediaType"] for d in catalogue["dcat:distribution"]}
    assert (types["quality.html"], types["quality.json"]) == ("text/html", "application/json")
    # What the report says of the figures is what the release says of them.
    released = {(e.service, e.measure): e for e in load_release(folder).estimates}
    for told in json.loads(files["quality.json"])["figures"]:
        e = released[told["service"], told["measure"]]
        if told["with_doubtful"]["mark"] not in ("c", "u"):
            assert told["with_doubtful"] == {
                "n": e.n, "share": e.share, "low": e.low, "high": e.high, "mark": e.mark
            }  # fmt: skip


def verb(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "main.py", "quality", *arguments],
        cwd=HERE, capture_output=True, text=True, timeout=120,
        env={"PATH": "", "DIAL16_DATABASE_URL": url, "DIAL16_DATA_DIR": str(folder), "COLUMNS": "100"},
    )  # fmt: skip


def test_the_verb(engine: Engine, database_url: str, tmp_path: Path) -> None:
    tell(engine, INSTRUMENT, [rating("AABBA", "ABABB")] * 3)
    told = verb(database_url, tmp_path, "--wave", "w")
    assert (told.returncode, told.stderr) == (0, "")
    assert re.search(r"completed\W+3\W+3\W+100\.0%", told.stdout)
    assert re.search(r"flag: same_answers\W+3\W+3\W+100\.0%", told.stdout)
    out = tmp_path / "out"
    assert verb(database_url, tmp_path, "--wave", "w", "--out", str(out)).returncode == 0
    assert sorted(f.name for f in out.iterdir()) == ["quality.fr.html", "quality.html", "quality.json"]
    assert verb(database_url, tmp_path, "--wave", "w", "--out", str(out), "--staff").returncode == 0
    assert (out / "interview_flag.csv").read_text("utf-8").count("\n") == 4
    refused = verb(database_url, tmp_path, "--wave", "w", "--staff")
    assert refused.returncode == 2 and "--out" in refused.stderr
    nobody = verb(database_url, tmp_path, "--wave", "none")
    assert nobody.returncode == 1 and "Wave none has no interviews" in nobody.stderr
