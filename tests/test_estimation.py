"""The 16.6.2 table: worked examples by hand, conventions one by one, on each database."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update

from flows.instrument import Instrument, load
from storage.analysis.domains import OfficeFileError, Wealth, load_wealth, variables
from storage.analysis.estimates import MODELLED, UNWEIGHTED, Domain, Estimate, blanked
from storage.analysis.indicator import indicator
from storage.analysis.margins import Margin, Margins
from storage.analysis.sheets import NoMarks
from storage.analysis.table import Table, respondent_weights, table_16_6_2, waves_of
from storage.analysis.variance import Design
from storage.database import migrate, open_engine, reading, writing
from storage.marks import restore_marks
from storage.models import Interview, table_of
from tests.estimation_material import SERVICES, YES, Answers, anybody, marks_of, put
from tests.record_material import SMALL, Dialogue, ended, fold_all
from tests.stores import give_schema

REAL = load(Path(__file__).resolve().parent.parent / "flows" / "sdg_16_6_2")
FIVE = [i.id for i in REAL.items if i.service == "health" and i.role == "attribute"]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    give_schema(engine, REAL)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    """Where the engine makes no difference."""
    engine = open_engine(f"sqlite:///{tmp_path / 'record.sqlite3'}")
    give_schema(engine, REAL)
    yield engine
    engine.dispose()


def user(overall: str | None = None, **more: str | int) -> dict[str, str | int]:
    """A user of health care; `respondent_sex="male"` for respondent.sex."""
    answers: dict[str, str | int] = {**YES["health"]}
    answers |= {name.replace("_", ".", 1): value for name, value in more.items()}
    return answers if overall is None else {**answers, "health.overall": overall}


def found(table: Table, service: str, measure: str, domain: Domain = ()) -> Estimate:
    (one,) = [e for e in table.estimates if (e.service, e.measure, e.domain) == (service, measure, domain)]
    return one


def margins(*tables: tuple[tuple[str, ...], dict[str, float]]) -> Margins:
    return Margins(
        "m.csv", "0" * 16,
        tuple(Margin("*".join(v), "made up", date(2026, 1, 1), v, t, {}) for v, t in tables),
    )  # fmt: skip


# ---------------------------------------------------------------- by hand


def test_the_worked_example_from_the_database(engine: Engine) -> None:
    """Strata A, A, A, B, B, B; w = 1, 1, 2, 3, 3, 2; y = 1, 0, 1, 1, 0, 1; domain = rows 1, 2, 4, 5."""
    positive = [True, False, True, True, False, True]
    people = [
        user("satisfied" if y else "dissatisfied", respondent_sex="male" if n in (0, 1, 3, 4) else "female")
        for n, y in enumerate(positive)
    ]
    names = put(engine, REAL, people)
    draw = dict(zip(names, zip("AAABBB", (1.0, 1, 2, 3, 3, 2), strict=True), strict=True))
    made = table_16_6_2(engine, REAL, "w", draw=draw)
    e = found(made, "health", "overall")
    assert (e.n, e.positive, e.df) == (6, 4, 4)
    assert (e.share, e.se) == pytest.approx((8 / 12, 0.257601), abs=1e-6)
    assert (e.low, e.high) == pytest.approx((0.074102, 0.980384), abs=1e-6)
    assert e.width == pytest.approx(0.992765 - 0.087296, abs=1e-5)
    male = found(made, "health", "overall", (("sex", "male"),))
    assert (male.share, male.se) == pytest.approx((0.5, 0.342327), abs=1e-6)
    assert (male.n, male.df) == (4, 2)


def test_simple_random_respondents_have_the_textbook_error(sqlite: Engine) -> None:
    """Equal weights, one stratum: se = sqrt(p(1-p)/(n-1)), deff n/(n-1), df n - 1."""
    put(sqlite, REAL, [user("satisfied")] * 15 + [user("very_dissatisfied")] * 25)
    e = found(table_16_6_2(sqlite, REAL, "w"), "health", "overall")
    assert e.se == pytest.approx((0.375 * 0.625 / 39) ** 0.5)
    assert e.deff == pytest.approx(40 / 39) and e.df == 39
    assert e.n_eff == pytest.approx(39)


def test_who_is_outside_the_domain_stays_in_the_file(sqlite: Engine) -> None:
    """Non-users of the service count in n_h: se is below the filtered file's sqrt(p(1-p)/(n-1)) here."""
    people: list[Answers] = [*[user("satisfied")] * 10, *[user("dissatisfied")] * 10]
    put(sqlite, REAL, [*people, *[{"health.need": "no"}] * 60])
    e = found(table_16_6_2(sqlite, REAL, "w"), "health", "overall")
    assert (e.n, e.df) == (20, 19)
    assert e.se == pytest.approx((80 / 79 * 0.25 / 20) ** 0.5)


