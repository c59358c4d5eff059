"""Figures before their release: asked on the page, answered by a worker, kept in the book of questions."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rq.job import JobStatus
from sqlalchemy import Engine, delete, select, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from typer.testing import CliRunner

from gateway import jobs, staff_results
from gateway.commands.release import commands as release_commands
from gateway.pages.words import LANGUAGES, words_of
from gateway.published import Published
from gateway.results import ResultsPages
from gateway.settings import Settings
from gateway.staff_results import PATH, StaffResults, staff_results_routes
from storage.analysis import queries, table
from storage.analysis.disclosure import ALIKE, BEFORE, FEW_CHOSE, PARTNER, SMALL
from storage.analysis.display import FEW, NO_BASE, PART, RELATIVE, WIDE
from storage.analysis.labels import labels_of
from storage.analysis.making import draft, make_release
from storage.analysis.plan import load_plan
from storage.analysis.release import ReleaseError
from storage.analysis.released import keep_releases
from storage.analysis.served import served_ids
from storage.database import open_engine, writing
from storage.models import Interview, QueryLog, table_of
from tests.estimation_material import put
from tests.results_material import OFFICE, instrument, people, publish_waves
from tests.test_pages import MOST_OCTETS

TOKEN = "a token of the tests"
BY = "Ama Mensah"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wave with a release (unweighted), and one that has none yet."""
    made = tmp_path_factory.mktemp("staff")
    publish_waves(made, (1200,))
    engine = open_engine(f"sqlite:///{made / 'dial16.sqlite3'}")
    put(engine, instrument(), people(600, seed=9), wave="next", first=900_000)
    engine.dispose()
    (made / "release.toml").write_text('crosses = [["region", "sex"]]\n[weights]\nfewest = 5\n')
    return made


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    opened = open_engine(f"sqlite:///{folder / 'dial16.sqlite3'}")
    yield opened
    opened.dispose()


def answer(engine: Engine, folder: Path, id: str) -> None:
    queries.answer(engine, instrument(), folder / "releases", id, folder / "release.toml", "Office")


def client_of(folder: Path, engine: Engine, asked: list[str]) -> TestClient:
    def door(request: Request) -> Response | None:
        return (
            None if request.headers.get("authorization") == f"Bearer {TOKEN}" else Response(status_code=401)
        )

    published = Published(folder / "releases")
    staff = StaffResults(
        engine, instrument(), ["next"], published, ResultsPages(published, instrument()), asked.append
    )
    client = TestClient(Starlette(routes=staff_results_routes(staff, door)))
    client.headers["authorization"] = f"Bearer {TOKEN}"
    return client


def test_the_draft_of_a_wave_with_the_reason_of_everything_hidden(folder: Path, engine: Engine) -> None:
    asked: list[str] = []
    client = client_of(folder, engine, asked)
    page = client.post(PATH, data={"kind": "draft", "wave": "next", "by": BY})
    assert "Being computed" in page.text and 'http-equiv="refresh"' in page.text
    answer(engine, folder, asked[0])
    page = client.get(f"{PATH}/{asked[0]}?service=primary")
    assert "Not published. For staff" in page.text and "600 people answered" in page.text
    assert "Primary education</h2>" in page.text and f'href="{PATH}/{asked[0]}?service=health' in page.text
    assert page.headers["cache-control"] == "no-store"
    release, why, faults = queries.read_draft(str(found(engine, asked[0]).answer))
    assert faults == [] and "would not be published" not in page.text
    hidden = {(e.service, e.measure, e.domain) for e in release.estimates if e.mark in ("c", "u")}
    assert hidden == {(s, m, d) for s, m, d, *_ in why if len(d) < 2}
    section = page.text[page.text.index('<section aria-labelledby="hidden">') :]
    told = re.findall(r'<th scope="row">([^<]+)</th><td>([cu])</td><td>([\d,]+)</td>', section)
    part = "one of the five attributes is hidden"
    assert {(reason, mark): int(n.replace(",", "")) for reason, mark, n in told} == Counter(
        (part if reason.endswith(" is hidden") else reason, mark) for *_, mark, reason in why
    )
    assert all(e.share is None and e.positive == 0 for e in release.estimates if e.mark in ("c", "u"))
    assert len(release.answers) == 96 and all(a.figure.n % 5 == 0 for a in release.answers)
    assert "estimates.xlsx" not in page.text  # nothing to download
    ids = re.findall(r' id="([^"]+)"', page.text)
    assert len(ids) == len(set(ids))


