"""Releases: an immutable folder, its versions, and what may be asked beside them."""

import csv
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path

import openpyxl  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from flows.instrument import load
from storage.analysis import publishing
from storage.analysis.differencing import Query, QueryRefused, may_serve, mean_faults, revision_faults, serve
from storage.analysis.disclosure import reason
from storage.analysis.estimates import Domain, Estimate
from storage.analysis.labels import labels_of
from storage.analysis.publishing import About, publish, verify
from storage.analysis.release import (
    Margin,
    Release,
    ReleaseError,
    Rules,
    latest,
    load_release,
    make,
    percent,
    versions,
    waves,
)
from storage.analysis.released import check_kept, keep_release, keep_releases
from storage.analysis.served import ComeBetween, Served, turn
from storage.database import migrate, open_engine, reading
from tests.figures_material import estimate, table
from tests.stores import give_schema, wait_until
from tests.test_release_rules import attack, crossed

HERE = Path(__file__).resolve().parent.parent
INSTRUMENT = load(HERE / "flows" / "sdg_16_6_2")
LABELS = labels_of(INSTRUMENT)
DAY = date(2026, 11, 23)
#: One service, one-way: enough where only the folder matters.
SMALL = [e for e in table() if e.service == "health" and len(e.domain) < 2]


def about(**values: object) -> About:
    given = {"wave": "w", "instrument": "sdg_16_6_2@2026.1", "owner": "Statistical Office", "contact": "0800",
             "interviews": 1200, "software": "0.1.0+abc", "material": "m1"}  # fmt: skip
    return About(**{**given, **values})  # type: ignore[arg-type]


def issue(out: Path, estimates: list[Estimate], **values: object) -> Path:
    reason_ = str(values.pop("reason", ""))
    return publish(estimates, out, about(**values), LABELS, issued=DAY, reason=reason_)


def test_a_release_is_a_whole_folder(tmp_path: Path) -> None:
    folder = issue(tmp_path, table())
    assert folder == tmp_path / "w" / "1"
    assert sorted(f.name for f in folder.iterdir()) == [
        "16-6-2.yml", "16-6-2_age.px", "16-6-2_disability.px", "16-6-2_national.px", "16-6-2_region-sex.px",
        "16-6-2_region.px", "16-6-2_residence.px", "16-6-2_sex-age.px", "16-6-2_sex.px", "16-6-2_wealth.px",
        "CHANGELOG.md", "SHA256SUMS", "dcat.jsonld", "estimates.csv", "estimates.xlsx",
        "indicator_16-6-2.csv", "release.json",
    ]  # fmt: skip
    assert verify(folder) == []
    assert not [f for f in (tmp_path / "w").iterdir() if f.name.startswith(".")]
    assert all(f.stat().st_mode & 0o222 == 0 for f in folder.iterdir())
    assert waves(tmp_path) == ["w"]
    assert versions(tmp_path, "w") == [1]


def test_what_is_read_back_is_what_was_released(tmp_path: Path) -> None:
    made = table()
    given = about(weighted=True, margins=(Margin("region", "Census 2021", "2021-06-27"),))
    folder = publish(made, tmp_path, given, LABELS, issued=DAY)
    release = load_release(folder)
    assert release.estimates == make(made, Rules())
    assert (release.wave, release.version, release.issued) == ("w", 1, "2026-11-23")
    assert (release.margins, release.rules) == (given.margins, Rules())
    assert "Not a probability sample" in release.caution
    assert "Unweighted" not in release.caution
    data = json.loads((folder / "release.json").read_text("utf-8"))
    assert data["rules"]["disclosure"]["least"] == 10
    assert data["rules"]["display"]["ratio"] == 1.3
    assert data["software"] == "0.1.0+abc"


def test_no_file_knows_more_than_the_release(tmp_path: Path) -> None:
    """No exact base of a hidden figure anywhere: counts are multiples of five or not there."""
    folder = issue(tmp_path, table(users=300))
    rows = list(csv.DictReader(io.StringIO((folder / "estimates.csv").read_text("utf-8"))))
    assert {r["mark"] for r in rows} >= {"", "c", "u"}
    for r in rows:
        numbers = {k: r[k] for k in ("percent", "se", "low", "high", "n", "n_eff", "deff", "df")}
        if r["mark"] == "c":
            assert set(numbers.values()) == {""}
            assert {r[k] for k in ("not_applicable", "dont_know", "refused", "not_reached")} == {""}
        elif r["mark"] == "u":
            assert {k for k, v in numbers.items() if v} == {"n"}
        else:
            assert all(numbers.values())
        assert int(r["n"] or 0) % 5 == 0
    assert "positive" not in rows[0]
    by_name = {f.name: f for f in folder.iterdir()}
    hidden = sum(r["mark"] == "c" for r in rows)
    assert {r["notes"] for r in rows if r["mark"] == "c"} == {""}  # not even which rule hides it
    assert by_name["release.json"].read_text("utf-8").count('"mark": "c"') == hidden


