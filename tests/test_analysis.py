"""Views, codebook, CSV and the indicator, against tables computed by hand."""

import csv
import io
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import Engine, text

from flows.instrument import load
from gateway.aggregators import AGGREGATORS
from storage.analysis.codebook import COLUMNS, codebook
from storage.analysis.counted import SIMULATOR
from storage.analysis.dictionary import wide_columns
from storage.analysis.export import export_csv
from storage.analysis.indicator import (
    LABEL,
    Basis,
    Row,
    indicator,
    write_csv,
    write_table,
)
from storage.database import migrate, open_engine, reading
from storage.models import Response, table_of
from tests.record_material import (
    NOW,
    SERVICES,
    SMALL,
    WAVE,
    Dialogue,
    Entry,
    complete,
    ended,
    fold_all,
    instrument,
)
from tests.record_material import rows as rows_of

HERE = Path(__file__).resolve().parent.parent
WATER = [f"water.a{n}" for n in range(1, 6)]


def answers(number: int, given: dict[str, str]) -> list[Entry]:
    """A complete interview with these answers."""
    d = Dialogue(number)
    d.begin()
    d.consent()
    for n, (item, option) in enumerate(given.items()):
        d.answer(item, option, *([ended()] if n == len(given) - 1 else []))
    return d.entries


def by_item(rows: list[Row]) -> dict[str, Row]:
    return {row.item: row for row in rows if row.item}


def means(rows: list[Row]) -> dict[str, float | None]:
    return {row.service: row.share for row in rows if row.measure == "mean"}


def select(engine: Engine, view: str) -> list[dict[str, object]]:
    with reading(engine) as db:
        return [dict(r._mapping) for r in db.execute(text(f"SELECT * FROM {view}"))]


# ---------------------------------------------------------------- the indicator


def test_shares_are_averaged_and_never_pooled(engine: Engine) -> None:
    """The fact sheet's case: 90/100 and 10/50 make 55 %, not 66.7 %."""
    entries: list[Entry] = []
    for n in range(100):
        given = {"roads.a1": "agree" if n < 90 else "strongly_disagree"}
        if n < 50:
            given["roads.a2"] = "strongly_agree" if n < 10 else "disagree"
        entries += answers(n, given)
    fold_all(engine, entries)
    rows = indicator(engine, SMALL)
    assert by_item(rows)["roads.a1"].share == 0.9
    assert by_item(rows)["roads.a2"].share == 0.2
    assert by_item(rows)["roads.a2"].n == 50
    assert means(rows)["roads"] == pytest.approx(0.55)


def test_the_source_s_example_makes_56_percent(engine: Engine) -> None:
    """META: (50 + 60 + 73 + 55 + 42) / 5 = 56; overall 23 % + 37 % = 60 %."""
    entries: list[Entry] = []
    for n in range(100):
        given = {
            item: "agree" if n < share else "disagree"
            for item, share in zip(WATER, (50, 60, 73, 55, 42), strict=True)
        }
        overall = "strongly_agree" if n < 23 else "agree" if n < 60 else "strongly_disagree"
        entries += answers(n, {**given, "water.overall": overall})
    fold_all(engine, entries)
    rows = indicator(engine, SMALL)
    assert means(rows)["water"] == pytest.approx(0.56)
    assert by_item(rows)["water.overall"].share == 0.6


def test_nonresponse_leaves_the_base_and_zero_does_not(engine: Engine) -> None:
    options = (
        ["agree"] * 3 + ["strongly_disagree"] * 2 + ["dont_know"] * 4 + ["refused"] + ["not_applicable"] * 2
    )
    fold_all(engine, [e for n, option in enumerate(options) for e in answers(n, {"water.a1": option})])
    row = by_item(indicator(engine, SMALL))["water.a1"]
    assert (row.positive, row.n, row.share) == (3, 5, 0.6)
    assert (row.not_applicable, row.dont_know, row.refused) == (2, 4, 1)


def test_an_empty_base_is_undefined_and_so_is_its_mean(engine: Engine) -> None:
    assert {row.share for row in indicator(engine, SMALL)} == {None}
    given = dict.fromkeys(WATER[:4], "agree") | {WATER[4]: "dont_know", "roads.a1": "disagree"}
    fold_all(engine, answers(1, given | {"roads.a2": "strongly_disagree"}))
    rows = indicator(engine, SMALL)
    assert by_item(rows)[WATER[4]].share is None
    assert means(rows) == {"water": None, "roads": 0.0}


