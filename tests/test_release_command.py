"""`main.py release`: from a database to a folder and back, and every bad input's message."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typer.testing import CliRunner

from flows.instrument import Fault
from gateway.commands.release import commands as release_commands
from gateway.pages.words import words_of
from gateway.published import Published
from gateway.results import ResultsPages, results_routes
from gateway.settings import Settings
from storage.analysis.domains import OfficeFileError, Wealth
from storage.analysis.making import draft, draw_of, make_release
from storage.analysis.material import material_before, material_of
from storage.analysis.plan import ReleasePlan, load_plan
from storage.analysis.publishing import verify
from storage.analysis.quality import quality
from storage.analysis.release import FILE, ReleaseError, all_versions, as_json, load_release
from storage.analysis.released import check_kept, tables_of
from storage.analysis.table import table_16_6_2
from storage.database import open_engine, reading, writing
from storage.models import Campaign, Interview, ReleasedVersion, SampleNumber, table_of
from tests.estimation_material import put
from tests.results_material import OFFICE, ROOT, instrument, margins_file, people
from tests.stores import give_schema

WAVE = "pilot-2026"  # of deploy/wave.toml


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a wave's interviews, never written to by a test."""
    folder = tmp_path_factory.mktemp("filled")
    engine = open_engine(f"sqlite:///{folder / 'dial16.sqlite3'}")
    give_schema(engine, instrument())
    put(engine, instrument(), people(1500, seed=3), wave=WAVE)
    engine.dispose()
    margins_file(folder)
    return folder


