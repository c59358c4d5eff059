"""What leaves the house and what does not: ids, reasons for missing answers, the rule for public use, the
book of exports, and that files appear whole or not at all."""

import csv
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text, update

from flows.instrument import Instrument, parse
from gateway import jobs
from storage.analysis.dictionary import (
    PUBLIC,
    SCIENTIFIC,
    VARIANTS,
    DictionaryError,
    file_variables,
    key_variables,
    missing_codes,
)
from storage.analysis.export import export_csv
from storage.analysis.exports import ledger, microdata
from storage.analysis.exports.data_package import digest
from storage.analysis.exports.formats import EXPORTS, SUMS, export_files, formats_named
from storage.analysis.exports.microdata import Asked, ExportError, collect, export_id
from storage.analysis.exports.public_use import THRESHOLD, even_out, protect
from storage.analysis.exports.whole import whole_path
from storage.analysis.views import VIEWS
from storage.database import migrate, open_engine, reading, writing
from storage.models import Campaign, ExportAudit, Interview, SampleNumber, table_of
from storage.record import close_unfinished
from tests.export_material import HOSTILE, KEY, NASTY, OPTION, Taken, entries, interviews
from tests.record_material import SMALL, complete, ended, fold_all, instrument, rows
from tests.stores import PostgreSQL, give_schema

HERE = Path(__file__).resolve().parent.parent
LATER = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'd.sqlite3'}")
    give_schema(engine, HOSTILE)
    yield engine
    engine.dispose()


def read(folder: Path, name: str = "wide.csv") -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def export(engine: Engine, folder: Path, variant: str = SCIENTIFIC, purpose: str = "p", **more: Any) -> Path:
    export_files(engine, HOSTILE, Asked(variant, purpose, **more), KEY, folder, ["csv"])
    return folder


# ---------------------------------------------------------------- ids


def test_ids_join_exports_of_one_purpose_and_no_others(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(40)))
    fold_all(engine, entries(interviews(40, seed=2, wave="second-2027")))
    ours = {value for r in rows(engine, table_of(Interview)) for value in (r["id"], r["respondent"])}
    found = {
        name: read(export(engine, tmp_path / name, variant, purpose))
        for name, variant, purpose in (
            ("one", SCIENTIFIC, "p"), ("again", SCIENTIFIC, "p"), ("other", SCIENTIFIC, "q"),
            ("public", PUBLIC, "p"),
        )
    }  # fmt: skip
    ids = {
        name: {row[column] for row in table for column in ("interview", "respondent") if column in row}
        for name, table in found.items()
    }
    assert found["one"] == found["again"]
    for name in ("other", "public"):
        assert ids["one"].isdisjoint(ids[name])
    for name, table in found.items():
        assert ids[name].isdisjoint(ours)
        assert len({row["interview"] for row in table}) == len(table) > 40
    people = Counter(row["respondent"] for row in found["one"])
    assert set(people.values()) == {1, 2}  # somebody of both waves is one person there
    assert "respondent" not in found["public"][0]


def test_another_key_makes_other_ids(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(5)))
    asked = Asked(SCIENTIFIC, "p")
    export_files(engine, HOSTILE, asked, KEY, tmp_path / "a", ["csv"])
    export_files(engine, HOSTILE, asked, b"l" * 32, tmp_path / "b", ["csv"])
    one, two = ({r["interview"] for r in read(tmp_path / name)} for name in "ab")
    assert one.isdisjoint(two)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_file_holds_a_name_of_the_database_or_a_time_of_day(
    engine: Engine, tmp_path: Path, variant: str
) -> None:
    fold_all(engine, entries(interviews(60)))
    inside = rows(engine, table_of(Interview))
    export_files(engine, HOSTILE, Asked(variant, "secret purpose"), KEY, tmp_path / "out", list(EXPORTS))
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        if path.suffix in (".xlsx", ".zip"):
            with zipfile.ZipFile(path) as book:
                content = b"".join(book.read(name) for name in book.namelist())
        assert b"ATUid_" not in content and b"secret purpose" not in content, path.name
        for row in inside:
            assert row["respondent"].encode() not in content and row["id"].encode() not in content, path.name
    for row in read(tmp_path / "out"):
        assert not any(len(cell) > 12 and cell[4:5] == "-" and ":" in cell for cell in row.values())