def test_only_the_counted_and_the_not_withdrawn_count(engine: Engine) -> None:
    again = Dialogue(1, at=NOW + 9_000_000)
    again.sessions = 9
    again.begin()
    again.answer("water.a1", "disagree")
    gone = Dialogue(2)
    gone.begin()
    gone.answer("water.a1", "disagree")
    gone.withdraw()
    stopped = Dialogue(3)
    stopped.begin()
    stopped.answer("water.a1", "agree")
    fold_all(engine, answers(1, {"water.a1": "agree"}) + again.entries + gone.entries + stopped.entries)
    row = by_item(indicator(engine, SMALL))["water.a1"]
    assert (row.positive, row.n) == (2, 2)
    assert by_item(indicator(engine, SMALL, wave="other"))["water.a1"].n == 0


def test_services_and_attributes_are_the_instrument_s() -> None:
    """Rows for the real questionnaire: its services, in its order, with its own five attributes each."""
    real = load(HERE / "flows" / "sdg_16_6_2")
    engine = open_engine("sqlite://")
    migrate(engine, real)
    rows = indicator(engine, real)
    services = list(dict.fromkeys(i.service for i in real.items if i.role == "overall"))
    assert list(dict.fromkeys(r.service for r in rows)) == services
    assert len(services) == 4
    for service in services:
        mine = [r for r in rows if r.service == service]
        assert [r.measure for r in mine] == ["attribute"] * 5 + ["mean", "overall"]
        assert len({r.attribute for r in mine}) == 6
    engine.dispose()


def test_table_and_csv_say_what_they_are_not(engine: Engine) -> None:
    fold_all(engine, answers(1, {"roads.a1": "agree", "roads.a2": "disagree"}))
    rows = indicator(engine, SMALL)
    out = io.StringIO()
    write_table(rows, Console(file=out, width=140))
    assert "Unweighted. Not a probability sample" in out.getvalue()
    assert "50.0%" in out.getvalue()
    assert "undefined" in out.getvalue()
    file = io.StringIO()
    write_csv(rows, file)
    read = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert {r["note"] for r in read} == {LABEL}
    assert {r["item"]: r["share"] for r in read}["water.a1"] == ""
    assert len(read) == sum(SERVICES.values()) + 2 * len(SERVICES)


def printed(rows: list[Row]) -> str:
    out = io.StringIO()
    write_table(rows, Console(file=out, width=140))
    return " ".join(out.getvalue().split())


def test_a_table_names_its_wave_its_dates_its_versions_and_its_interviews(engine: Engine) -> None:
    here, elsewhere, declined = answers(1, {"water.a1": "agree"}), Dialogue(2), Dialogue(3)
    elsewhere.at += 86_400_000 * 2
    elsewhere.begin()
    elsewhere.entries[0]["wave"] = "next [year]"
    elsewhere.entries[0]["effects"][0]["instrument"] = "small@2"
    elsewhere.answer("water.a1", "refused")["wave"] = "next [year]"
    declined.begin()  # has no answer in the table
    declined.answer("consent", "no", ended("refusal"))
    fold_all(engine, here + elsewhere.entries + declined.entries)
    rows = indicator(engine, SMALL, wave=WAVE)
    assert by_item(rows)["water.a1"].n == 1
    day, later = date(2025, 11, 23), date(2025, 11, 25)
    assert {r.basis for r in rows} == {Basis(WAVE, day, day, ("small@1",), 1, 0)}
    assert f"wave {WAVE} 1 interview, 2025-11-23 to 2025-11-23, small@1" in printed(rows)
    assert "simulator" not in printed(rows)
    pooled = indicator(engine, SMALL)
    assert pooled[0].basis == Basis("all waves", day, later, ("small@1", "small@2"), 2, 0)
    assert "all waves 2 interviews, 2025-11-23 to 2025-11-25, small@1, small@2" in printed(pooled)
    assert "wave next [year] 1 interview" in printed(indicator(engine, SMALL, wave="next [year]"))
    assert "wave never 0 interviews" in printed(indicator(engine, SMALL, wave="never"))
    file = io.StringIO()
    write_csv(pooled, file)
    for row in csv.DictReader(io.StringIO(file.getvalue())):
        assert (row["wave"], row["instruments"], row["interviews"]) == ("all waves", "small@1 small@2", "2")
        assert (row["first_date"], row["last_date"]) == ("2025-11-23", "2025-11-25")


def test_made_up_interviews_are_told_under_the_table(engine: Engine) -> None:
    entries = answers(1, {"water.a1": "agree"}) + answers(2, {"water.a1": "agree"})
    for entry in entries:
        if entry.get("opened") and entry["respondent"].endswith("1"):
            entry["opened"]["aggregator"] = SIMULATOR
    fold_all(engine, entries)
    rows = indicator(engine, SMALL)
    assert "1 of the 2 interviews came through the simulator." in printed(rows)
    file = io.StringIO()
    write_csv(rows, file)
    assert {r["simulated"] for r in csv.DictReader(io.StringIO(file.getvalue()))} == {"1"}
    assert SIMULATOR in AGGREGATORS