def test_hundreds_of_hidden_figures_are_a_page_of_their_own(folder: Path, engine: Engine) -> None:
    """Every one is on it, in both languages; neither it nor the draft is long before it is squeezed."""
    id = queries.ask(engine, "draft", "next", BY)
    answer(engine, folder, id)
    _, why, _ = queries.read_draft(found(engine, id).answer)
    assert len(why) > 800
    client = client_of(folder, engine, [])
    for code in LANGUAGES:
        labels = labels_of(instrument(), code)
        for path in ("", "/hidden"):
            page = client.get(f"{PATH}/{id}{path}?lang={code}")
            assert len(page.content) < MOST_OCTETS and f'<html lang="{code}">' in page.text
            assert page.headers["content-encoding"] == "gzip"
        listed = [
            who
            for count, names in re.findall(r", (\d+)\)</dt><dd>(.*?)</dd>", page.text)
            if len(names.split("; ")) == int(count)
            for who in names.split("; ")
        ]
        assert Counter(listed) == Counter(labels.domain(domain) for _, _, domain, *_ in why)
    assert "moins de répondants" in page.text and "fewer" not in page.text and " is " not in page.text
    assert client.get(f"{PATH}/{'0' * 32}/hidden").status_code == 404


def test_every_reason_to_hide_has_its_french() -> None:
    reasons = (SMALL, ALIKE, PARTNER, BEFORE, FEW_CHOSE, NO_BASE, FEW, WIDE, RELATIVE, PART)
    states = (queries.WAITING, queries.RUNNING, queries.DONE, queries.REFUSED, queries.FAILED)
    known = words_of("fr").says
    assert [text for text in (*reasons, *states) if text not in known] == []
    source = Path(staff_results.__file__).read_text("utf-8")
    assert [s for s in re.findall(r'return "", "([^"]+)"', source) if s not in known] == []


def test_only_variables_of_the_release_are_offered(folder: Path, engine: Engine) -> None:
    """The release has no wealth score; so in French."""
    asked: list[str] = []
    client = client_of(folder, engine, asked)
    page = client.get(PATH, headers={"Accept-Language": "fr"}).text
    menu = page[page.index('<select name="first">') :].split("</select>")[0]
    names = ["–", "Sexe", "Âge", "Région", "Milieu de résidence", "Handicap"]
    assert re.findall(r"<option[^>]*>([^<]+)", menu) == names and "Calculer le tableau" in page
    form = {"kind": "query", "wave": "pilot-2024", "measure": "health/overall", "by": BY, "first": "wealth"}
    refused = client.post(f"{PATH}?lang=fr", data=form)
    assert refused.status_code == 400 and asked == []
    assert "Choisissez deux variables différentes que la publication" in refused.text


def found(engine: Engine, id: str) -> queries.Asked:
    question = queries.find(engine, id)
    assert question is not None
    return question


def test_a_table_beside_a_release_and_its_line_in_the_book(folder: Path, engine: Engine) -> None:
    asked: list[str] = []
    client = client_of(folder, engine, asked)
    form = {"kind": "query", "wave": "pilot-2024", "measure": "health/overall", "first": "sex", "by": BY}
    client.post(PATH, data={**form, "second": "residence"})
    answer(engine, folder, asked[0])
    page = client.get(f"{PATH}/{asked[0]}").text
    figures, caution, version = queries.read_figures(found(engine, asked[0]).answer)
    assert [tuple(v for v, _ in e.domain) for e in figures] == [("sex", "residence")] * 4
    assert len(re.findall(r'<tr><th scope="row">', page)) == 4
    assert "Female, Town or city" in page and "modelled as if" in page and version == 1
    assert "describe those who answered" in page and caution.startswith("Unweighted")
    book = client.get(PATH).text
    assert BY in book and "Health care, overall satisfaction by Sex and Residence" in book
    with engine.connect() as db:
        c = table_of(QueryLog).c
        row = db.execute(select(c.shown, c.hidden, c.state).where(c.id == asked[0])).one()
    assert (row.shown + row.hidden, row.state) == (4, "done")


