"""Blocks of services that another version of the questionnaire names, draws or puts together otherwise."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine, text, update

from flows.instrument import Instrument, parse
from storage.analysis.estimates import Estimate
from storage.analysis.margins import Margins, load_margins
from storage.analysis.plan import ReleasePlan
from storage.analysis.raking import RakingError
from storage.analysis.table import respondent_weights, table_16_6_2
from storage.analysis.weights import final_weights, keep_weights
from storage.database import open_engine, reading, store_instrument, writing
from storage.models import Interview, table_of
from tests.estimation_material import anybody, put
from tests.quality_material import INSTRUMENT, report
from tests.stores import give_schema
from tests.test_weights import released

_HEALTH = '[[blocks]]\nid = "health"\ndrawn = true\n'
_EDITS = {
    "renamed": (_HEALTH, _HEALTH.replace("health", "health_old")),
    "given to everybody": (_HEALTH, _HEALTH.replace("drawn = true\n", "")),
    "together": ('[[blocks]]\nid = "government"\ndrawn = true\n', ""),
}


@cache
def older(how: str) -> Instrument:
    """The questionnaire as it might have been before."""
    sources = dict(INSTRUMENT.sources)
    was, new = ('version = "2026.3"', 'version = "2026.1"'), _EDITS[how]
    for before, after in (was, new):
        assert sources["questionnaire.toml"].count(before) == 1
        sources["questionnaire.toml"] = sources["questionnaire.toml"].replace(before, after)
    return parse(sources)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/record.sqlite3")
    give_schema(engine, INSTRUMENT)
    yield engine
    engine.dispose()


@pytest.fixture
def margins(tmp_path: Path) -> Margins:
    rows = [f"sex,made up,2026-01-01,sex,{sex},500," for sex in ("male", "female")]
    (tmp_path / "m.csv").write_text("table,source,date,variables,category,total,joins\n" + "\n".join(rows))
    return load_margins(tmp_path / "m.csv", INSTRUMENT)


def wave(engine: Engine, version: Instrument, block: str, chance: float, name: str, first: int) -> None:
    """Sixty on the newest version, half of them given health; sixty on `version`, all or half of them."""
    people = Random(3)
    for n, (on, its, p) in enumerate(((INSTRUMENT, "health", 0.5), (version, block, chance))):
        everybody = [anybody(INSTRUMENT, people) for _ in range(60)]
        given = 60 if p == 1 else 30
        put(engine, on, everybody[:given], name, [its], p, first + 100 * n)
        others = [{i: a for i, a in o.items() if not i.startswith("health")} for o in everybody[given:]]
        put(engine, on, others, name, ["government"], p, first + 100 * n + given)


def figures(engine: Engine, name: str, margins: Margins) -> list[Estimate]:
    made = table_16_6_2(engine, INSTRUMENT, name, margins=margins).estimates
    return [replace(e, wave="") for e in made if e.service == "health"]


@pytest.mark.parametrize(
    ("how", "block", "chance"),
    [("renamed", "health_old", 0.5), ("renamed", "health_old", 1.0), ("given to everybody", "health", 1.0)],
)
def test_each_interview_has_the_block_of_its_own_version(
    engine: Engine, margins: Margins, how: str, block: str, chance: float
) -> None:
    """Beside the same people, all on the newest version: figures, weights and report are theirs."""
    with writing(engine) as db:
        store_instrument(db, older(how))
    wave(engine, older(how), block, chance, "w", 0)
    wave(engine, INSTRUMENT, "health", chance, "alike", 1000)
    assert figures(engine, "w", margins) == figures(engine, "alike", margins)
    made = report(engine, margins=margins).quality
    assert [p.every.share for p in made.figures] == [
        p.every.share for p in report(engine, "alike", margins=margins).quality.figures
    ]
    assert made.weights[0].block == "health" and made.weights[0].respondents == 30 + 60 * chance

    ours = respondent_weights(engine, INSTRUMENT, "w", margins=margins)
    theirs = respondent_weights(engine, INSTRUMENT, "alike", margins=margins)["health"]
    held = {
        p: (w, b)
        for name in {"health", block}
        for p, b, w in zip(
            *(getattr(ours[name], what) for what in ("pseudonyms", "base", "weight")), strict=True
        )
    }
    assert {p: w for p, (w, _) in held.items()} == pytest.approx(
        {f"{int(p, 16) - 1000:032x}": w for p, w in zip(theirs.pseudonyms, theirs.weight, strict=True)}
    )
    assert {b for p, (_, b) in held.items() if int(p, 16) < 100} == {2.0}
    assert {b for p, (_, b) in held.items() if int(p, 16) >= 100} == {1 / chance}

    plan = ReleasePlan(margins=margins)
    released(engine, 1, plan)
    keep_weights(engine, final_weights(engine, INSTRUMENT, "w", plan, None), 1)
    with reading(engine) as db:
        seen = db.execute(text("SELECT respondent, block, final_weight FROM analytics_weight")).all()
    shown = {p: w for p, name, w in seen if name in ("health", block) and w is not None}
    assert shown == {p: w for p, (w, _) in held.items() if p in shown}
    # A block that a version does not draw is not among those that its interviews were drawn.
    assert set(held) - set(shown) == (set() if how == "renamed" else {p for p in held if int(p, 16) >= 100})


def test_services_put_together_otherwise_are_refused_where_they_were_drawn(
    engine: Engine, margins: Margins
) -> None:
    """Two weights of one interview in one block could not be told apart."""
    with writing(engine) as db:
        store_instrument(db, older("together"))
    people = [anybody(INSTRUMENT, Random(n)) for n in range(60)]
    put(engine, older("together"), people[:30], probability=1.0)
    put(engine, INSTRUMENT, people[30:], probability=1.0, first=30)
    assert table_16_6_2(engine, INSTRUMENT, "w", margins=margins).rakings["government"].respondents == 60
    put(engine, INSTRUMENT, people[:9], blocks=["health"], probability=1 / 3, first=100)
    said = (
        r"wave w: sdg_16_6_2@2026.1 asks about the services primary, secondary, government in block"
        r" education, sdg_16_6_2@2026.3 in blocks education, government, .* as a wave of its own"
    )
    with pytest.raises(RakingError, match=said):
        table_16_6_2(engine, INSTRUMENT, "w")
    with pytest.raises(RakingError, match=said):
        report(engine)


def test_a_service_that_the_wave_leaves_out_is_nobodys(engine: Engine, margins: Margins) -> None:
    put(engine, INSTRUMENT, [anybody(INSTRUMENT, Random(n)) for n in range(40)], blocks=["health"])
    chances = json.dumps({"education": 0.0, "government": 0.0, "health": 1.0})
    with writing(engine) as db:
        db.execute(update(table_of(Interview)).values(probabilities=chances))
    made = table_16_6_2(engine, INSTRUMENT, "w", margins=margins)
    assert {e.service for e in made.estimates if e.n} == {"health"} and list(made.rakings) == ["health"]
    weights = respondent_weights(engine, INSTRUMENT, "w", margins=margins)
    assert {block: len(w.pseudonyms) for block, w in weights.items()} == {
        "health": 40, "education": 0, "government": 0
    }  # fmt: skip