def test_base_weight_and_stratum_are_those_of_the_sample_and_never_in_the_public_file(
    engine: Engine, tmp_path: Path
) -> None:
    """One respondent was drawn as 1 in 8; the others dialled in."""
    fold_all(engine, entries(interviews(60)))
    now = datetime.now(UTC)
    inside = rows(engine, table_of(Interview))
    who = next(r for r in inside if r["disposition"] == "complete" and r["aggregator"] != "simulator")
    campaign = {"id": "c", "wave": who["wave"], "state": "running", "aggregator": "a", "created_at": now,
                "state_at": now}  # fmt: skip
    number = {"id": "0" * 32, "wave": who["wave"], "respondent": who["respondent"], "campaign": "c",
              "replicate": 1, "source": "csv", "probability": 0.125, "stratum": "=urban",
              "loaded_at": now}  # fmt: skip
    with writing(engine) as db:
        db.execute(insert(table_of(Campaign)), [campaign])
        db.execute(insert(table_of(SampleNumber)), [number])
    found = {r["interview"]: r for r in read(export(engine, tmp_path / "s"))}
    drawn = found.pop(export_id(KEY, Asked(SCIENTIFIC, "p"), "interview", who["id"]))
    assert drawn["weight_base"] == "8.0" and {r["weight_base"] for r in found.values()} == {"1.0"}
    assert drawn["stratum"] == "'=urban", "no formula in Excel"
    assert {r["stratum"] for r in found.values()} == {""}
    for block in who["blocks"].split():
        assert float(drawn[f"weight_{block}"]) >= 8
    with reading(engine) as db:
        seen = db.execute(text("SELECT interview, stratum, sample_weight FROM analytics_weight")).all()
    assert {row[1:] for row in seen if row.interview == who["id"]} == {("=urban", 8.0)}
    assert {row[1:] for row in seen if row.interview != who["id"]} == {(None, None)}
    public = read(export(engine, tmp_path / "p", PUBLIC))
    assert {r["weight_base"] for r in public} == {"1.0"} and "stratum" not in public[0]


def test_withdrawn_and_made_up_interviews_stay_out(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(120)))
    inside = rows(engine, table_of(Interview))
    withdrawn = sum(r["disposition"] == "withdrawn" for r in inside)
    made_up = sum(r["aggregator"] == "simulator" and r["disposition"] != "withdrawn" for r in inside)
    assert withdrawn and made_up
    assert len(read(export(engine, tmp_path / "a"))) == len(inside) - withdrawn - made_up
    assert len(read(export(engine, tmp_path / "b", simulated=True))) == len(inside) - withdrawn
    one_wave = export(engine, tmp_path / "c", wave="nowhere")
    assert read(one_wave) == [] and read(one_wave, "long.csv") == []


# ---------------------------------------------------------------- why an answer is missing


def test_not_reached_is_told_from_not_asked(engine: Engine, tmp_path: Path) -> None:
    left, gated, refused, done = (Taken(n) for n in range(1, 5))
    left.start("water")
    left.give("consent", "yes")
    left.give("age", 98)  # an age, no reason
    left.give("region", "gh_aa")
    gated.start("water roads")
    gated.give("consent", "yes")
    gated.give("age", "dont_know")
    gated.give("region", "refused")
    gated.give("sex", "refused")  # after which the next item is not asked
    refused.start()
    refused.give("consent", "no", ended("refusal"))
    done.start("roads", 0.5)
    done.give("consent", "yes")
    done.give("roads.overall", "agree", ended())
    fold_all(engine, [e for d in (left, gated, refused, done) for e in d.entries])
    found = {row["disposition"] + row["region"]: row for row in read(export(engine, tmp_path))}
    names = ("age", "age_nonresponse", "age_group", "region", "sex", "function", "water_a1", "roads_a1")
    seen = {key: tuple(row[n] for n in names) for key, row in found.items()}
    assert seen == {
        "43": ("98", "", "2", "3", "100", "100", "100", ""),  # the block roads was not drawn
        "499": ("", "98", "98", "99", "99", "", "100", "100"),
        "5": ("", "", "", "", "", "", "", ""),
        "1": ("", "", "", "", "", "", "", ""),
    }
    assert [found[k]["weight_roads"] for k in ("43", "499", "1")] == ["", "1.0", "2.0"]


def test_an_interview_left_at_the_consent_is_in_every_file(engine: Engine, tmp_path: Path) -> None:
    dialled = Taken(1)
    dialled.start()
    fold_all(engine, dialled.entries)
    close_unfinished(engine, LATER)
    export_files(engine, HOSTILE, Asked(SCIENTIFIC, "p"), KEY, tmp_path, list(EXPORTS))
    (row,) = read(tmp_path)
    assert (row["disposition"], row["consent"], row["water_a1"]) == ("3", "100", "100")
    assert {r["answer"] for r in read(tmp_path, "long.csv")} == {"Not reached"}


def test_interviews_without_marks_are_refused_and_not_left_out(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(3)))
    with writing(engine) as db:
        db.execute(update(table_of(Interview)).values(marks=None))
    with pytest.raises(
        ExportError, match=r"interviews on small@1 have no marks: run `python main\.py migrate`"
    ):
        export(engine, tmp_path)


def test_codes_that_clash_with_a_reason_are_refused() -> None:
    sources = dict(SMALL.sources)
    sources["questionnaire.toml"] = sources["questionnaire.toml"].replace("code = 17", "code = 100")
    with pytest.raises(DictionaryError, match="option abroad has the code 100; 97 to 101 are kept"):
        missing_codes(parse(sources))