def test_shares_of_attributes_are_averaged_with_their_covariance(sqlite: Engine) -> None:
    """All five answers alike: the mean's se is one share's, not se/sqrt(5) as without covariance."""
    people = [
        user(**{i.replace(".", "_", 1): "agree" if n < 12 else "disagree" for i in FIVE}) for n in range(30)
    ]
    put(sqlite, REAL, people)
    made = table_16_6_2(sqlite, REAL, "w")
    one, mean = found(made, "health", FIVE[0]), found(made, "health", "attributes")
    assert (mean.share, mean.se) == pytest.approx((0.4, one.se)) and mean.df == one.df
    assert (mean.n, mean.positive, mean.deff) == (30, 60, None)


def test_each_share_has_its_own_base_and_n_counts_anybody_with_one(sqlite: Engine) -> None:
    """90/100 and 10/50 make 55 %, not 66.7 %; with three more shares of 1."""
    people = []
    for n in range(100):
        given = {FIVE[0]: "agree" if n < 90 else "disagree"} | dict.fromkeys(FIVE[2:], "agree")
        if n < 50:
            given[FIVE[1]] = "agree" if n < 10 else "disagree"
        people.append({**YES["health"], **given})
    put(sqlite, REAL, people)
    mean = found(table_16_6_2(sqlite, REAL, "w"), "health", "attributes")
    assert mean.share == pytest.approx((0.9 + 0.2 + 3) / 5)
    assert (mean.n, mean.df) == (100, 99)


def test_a_mean_with_an_empty_share_is_undefined(sqlite: Engine) -> None:
    put(sqlite, REAL, [{**YES["health"], **dict.fromkeys(FIVE[:4], "agree")}] * 5)
    mean = found(table_16_6_2(sqlite, REAL, "w"), "health", "attributes")
    assert (mean.n, mean.share, mean.se, mean.low, mean.width) == (5, None, None, None, None)


# ---------------------------------------------------------------- conventions


def test_what_leaves_the_base_is_counted_beside_it(sqlite: Engine) -> None:
    people: list[Answers] = [
        user("satisfied"), user("very_dissatisfied"),  # code 0 is an answer
        user("not_applicable"), user("dont_know"), user("refused"),
        user(),  # stopped before it: not reached
        {"health.need": "yes"},  # the gate Q2 was not reached, so neither was this
        {"health.need": "no"},  # ruled out
        {"health.need": "yes", "health.got": "no", "health.visit": "no"},  # ruled out
        {"education.child": "no"},  # the service's first question was not reached
    ]  # fmt: skip
    put(sqlite, REAL, people)
    e = found(table_16_6_2(sqlite, REAL, "w"), "health", "overall")
    assert (e.n, e.positive, e.share) == (2, 1, 0.5)
    assert (e.not_applicable, e.dont_know, e.refused, e.not_reached) == (1, 1, 1, 3)


def test_0_and_1_go_by_counts(sqlite: Engine) -> None:
    put(sqlite, REAL, [user("satisfied", respondent_sex="male")] * 30)
    put(sqlite, REAL, [user("dissatisfied", respondent_sex="female")] * 7, first=30)
    file = margins((("sex",), {"male": 333.3, "female": 666.7}))
    made = table_16_6_2(sqlite, REAL, "w", margins=file)
    male = found(made, "health", "overall", (("sex", "male"),))
    assert (male.share, male.se, male.high, male.n_eff) == (1.0, 0.0, 1.0, 30.0)
    assert male.low == pytest.approx(0.025 ** (1 / 30))
    female = found(made, "health", "overall", (("sex", "female"),))
    assert (female.share, female.low) == (0.0, 0.0)
    assert female.high == pytest.approx(1 - 0.025 ** (1 / 7))
    # The margin explains the national share whole: no error is left, and none is printed as +-0.
    whole = found(made, "health", "overall")
    assert whole.share == pytest.approx(1 / 3, abs=1e-4)
    assert whole.low is not None and whole.high is not None and whole.high - whole.low > 0.2