@pytest.fixture
def data(filled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    folder = tmp_path / "data"
    shutil.copytree(filled, folder)
    return folder


def run(data: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`main.py release ...` in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DIAL16_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "release", *words],
        cwd=data,
        env={**environment, "DIAL16_DATA_DIR": str(data), "COLUMNS": "200", **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )


def left(data: Path) -> list[str]:
    """What there is of releases, hidden folders too."""
    return sorted(str(p.relative_to(data)) for p in (data / "releases").rglob("*"))


# ---------------------------------------------------------------- the way of a release


def test_from_a_dry_run_to_a_second_version(data: Path) -> None:
    (data / "release.toml").write_text('crosses = [["region", "sex"]]\n[weights]\nfewest = 20\n')
    own = {"DIAL16_RELEASE_FILE": str(data / "release.toml")}
    tried = run(data, "make", "--dry-run", "--margins", "margins.csv", **own)
    assert tried.returncode == 0, tried.stderr
    assert "Wave pilot-2026, 2026: 1,500 respondents of 1,500 interviews" in tried.stdout
    assert re.search(r"Raked \(\w+\): \d+ sweeps", tried.stdout)
    assert "table region: gh_ne (" in tried.stdout and "joined gh_np" in tried.stdout
    assert "fewer respondents than may be shown" in tried.stdout
    assert re.search(r"[\d,]+ more; name them with --all", tried.stdout)
    assert re.search(r"how people answered: 96 shares, \d+ hidden", tried.stdout)
    assert "Nothing was written." in tried.stdout
    assert not (data / "releases").exists()
    assert "reading interviews" in tried.stderr  # the bars leave standard output alone

    made = run(data, "make", "--margins", "margins.csv")
    folder = data / "releases" / WAVE / "1"
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1] == str(folder)
    release = load_release(folder)
    assert (release.weighted, release.interviews, release.simulated) == (True, 1500, 0)
    assert release.margins[0].source.startswith("Made-up totals") and release.software.startswith(
        "Dial 16 0.1.0"
    )
    assert len(release.material) == 64
    adapted = (ROOT / "flows" / instrument().id / "README.md").read_bytes()
    assert (folder / "deviations.md").read_bytes() == adapted
    words = words_of("fr")
    assert [file.name for file in folder.iterdir() if not words.file(file.name)] == []
    pages = ResultsPages(Published(data / "releases"), instrument())
    for page, _ in (pages.results(WAVE, 1, "", "fr"), pages.open_data(WAVE, 1, "fr")):
        assert f'href="/results/{WAVE}/1/deviations.md"' in page
        assert f'href="/results/{WAVE}/1/quality.fr.html"' in page
    report = TestClient(Starlette(routes=results_routes(pages))).get(f"/results/{WAVE}/1/quality.fr.html")
    assert "content-disposition" not in report.headers and "<script" not in report.text
    assert (
        report.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    )
    crossed = {tuple(v for v, _ in e.domain) for e in release.estimates if len(e.domain) == 2}
    assert crossed == {("region", "sex"), ("sex", "age"), ("sex", "residence")}  # of deploy/release.toml

    silent = run(data, "make", "--margins", "margins.csv")
    assert silent.returncode == 1 and "say why there is to be another one, with --reason" in silent.stderr
    assert len(all_versions(data / "releases", WAVE)) == 1
    engine = open_engine(f"sqlite:///{data / 'dial16.sqlite3'}")
    was = material_before(engine, instrument(), WAVE)  # as earlier software had named the same interviews
    engine.dispose()
    (folder / FILE).chmod(0o644)
    (folder / FILE).write_text(as_json(replace(release, material=was)), "utf-8")
    other = data / "releases" / "other"  # a wave with an older version that cannot be read
    shutil.copytree(folder, other / "2")
    (other / "1").mkdir()
    (other / "1" / "release.json").write_text("{")
    again = run(data, "make", "--cross", "region,residence", "--reason", "Another cross.")
    assert again.returncode == 0, again.stderr
    other.rename(data / "other")
    second = load_release(data / "releases" / WAVE / "2")
    assert not second.weighted and second.material == release.material != was
    (folder / FILE).write_text(as_json(release), "utf-8")
    assert "unweighted" in again.stdout

    listed = run(data, "list").stdout.splitlines()
    assert [line for line in listed if "Another cross." in line and "none" in line]
    assert [line for line in listed if "First version." in line and "raked" in line]
    assert run(data, "verify").stdout.count(": as issued") == 2
    shown = run(data, "show", "--by", "sex", "--version", "1")
    assert "Female" in shown.stdout and "modelled as if" in shown.stdout
    assert "no figures of overall by religion" in run(data, "show", "--by", "religion").stderr

    engine = open_engine(f"sqlite:///{data / 'dial16.sqlite3'}")  # what SQL and the API read
    with reading(engine) as db:
        kept = db.execute(select(table_of(ReleasedVersion).c.version).order_by("version")).scalars().all()
    assert list(kept) == [1, 2]
    count = text("SELECT COUNT(*) FROM final_weight WHERE version = 1")
    with writing(engine) as db:  # as if it had ended before they were written
        assert db.execute(count).scalar() == 1500
        for table in ("final_weight", "released_estimate", "release"):
            db.execute(text(f"DELETE FROM {table}"))
    (data / "other").rename(other)

    def here(*words: str) -> str:
        """The same in this process, for it takes less."""
        app = release_commands(lambda *needs, **_: Settings.from_environment({"DIAL16_DATA_DIR": str(data)}))
        result = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    margins = ("--margins", str(data / "margins.csv"))
    assert "version 1: 1,500 final weights kept." in here("weights", "--version", "1", *margins)
    with reading(engine) as db:
        assert db.execute(count).scalar() == 1500
        kept = (
            db.execute(select(table_of(ReleasedVersion).c.version).where(text(f"wave = '{WAVE}'")))
            .scalars()
            .all()
        )
    assert sorted(kept) == [1, 2]
    checked = here("replicates", "--groups", "20", *margins)
    assert re.search(r"health +. overall +. 0\.\d{4} . 0\.\d{4} . 0\.\d{4} +. \d\.\d\d", checked), checked
    assert "leaves out 20 groups" in checked and "raking replicates (health)" in checked
    engine.dispose()