def test_codes_of_another_version_are_refused_by_name(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(30)))
    sources = {name: source.replace('{ id = "gh_af", code = 8', '{ id = "gh_af", code = 9')
               for name, source in HOSTILE.sources.items()}  # fmt: skip
    sources["questionnaire.toml"] = sources["questionnaire.toml"].replace('version = "1"', 'version = "2"')
    newer: Instrument = parse(sources)
    migrate(engine, newer)
    with pytest.raises(ExportError, match="region: interviews on small@1 have a code that small@2 does not"):
        export_files(engine, newer, Asked(SCIENTIFIC, "p"), KEY, tmp_path / "out", ["csv"])
    assert list((tmp_path / "out").iterdir()) == []


def other_version(change: tuple[str, str], **about: str) -> Instrument:
    """HOSTILE with one thing changed, under another version or id."""
    sources = dict(HOSTILE.sources)
    asked = sources["questionnaire.toml"].replace(*change)
    for name, (was, new) in {"version": ("1", about.get("version", "1")),
                             "id": ("small", about.get("id", "small"))}.items():  # fmt: skip
        asked = asked.replace(f'{name} = "{was}"', f'{name} = "{new}"', 1)
    return parse(sources | {"questionnaire.toml": asked})


def test_answers_on_another_version_keep_their_codes(engine: Engine, tmp_path: Path) -> None:
    """Its options stand in another order, so that the same position is another answer."""
    fold_all(engine, entries(interviews(60)))
    male, female = '{ id = "male", code = 1 }', '{ id = "female", code = 2 }'
    newer = other_version((f"{male}, {female}", f"{female}, {male}"), version="2")
    migrate(engine, newer)
    made = export_files(engine, newer, Asked(SCIENTIFIC, "p"), KEY, tmp_path / "new", ["csv"])
    before = {r["interview"]: r for r in read(export(engine, tmp_path / "old"))}
    assert made.rows == len(before) > 40 and newer.reference == "small@2"
    for row in read(tmp_path / "new"):  # what is not reached is told on the own version only
        was = {
            name: "" if cell == "100" and name != "age" else cell
            for name, cell in before[row["interview"]].items()
        }
        assert row == was
    assert {r["sex"] for r in before.values()} >= {"1", "2"}


# ---------------------------------------------------------------- several questionnaires


def test_a_wave_is_exported_with_its_own_questionnaire(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(20)))
    second = other_version(("[[blocks]]", "[[blocks]]"), id="second")
    migrate(engine, second)
    with writing(engine) as db:
        moved = {"wave": "w2", "instrument": second.reference}
        half = table_of(Interview).c.respondent > f"{10:032x}"
        db.execute(update(table_of(Interview)).where(half).values(moved))
    asked = Asked(SCIENTIFIC, "p")
    counts = {}
    for wave, ours in (("pilot-2026", HOSTILE), ("w2", second)):
        one = Asked(SCIENTIFIC, "p", wave)
        counts[wave] = ledger.export_now(engine, ours, one, KEY, tmp_path / wave, ["csv"], "Ama").rows
        assert {r["instrument"] for r in read(tmp_path / wave)} == {ours.reference}
    assert all(counts.values())
    with pytest.raises(
        ExportError, match=r"not every wave is on the questionnaire small.*w2 \(second@1\).*--wave"
    ):
        ledger.export_now(engine, HOSTILE, asked, KEY, tmp_path / "no", ["csv"], "Ama")
    row = ledger.ask(engine, Asked(SCIENTIFIC, "p", "w2"), ["csv"], "Ama")
    with pytest.raises(
        ExportError, match=r"on another questionnaire than small: w2 \(second@1\); put its wave"
    ):
        ledger.make(engine, HOSTILE, KEY, tmp_path / "archives", row)
    left = ledger.export_now(
        engine, second, asked, KEY, tmp_path / "in", ["csv"], "Ama", others_left_out=True
    )
    assert left.rows == counts["w2"]
    export_csv(engine, second, tmp_path / "plain", wave="w2")
    assert {r["wave"] for name in ("wide.csv", "long.csv") for r in read(tmp_path / "plain", name)} == {"w2"}


# ---------------------------------------------------------------- weights