def test_one_respondent_gives_no_interval_and_nobody_no_share(sqlite: Engine) -> None:
    put(sqlite, REAL, [user("satisfied")])
    made = table_16_6_2(sqlite, REAL, "w")
    one, none = found(made, "health", "overall"), found(made, "government", "overall")
    assert (one.n, one.share, one.df, one.low) == (1, 1.0, 0, None)
    assert (none.n, none.share, none.se, none.n_eff) == (0, None, None, 0.0)


def test_a_stratum_of_one_adds_its_distance_from_the_file_s_mean() -> None:
    """u = w z adds up to 0 over the file; V = n/(n-1) sum (u - mean)^2 of the others + u^2 of the one."""
    design = Design(np.array([0, 0, 1]), np.ones(3), np.array([1.0, 2.0, 4.0]), np.array([2, 1, 1]))
    z = np.array([0.1, -0.5, 0.2])
    (se,) = design.standard_errors(1, np.zeros(3, dtype=np.int64), np.arange(3), z, np.array([2, 1, 1]))
    u = np.array([0.1, 0.1, -1.0])
    assert u.sum() + 0.8 == pytest.approx(0)
    expected = 3 / 2 * ((u - u.mean()) ** 2).sum() + 0.8**2
    assert float(se) ** 2 == pytest.approx(expected)


def test_who_lacks_a_demographic_is_in_the_total_and_in_no_row(sqlite: Engine) -> None:
    put(sqlite, REAL, [user("satisfied", respondent_sex="male")] * 4 + [user("dissatisfied")] * 6)
    made = table_16_6_2(sqlite, REAL, "w")
    assert found(made, "health", "overall").n == 10
    assert found(made, "health", "overall", (("sex", "male"),)).n == 4
    assert found(made, "health", "overall", (("sex", "female"),)).n == 0
    assert {e.domain for e in made.estimates if e.domain and e.domain[0][0] == "sex"} == {
        (("sex", "male"),), (("sex", "female"),)
    }  # fmt: skip


def test_disability_is_a_domain_at_3_or_4_and_known_without_only_from_all_six(sqlite: Engine) -> None:
    names = ("seeing", "hearing", "walking", "remembering", "selfcare", "communicating")
    every: dict[str, str | int] = {f"disability_{n}": "some" for n in names}
    people = [
        user("satisfied", **every), user("satisfied", **{**every, "disability_walking": "cannot"}),
        user("satisfied", **{**every, "disability_seeing": "refused", "disability_hearing": "a_lot"}),
        user("satisfied", **{**every, "disability_seeing": "refused"}), user("satisfied"),
    ]  # fmt: skip
    put(sqlite, REAL, people)
    made = table_16_6_2(sqlite, REAL, "w")
    assert found(made, "health", "overall", (("disability", "with"),)).n == 2
    assert found(made, "health", "overall", (("disability", "without"),)).n == 1