# ---------------------------------------------------------------- views


def test_long_has_labels_and_leaves_out_what_was_taken_back(engine: Engine) -> None:
    d = Dialogue(1)
    d.begin()
    d.answer("age", 98)
    d.answer("water.a1", "strongly_disagree")
    d.answer("water.a2", "dont_know")
    d.answer("water.a3", "agree")
    d.hop({"kind": "ResponseRetracted", "item": "water.a3"})
    fold_all(engine, d.entries)
    long = {r["item"]: r for r in select(engine, "responses_long")}
    assert set(long) == {"age", "water.a1", "water.a2"}
    a1, a2, age = long["water.a1"], long["water.a2"], long["age"]
    assert (a1["code"], a1["option_label"], a1["nonresponse"]) == (0, "Strongly disagree", 0)
    assert (a1["service"], a1["attribute"], a1["question"], a1["item_label"]) == (
        "water",
        "a1",
        "1",
        "water a1",
    )
    assert (a2["code"], a2["nonresponse"]) == (98, 1)
    assert (age["code"], age["value"], age["nonresponse"]) == (None, 98, 0)


def test_wide_has_a_column_an_item_and_keeps_98_years_apart_from_dont_know(engine: Engine) -> None:
    old, silent, young = Dialogue(1), Dialogue(2), Dialogue(3)
    for d, age in ((old, 98), (silent, "dont_know"), (young, 18)):
        d.begin()
        d.answer("age", age)
        d.answer("water.a1", "strongly_disagree")
    fold_all(engine, old.entries + silent.entries + young.entries)
    wide = {r["interview"]: r for r in select(engine, "interviews_wide")}
    found = {k: (r["age"], r["age_nonresponse"], r["age_group"], r["water_a1"]) for k, r in wide.items()}
    assert found == {
        old.interview: (98, None, "old", 0),
        silent.interview: (None, 98, None, 0),
        young.interview: (18, None, "young", 0),
    }
    assert wide[old.interview]["water_a2"] is None
    assert wide[old.interview]["language"] == "en"


def test_break_offs_by_screen(engine: Engine) -> None:
    entries = answers(1, {"water.a1": "agree", "water.a2": "agree"})
    for n, last in ((2, "water.a2"), (3, "water.a2"), (4, "water.a1")):
        d = Dialogue(n)
        d.begin()
        d.consent()
        if last == "water.a2":
            d.answer("water.a1", "agree", shown="water.a2")
        else:
            d.hop({"kind": "InvalidReply", "item": "water.a1", "tries": 1}, shown="water.a1")
        entries += d.entries
    fold_all(engine, entries)
    found = {
        r["item"]: (r["reached"], r["answered"], r["last_shown"], r["share"])
        for r in select(engine, "screen_breakoff")
    }
    assert found["water.a1"] == (4, 3, 1, 0.25)
    assert found["water.a2"] == (3, 1, 2, pytest.approx(2 / 3))
    assert found["water.a3"] == (0, 0, 0, None)


def test_views_follow_a_new_version_of_the_instrument(engine: Engine) -> None:
    fold_all(engine, complete(1).entries)
    migrate(engine, instrument("2"))
    (row,) = select(engine, "interviews_wide")
    assert row["instrument"] == "small@1"
    assert row["water_overall"] is not None
    assert by_item(indicator(engine, instrument("2")))["water.overall"].n is not None


def test_places_have_their_iso_codes(engine: Engine) -> None:
    given = {1: "gh_aa", 2: "gh_af", 3: "abroad", 4: "dont_know"}
    fold_all(engine, [e for n, region in given.items() for e in answers(n, {"region": region})])
    long = {r["option"]: r["iso"] for r in select(engine, "responses_long") if r["item"] == "region"}
    assert long == {"gh_aa": "GH-AA", "gh_af": "GH-AF", "abroad": None, "dont_know": None}
    wide = {(r["region"], r["region_iso"]) for r in select(engine, "interviews_wide")}
    assert wide == {(3, "GH-AA"), (8, "GH-AF"), (17, None), (98, None)}
    stored = {r["option"]: r["iso"] for r in select(engine, "codebook_option") if r["item"] == "region"}
    assert stored == {"gh_aa": "GH-AA", "gh_af": "GH-AF", "abroad": "", "dont_know": "", "refused": ""}
    listed = [dict(zip(COLUMNS, row, strict=True)) for row in codebook(SMALL)]
    codes = [(r["variable"], r["option"], r["code"], r["iso"]) for r in listed if r["role"] == "region"]
    assert codes == [
        ("region", "gh_aa", "3", "GH-AA"), ("region", "gh_af", "8", "GH-AF"), ("region", "abroad", "17", ""),
        ("region", "dont_know", "98", ""), ("region", "refused", "99", ""),
        ("region_iso", "gh_aa", "GH-AA", "GH-AA"), ("region_iso", "gh_af", "GH-AF", "GH-AF"),
    ]  # fmt: skip