def test_weights_given_are_in_the_file(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(30)))
    inside = [r for r in rows(engine, table_of(Interview)) if r["disposition"] != "withdrawn"]
    given_one = tmp_path / "weights.csv"
    given_one.write_text("interview,weight\n" + "".join(f"{r['id']},{n}.5\n" for n, r in enumerate(inside)))
    asked = Asked(SCIENTIFIC, "p", simulated=True)
    export_files(engine, HOSTILE, asked, KEY, tmp_path / "a", ["csv", "spss"], weights=given_one)
    assert sorted(float(r["weight"]) for r in read(tmp_path / "a")) == [n + 0.5 for n in range(len(inside))]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,weight\n", "row 1: the columns must be interview,weight"),
        ("interview,weight\na,1\na,2\n", "row 3: this interview has a weight already"),
        ("interview,weight\na,-1\n", "row 2: give an interview id and a number above 0"),
        ("interview,weight\na,nan\n", "row 2: give an interview id and a number above 0"),
        ("interview,weight\na\n", "row 2: give an interview id and a number above 0"),
        ("interview,weight\na,1\n", "none of its interviews is in this export"),
    ],
)
def test_weights_that_cannot_be_are_refused(engine: Engine, tmp_path: Path, content: str, said: str) -> None:
    fold_all(engine, entries(interviews(3)))
    path = tmp_path / "weights.csv"
    path.write_text(content)
    with pytest.raises(ExportError, match=said):
        export_files(engine, HOSTILE, Asked(SCIENTIFIC, "p"), KEY, tmp_path / "a", ["csv"], weights=path)
    assert list((tmp_path / "a").iterdir()) == []


# ---------------------------------------------------------------- the rule for public use


def test_the_public_file_has_no_small_cell(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(400)))
    fold_all(engine, entries(interviews(90, seed=2, wave="second-2027", first=500)))
    fold_all(engine, entries(interviews(9, seed=3, wave="tiny", first=700)))
    close_unfinished(engine, LATER)
    table = read(export(engine, tmp_path, PUBLIC))
    cells = Counter((r["wave"], r["region"], r["age_group"], r["sex"]) for r in table)
    assert min(cells.values()) >= THRESHOLD == 10
    assert {r["wave"] for r in table} == {"pilot-2026", "second-2027"}  # the tiny one stays out
    assert any(r["age_group"] == "101" for r in table) and any(r["age_group"] == "1" for r in table)
    assert {r["disposition"] for r in table} == {"1", "2"}
    assert {r["began_month"] for r in table} == {"2025-11"}
    dropped = {"age", "age_nonresponse", "function", "respondent", "language", "instrument", "began_on"}
    assert not dropped & table[0].keys()


def test_the_public_file_has_neither_sensitive_items_nor_exact_numbers() -> None:
    from flows.instrument import load

    ours = load(HERE / "flows" / "sdg_16_6_2")
    names = {v.name for v in file_variables(ours, PUBLIC)}
    assert not [i.id for i in ours.items if i.sensitive and i.column in names]
    assert not [v.name for v in file_variables(ours, PUBLIC) if v.what == "number"]
    assert [v.name for v in key_variables(file_variables(ours, PUBLIC))] == [
        "respondent_region", "age_group", "respondent_sex",
    ]  # fmt: skip


CELL = st.tuples(
    st.sampled_from(["w1", "w2"]), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 2, None])
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(CELL, st.integers(1, 25)), min_size=1, max_size=40))
def test_the_rule_holds_whatever_the_cells(population: list[tuple[Any, int]]) -> None:
    people = [cell for cell, n in population for _ in range(n)]
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE wide (id INTEGER PRIMARY KEY, wave, region, age_group, sex, weight REAL)")
    db.executemany(
        "INSERT INTO wide VALUES (?, ?, ?, ?, ?, ?)",
        [(n, *cell, 0.5 + n % 7) for n, cell in enumerate(people)],
    )
    before = dict(db.execute("SELECT wave, SUM(weight) FROM wide GROUP BY wave").fetchall())
    done = protect(db, ("region", "age_group", "sex"), 101, weights=("weight",))
    after = db.execute("SELECT id, wave, region, age_group, sex FROM wide").fetchall()
    cells = Counter(row[1:] for row in after)
    assert all(n >= THRESHOLD for n in cells.values())
    sizes = Counter(cell[0] for cell in people)
    assert done.left_out == sum(n for n in sizes.values() if n < THRESHOLD) == len(people) - len(after)
    for row in after:
        was = people[row[0]]
        assert row[1] == was[0]
        assert all(now in (then, 101) for now, then in zip(row[2:], was[1:], strict=True))
    big = Counter(people)
    kept = [row for row in after if 101 in row[2:] and big[people[row[0]]] >= THRESHOLD]
    nothing = Counter(row[1] for row in after if row[2:] == (101, 101, 101))
    for row in kept:  # a big cell is touched only to fill up those of whom nothing is left
        assert row[2:] == (101, 101, 101) and nothing[row[1]] >= THRESHOLD
    for wave, total in db.execute("SELECT wave, SUM(weight) FROM wide GROUP BY wave"):
        assert total == pytest.approx(before[wave])
    even_out(db, ("region", "age_group", "sex"), ("weight",))
    cell = "wave, region, age_group, sex"
    assert not db.execute(
        f"SELECT 1 FROM wide GROUP BY {cell} HAVING MAX(weight) > MIN(weight) + 1e-9"
    ).fetchall()
    for wave, total in db.execute("SELECT wave, SUM(weight) FROM wide GROUP BY wave"):
        assert total == pytest.approx(before[wave])
    db.close()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(CELL, st.integers(1, 25), st.integers(0, 25)), min_size=1, max_size=20), st.booleans()
)
def test_no_mean_is_of_fewer_than_ten_weights(population: list[tuple[Any, int, int]], own: bool) -> None:
    """Not everybody has a weight: in a cell of many there may be one, which its mean would tell."""
    keys = ("region", "age_group", "sex")
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE wide (id INTEGER PRIMARY KEY, wave, region, age_group, sex, weight REAL)")
    people = [
        (*cell, None if k >= weighed else float(7 * n + k) ** 1.5 + 1)
        for n, (cell, size, weighed) in enumerate(population)
        for k in range(size)
    ]
    db.executemany("INSERT INTO wide VALUES (NULL, ?, ?, ?, ?, ?)", people)
    protect(db, keys, 101, weights=("weight",))
    if not own:
        even_out(db, keys, ("weight",))
    told = "" if own else " OR 1"  # the office's own weights stand as they are where nothing is withheld
    for wave in ("w1", "w2"):
        given_out = db.execute(
            f"SELECT weight, COUNT(*) FROM wide WHERE wave = ? AND weight IS NOT NULL"
            f" AND (101 IN (region, age_group, sex){told}) GROUP BY ROUND(weight, 6)",
            (wave,),
        ).fetchall()
        if own and given_out:  # others may have joined them
            assert len(given_out) == 1
            of = "SELECT COUNT(*) FROM wide WHERE wave = ? AND ABS(weight - ?) < 1e-6"
            given_out = [(w, db.execute(of, (wave, w)).fetchone()[0]) for w, _ in given_out]
        assert all(n >= THRESHOLD for _, n in given_out)
    db.close()