def test_the_workbook_says_the_same(tmp_path: Path) -> None:
    folder = issue(tmp_path, table(users=300))
    book = openpyxl.load_workbook(folder / "estimates.xlsx", read_only=True)
    assert book.sheetnames == ["Read me", "Figures", "Columns"]
    rows = list(book["Figures"].iter_rows(values_only=True))
    text = list(csv.reader(io.StringIO((folder / "estimates.csv").read_text("utf-8"))))
    assert len(rows) == len(text)
    for ours, theirs in zip(rows, text, strict=True):
        said = ["" if c is None else f"{c:g}" if isinstance(c, int | float) else c for c in ours]
        assert said == [f"{float(c):g}" if c.replace(".", "", 1).isdigit() else c for c in theirs]
    told = dict(list(book["Read me"].iter_rows(values_only=True)))
    assert told["Wave"] == "w"
    assert "fewer than 10 respondents" in told["Rules"]
    book.close()


def test_labels_are_no_formulas(tmp_path: Path) -> None:
    nasty = replace(
        LABELS, options={**LABELS.options, "sex": {"male": '=HYPERLINK("x")', "female": "@SUM(1)"}}
    )
    folder = publish(table(), tmp_path, about(), nasty, issued=DAY)
    rows = list(csv.DictReader(io.StringIO((folder / "estimates.csv").read_text("utf-8"))))
    assert {r["category_1_label"] for r in rows if r["variable_1"] == "sex"} == {
        '\'=HYPERLINK("x")',
        "'@SUM(1)",
    }
    book = openpyxl.load_workbook(folder / "estimates.xlsx")
    assert not [c for row in book["Figures"].iter_rows() for c in row if c.data_type == "f"]


def test_the_catalogue_entry(tmp_path: Path) -> None:
    folder = issue(tmp_path, table(), address="https://data.example.org/releases/")
    entry = json.loads((folder / "dcat.jsonld").read_text("utf-8"))
    assert entry["@type"] == "dcat:Dataset"
    assert entry["@id"] == "https://data.example.org/releases/w/1/"
    sums = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    listed = {
        d["dct:title"]: d["spdx:checksum"]["spdx:checksumValue"]["@value"] for d in entry["dcat:distribution"]
    }
    assert listed == {name: digest for name, digest in sums.items() if name != "dcat.jsonld"}


@pytest.mark.parametrize(
    ("contact", "has"),
    [
        ("+233 30 000-0016", {"vcard:hasTelephone": {"@id": "tel:+233300000016"}}),
        ("0800 000 000", {"vcard:hasTelephone": {"@id": "tel:0800000000;phone-context=+233"}}),
        ("info@office.example", {"vcard:hasEmail": {"@id": "mailto:info@office.example"}}),
        ("desk 4, Accra", {"vcard:note": "desk 4, Accra"}),
    ],
)
def test_the_catalogue_has_addresses_and_two_languages(
    tmp_path: Path, contact: str, has: dict[str, object]
) -> None:
    entry = json.loads((issue(tmp_path, SMALL, contact=contact) / "dcat.jsonld").read_text("utf-8"))
    point = entry["dcat:contactPoint"]
    assert {k: v for k, v in point.items() if k not in ("@type", "vcard:fn")} == has
    assert [t["@language"] for t in entry["dct:title"]] == ["en", "fr"]
    assert "Non pondéré" in entry["dct:description"][1]["@value"]
    assert all(d["dcat:accessURL"] == d["dcat:downloadURL"] for d in entry["dcat:distribution"])