def test_sessions_are_numbered_in_order_and_their_ids_stay_in_the_tables(
    engine: Engine, tmp_path: Path
) -> None:
    d = Dialogue(1)
    d.begin()
    d.consent()
    d.dial({"kind": "Resumed", "item": "age"}, shown="age")  # hung up before an answer
    d.dial({"kind": "Resumed", "item": "age"}, shown="age")
    d.answer("age", 30)
    d.answer("water.a1", "agree")
    fold_all(engine, d.entries[::-1])
    numbers = {r["item"]: r["session_number"] for r in select(engine, "responses_long")}
    assert numbers == {"consent": 1, "age": 3, "water.a1": 3}
    assert {r["session"] for r in rows_of(engine, table_of(Response))} == {
        e["session"] for e in d.entries[:2]
    } | {d.session}
    for path in export_csv(engine, SMALL, tmp_path):
        assert "ATUid_" not in path.read_text("utf-8"), path.name


def test_an_interview_names_the_aggregator_it_began_through(engine: Engine) -> None:
    made_up, real = Dialogue(1), Dialogue(2)
    made_up.aggregator = "simulator"
    for d in (made_up, real):
        d.begin()
        d.consent()
        d.aggregator = "other"
        d.dial({"kind": "Resumed", "item": "age"})  # through another one: it began where it began
    fold_all(engine, made_up.entries[::-1] + real.entries)
    for view in ("interviews_wide", "responses_long"):
        assert {r["interview"]: r["aggregator"] for r in select(engine, view)} == {
            made_up.interview: "simulator",
            real.interview: "africastalking",
        }


# ---------------------------------------------------------------- codebook and CSV


def test_every_column_and_every_code_is_in_the_codebook(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, [e for n in range(30) for e in complete(n).entries])
    export_csv(engine, SMALL, tmp_path)
    known: dict[str, set[str]] = {}
    listed: dict[str, dict[str, None]] = {}
    for row in codebook(SMALL):
        entry = dict(zip(COLUMNS, row, strict=True))
        known.setdefault(entry["variable"], set()).add(entry["code"])
        listed.setdefault(entry["file"], {})[entry["variable"]] = None
    with (tmp_path / "wide.csv").open(encoding="utf-8", newline="") as file:
        wide = list(csv.DictReader(file))
    assert len(wide) == 30
    for name, variables in listed.items():
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            assert next(csv.reader(file)) == list(variables)
    for name, (_, what) in wide_columns(SMALL).items():
        if what != "number":
            assert {r[name] for r in wide} - {""} <= known[name]


def test_the_files_read_back_as_they_should(engine: Engine, tmp_path: Path) -> None:
    d = Dialogue(1)
    d.begin()
    d.hang_up()
    d.answer("water.a1", "disagree")  # its label is "=Disagree"
    fold_all(engine, d.entries)
    told: list[tuple[str, int, int]] = []
    small = replace(SMALL, deviations="Deviations")
    folder = tmp_path / "out"
    written = export_csv(engine, small, folder, lambda *seen: told.append(seen))
    assert [p.name for p in written] == ["long.csv", "wide.csv", "codebook.csv", "deviations.md"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in written)  # nothing temporary
    assert ("long.csv", 1, 1) in told
    with (folder / "long.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["option_label"] == "'=Disagree"
    assert row["code"] == "1"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", row["given_at"])
    assert (folder / "deviations.md").read_text("utf-8") == "Deviations"
    with (folder / "codebook.csv").open(encoding="utf-8", newline="") as file:
        labels = {r["code_label"] for r in csv.DictReader(file) if r["variable"] == "water_a1"}
    assert "'=Disagree" in labels


def test_an_export_that_fails_leaves_the_last_one(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export_csv(engine, SMALL, folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    fold_all(engine, complete(1).entries)

    def fail(name: str, done: int, total: int) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        export_csv(engine, SMALL, folder, fail)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_no_file_holds_anything_but_pseudonyms(engine: Engine, tmp_path: Path) -> None:
    fold_all(engine, complete(1).entries)
    for path in export_csv(engine, SMALL, tmp_path):
        assert not re.search(r"\+\d{9,}", path.read_text("utf-8").replace("+00:00", ""))