@pytest.mark.parametrize(
    "weighed, means", [(1, {0: 20 / 11, 1: 20 / 11, 2: 3.0}), (10, {0: 10.0, 1: 1.0, 2: 3.0})]
)
def test_a_cell_with_few_weights_takes_another_along(weighed: int, means: dict[int, float]) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE wide (wave, region, weight REAL)")
    for region, value, n in ((0, 10.0, weighed), (1, 1.0, 10), (2, 3.0, 11)):
        db.executemany(
            "INSERT INTO wide VALUES ('w', ?, ?)", [(region, value if k < n else None) for k in range(12)]
        )
    even_out(db, ("region",), ("weight",))
    found = dict(db.execute("SELECT region, MIN(weight) FROM wide WHERE weight IS NOT NULL GROUP BY region"))
    assert found == pytest.approx(means)
    db.execute("DELETE FROM wide WHERE region > 0")
    db.execute("UPDATE wide SET weight = NULL WHERE rowid > 9")
    even_out(db, ("region",), ("weight",))
    assert db.execute("SELECT COUNT(weight) FROM wide").fetchone() == (0,)  # nobody is left to join
    db.close()


# ---------------------------------------------------------------- whole or not at all


def test_an_export_that_fails_leaves_the_last_one_whole(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(20)))
    out = tmp_path / "out"
    asked = Asked(SCIENTIFIC, "p")
    export_files(engine, HOSTILE, asked, KEY, out, list(EXPORTS))
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    fold_all(engine, entries(interviews(5, first=100)))
    for last in (
        "collecting",
        "wide.csv",
        "data.xlsx: labels",
        "wide.dta",
        "long.parquet",
        "datapackage.json",
    ):

        def fail(what: str, done: int, total: int, last: str = last) -> None:
            if what == last:
                raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            export_files(engine, HOSTILE, asked, KEY, out, list(EXPORTS), progress=fail)
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before, last


