"""Final weights: from a release to the analyst's view and the files, and out again with a withdrawal."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from sqlalchemy import Engine, text, update

from storage.analysis.dictionary import PUBLIC, SCIENTIFIC
from storage.analysis.estimates import Estimate
from storage.analysis.exports.formats import export_files
from storage.analysis.exports.microdata import Asked, export_id
from storage.analysis.margins import load_margins
from storage.analysis.material import material_of
from storage.analysis.plan import ReleasePlan
from storage.analysis.raking import Limits
from storage.analysis.release import Margin, Release, ReleaseError, Rules, make
from storage.analysis.released import keep_release
from storage.analysis.table import respondent_weights, table_16_6_2
from storage.analysis.weights import FinalWeights, final_weights, keep_weights, remade_weights
from storage.database import migrate, open_engine, reading, writing
from storage.models import Interview, table_of
from storage.respondents import erase
from tests.estimation_material import anybody, put
from tests.results_material import instrument, margins_file, people

KEY = b"k" * 32


def released(
    engine: Engine,
    version: int,
    plan: ReleasePlan,
    estimates: Sequence[Estimate] = (),
    wave: str = "w",
    reference: str = instrument().reference,
) -> Release:
    """A release of the wave that the database knows."""
    margins = plan.margins.tables if plan.margins else ()
    release = Release(
        wave=wave, version=version, issued="2026-11-20", reason="-", instrument=reference, owner="Office",
        contact="0800", licence="-", weighted=bool(margins), probability_sample=False, interviews=1,
        margins=tuple(Margin(m.name, m.source, m.issued.isoformat()) for m in margins),
        material=material_of(engine, instrument(), "w"), software="0", rules=Rules(),
        estimates=make(estimates, Rules()),
    )  # fmt: skip
    with writing(engine) as db:
        keep_release(db, release)
    return release


def weighted(engine: Engine, plan: ReleasePlan, version: int) -> None:
    """A release with the weights of this plan; its figures are of no matter."""
    released(engine, version, plan)
    keep_weights(engine, final_weights(engine, instrument(), "w", plan, None), version)


def shown(engine: Engine) -> dict[tuple[str, str], tuple[float | None, int | None]]:
    """What analysts see: (respondent, block) -> final weight and version."""
    view = "analytics.weight" if engine.dialect.name == "postgresql" else "analytics_weight"
    with reading(engine) as db:
        rows = db.execute(text(f"SELECT respondent, block, final_weight, release_version FROM {view}"))
        return {(r[0], r[1]): (r[2], r[3]) for r in rows}


def exported(
    engine: Engine, folder: Path, variant: str = SCIENTIFIC, weights: Path | None = None
) -> list[dict[str, str]]:
    export_files(engine, instrument(), Asked(variant, "p"), KEY, folder, ["csv"], weights=weights)
    with (folder / "wide.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_from_a_release_to_view_and_file_and_out_with_a_withdrawal(database_url: str, tmp_path: Path) -> None:
    engine = open_engine(database_url)
    migrate(engine, instrument())
    names = put(engine, instrument(), people(300, seed=5))
    margins = load_margins(margins_file(tmp_path), instrument())
    assert set(shown(engine).values()) == {(None, None)}
    weighted(engine, ReleasePlan(margins=margins, fewest=20), 1)
    weighted(engine, ReleasePlan(), 2)  # has none: the first stays the newest that has
    ours = respondent_weights(engine, instrument(), "w", margins=margins, fewest=20)["health"]
    assert len(ours.pseudonyms) == 300 and ours.weight.sum() == pytest.approx(18_000_000)
    told = dict(zip(ours.pseudonyms, ours.weight.tolist(), strict=True))
    seen = shown(engine)
    assert seen == {key: (told[key[0]], 1) for key in seen} and len(seen) == 3 * 300

    rows = exported(engine, tmp_path / "s")
    wanted = {export_id(KEY, Asked(SCIENTIFIC, "p"), "respondent", p): w for p, w in told.items()}
    assert {r["respondent"]: float(r["weight"]) for r in rows} == wanted
    with (tmp_path / "s" / "codebook.csv").open(encoding="utf-8") as file:
        assert "Final weight of release w version 1" in file.read()
    public = exported(engine, tmp_path / "p", PUBLIC)
    assert sum(float(r["weight"]) for r in public) == pytest.approx(18_000_000)
    cells = {(r["respondent_region"], r["age_group"], r["respondent_sex"], r["weight"]) for r in public}
    assert len(cells) == len({cell[:3] for cell in cells})
    (tmp_path / "own.csv").write_text("interview,weight\n" + "".join(f"{n:016x},2.5\n" for n in range(300)))
    assert {r["weight"] for r in exported(engine, tmp_path / "o", weights=tmp_path / "own.csv")} == {"2.5"}

    erase(engine, names[7], wave="w")
    with reading(engine) as db:
        kept = set(db.execute(text("SELECT interview FROM final_weight")).scalars())
    assert kept == {f"{n:016x}" for n in range(300) if n != 7}
    assert not [key for key in shown(engine) if key[0] == names[7]]
    engine.dispose()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(f"sqlite:///{tmp_path / 'record.sqlite3'}")
    migrate(engine, instrument())
    return engine


def test_who_withdraws_before_they_are_written_has_none(engine: Engine, tmp_path: Path) -> None:
    names = put(engine, instrument(), people(300, seed=5))
    plan = ReleasePlan(margins=load_margins(margins_file(tmp_path), instrument()), fewest=20)
    weights = final_weights(engine, instrument(), "w", plan, None)
    weighted(engine, ReleasePlan(), 1)
    erase(engine, names[3], wave="w")
    for _ in range(2):  # again is the same
        assert keep_weights(engine, weights, 1) == 300
        with reading(engine) as db:
            assert db.execute(text("SELECT COUNT(*) FROM final_weight")).scalar() == 299


def test_drawn_blocks_have_a_weight_each(engine: Engine, tmp_path: Path) -> None:
    """One in two was given health, the others government: a weight for the block given, and no other."""
    chance = Random(2)
    everybody = [anybody(instrument(), chance) for _ in range(300)]
    for n, block in enumerate(("health", "government")):
        others = ("education", "primary", "secondary", *{"health", "government"} - {block})
        half = everybody[150 * n : 150 * (n + 1)]
        given = [{i: a for i, a in answers.items() if not i.startswith(others)} for answers in half]
        put(engine, instrument(), given, blocks=[block], probability=0.5, first=150 * n)
    lines = [f"sex,made up,2026-01-01,sex,{sex},500," for sex in ("male", "female")]
    (tmp_path / "m.csv").write_text("table,source,date,variables,category,total,joins\n" + "\n".join(lines))
    plan = ReleasePlan(margins=load_margins(tmp_path / "m.csv", instrument()))
    weights = final_weights(engine, instrument(), "w", plan, None)
    assert weights is not None and set(weights.blocks) == {"health", "education", "government"}
    weighted(engine, plan, 1)
    held = {key: weight for key, (weight, _) in shown(engine).items() if weight is not None}
    assert {block for _, block in held} == {"health", "government"}
    for block in ("health", "government"):
        assert sum(w for (_, b), w in held.items() if b == block) == pytest.approx(1000)
    for row in exported(engine, tmp_path / "s"):
        assert "weight" not in row and not row["final_weight_education"]
        assert not (row["final_weight_health"] and row["final_weight_government"])
    total = sum(float(r["final_weight_health"] or 0) for r in exported(engine, tmp_path / "p", PUBLIC))
    assert total == pytest.approx(1000)


def test_a_file_of_all_waves_takes_the_weights_that_its_questionnaire_knows(
    engine: Engine, tmp_path: Path
) -> None:
    """Weights of another questionnaire, and of a block that an older version named otherwise, are not its."""
    ids = {}
    for n, wave in enumerate(("w", "x", "y", "z")):
        put(engine, instrument(), people(4, seed=n), wave=wave, first=10 * n)
        ids[wave] = [f"{10 * n + k:016x}" for k in range(4)]
    other = "other@1"
    for wave, blocks, reference in (
        ("w", ("",), instrument().reference),
        ("x", ("health", "old_name"), f"{instrument().id}@older"),
        ("y", ("health", "old_name"), other),
        ("z", ("old_name",), instrument().reference),
    ):
        released(engine, 1, ReleasePlan(), wave=wave, reference=reference)
        keep_weights(engine, FinalWeights(wave, {b: (ids[wave], np.full(4, 2.0)) for b in blocks}), 1)
    rows = exported(engine, tmp_path / "s")
    assert "weight" not in rows[0] and "final_weight_old_name" not in rows[0]
    found = {(r["wave"], r["final_weight_health"], r["final_weight_education"]) for r in rows}
    assert found == {("w", "2.0", "2.0"), ("x", "2.0", ""), ("y", "", ""), ("z", "", "")}
    with (tmp_path / "s" / "codebook.csv").open(encoding="utf-8") as file:
        assert "Final weight of release w version 1, x version 1, block health" in file.read()


def test_they_are_made_again_only_as_they_were(engine: Engine, tmp_path: Path) -> None:
    put(engine, instrument(), people(300, seed=5))
    margins = load_margins(margins_file(tmp_path), instrument())
    plan = ReleasePlan(margins=margins, fewest=20)
    table = table_16_6_2(engine, instrument(), "w", margins=margins, fewest=20)
    release = released(engine, 1, plan, [e for e in table.estimates if not e.domain])

    said_so = replace(release, fewest=20)  # files of older software do not

    def again(given: ReleasePlan = plan, of: Release = release) -> int:
        return keep_weights(engine, remade_weights(engine, instrument(), of, given), of.version)

    assert again() == again(of=said_so) == 300
    for given, of, said in (
        (plan, replace(release, simulated=7), "is a demonstration with made-up interviews, and of those no"),
        (plan, replace(release, weighted=False), "version 1: was published unweighted"),
        (replace(plan, probability_sample=True), release, "weighted with probability_sample = false; say"),
        (ReleasePlan(), release, "was weighted with region, Made-up totals .*; say the same"),
        (replace(plan, limits=Limits(0.9, 1.1)), release, "comes out as .* with these margins, caps and"),
        (replace(plan, fewest=21), said_so, r"with no least and most, fewest = 20 under \[weights\]; say"),
        (plan, replace(said_so, caps=(0.3, 3.0)), "with least = 0.3, most = 3, fewest = 20 under"),
    ):
        with pytest.raises(ReleaseError, match=said):
            again(given, of)
    interview = table_of(Interview)
    with writing(engine) as db:
        db.execute(update(interview).where(interview.c.id == f"{5:016x}").values(disposition="withdrawn"))
    with pytest.raises(ReleaseError, match="does not rest on the interviews that are here now"):
        again()