def test_a_revision_is_a_new_version(tmp_path: Path) -> None:
    made = SMALL
    first = issue(tmp_path, made)
    before = {f.name: f.read_bytes() for f in first.iterdir()}
    second = issue(tmp_path, made, reason="Weighted to the census.", weighted=True,
                   margins=(Margin("region", "Census 2021", "2021-06-27"),))  # fmt: skip
    assert second == tmp_path / "w" / "2"
    assert {f.name: f.read_bytes() for f in first.iterdir()} == before
    log = (second / "CHANGELOG.md").read_text("utf-8")
    assert log.index("## 2 (2026-11-23)\n\nWeighted to the census.") < log.index("## 1 (2026-11-23)")
    newest = latest(tmp_path, "w")
    assert newest is not None
    assert (newest.version, newest.weighted) == (2, True)


@pytest.mark.parametrize(
    ("of_2024", "simulated", "years", "said"),
    [
        ({}, 0, {"2024", "2026"}, "Unweighted: describes those"),
        ({"instrument": "sdg_16_6_2@2024.2"}, 0, {"2024", "2026"}, "Unweighted: describes those"),
        ({"weighted": True, "margins": (Margin("sex", "Census", "2021-06-27"),)}, 0, {"2024", "2026"},
         "2026: Unweighted: describes those who answered. Not a probability sample"),
        ({"design_weighted": True, "probability_sample": True}, 0, {"2024", "2026"},
         "modelled as if they had been drawn at random. 2024: Weighted by the sample's design only"),
        ({"simulated": 7}, 7, {"2024", "2026"}, "Demonstration: made-up answers. Unweighted"),
        ({}, 7, {"2024", "2026"}, "2026: Demonstration: made-up answers."),
        ({"simulated": 7}, 0, {"2026"}, "Unweighted: describes those"),  # never made-up beside real ones
        ({"instrument": "water@2026.1"}, 0, {"2026"}, "Unweighted: describes those"),
    ],
)  # fmt: skip
def test_other_years_stand_with_their_cautions(
    tmp_path: Path, of_2024: dict[str, object], simulated: int, years: set[str], said: str
) -> None:
    issue(tmp_path, [replace(e, wave="v", period="2024") for e in SMALL], wave="v", **of_2024)
    folder = issue(tmp_path, SMALL, simulated=simulated)
    rows = csv.DictReader(io.StringIO((folder / "indicator_16-6-2.csv").read_text("utf-8")))
    assert {r["Year"] for r in rows} == years
    px = (folder / "16-6-2_sex.px").read_text("utf-8").replace('"\n"', "")
    assert "TLIST(A1)," + ",".join(f'"{year}"' for year in sorted(years)) + ";" in px
    assert said in px and said in (folder / "16-6-2.yml").read_text("utf-8")