def test_a_folder_holds_one_export(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fold_all(engine, entries(interviews(20)))
    export_files(engine, HOSTILE, Asked(SCIENTIFIC, "p"), KEY, tmp_path / "out", ["csv", "syntax"])
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    for variant, wave in ((PUBLIC, None), (SCIENTIFIC, "pilot-2026")):
        with pytest.raises(ExportError, match=r"holds codebook.csv of another export .*give another folder"):
            export(engine, tmp_path / "out", variant, wave=wave)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    read_me = tmp_path / "out" / "README.md"
    lines = read_me.read_text("utf-8").splitlines(keepends=True)
    read_me.write_text("".join(x for x in lines if not x.startswith("- Of: ")))  # of earlier software
    with pytest.raises(ExportError, match="of another export"):
        export(engine, tmp_path / "out", PUBLIC)
    export_files(engine, HOSTILE, Asked(SCIENTIFIC, "p"), KEY, tmp_path / "out", ["csv", "syntax"])

    real = os.replace
    renamed: list[Any] = []

    def killed(source: Any, target: Any) -> None:
        if len(renamed) == 2:
            raise KeyboardInterrupt
        renamed.append(target)
        real(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", killed)
        export(engine, tmp_path / "out")
    assert not (tmp_path / "out" / SUMS).exists()  # as long as it is missing the set is not whole
    with pytest.raises(ExportError, match="For: scientific use"):
        export(engine, tmp_path / "out", PUBLIC)
    export(engine, tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"wide.csv", "wide_labels.csv", "long.csv", "codebook.csv", "README.md", SUMS}


def test_what_a_killed_export_left_is_taken_away_later(engine: Engine, tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".export.old", ".export.young", "kept"))
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "rows").write_text("x")
    with pytest.raises(KeyboardInterrupt), whole_path(tmp_path / "wide.csv") as file:
        assert file.name.startswith(".export.")
        raise KeyboardInterrupt
    file.write_text("x")  # as if it had been killed
    for left in (old, other, file):
        os.utime(left, (0, 0))
    export(engine, tmp_path)
    assert not old.exists() and young.exists() and other.exists() and not file.exists()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_wave_without_interviews_makes_files_without_rows(
    engine: Engine, tmp_path: Path, variant: str
) -> None:
    made = export_files(engine, HOSTILE, Asked(variant, "p"), KEY, tmp_path / "out", list(EXPORTS))
    assert made.rows == 0
    assert read(tmp_path / "out") == []
    assert {p.name for p in made.files} >= {"wide.sav", "wide.dta", "wide.parquet", "data.xlsx"}


def test_formats_bring_along_what_they_describe() -> None:
    assert formats_named(["ddi", "stata"]) == ("csv", "stata", "ddi")
    with pytest.raises(ExportError, match="format 'sas' is unknown; give one of csv, xlsx"):
        formats_named(["sas"])


# ---------------------------------------------------------------- the book of exports


def book(engine: Engine) -> list[dict[str, Any]]:
    return rows(engine, table_of(ExportAudit))