def test_wealth_fifths_come_from_the_office_s_score(sqlite: Engine, tmp_path: Path) -> None:
    path = tmp_path / "wealth.toml"
    path.write_text(
        'source = "made up"\ndate = 2026-01-01\ncuts = [1, 2, 3, 4]\n'
        '[points."household.fridge"]\nyes = 3\nno = 0\n'
        '[points."household.open_fire"]\nyes = 0\nno = 1\nnot_asked = 2\n'
    )
    wealth = load_wealth(path, REAL)
    gas, none = {"household.gas": "yes"}, {"household.gas": "no"}
    homes: list[Answers] = [
        {"household.fridge": "yes", **gas},  # 5
        {"household.fridge": "no", **none, "household.open_fire": "yes"},  # 0
        {"household.fridge": "no", **none, "household.open_fire": "no"},  # 1
        {"household.fridge": "no", **gas},  # 2
        {"household.fridge": "yes", **none, "household.open_fire": "yes"},  # 3
        {"household.fridge": "yes", **none},  # not reached
        {"household.fridge": "refused", **gas},
    ]
    put(sqlite, REAL, [{**user("satisfied"), **home} for home in homes])
    made = table_16_6_2(sqlite, REAL, "w", wealth=wealth)
    n = [found(made, "health", "overall", (("wealth", f"q{k}"),)).n for k in range(1, 6)]
    assert n == [1, 1, 1, 1, 1]
    assert not [
        e for e in table_16_6_2(sqlite, REAL, "w").estimates if e.domain[:1] and "wealth" in e.domain[0]
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cuts = [", "cannot be read"),
        ("cuts = [1, 2, 3]", "four numbers, ascending"),
        ("cuts = [1, 2, 3, 3]", "four numbers, ascending"),
        ('date = "2026"', "no date"),
        ("income = 3", "income: unknown"),
        ('[points."household.fridge"]\nyes = 1', "points.household.fridge.no: missing"),
        ('[points."household.fridge"]\nyes = 1\nno = "0"', "must be a number"),
        ('[points."household.car"]\nyes = 1', "no choice item of the instrument"),
    ],
)
def test_faults_of_a_wealth_file_name_key_and_fix(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "wealth.toml"
    path.write_text(text)
    with pytest.raises(OfficeFileError, match=r"wealth\.toml") as refused:
        load_wealth(path, REAL)
    assert words in str(refused.value)


def test_notes_say_unweighted_and_modelled_as_if(sqlite: Engine) -> None:
    put(sqlite, REAL, [user("satisfied", respondent_sex="male"), user("satisfied", respondent_sex="female")])
    file = margins((("sex",), {"male": 5, "female": 5}))
    assert {e.notes for e in table_16_6_2(sqlite, REAL, "w").estimates} == {(UNWEIGHTED, MODELLED)}
    raked = table_16_6_2(sqlite, REAL, "w", margins=file, probability_sample=True)
    assert {e.notes for e in raked.estimates} == {()}
    assert {r.population for r in raked.rakings.values()} == {10.0}


# ---------------------------------------------------------------- from the database


def test_it_is_the_indicator_s_table_on_both_engines(engine: Engine) -> None:
    """Counts and unweighted shares of the same answers, by the marks here and by the responses there."""
    migrate(engine, SMALL)
    chance = Random(4)
    entries = []
    for n in range(40):
        d = Dialogue(n)
        d.begin()
        d.consent()
        items = [i for i in SMALL.items if i.service]
        for k, item in enumerate(items[: chance.randrange(len(items) + 1)]):
            assert item.scale is not None
            option = chance.choice([*(o.id for o in item.scale.options), *item.nonresponse])
            d.answer(item.id, option, *([ended()] if k == len(items) - 1 else []))
        entries += d.entries
    fold_all(engine, entries)
    made = table_16_6_2(engine, SMALL, "pilot-2026")
    rows = indicator(engine, SMALL, "pilot-2026")
    assert len(rows) == 5 + 2 + 2 + 2
    for row in rows:
        measure = {"attribute": row.item, "mean": "attributes", "overall": "overall"}[row.measure]
        e = found(made, row.service, measure)
        assert e.share == (None if row.share is None else pytest.approx(row.share))
        if row.measure != "mean":
            ours = (e.n, e.positive, e.not_applicable, e.dont_know, e.refused)
            assert ours == (row.n, row.positive, row.not_applicable, row.dont_know, row.refused)


def test_a_service_drawn_for_some_has_a_file_of_those(engine: Engine) -> None:
    """Who was not given a block was not asked: not in its strata, and no "not reached"."""
    yes, no = user("satisfied"), user("dissatisfied")
    put(engine, REAL, [yes] * 6 + [no] * 4, blocks=["health"], probability=1 / 3)
    put(engine, REAL, [{"government.need": "no"}] * 30, blocks=["government"], probability=1 / 3, first=10)
    e = found(table_16_6_2(engine, REAL, "w"), "health", "overall")
    assert (e.n, e.share, e.not_reached) == (10, 0.6, 0)
    assert e.se == pytest.approx((0.24 / 9) ** 0.5)
    weights = respondent_weights(engine, REAL, "w")
    assert {k: (len(w.weight), set(w.weight)) for k, w in weights.items()} == {
        "health": (10, {3.0}), "education": (0, set()), "government": (30, {3.0})
    }  # fmt: skip


def test_only_counted_interviews_that_reached_a_service_are_respondents(engine: Engine) -> None:
    put(engine, REAL, [user("satisfied")] * 3)
    put(engine, REAL, [user("dissatisfied")], disposition="withdrawn", first=3)
    put(engine, REAL, [{"opening.consent": "no"}], disposition="refusal", first=4)
    put(engine, REAL, [{"respondent.sex": "male"}], disposition="break_off", first=5)
    put(engine, REAL, [user("dissatisfied")], disposition="break_off", first=6)
    put(engine, REAL, [user("dissatisfied")], wave="other", first=7)
    with writing(engine) as db:
        c = table_of(Interview).c
        db.execute(update(table_of(Interview)).where(c.id == f"{0:016x}").values(counted=False))
    made = table_16_6_2(engine, REAL, "w")
    assert found(made, "health", "overall").n == 3  # two and the break-off
    assert (made.basis.interviews, made.basis.respondents, made.basis.period) == (5, 3, "2026")
    assert waves_of(engine, REAL) == ["w", "other"] or set(waves_of(engine, REAL)) == {"w", "other"}


def test_a_wave_of_nobody_has_a_table_of_blanks(engine: Engine) -> None:
    made = table_16_6_2(engine, REAL, "never", crosses=[("sex", "region")])
    assert made.basis.respondents == 0
    assert {(e.n, e.share, e.low) for e in made.estimates} == {(0, None, None)}
    assert {e.service for e in made.estimates} == set(SERVICES)


def test_two_way_crosses_come_in_release_order_and_unknown_ones_are_refused(sqlite: Engine) -> None:
    put(sqlite, REAL, [user("satisfied", respondent_sex="male", respondent_residence="urban")] * 3)
    made = table_16_6_2(sqlite, REAL, "w", crosses=[("residence", "sex")])
    assert found(made, "health", "overall", (("residence", "urban"), ("sex", "male"))).n == 3
    with pytest.raises(ValueError, match="name two different variables out of sex, age"):
        table_16_6_2(sqlite, REAL, "w", crosses=[("sex", "income")])


def test_progress_is_told(sqlite: Engine) -> None:
    put(sqlite, REAL, [user("satisfied")])
    told: list[tuple[str, int, int]] = []
    table_16_6_2(sqlite, REAL, "w", told=lambda *said: told.append(said))
    assert told[0] == ("reading interviews", 1, 1) and told[-1] == ("computing", 4, 4)


def test_interviews_without_marks_stop_the_table(sqlite: Engine) -> None:
    put(sqlite, REAL, [user("satisfied")])
    with writing(sqlite) as db:
        db.execute(update(table_of(Interview)).values(marks=None))
    with pytest.raises(NoMarks, match=r"1 interviews .* run `python main.py migrate`"):
        table_16_6_2(sqlite, REAL, "w")


def test_only_whoever_was_drawn_is_a_respondent_of_a_drawn_sample(sqlite: Engine) -> None:
    """The third dialled in: nobody knows with what chance. The first was drawn as 1 in 30."""
    drawn = put(sqlite, REAL, [user("satisfied"), user("dissatisfied"), user("dissatisfied")])
    draw = {drawn[0]: ("north", 30.0), drawn[1]: ("north", 10.0), "f" * 32: ("south", 9.0)}
    table = table_16_6_2(sqlite, REAL, "w", draw=draw, probability_sample=True)
    overall = found(table, "health", "overall")
    assert (table.basis.interviews, table.basis.respondents, overall.n) == (3, 2, 2)
    assert overall.share == pytest.approx(30 / 40)
    assert overall.notes == ()
    assert table_16_6_2(sqlite, REAL, "w", draw={}).basis.respondents == 0
    [first, *_] = respondent_weights(sqlite, REAL, "w", draw=draw).values()
    assert first.base.tolist() == [30, 10]


# ---------------------------------------------------------------- marks


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_marks_are_the_same_in_any_order_and_as_made_anew(chance: Random) -> None:
    engine = open_engine("sqlite://")
    give_schema(engine, SMALL)
    d = Dialogue(1)
    d.begin()
    d.consent()
    expected: dict[str, str] = {}
    for _ in range(12):
        item = chance.choice([i for i in SMALL.items if i.service])
        assert item.scale is not None
        option = chance.choice([*(o.id for o in item.scale.options), *item.nonresponse])
        d.answer(item.id, option)
        expected[item.id] = option
    entries = list(d.entries)
    chance.shuffle(entries)
    entries += chance.sample(entries, 3)
    while entries:
        size = chance.randrange(1, 8)
        fold_all(engine, entries[:size])
        entries = entries[size:]
    c = table_of(Interview).c
    with reading(engine) as db:
        marks = db.execute(select(c.marks)).scalar_one()
    wanted = marks_of(SMALL, expected)
    assert [m for i, m in zip(SMALL.items, marks, strict=True) if i.service] == [
        m for i, m in zip(SMALL.items, wanted, strict=True) if i.service
    ]
    with writing(engine) as db:
        db.execute(update(table_of(Interview)).values(marks=None))
        assert restore_marks(db) == 1
        assert db.execute(select(c.marks)).scalar_one() == marks
    engine.dispose()


# ---------------------------------------------------------------- what must hold of any file


@given(seed=st.integers(0, 10**6), times=st.integers(2, 4))
@settings(max_examples=8, deadline=None)
def test_the_same_people_several_times_over(seed: int, times: int) -> None:
    """Shares stay; errors shrink as the textbook has it: V x (n-1)/(times n - 1) in one stratum."""
    engine = open_engine("sqlite://")
    give_schema(engine, REAL)
    chance = Random(seed)
    people = [anybody(REAL, chance) for _ in range(40)]
    put(engine, REAL, people, wave="once")
    put(engine, REAL, people * times, wave="often", first=40)
    once, often = table_16_6_2(engine, REAL, "once"), table_16_6_2(engine, REAL, "often")
    n = once.basis.respondents
    for a, b in zip(once.estimates, often.estimates, strict=True):
        assert b.n == times * a.n
        if a.share is not None and a.se is not None:
            assert b.share == pytest.approx(a.share, abs=1e-12)
            assert b.se == pytest.approx(a.se * ((n - 1) / (times * n - 1)) ** 0.5, abs=1e-12)
            assert 0 <= a.share <= 1 and (a.low is None or a.low <= a.share + 1e-12)
    engine.dispose()


def test_a_blanked_estimate_keeps_its_place_and_nothing_to_reckon_from() -> None:
    e = Estimate("w", "2026", "health", "overall", (("sex", "male"),), 9, 4, 0.4, 0.1, 0.3, 0.5, 8, 9.0,
                 1.0, 0.2, 1, 2, 3, 4)  # fmt: skip
    gone = blanked(e, "c")
    assert (gone.wave, gone.service, gone.measure, gone.domain, gone.mark) == (
        "w", "health", "overall", (("sex", "male"),), "c"
    )  # fmt: skip
    assert {gone.n, gone.positive, gone.df, gone.not_applicable, gone.dont_know, gone.refused} == {0}
    assert {gone.share, gone.se, gone.low, gone.high, gone.deff, gone.width} == {None}


def test_the_variables_are_the_instrument_s() -> None:
    assert [v.id for v in variables(REAL)] == ["sex", "age", "region", "residence", "disability"]
    assert [(v.id, v.categories) for v in variables(SMALL)] == [
        ("age", ("young", "old")), ("region", ("gh_aa", "gh_af", "abroad"))
    ]  # fmt: skip
    wealth = Wealth("s", date(2026, 1, 1), {}, (1.0, 2.0, 3.0, 4.0))
    assert variables(SMALL, wealth)[-1].categories == ("q1", "q2", "q3", "q4", "q5")


def test_an_older_version_of_the_instrument_is_read_by_its_own_items(sqlite: Engine) -> None:
    text = REAL.sources["questionnaire.toml"].replace('version = "2026.3"', 'version = "2025.9"')
    swapped = text.replace(
        'sex = [{ id = "male", code = 1 }, { id = "female", code = 2 }]',
        'sex = [{ id = "female", code = 2 }, { id = "male", code = 1 }]',
    )
    assert swapped != text
    older = _parsed({**REAL.sources, "questionnaire.toml": swapped})
    migrate(sqlite, older)
    put(sqlite, REAL, [user("satisfied", respondent_sex="male")] * 2)
    put(sqlite, older, [user("dissatisfied", respondent_sex="male")] * 2, first=2)
    made = table_16_6_2(sqlite, REAL, "w")
    assert made.basis.instruments == ("sdg_16_6_2@2025.9", "sdg_16_6_2@2026.3")
    male = found(made, "health", "overall", (("sex", "male"),))
    assert (male.n, male.share) == (4, 0.5)


def _parsed(sources: dict[str, str]) -> Instrument:
    from flows.instrument import parse

    return parse(sources)