def test_what_the_release_has_is_answered_from_it(folder: Path, engine: Engine) -> None:
    from storage.analysis.release import latest

    id = queries.ask(
        engine, "query", "pilot-2024", BY, service="health", measure="overall", variables=("sex",)
    )
    answer(engine, folder, id)
    release = latest(folder / "releases", "pilot-2024")
    assert release is not None
    figures, _, _ = queries.read_figures(found(engine, id).answer)
    assert figures == [
        e
        for e in release.estimates
        if (e.service, e.measure) == ("health", "overall") and [v for v, _ in e.domain] == ["sex"]
    ]


@pytest.mark.parametrize(
    ("wave", "variables", "said"),
    [
        ("next", ("sex",), "has no release to protect a table with"),
        ("pilot-2024", ("sex", "age", "region"), "3 dimensions; ask for two at most"),
        ("pilot-2024", ("wealth",), "wealth is not a variable of the release"),
    ],
)
def test_refusals_say_what_to_ask_instead(
    folder: Path, engine: Engine, wave: str, variables: tuple[str, ...], said: str
) -> None:
    id = queries.ask(engine, "query", wave, BY, service="health", measure="overall", variables=variables)
    answer(engine, folder, id)
    question = found(engine, id)
    assert question.state == "refused" and said in question.said and not question.answer
    assert said in client_of(folder, engine, []).get(f"{PATH}/{id}").text


def test_a_record_that_moved_on_refuses_new_tables(tmp_path: Path) -> None:
    publish_waves(tmp_path, (700,))
    (tmp_path / "release.toml").write_text("")
    engine = open_engine(f"sqlite:///{tmp_path / 'dial16.sqlite3'}")
    with writing(engine) as db:
        c = table_of(Interview).c
        db.execute(update(table_of(Interview)).where(c.id == f"{5:016x}").values(disposition="withdrawn"))
    id = queries.ask(
        engine, "query", "pilot-2024", BY, service="health", measure="overall", variables=("sex", "age")
    )
    answer(engine, tmp_path, id)
    assert "the record has changed since version 1" in found(engine, id).said
    engine.dispose()


def test_a_file_of_the_office_that_is_wrong_is_told_to_staff(
    folder: Path, engine: Engine, tmp_path: Path
) -> None:
    bad = tmp_path / "release.toml"
    bad.write_text("least = 3")
    id = queries.ask(engine, "draft", "next", BY)
    queries.answer(engine, instrument(), folder / "releases", id, bad, "Office")
    question = found(engine, id)
    assert question.state == "failed" and question.said.startswith("release.toml: least: unknown")
    far = tmp_path.parent / "another" / "margins.csv"  # readers over the API are told no folder
    bad.write_text(f'margins = "{far}"')
    id = ask_table(engine, "health")
    queries.answer(engine, instrument(), folder / "releases", id, bad, "Office")
    said = found(engine, id).said
    assert said.startswith("margins.csv: -: cannot be read: ") and "/" not in said


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (True, "pilot-2024/1/release.json: cannot be read: "),
        (False, "pilot-2024/1: the database has this version, of "),
    ],
)
def test_a_folder_of_releases_that_is_broken_or_gone_is_to_be_restored(
    folder: Path, engine: Engine, tmp_path: Path, broken: bool, said: str
) -> None:
    keep_releases(engine, folder / "releases")
    if broken:
        (tmp_path / "pilot-2024" / "1").mkdir(parents=True)
        (tmp_path / "pilot-2024" / "1" / "release.json").write_text("{")
    id = ask_table(engine, "health")
    queries.answer(engine, instrument(), tmp_path, id, folder / "release.toml", "Office")
    question = found(engine, id)
    assert question.state == "refused" and question.said.startswith(said) and "restore" in question.said


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"kind": "draft", "wave": "next", "by": ""}, "Give your name"),
        ({"kind": "draft", "wave": "nowhere", "by": BY}, "Choose one of the waves"),
        ({"kind": "query", "wave": "next", "by": BY, "measure": "health/none"}, "Choose one of the measures"),
        (
            {"kind": "query", "wave": "next", "by": BY, "measure": "health/overall", "first": "sex",
             "second": "sex"},
            "Choose two different variables",
        ),
        (
            {"kind": "query", "wave": "next", "by": BY, "measure": "health/overall", "first": "respondent"},
            "Choose two different variables",
        ),
    ],
)  # fmt: skip
def test_a_form_that_is_wrong_asks_nothing(
    folder: Path, engine: Engine, form: dict[str, str], said: str
) -> None:
    asked: list[str] = []
    page = client_of(folder, engine, asked).post(PATH, data=form)
    assert page.status_code == 400 and said in page.text and asked == []