@pytest.fixture
def stored(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    give_schema(engine, HOSTILE)
    fold_all(engine, entries(interviews(30)))
    yield engine
    engine.dispose()


def test_an_export_made_at_once_is_in_the_book(stored: Engine, tmp_path: Path) -> None:
    asked = Asked(SCIENTIFIC, "for a thesis", "pilot-2026")
    made = ledger.export_now(stored, HOSTILE, asked, KEY, tmp_path, ["ddi"], "Ama Mensah")
    (row,) = book(stored)
    told = ("asked_by", "variant", "purpose", "formats", "wave", "state", "rows", "digest", "expires_at")
    assert tuple(row[name] for name in told) == (
        "Ama Mensah", "scientific", "for a thesis", "csv ddi", "pilot-2026", "done", made.rows,
        digest(tmp_path / SUMS), None,
    )  # fmt: skip
    with pytest.raises(ExportError, match="say who"):
        ledger.export_now(stored, HOSTILE, asked, KEY, tmp_path, ["csv"], " ")


def test_an_export_that_fails_is_in_the_book_without_another_s_words(stored: Engine, tmp_path: Path) -> None:
    def fail(what: str, done: int, total: int) -> None:
        raise OSError("/home/ama: disk full")

    with pytest.raises(OSError, match="disk full"):
        ledger.export_now(stored, HOSTILE, Asked(PUBLIC, "p"), KEY, tmp_path, ["csv"], "Ama", progress=fail)
    assert [(r["state"], r["error"]) for r in book(stored)] == [("failed", "OSError")]


def test_a_worker_makes_the_archive_and_the_sweep_takes_it_away(
    stored: Engine, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.Worker, "_install_signal_handlers", lambda self: None)  # they are the tests' own
    url, archives = stored.url, tmp_path / "archives"
    export_row = ledger.ask(stored, Asked(SCIENTIFIC, "p"), ["csv", "parquet"], "Ama")
    with pytest.raises(ExportError, match="not made yet"):
        ledger.file_of(stored, archives, export_row)

    def make(export: str) -> None:  # in a work horse: a process of its own
        engine = open_engine(url.render_as_string(hide_password=False))
        ledger.make(engine, HOSTILE, KEY, archives, export)
        engine.dispose()

    queue, live = jobs.open_queue(redis_url)
    for _ in range(2):
        jobs.enqueue_export(queue, export_row)
    (job,) = jobs.analysis_queue(queue).jobs
    assert list(job.args) == [export_row] and job.description == f"gateway.jobs.make_export('{export_row}')"
    stored.dispose()  # a fork may not share its connections
    composition = jobs.Composition(
        close_unfinished=lambda now: 0, make_export=make, sweep_exports=lambda now: []
    )
    jobs.work(redis_url, composition, burst=True)
    assert "sweep-exports-" in " ".join(jobs.analysis_queue(queue).scheduled_job_registry.get_job_ids())
    live.close()

    path = ledger.file_of(stored, archives, export_row)
    (row,) = book(stored)
    assert (row["state"], row["digest"], row["bytes"]) == ("done", digest(path), path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {"wide.csv", "wide.parquet", "README.md", SUMS} <= set(archive.namelist())
        assert len(archive.read("wide.csv").splitlines()) == row["rows"] + 1
    assert [p.name for p in archives.iterdir()] == [path.name]  # nothing temporary
    assert ledger.make(stored, HOSTILE, KEY, archives, export_row) is None  # a second run does nothing
    soon, late = datetime.now(UTC) + timedelta(days=13), datetime.now(UTC) + timedelta(days=15)
    assert ledger.sweep(stored, archives, soon) == 0
    with pytest.raises(ExportError, match="has expired"):
        ledger.file_of(stored, archives, export_row, late)
    assert ledger.sweep(stored, archives, late) == 1
    assert not path.exists() and book(stored)[0]["state"] == "expired"
    with pytest.raises(ExportError, match="has expired"):
        ledger.file_of(stored, archives, export_row)


def test_what_a_wiped_queue_forgot_is_asked_for_again(
    stored: Engine, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.Worker, "_install_signal_handlers", lambda self: None)
    forgotten = ledger.ask(stored, Asked(PUBLIC, "p"), ["csv"], "Ama")
    assert ledger.waiting(stored) == [forgotten]
    queue, live = jobs.open_queue(redis_url)
    queue.enqueue(jobs.sweep_exports)
    seen = "dial16-test:made"

    def made(export: str) -> None:
        jobs.open_queue(redis_url)[1].rpush(seen, export)

    composition = jobs.Composition(
        close_unfinished=lambda now: 0, make_export=made, sweep_exports=lambda now: [forgotten]
    )
    jobs.work(redis_url, composition, burst=True)
    assert live.lrange(seen, 0, -1) == [forgotten.encode()]
    live.close()


def test_an_export_whose_worker_ended_is_given_up_and_may_run_again(stored: Engine, tmp_path: Path) -> None:
    export_row = ledger.ask(stored, Asked(PUBLIC, "p"), ["csv"], "Ama")
    audit = table_of(ExportAudit)
    with writing(stored) as db:
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        db.execute(update(audit).values(state="running", progressed_at=long_ago))
    ledger.sweep(stored, tmp_path)
    with pytest.raises(ExportError, match="the worker ended before it was made"):
        ledger.file_of(stored, tmp_path, export_row)
    assert ledger.make(stored, HOSTILE, KEY, tmp_path, export_row) is not None
    told = ledger.progress_of(stored, export_row)
    assert told is not None and (told.state, told.error) == ("done", None)


def test_no_archive_stays_that_no_row_speaks_for(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold_all(engine, entries(interviews(10)))
    archives, kept = tmp_path / "archives", ledger.ask(engine, Asked(SCIENTIFIC, "p"), ["csv"], "Ama")
    path = ledger.make(engine, HOSTILE, KEY, archives, kept)
    failing = ledger.ask(engine, Asked(SCIENTIFIC, "p"), ["csv"], "Ama")
    real = ledger._set

    def away(engine: Engine, export: str, **values: Any) -> None:
        if values.get("state") == ledger.DONE:
            raise OSError("the database is away")
        real(engine, export, **values)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="away"):
        patched.setattr(ledger, "_set", away)
        ledger.make(engine, HOSTILE, KEY, archives, failing)
    assert list(archives.iterdir()) == [path]
    running = ledger.ask(engine, Asked(SCIENTIFIC, "p"), ["csv"], "Ama")
    real(engine, running, state=ledger.RUNNING)
    for name in (failing, running, "0" * 32):  # the last from before a backup was restored
        (archives / f"{name}.zip").write_text("rows")
    assert ledger.sweep(engine, archives) == 0
    assert {p.stem for p in archives.iterdir()} == {kept, running}


def test_a_worker_refuses_a_wave_that_nobody_knows(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(2)))
    typo = ledger.ask(engine, Asked(SCIENTIFIC, "p", "pilot-2062"), ["csv"], "Ama")
    with pytest.raises(ExportError, match=r"'pilot-2062': has no interview and no wave .*: next, pilot-2026"):
        ledger.make(engine, HOSTILE, KEY, tmp_path, typo, fielded=["next"])
    coming = ledger.ask(engine, Asked(SCIENTIFIC, "p", "next"), ["csv"], "Ama")
    assert ledger.make(engine, HOSTILE, KEY, tmp_path, coming, fielded=["next"]) is not None


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 32])
def test_only_ids_of_exports_become_paths(stored: Engine, tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="no such export"):
        ledger.file_of(stored, tmp_path, name)


def test_collected_rows_do_not_outlive_the_export(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, entries(interviews(10)))
    folder = tmp_path / "out"
    folder.mkdir()
    with collect(engine, HOSTILE, Asked(SCIENTIFIC, "p"), KEY, folder) as data:
        (place,) = folder.iterdir()
        assert place.stat().st_mode & 0o077 == 0  # ours alone
        assert sum(1 for _ in data.rows()) == data.count > 0
    assert list(folder.iterdir()) == []