def test_a_file_that_changed_is_found(data: Path) -> None:
    assert run(data, "make").returncode == 0
    file = data / "releases" / WAVE / "1" / "estimates.csv"
    file.chmod(0o644)
    file.write_text(file.read_text().replace("health", "wealth", 1))
    checked = run(data, "verify", WAVE, "1")
    assert checked.returncode == 1
    assert checked.stdout.strip() == f"{file}: differs from what was issued"


# ---------------------------------------------------------------- bad input


MARGINS = "table,source,date,variables,category,total,joins\n"


@pytest.mark.parametrize(
    ("words", "files", "said"),
    [
        (["--wave", "none"], {}, "wave 'none': has no interview and no wave file; there are: pilot-2026"),
        (["--margins", "m.csv"], {}, "m.csv: -: cannot be read"),
        (["--margins", "m.csv"], {"m.csv": "a,b\n"}, "m.csv: row 1: must be the heading: table,source"),
        (
            ["--margins", "m.csv"],
            {"m.csv": MARGINS + "sex,x,2021-01-01,sex,male,10,\nsex,x,2021-01-01,sex,femal,10,\n"},
            "m.csv: row 3: category 'femal' is unknown; known: male|female",
        ),
        (
            ["--margins", "m.csv"],
            {
                "m.csv": MARGINS
                + "sex,x,2021-01-01,sex,male,10,\nsex,x,2021-01-01,sex,female,10,\n"
                + "place,x,2021-01-01,residence,urban,10,\nplace,x,2021-01-01,residence,rural,11,\n"
            },
            "m.csv: table place: adds up to 21 and table sex to 20, a difference of +1",
        ),
        (
            ["--cross", "sex,religion"],
            {},
            "cross 'sex by religion': name two different variables out of sex, age",
        ),
        (["--cross", "sex"], {}, "cross 'sex': name two"),
        (["--wealth", "w.toml"], {"w.toml": "cuts = 1"}, "w.toml: source: missing"),
    ],
)
def test_bad_input_names_file_row_and_fix_and_writes_nothing(
    data: Path, words: list[str], files: dict[str, str], said: str
) -> None:
    for name, content in files.items():
        (data / name).write_text(content)
    ran = run(data, "make", *words)
    assert ran.returncode != 0
    assert said in " ".join(ran.stderr.replace("│", " ").split())
    assert "Traceback" not in ran.stderr
    assert left(data) == []


@pytest.mark.parametrize(
    ("structure", "said"),
    [("", "holds none of GSS_DSD.xml, IAEG-SDGs_SDG.xml"), ("<no>", "IAEG-SDGs_SDG.xml: ")],
)
def test_a_structure_file_that_is_none_is_refused_and_nothing_is_written(
    data: Path, structure: str, said: str
) -> None:
    folder = data / "sdmx"
    folder.mkdir()
    if structure:
        (folder / "IAEG-SDGs_SDG.xml").write_text(structure)
    for words in (["make", "--dry-run"], ["make"]):
        ran = run(data, *words, DIAL16_SDMX_DIR=str(folder))
        assert ran.returncode == 1 and said in ran.stderr
        assert "Traceback" not in ran.stderr
    assert [name for name in left(data) if name.count("/") > 1] == []


def test_what_nobody_dialled_for_is_not_published_by_mistake(data: Path) -> None:
    engine = open_engine(f"sqlite:///{data / 'dial16.sqlite3'}")
    c = table_of(Interview).c
    with writing(engine) as db:
        db.execute(update(table_of(Interview)).where(c.id < f"{40:016x}").values(aggregator="simulator"))
    engine.dispose()
    ran = run(data, "make")
    assert ran.returncode == 0, ran.stderr  # a dial from the handset page neither enters nor bars it
    release = load_release(data / "releases" / WAVE / "1")
    assert (release.interviews, release.simulated) == (1460, 0) and "Demonstration" not in release.caution
    engine = open_engine(f"sqlite:///{data / 'dial16.sqlite3'}")
    with writing(engine) as db:
        db.execute(update(table_of(Interview)).values(aggregator="simulator"))
    shutil.rmtree(data / "releases")
    ran = run(data, "make", "--simulated")
    assert ran.returncode == 1 and f"{WAVE}/1: the database has this version" in ran.stderr
    assert left(data) == []
    with writing(engine) as db:
        db.execute(text("DELETE FROM released_estimate"))
        db.execute(text("DELETE FROM release"))
    with pytest.raises(ReleaseError, match="made-up interviews only count with --simulated"):
        draft(engine, instrument(), WAVE, data / "releases", ReleasePlan())
    ran = run(data, "make", "--simulated", "--margins", "margins.csv")
    assert ran.returncode == 0 and "A demonstration: no final weights are kept" in ran.stdout
    release = load_release(data / "releases" / WAVE / "1")
    assert release.simulated == 1500 and release.caution.startswith("Demonstration: made-up answers.")
    with reading(engine) as db:
        assert db.execute(text("SELECT COUNT(*) FROM final_weight")).scalar() == 0
    engine.dispose()