def test_the_database_and_the_folder_have_the_same_versions(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'dial16.sqlite3'}")
    give_schema(engine, INSTRUMENT)
    issue(tmp_path / "out", SMALL)
    assert keep_releases(engine, tmp_path / "out") == 1
    issue(tmp_path / "out", SMALL, reason="Another look.")  # which the database lacks yet
    issue(tmp_path / "people", SMALL, interviews=1201)
    other = [replace(e, share=e.share and e.share / 2) for e in SMALL]
    issue(tmp_path / "shares", other)
    for folder, said in (
        ("out", ""),
        (
            "none",
            "w/1: the database has this version, of 2026-11-23, and the folder of releases does not have",
        ),
        ("people", "w/1: .* the folder of releases has another one of this number; restore that folder from"),
        ("shares", "another one of this number; .* or set DIAL16_RELEASES_DIR to where it is"),
    ):
        with reading(engine) as db, pytest.raises(ReleaseError, match=said) if said else nullcontext():
            check_kept(db, tmp_path / folder, "w")
    assert keep_releases(engine, tmp_path / "out") == 1
    with reading(engine) as db:
        check_kept(db, tmp_path / "out", "w")
        check_kept(db, tmp_path / "none", "another")
    engine.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_takes_versions_in_waits_for_who_publishes_one(database_url: str, tmp_path: Path) -> None:
    engine = open_engine(database_url)
    migrate(engine, INSTRUMENT)
    release = load_release(issue(tmp_path, SMALL))
    # Each look is a transaction of its own: within one the server shows its activity as it first was.
    waits = text("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with ThreadPoolExecutor(1) as others:
        with turn(engine, "w", frozenset()) as db, engine.connect() as look:
            keep_release(db, release)
            taken = others.submit(keep_releases, engine, tmp_path)
            look = look.execution_options(isolation_level="AUTOCOMMIT")
            wait_until(lambda: bool(look.execute(waits).scalar()), "the other one")
        assert taken.result(30) == 0
    engine.dispose()


def test_a_version_that_the_database_did_not_confirm_stays(tmp_path: Path) -> None:
    """It may have it, and readers do."""

    @contextmanager
    def breaks(_: Release) -> Iterator[None]:
        yield
        raise ConnectionError

    with pytest.raises(ReleaseError, match=r"w/1: is out, but .* \(ConnectionError\); .* main.py migrate"):
        publish(SMALL, tmp_path, about(), LABELS, issued=DAY, served=Served(turn=breaks))
    assert [f.name for f in (tmp_path / "w").iterdir()] == ["1"] and verify(tmp_path / "w" / "1") == []


def test_another_version_needs_a_reason(tmp_path: Path) -> None:
    issue(tmp_path, SMALL)
    with pytest.raises(ReleaseError, match="version 1 is out; say why"):
        issue(tmp_path, SMALL)


@pytest.mark.parametrize("broken", ["figures_csv", "write_figures_xlsx", "dcat", "_to_disk"])
def test_whole_or_not_at_all(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, at whichever file."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publishing, broken, full)
        with pytest.raises(OSError, match="No space left"):
            issue(tmp_path, SMALL)
    assert list((tmp_path / "w").iterdir()) == []
    assert issue(tmp_path, SMALL).name == "1"


def test_two_at_once_make_no_half_version(tmp_path: Path) -> None:
    results: list[str] = []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait()
        try:
            results.append(issue(tmp_path, SMALL, reason="Again.").name)
        except ReleaseError as error:
            assert "at the same time" in str(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(results)) == len(results) >= 1
    assert versions(tmp_path, "w") == sorted(map(int, results))
    assert all(verify(tmp_path / "w" / name) == [] for name in results)


def test_a_touched_release_is_noticed(tmp_path: Path) -> None:
    folder = issue(tmp_path, SMALL)
    (folder / "estimates.csv").chmod(0o644)
    (folder / "estimates.csv").write_text("other")
    (folder / "more.txt").write_text("x")
    (folder / "dcat.jsonld").unlink()
    assert verify(folder) == [
        f"{folder}/more.txt: not part of the release",
        f"{folder}/dcat.jsonld: missing",
        f"{folder}/estimates.csv: differs from what was issued",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not found"),
        ("{", "cannot be read"),
        ("[]", "not a release of format 1"),
        ('{"format": 2}', "not a release of format 1"),
        ('{"format": 1, "wave": "w"}', "incomplete"),
    ],
)
def test_what_is_no_release(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "release.json").write_text(text)
    with pytest.raises(ReleaseError, match=message):
        load_release(tmp_path)


@pytest.mark.parametrize("wave", ["../w", "", "a/b", ".hidden"])
def test_a_wave_that_is_no_folder(wave: str, tmp_path: Path) -> None:
    made = [replace(e, wave=wave) for e in SMALL]
    with pytest.raises(ReleaseError, match="cannot name a folder"):
        issue(tmp_path, made, wave=wave)
    assert list(tmp_path.iterdir()) == []


def test_only_this_waves_figures(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="an estimate of wave other"):
        issue(tmp_path, [*table(), *table(wave="other")])
    with pytest.raises(ReleaseError, match="no estimates"):
        issue(tmp_path, [])
    with pytest.raises(ReleaseError, match="name their margins"):
        about(weighted=True)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, ""),
        (0.0, "0"),
        (1.0, "100"),
        (0.5, "50"),
        (0.496, "49.6"),
        (0.07, "7"),
        (0.001, "0.1"),
        (1e-9, "0"),
    ],
)
def test_per_cent(share: float | None, text: str) -> None:
    assert percent(share) == text


# ---------------------------------------------------------------- differencing


def released(estimates: list[Estimate], material: str = "m1", version: int = 1) -> Release:
    return Release(
        "w", version, "2026-11-23", "", "i@1", "o", "c", "l", False, (), False, 100, material, "s", Rules(),
        make(estimates, Rules(), (), material),
    )  # fmt: skip


def test_one_person_more_between_two_versions(tmp_path: Path) -> None:
    """100 people, then 104: with both tables on the desk, what did the four say?"""
    first = [estimate((), 100, 60)]
    issue(tmp_path, first)
    later = [estimate((), 104, 60)]
    with pytest.raises(ReleaseError, match="base 100 in version 1 and 105 now"):
        issue(tmp_path, later, reason="Late answers.", material="m2")
    assert versions(tmp_path, "w") == [1]
    with pytest.raises(ReleaseError, match="fewer than 30 people who all answered alike"):
        issue(tmp_path, [estimate((), 115, 74)], reason="Late answers.", material="m2")
    assert issue(tmp_path, [estimate((), 115, 66)], reason="Late answers.", material="m2").name == "2"