def test_interviews_pass_through_memory_a_batch_at_a_time(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold_all(engine, entries(interviews(30)))
    monkeypatch.setattr(microdata, "_BATCH", 7)
    steps = []
    with collect(engine, HOSTILE, Asked(SCIENTIFIC, "p"), KEY, tmp_path,
                 progress=lambda what, done, total: steps.append(done)) as data:  # fmt: skip
        assert steps == [*range(0, data.count, 7), data.count]
        assert [len(batch) for batch in data.marked()][:3] == [7, 7, 7]


def test_the_views_carry_the_dictionary_as_comments(postgres_server: PostgreSQL) -> None:
    postgres_server.execute("CREATE DATABASE comments")
    engine = open_engine(postgres_server.url("comments"))
    for _ in range(2):  # made anew each time
        migrate(engine, HOSTILE)
    with reading(engine) as db:
        found = {
            (view, column): comment
            for view, column, comment in db.execute(
                text(
                    "SELECT c.relname, a.attname, col_description(c.oid, a.attnum) FROM pg_class c"
                    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE c.relkind = 'v'"
                    " AND c.relnamespace = 'public'::regnamespace"
                )
            )
        }
    engine.dispose()
    postgres_server.execute("DROP DATABASE comments")
    assert {view for view, _ in found} == set(VIEWS) and all(found.values())
    assert found["interviews_wide", "water_a1"] == (
        f"{NASTY}\nAsked: +{{owner}}: water a1?\n3 = Strongly agree; 2 = Agree; 1 = {OPTION};"
        " 0 = Strongly disagree; 97 = Prompt not applicable; 98 = Prompt dont know; 99 = Prompt refused"
    )


# ---------------------------------------------------------------- the command


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = {"DIAL16_DATA_DIR": str(folder / "data"), "DIAL16_PSEUDONYM_KEY": "0123456789abcdef" * 4}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DIAL16_")}
    return subprocess.run(
        [sys.executable, str(HERE / "main.py"), *arguments], cwd=folder, env=plain | given,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_command_writes_files_and_the_book(tmp_path: Path) -> None:
    assert command(tmp_path, "migrate").returncode == 0
    plain = command(tmp_path, "export", "ours")
    assert plain.returncode == 0, plain.stderr
    assert {p.name for p in (tmp_path / "ours").iterdir()} == {
        "long.csv", "wide.csv", "codebook.csv", "deviations.md",
    }  # fmt: skip
    everything = command(tmp_path, "export", "--all", "--variant", "public", "--out", "out", "--by", "Ama")
    assert everything.returncode == 0, everything.stderr
    assert {"wide.sav", "wide.dta", "ddi.xml", "data.xlsx"} <= {p.name for p in (tmp_path / "out").iterdir()}
    mixed = command(tmp_path, "export", "out")
    assert mixed.returncode == 1 and "holds an export for others" in mixed.stderr
    for arguments, said in (
        (("--variant", "public"), "say who the export is for: --by NAME"),
        (("--format", "sas", "--by", "Ama"), "format 'sas' is unknown"),
        (("--variant", "secret", "--by", "Ama"), "variant 'secret' is unknown"),
        (("--all", "--language", "xx", "--by", "Ama"), "language 'xx' is unknown"),
        (("--all", "--wave", "typo", "--by", "Ama"), "wave 'typo': has no interview and no wave file"),
    ):
        refused = command(tmp_path, "export", "no", *arguments)
        assert refused.returncode == 1 and said in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr
        assert not (tmp_path / "no").exists() or not list((tmp_path / "no").iterdir())
    (tmp_path / "file").write_text("")
    in_the_way = command(tmp_path, "export", "file", "--by", "Ama")
    assert in_the_way.returncode == 1 and "Traceback" not in in_the_way.stderr
    assert "dial16: file: is a file, or under one, where a folder is needed" in in_the_way.stderr
    nobodys = command(tmp_path, "indicator", "--wave", "nope")
    assert (nobodys.returncode, nobodys.stdout) == (1, "")
    assert "wave 'nope': has no interview and no wave file; there are: pilot-2026" in nobodys.stderr
    engine = open_engine(f"sqlite:///{tmp_path / 'data' / 'dial16.sqlite3'}")
    kept = sorted((r["variant"], r["state"]) for r in book(engine))
    assert [row for row in kept if row[1] == "done"] == [("internal", "done"), ("public", "done")]
    engine.dispose()


def test_interviews_of_an_older_version_are_in_the_file(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, complete(1).entries)
    newer = instrument("2")
    migrate(engine, newer)
    export_files(engine, newer, Asked(SCIENTIFIC, "p"), KEY, tmp_path / "out", ["csv"])
    assert [r["instrument"] for r in read(tmp_path / "out")] == ["small@1"]