def test_nothing_out_yet(tmp_path: Path) -> None:
    assert "No release in" in run(tmp_path, "list").stdout
    assert run(tmp_path, "verify").returncode == 1
    assert "has no release" in run(tmp_path, "show").stderr


# ---------------------------------------------------------------- the office's file


def test_the_file_as_delivered_has_the_published_thresholds() -> None:
    plan = load_plan(ROOT / "deploy" / "release.toml", instrument())
    assert plan.rules == ReleasePlan().rules
    assert plan.margins is None and not plan.probability_sample


def test_the_file_names_the_other_files_beside_it(tmp_path: Path) -> None:
    margins_file(tmp_path)
    path = tmp_path / "release.toml"
    path.write_text('margins = "margins.csv"\n[weights]\nleast = 0.2\nmost = 4\n[disclosure]\nleast = 12\n')
    plan = load_plan(path, instrument())
    assert plan.margins is not None and [t.name for t in plan.margins.tables] == [
        "region",
        "sex by residence",
    ]
    assert plan.limits is not None and (plan.limits.least, plan.limits.most) == (0.2, 4.0)
    assert plan.rules.disclosure.least == 12


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cross = []", ("cross", "unknown; known: margins, wealth, crosses")),
        ("crosses = 3", ("crosses", "write [[")),
        ('crosses = [["sex", "sex"]]', ("crosses", "two different variables")),
        ('crosses = [["sex", "age"], ["age", "sex"]]', ("crosses", "stand twice")),
        ("disclosure = 3", ("disclosure", "must be a table")),
        ("[disclosure]\nleast = 2", ("disclosure", "give least >= 3")),
        ("[disclosure]\nleast = 10.5", ("disclosure.least", "whole number")),
        ("[disclosure]\nleats = 10", ("disclosure.leats", "unknown; known: least, group")),
        ("[display]\nwide = true", ("display.wide", "must be a number")),
        ("[weights]\nmost = 3", ("weights", "give least and most")),
        ("[weights]\nleast = 2\nmost = 3", ("weights", "one below 1 and one above")),
        ("[weights]\nfewest = inf", ("weights.fewest", "must be a whole number")),
        ("[weights]\nfewest = 2.9", ("weights.fewest", "must be a whole number")),
        ("[weights]\nleast = nan\nmost = 3", ("weights.least", "must be a number")),
        ("[weights]\nleast = 0.3\nmost = inf", ("weights.most", "must be a number")),
        ("[display]\nn_eff = nan", ("display.n_eff", "must be a number")),
        (f"[display]\nn_eff = 1{'0' * 400}", ("display.n_eff", "must be a number")),
        ("[display]\nn_eff = -1", ("display", "give n_eff, df and fine_n_eff of 0 or more")),
        ("[display]\ndf = -3", ("display", "give n_eff, df and fine_n_eff of 0 or more")),
        ("[weights]\nfewest = 0", ("weights.fewest", "1 or more")),
        ('probability_sample = "no"', ("probability_sample", "true or false")),
        ("margins = 3", ("margins", "name of a file")),
        ("=", ("-", "cannot be read")),
    ],
)
def test_every_fault_of_the_file_is_named(tmp_path: Path, text: str, fault: tuple[str, str]) -> None:
    path = tmp_path / "release.toml"
    path.write_text(text)
    with pytest.raises(OfficeFileError) as refused:
        load_plan(path, instrument())
    (found,) = refused.value.faults
    assert isinstance(found, Fault)
    assert str(found).startswith(f"{path}: {fault[0]}: ")
    assert fault[1] in str(found)