def test_a_version_is_laid_beside_every_earlier_one(tmp_path: Path) -> None:
    """100 people, 130, then 104: the first and the third stand beside each other on any desk."""
    issue(tmp_path, [estimate((), 100, 60)])
    issue(tmp_path, [estimate((), 130, 75)], reason="Late answers.", material="m2")
    with pytest.raises(ReleaseError, match="base 100 in version 1 and 105 now") as refused:
        issue(tmp_path, [estimate((), 104, 60)], reason="Withdrawals.", material="m3")
    assert "version 2" not in str(refused.value)
    assert versions(tmp_path, "w") == [1, 2]


@given(st.integers(30, 300), st.integers(-40, 40), st.data())
def test_versions_differ_by_nobody_or_by_many(n: int, more: int, data: st.DataObject) -> None:
    after = max(n + more, 30)
    old = estimate((), n, data.draw(st.integers(0, n)))
    new = estimate((), after, data.draw(st.integers(0, after)))
    before = released([old])
    faults = revision_faults(make([new], Rules(), [before], "m2"), "m2", before)
    if not faults:
        seen = released([new]).estimates[0]
        assert abs(after - n) >= 10 or (seen.share, seen.n) == (
            before.estimates[0].share,
            before.estimates[0].n,
        )


def test_the_same_people_weighted_otherwise() -> None:
    old = estimate((), 100, 60)
    assert revision_faults(make([replace(old, share=0.55)], Rules()), "m1", released([old])) == []


def test_hidden_once_hidden_for_good() -> None:
    """Nine answered, then ten: to show the ten would tell the nine's partner, and so the nine."""
    sex = [(("sex", "female"),), (("sex", "male"),)]
    old = released([estimate((), 60, 30), estimate(sex[0], 51, 26), estimate(sex[1], 9, 4)])
    new = [estimate((), 80, 40), estimate(sex[0], 68, 36), estimate(sex[1], 12, 4)]
    assert [e.mark for e in make(new, Rules(), [old], "m2")[1:]] == ["c", "c"]


@settings(deadline=None, max_examples=60)
@given(crossed())
def test_a_new_table_leans_on_nothing_that_is_out(counts: dict[Domain, tuple[int, int]]) -> None:
    """Version 2 adds a cross; the margins that version 1 shows cannot be hidden any more."""
    exact = [estimate(d, n, p) for d, (n, p) in counts.items()]
    try:
        first = released([e for e in exact if len(e.domain) < 2])
        second = make(exact, Rules(), [first], "m1")
    except ValueError as refused:
        assert "leave this table out" in str(refused)
        return
    shown_before = {e.domain for e in first.estimates if e.mark != "c"}
    assert not [e for e in second if e.mark == "c" and e.domain in shown_before]
    assert attack(list(second), {e.domain: e for e in exact}) == []


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (Query("w", "health", "overall"), ""),
        (Query("w", "health", "overall", ("sex", "wealth")), ""),
        (Query("w", "health", "overall", ("sex", "age", "region")), "3 dimensions; ask for two"),
        (Query("w", "health", "overall", ("sex", "sex")), "sex twice"),
        (Query("v", "health", "overall"), "wave v has no release here"),
        (Query("w", "water", "overall"), "water overall is not in the release"),
        (Query("w", "health", "health.need"), "health health.need is not in the release"),
        (Query("w", "health", "overall", ("network",)), "network is not a variable of the release"),
    ],
)
def test_what_may_be_asked(query: Query, why: str) -> None:
    assert may_serve(query, RELEASED).startswith(why)
    assert bool(may_serve(query, RELEASED)) == bool(why)


RELEASED = released(table())


def test_a_released_table_is_its_own_answer() -> None:
    answer = serve(Query("w", "health", "overall", ("sex", "region")), RELEASED, [], "m1")
    assert len(answer) == 32
    assert all(e in RELEASED.estimates for e in answer)