def test_nobody_without_the_token_sees_or_asks_anything(folder: Path, engine: Engine) -> None:
    asked: list[str] = []
    client = client_of(folder, engine, asked)
    client.headers["authorization"] = "Bearer other"
    for response in (
        client.get(PATH),
        client.post(PATH, data={"kind": "draft", "wave": "next", "by": BY}),
        client.get(f"{PATH}/{'0' * 32}"),
    ):
        assert response.status_code == 401 and response.content == b""
    assert asked == []


def test_a_question_nobody_asked_and_a_form_too_long(folder: Path, engine: Engine) -> None:
    client = client_of(folder, engine, [])
    assert client.get(f"{PATH}/{'0' * 32}").status_code == 404
    assert client.post(PATH, content=b"x" * 5000).status_code == 413


def test_answers_go_after_a_day_and_the_lost_are_found_again(folder: Path, engine: Engine) -> None:
    now = datetime.now(UTC)
    old, lost, dead, busy = (queries.ask(engine, "draft", "next", BY) for _ in range(4))
    answer(engine, folder, old)
    c = table_of(QueryLog).c
    with writing(engine) as db:
        db.execute(update(table_of(QueryLog)).where(c.id == old).values(asked_at=now - timedelta(days=2)))
        hour = {
            "state": "running",
            "asked_at": now - timedelta(hours=1),
        }  # of software that did not note more
        db.execute(update(table_of(QueryLog)).where(c.id == dead).values(hour))
        db.execute(update(table_of(QueryLog)).where(c.id == busy).values({**hour, "taken_at": now}))
    assert set(queries.waiting(engine, now)) == {lost, dead}
    assert found(engine, old).answer == "" and found(engine, old).shown
    assert "more than a day old" in client_of(folder, engine, []).get(f"{PATH}/{old}").text
    assert set(queries.waiting(engine, now + timedelta(minutes=16))) == {lost, dead, busy}
    with writing(engine) as db:
        db.execute(delete(table_of(QueryLog)).where(c.id.in_((lost, dead, busy))))


def while_computing(monkeypatch: pytest.MonkeyPatch, *events: Callable[[], None]) -> None:
    """Has each of these happen once a table is computed: the first one's, the second one's, .."""
    left, real = list(events), table.table_16_6_2

    def computed(*given: Any, **values: Any) -> Any:
        made = real(*given, **values)
        if left:
            left.pop(0)()
        return made

    monkeypatch.setattr(table, "table_16_6_2", computed)


def ask_table(engine: Engine, service: str) -> str:
    pair = ("sex", "age")
    return queries.ask(engine, "query", "pilot-2024", BY, service=service, measure="overall", variables=pair)