# ---------------------------------------------------------------- interviews that a release rests on


def test_the_digest_of_interviews_follows_answers_and_people(database_url: str) -> None:
    engine = open_engine(database_url)
    give_schema(engine, instrument())
    put(engine, instrument(), people(30, seed=1), wave=WAVE)
    before = material_of(engine, instrument(), WAVE)
    assert material_of(engine, instrument(), WAVE) == before
    put(engine, instrument(), people(1, seed=2), wave="another", first=500)
    assert material_of(engine, instrument(), WAVE) == before
    c = table_of(Interview).c
    for n, chance in enumerate((1.0, 0.5)):  # who says no, and who only saw the first screen
        no_one = [{"opening.consent": "no"}, {}]
        put(engine, instrument(), no_one, wave=WAVE, first=600 + 2 * n, probability=chance)
    with writing(engine) as db:  # one dials again to see the results: a new version of the row
        db.execute(update(table_of(Interview)).where(c.id == f"{3:016x}").values(version=2))
    assert material_of(engine, instrument(), WAVE) == before
    with writing(engine) as db:
        marks = db.execute(select(c.marks).where(c.id == f"{3:016x}")).scalar_one()
        other = marks.replace("1", "2", 1)
        db.execute(update(table_of(Interview)).where(c.id == f"{3:016x}").values(marks=other))
    changed = material_of(engine, instrument(), WAVE)
    assert changed != before
    with writing(engine) as db:
        db.execute(update(table_of(Interview)).where(c.id == f"{3:016x}").values(disposition="withdrawn"))
    last = material_of(engine, instrument(), WAVE)
    assert last not in (before, changed)
    score = Wealth("made up", date(2026, 1, 1), {"household.fridge": {"yes": 1.0, "no": 0.0}}, (1, 2, 3, 4))
    fifths = {material_of(engine, instrument(), WAVE, s) for s in (score, replace(score, cuts=(1, 2, 3, 5)))}
    assert len(fifths | {last}) == 3  # moved cuts move people between the fifths
    some = {f"{n:032x}": ("", 1.0) for n in range(30)}
    assert material_of(engine, instrument(), WAVE, None, some) == last
    some.popitem()
    assert material_of(engine, instrument(), WAVE, None, some) != last
    engine.dispose()