def test_a_query_on_another_record() -> None:
    with pytest.raises(QueryRefused, match="the record has changed since version 1"):
        serve(Query("w", "health", "overall", ("sex", "wealth")), RELEASED, [], "m2")
    with pytest.raises(QueryRefused, match="groups have changed since version 1; ask again after the next"):
        serve(Query("w", "health", "overall", ("sex", "wealth")), RELEASED, [], "m1")


@settings(deadline=None, max_examples=80)
@given(crossed())
def test_nobody_subtracts_a_query_from_a_release(counts: dict[Domain, tuple[int, int]]) -> None:
    """The release has the margins, the query adds the cross: together they give nothing away."""
    exact = [estimate(d, n, p) for d, (n, p) in counts.items()]
    try:
        first = released([e for e in exact if len(e.domain) < 2])
    except ValueError:
        return
    query = Query("w", "health", "overall", ("r", "k"))
    try:
        answer = serve(query, first, exact, "m1")
    except QueryRefused:
        return
    both = [*first.estimates, *answer]
    assert attack(both, {e.domain: e for e in exact}) == []
    truth = {e.domain: e for e in exact}
    for e in answer:
        assert e.mark == "c" or not reason(truth[e.domain].n, truth[e.domain].positive, Rules().disclosure)


#: Respondents of five regions by sex and by residence, all hidden in version 1 (8 each) and so for good, and
#: of a sixth that is not. Cells under ten are hidden: those of p and q in one column, those of s and t in the
#: other; that of r stands with s and t by sex, and with p and q by residence.
BY_SEX = {"p": (7, 23), "q": (8, 22), "r": (23, 7), "s": (22, 8), "t": (21, 9), "u": (60, 70)}
BY_RESIDENCE = {"p": (7, 23), "q": (8, 22), "r": (9, 21), "s": (22, 8), "t": (21, 9), "u": (65, 65)}
SEX, RESIDENCE = ("region", "sex"), ("region", "residence")