def test_an_answer_that_comes_late_closes_the_question(
    folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked an hour ago and taken now: a sweep leaves it. Also what a sweep takes away is answered."""
    id, now = ask_table(engine, "health"), datetime.now(UTC)
    c = table_of(QueryLog).c
    with writing(engine) as db:
        hour = now - timedelta(hours=1)
        db.execute(update(table_of(QueryLog)).where(c.id == id).values(asked_at=hour))

    def sweeps() -> None:
        assert queries.waiting(engine, now) == []
        assert queries.waiting(engine, now + timedelta(minutes=20)) == [id]

    while_computing(monkeypatch, sweeps)
    answer(engine, folder, id)
    assert found(engine, id).state == "done" and id in served_ids(engine, "pilot-2024")
    assert queries.waiting(engine, now + timedelta(hours=1)) == []


@pytest.mark.parametrize("second_is_first", [True, False])
def test_who_was_thought_dead_says_nothing_of_anothers_question(
    folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, second_is_first: bool
) -> None:
    """It fails after another worker has answered, or while that one is still at it."""
    id = ask_table(engine, "primary" if second_is_first else "secondary")

    def second() -> None:
        assert queries.waiting(engine, datetime.now(UTC) + timedelta(minutes=20)) == [id]
        if second_is_first:
            answer(engine, folder, id)
        else:
            with writing(engine) as db:  # as another one takes it
                values = {"state": "running", "taken_at": datetime.now(UTC) + timedelta(minutes=20)}
                db.execute(update(table_of(QueryLog)).where(table_of(QueryLog).c.id == id).values(values))
        raise TimeoutError

    while_computing(monkeypatch, second)
    answer(engine, folder, id)
    question = found(engine, id)
    assert (question.state, question.said) == ("done" if second_is_first else "running", "")
    assert (id in served_ids(engine, "pilot-2024")) == bool(question.answer) == second_is_first


def test_a_draft_says_what_publishing_would(tmp_path: Path) -> None:
    """Five people answered late: the page has the first faults, the dry run all, publishing refuses."""
    publish_waves(tmp_path, (400,))
    plan_file, out = tmp_path / "release.toml", tmp_path / "releases"
    plan_file.write_text('crosses = [["region", "sex"]]\n[weights]\nfewest = 5\n')
    engine = open_engine(f"sqlite:///{tmp_path / 'dial16.sqlite3'}")
    put(engine, instrument(), people(5, seed=8), wave="pilot-2024", first=500_000)
    moment = select(table_of(Interview).c.began_at).where(table_of(Interview).c.wave == "pilot-2024").limit(1)
    with writing(engine) as db:
        at = db.execute(moment).scalar_one()
        db.execute(update(table_of(Interview)).values(began_at=at, last_at=at))
    id = queries.ask(engine, "draft", "pilot-2024", BY)
    answer(engine, tmp_path, id)
    *_, faults = queries.read_draft(found(engine, id).answer)
    page = client_of(tmp_path, engine, []).get(f"{PATH}/{id}").text
    assert "it would not be published" in page and page.count("<li>health") == 10
    assert f"And {len(faults) - 10} more:" in page

    plan = load_plan(plan_file, instrument())
    made = draft(engine, instrument(), "pilot-2024", out, plan)
    assert len(faults) > 100 and list(made.faults) == faults
    with pytest.raises(ReleaseError) as refused:
        make_release(made, instrument(), out, plan, OFFICE, issued=date(2026, 1, 2), reason="Late answers.")
    told = str(refused.value).splitlines()
    assert told == [*faults[:10], f"and {len(faults) - 10} more"]

    settings = {"DIAL16_DATA_DIR": str(tmp_path), "DIAL16_RELEASE_FILE": str(plan_file)}
    app = release_commands(lambda *needs, **_: Settings.from_environment(settings))
    tried = CliRunner().invoke(app, ["make", "--wave", "pilot-2024", "--dry-run"])
    assert tried.exit_code == 1 and "Nothing was written." in tried.stdout
    assert "It would be refused:" in tried.output and told[-1] in tried.output
    engine.dispose()


def test_a_worker_answers_what_is_enqueued_once(folder: Path, engine: Engine, redis_url: str) -> None:
    url = str(engine.url)

    def work_on(id: str) -> None:
        own = open_engine(url)
        answer(own, folder, id)
        own.dispose()

    queue, connection = jobs.open_queue(redis_url)
    asked: list[str] = []
    page = client_of(folder, engine, asked).post(PATH, data={"kind": "draft", "wave": "next", "by": BY})
    assert page.status_code == 200
    for _ in range(2):
        jobs.enqueue_query(queue, asked[0])
    assert len(jobs.analysis_queue(queue)) == 1
    composition = jobs.Composition(close_unfinished=lambda now: 0, answer_query=work_on)
    jobs.work(redis_url, composition, burst=True)
    assert found(engine, asked[0]).state == "done"

    # A job whose worker was killed is forgotten, so that the sweep can give its question to another one.
    jobs.enqueue_query(queue, asked[0])
    (job,) = jobs.analysis_queue(queue).jobs
    job.set_status(JobStatus.STARTED)
    started = jobs.analysis_queue(queue).started_job_registry
    connection.zadd(started.key, {f"{job.id}:run": 1})
    started.cleanup()
    assert job.is_failed and 0 < connection.ttl(job.key) <= 60
    connection.close()