def test_a_drawn_wave_is_weighted_with_its_sample(database_url: str, tmp_path: Path) -> None:
    """600 answered, of whom the first 400 are the sample that was released, 300 of them written to and 100
    left alone: every second one drawn as 1 in 100, the others 1 in 25."""
    engine = open_engine(database_url)
    give_schema(engine, instrument())
    who = put(engine, instrument(), people(600, seed=5), wave=WAVE)
    plan = ReleasePlan(probability_sample=True)
    with pytest.raises(ReleaseError, match=f"wave {WAVE}: probability_sample = true, but .* load the sample"):
        draft(engine, instrument(), WAVE, tmp_path, plan)
    campaign = {
        "id": "c", "wave": WAVE, "state": "running", "aggregator": "africastalking",
        "created_at": datetime.now(UTC), "state_at": datetime.now(UTC),
    }  # fmt: skip
    drawn = [
        {"id": p, "wave": WAVE, "respondent": p, "campaign": "c", "replicate": 1, "source": "csv",
         "probability": [0.01, 0.04][n % 2], "stratum": ["north", None][n % 2],
         "loaded_at": datetime.now(UTC), "released_at": None, "excluded": None}
        for n, p in enumerate(who)
    ]  # fmt: skip
    for n, number in enumerate(drawn):
        if n < 300:
            number["released_at"] = datetime.now(UTC)
        elif n < 400:  # left alone: dialled in before anybody wrote to them
            number["excluded"] = "complete"
        else:  # their turn never came
            number["replicate"] = 2
    with writing(engine) as db:
        db.execute(insert(table_of(Campaign)), [campaign])
        db.execute(insert(table_of(SampleNumber)), drawn)
    draw = draw_of(engine, WAVE)
    assert draw is not None and len(draw) == 400
    assert draw[who[0]] == ("north", 100) and draw[who[1]] == ("", 25)
    made = draft(engine, instrument(), WAVE, tmp_path, plan)
    assert made.table.basis.respondents == 400
    given = {(e.service, e.measure): e.share for e in made.table.estimates if not e.domain}
    [health] = [
        f.share for f in table_16_6_2(engine, instrument(), WAVE, draw=draw).estimates
        if (f.service, f.measure, f.domain) == ("health", "overall", ())
    ]  # fmt: skip
    flat = draft(engine, instrument(), WAVE, tmp_path, ReleasePlan())
    assert flat.table.basis.respondents == 600 and flat.draw is None and flat.material != made.material
    assert given["health", "overall"] == health
    folder = make_release(made, instrument(), tmp_path, plan, OFFICE, issued=date(2026, 11, 20))
    release = load_release(folder)
    assert (
        release.design_weighted
        and release.caution == "Weighted by the sample's design only, not to the population."
    )
    assert [(a.option, a.figure.mark) for a in release.answers] == [
        (a.option, a.figure.mark) for a in made.answers
    ]
    report = quality(
        engine, instrument(), WAVE, made=date(2026, 11, 20), draw=made.draw, probability_sample=True
    ).quality
    assert report.design_weighted and not report.weighted
    assert {(p.every.service, p.every.measure): p.every.share for p in report.figures} == given
    engine.dispose()


def test_on_both_engines_a_draft_becomes_a_whole_release(database_url: str, tmp_path: Path) -> None:
    engine = open_engine(database_url)
    give_schema(engine, instrument())
    put(engine, instrument(), people(700, seed=5), wave=WAVE)
    out, steps = tmp_path / "releases", []
    made = draft(
        engine, instrument(), WAVE, out, ReleasePlan(), told=lambda what, done, total: steps.append(what)
    )
    assert {"reading interviews", "computing", "applying the rules"} <= set(steps)
    assert made.hidden and all(e.notes for e in made.hidden)
    elsewhere = tmp_path / "elsewhere"
    late = draft(engine, instrument(), WAVE, elsewhere, ReleasePlan())
    with writing(engine) as db:
        db.execute(text("ALTER TABLE released_estimate RENAME TO away"))
    with pytest.raises(DBAPIError, match="released_estimate"):  # which refuses the figures
        make_release(made, instrument(), out, ReleasePlan(), OFFICE, issued=date(2026, 11, 20))
    assert list((out / WAVE).iterdir()) == []
    with writing(engine) as db:
        db.execute(text("ALTER TABLE away RENAME TO released_estimate"))
    folder = make_release(made, instrument(), out, ReleasePlan(), OFFICE, issued=date(2026, 11, 20))
    assert verify(folder) == []
    with reading(engine) as db:
        check_kept(db, out, WAVE)
        assert tables_of(db, WAVE)[0] == 1
    with pytest.raises(ReleaseError, match=f"{WAVE}/1: the database has this version"):
        make_release(late, instrument(), elsewhere, ReleasePlan(), OFFICE, issued=date(2026, 11, 20))
    assert list((elsewhere / WAVE).iterdir()) == []
    release = load_release(folder)
    assert [(e.mark, e.domain) for e in release.estimates] == [(e.mark, e.domain) for e in made.marked]
    assert all(e.share is None for e in release.estimates if e.mark in ("c", "u"))
    with pytest.raises(ReleaseError, match="say why"):
        make_release(made, instrument(), out, ReleasePlan(), OFFICE, issued=datetime.now(UTC).date())
    engine.dispose()