def five_hidden() -> tuple[Release, list[Estimate]]:
    """Version 2 beside version 1, and the exact figures of version 2 with both crosses."""
    counts: dict[Domain, int] = {(): 280}
    for variable, rows in (("sex", BY_SEX), ("residence", BY_RESIDENCE)):
        for region, cells in rows.items():
            counts[(("region", region),)] = sum(cells)
            for option, n in zip("ab", cells, strict=True):
                counts[(("region", region), (variable, option))] = n
                column: Domain = ((variable, option),)
                counts[column] = counts.get(column, 0) + n
    exact = [estimate(d, n, n // 2) for d, n in sorted(counts.items(), key=lambda at: (len(at[0]), at[0]))]
    one_way = [e for e in exact if len(e.domain) < 2]
    early = [estimate(e.domain, 8 if e.n == 30 else e.n // 2, 4) for e in one_way]
    first = released(early, "m0")
    assert sum(e.mark == "c" for e in first.estimates) == 5
    return replace(first, version=2, material="m1", estimates=make(one_way, Rules(), [first], "m1")), exact


@pytest.mark.parametrize("order", [(SEX, RESIDENCE), (RESIDENCE, SEX)])
def test_two_answers_give_no_more_away_than_one(order: tuple[tuple[str, ...], ...]) -> None:
    """By sex: p + q is known, and r + s + t. By residence: p + q + r, and s + t. So r is the difference."""
    release, exact = five_hidden()
    truth = {e.domain: e for e in exact}

    def told_by(*answers: list[Estimate]) -> list[tuple[Domain, str]]:
        public = [*release.estimates, *(e for answer in answers for e in answer)]
        return attack(public, {e.domain: truth[e.domain] for e in public})

    apart = [serve(Query("w", "health", "overall", pair), release, exact, "m1") for pair in order]
    assert told_by() == told_by(apart[0]) == told_by(apart[1]) == []
    told = told_by(*apart)
    assert ((("region", "r"),), "n") in told, "each for itself, as if the other had not been given"

    given_first = replace(release, estimates=tuple(apart[0]))
    second = serve(Query("w", "health", "overall", order[1]), release, exact, "m1", [given_first])
    assert told_by(apart[0], second) == []
    assert any(e.mark == "" for e in second)
    again = serve(Query("w", "health", "overall", order[0][::-1]), release, exact, "m1", [given_first])
    assert again == apart[0], "turned round it is the same table, and what is out stays out"


def served_with(answer: list[Estimate], beside: Release) -> Served:
    return Served((replace(beside, estimates=tuple(answer)),))


def test_the_next_version_heeds_what_was_answered(tmp_path: Path) -> None:
    """The answer was by sex; version 3, on the same interviews, has the table by residence."""
    release, exact = five_hidden()
    answer = serve(Query("w", "health", "overall", SEX), release, exact, "m1")
    known = [e for e in exact if tuple(v for v, _ in e.domain) == SEX]
    new = [e for e in exact if e not in known]
    before = [release, *served_with(answer, release).tables]
    figures = make(new, Rules(), before, "m1", known)
    assert [e.domain for e in figures] == [e.domain for e in new]
    public = [*figures, *answer]
    assert attack(public, {e.domain: e for e in exact}) == []
    alone = make(new, Rules(), [release], "m1")
    assert ((("region", "r"),), "n") in attack([*alone, *answer], {e.domain: e for e in exact})


def test_an_answer_is_not_subtracted_from_the_next_version(tmp_path: Path) -> None:
    """Four more in one cell: the table was answered by a and b, and is published by b and a."""
    one_way = [estimate((), 400, 200), *(estimate(((v, o),), 200, 100) for v in "ab" for o in "12")]
    cells = [estimate((("a", x), ("b", y)), 100, 50) for x in "12" for y in "12"]
    turned = [replace(e, domain=e.domain[::-1]) for e in cells]
    issue(tmp_path, one_way)
    first = latest(tmp_path, "w")
    assert first is not None
    query = Query("w", "health", "overall", ("a", "b"))
    served = served_with(serve(query, first, [*one_way, *cells], "m1"), first)
    later = [*one_way, replace(turned[0], n=104, positive=54), *turned[1:]]

    def again(estimates: list[Estimate], material: str, served: Served | None) -> Path:
        given = about(material=material)
        return publish(estimates, tmp_path, given, LABELS, issued=DAY, reason="More tables.", served=served)

    with pytest.raises(ReleaseError, match="b=1, a=1: base 100 in version 1 and 105 now"):
        again(later, "m2", served)
    assert versions(tmp_path, "w") == [1]

    def late(_: Release) -> AbstractContextManager[None]:
        raise ComeBetween("wave w: a query was answered meanwhile")

    with pytest.raises(ReleaseError, match="answered meanwhile; make the release again"):
        again([*one_way, *turned], "m1", replace(served, turn=late))
    assert [f.name for f in (tmp_path / "w").iterdir()] == ["1"]
    assert again([*one_way, *turned], "m1", served).name == "2"
    second = latest(tmp_path, "w")
    assert second is not None

    more = [estimate(e.domain, e.n + 40, e.positive + 20) for e in one_way]
    third = replace(second, version=3, material="m3", estimates=make(more, Rules()))
    with pytest.raises(QueryRefused, match="is out from other interviews"):
        serve(query, third, [*more, *later], "m3", [second])


def test_a_mean_that_was_answered_tells_no_attribute() -> None:
    """The fifth is hidden in one cell. So is the mean; and where the mean is out, the fifth is refused."""
    items = [f"health.i{n}" for n in range(5)]
    domains = [(), *(((v, o),) for v in "ab" for o in "12")]
    cells = [(("a", x), ("b", y)) for x in "12" for y in "12"]

    def exact(least: int) -> list[Estimate]:
        found = []
        for item in items:
            small = {cells[0]: least} if item == items[4] else {}
            sizes = dict.fromkeys(domains, 160) | {(): 320} | dict.fromkeys(cells, 80) | small
            found += [estimate(d, n, n // 2, item) for d, n in sizes.items()]
        return found + [estimate(d, 160, 0, "attributes") for d in [*domains, *cells]]

    release = released([e for e in exact(80) if len(e.domain) < 2])
    mean = serve(Query("w", "health", "attributes", ("a", "b")), release, exact(9), "m1")
    assert {e.mark for e in mean} == {"c"}  # two by two: the partners are all there is
    shown = serve(Query("w", "health", "attributes", ("a", "b")), release, exact(80), "m1")
    assert {e.mark for e in shown} == {""}
    out = [replace(release, estimates=tuple(shown))]
    with pytest.raises(QueryRefused, match="out already would tell what this table has to hide"):
        serve(Query("w", "health", items[4], ("a", "b")), release, exact(9), "m1", out)
    faults = mean_faults(make(exact(9), Rules(), [release, *out], "m1"), "m1", [release, *out])
    assert faults and "health health.i4, a=1, b=1: has to be hidden" in faults[0]
