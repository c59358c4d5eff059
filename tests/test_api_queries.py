"""Queries over the API, answered by the worker's code on a released wave; two that are answered at once."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import delete, func, insert, select, update

from gateway import jobs
from gateway.api_description import describe
from storage.analysis import queries, table
from storage.analysis.making import Publisher, draft, make_release
from storage.analysis.plan import load_plan
from storage.analysis.release import ReleaseError, all_versions
from storage.analysis.released import keep_releases
from storage.analysis.served import ComeBetween, served_ids, tables_served, turn
from storage.database import migrate, open_engine, writing
from storage.models import QueryLog, ReleasedVersion, table_of
from tests.api_material import OTHER, PUBLIC, Api, serving
from tests.record_material import SMALL
from tests.results_material import instrument, publish_waves
from tests.stores import Live, running_live

WAVE = "pilot-2024"
BODY = {"wave": WAVE, "service": "health", "measure": "overall", "variables": ["sex", "residence"]}
_log = table_of(QueryLog)


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running_live("valkey") as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("queries")
    publish_waves(made, (700,))
    (made / "release.toml").write_text('crosses = [["region", "sex"]]\n')
    (made / "weighted.toml").write_text('margins = "margins.csv"\n')
    (made / "drawn.toml").write_text("probability_sample = true\n")
    engine = open_engine(f"sqlite:///{made / 'dial16.sqlite3'}")
    keep_releases(engine, made / "releases")
    engine.dispose()
    return made


@pytest.fixture
def api(folder: Path, live: Live) -> Iterator[Api]:
    with serving(f"sqlite:///{folder / 'dial16.sqlite3'}", live, folder) as served:
        with writing(served.engine) as db:
            db.execute(delete(_log))
        yield served


def ask(api: Api, token: str | None = None, **values: Any) -> Any:
    given = {"token": token} if token else {}
    return api.ask("/api/v1/queries", **given, method="POST", body={**BODY, **values})


def work(api: Api, id: str, plan: str = "release.toml") -> None:
    """Does what a worker would."""
    out = api.data_dir / "releases"
    queries.answer(api.engine, instrument(), out, id, api.data_dir / plan, "Office")


def test_a_query_is_asked_answered_and_read(api: Api) -> None:
    schemas = describe()["components"]["schemas"]
    asked = ask(api)
    assert asked.status_code == 202 and asked.json()["state"] == "waiting"
    here = asked.headers["location"]
    (job,) = Queue(jobs.ANALYSIS, connection=api.live, serializer=JSONSerializer).jobs
    assert list(job.args) == [asked.json()["id"]] and here == f"/api/v1/queries/{job.args[0]}"
    assert ask(api).json()["id"] == job.args[0], "the same, while it waits"
    work(api, job.args[0])

    found = api.json(here)
    jsonschema.validate(found, {**schemas["Query"], "components": {"schemas": schemas}})
    assert found["state"] == "done" and found["version"] == 1 and "Unweighted" in found["caution"]
    assert found["shown"] + found["hidden"] == 4 == len(found["figures"])
    assert {(f["variable"], f["variable_2"]) for f in found["figures"]} == {("sex", "residence")}
    assert all((f["share"] is None) == (f["mark"] in ("c", "u")) for f in found["figures"])
    again = ask(api)
    assert again.status_code == 200 and again.json() == found
    assert [q.asked_by for q in queries.asked(api.engine)] == ["api:ama"]

    turned = ask(api, OTHER, variables=["residence", "sex"])
    work(api, turned.json()["id"], "weighted.toml")  # it is out, whatever the plan is by now
    assert api.json(f"/api/v1/queries/{turned.json()['id']}", OTHER)["figures"] == found["figures"]
    assert api.ask(here, OTHER).status_code == 404
    assert api.ask(here, PUBLIC).status_code == ask(api, PUBLIC).status_code == 403


def test_a_list_is_each_reader_s_own_a_page_at_a_time(api: Api) -> None:
    ids = [ask(api, measure=m).json()["id"] for m in ("overall", "attributes")]
    ask(api, OTHER)
    assert api.json("/api/v1/queries")["data"] == [], "asked a moment ago"
    with writing(api.engine) as db:  # at the same moment
        db.execute(update(_log).values(asked_at=datetime.now(UTC) - timedelta(minutes=1)))
    first = api.json("/api/v1/queries?limit=1")
    second = api.json(first["next"])
    assert [q["id"] for q in first["data"] + second["data"]] == sorted(ids) and second["next"] is None
    assert api.json(f"/api/v1/queries?cursor={second['cursor']}")["data"] == []
    schema = describe()["paths"]["/api/v1/queries"]["get"]["responses"]["200"]["content"]["application/json"]
    schemas = describe()["components"]["schemas"]
    jsonschema.validate(first, {**schema["schema"], "components": {"schemas": schemas}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"measure": None}, "measure: must be str"),
        ({"measure": ""}, "measure: is missing; give wave, service, measure"),
        ({"wave": "next"}, "wave: has no release to protect a table with"),
        ({"measure": "health.need"}, "measure: not one of the release, which has"),
        ({"variables": "sex"}, "variables: must be list"),
        ({"variables": ["sex", "age", "region"]}, "variables: give two different ones at most"),
        ({"variables": ["sex", "sex"]}, "variables: give two different ones at most"),
        ({"variables": [["sex"], 1]}, "variables: give their names, each a text"),
        ({"variables": ["network"]}, "variables: give names out of age"),
        ({"by": "Ama"}, "by: unknown; known: wave, service, measure, variables"),
    ],
)
def test_what_cannot_be_asked_is_said_at_once(api: Api, values: dict[str, Any], said: str) -> None:
    answer = ask(api, **values)
    assert answer.status_code == 400 and said in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert queries.asked(api.engine) == []


def test_a_list_nested_a_thousand_deep_is_a_fault_of_the_asker(api: Api) -> None:
    deep = json.dumps({**BODY, "variables": []}).replace("[]", "[" * 1000 + "]" * 1000)
    answer = api.ask("/api/v1/queries", method="POST", body=deep.encode())
    assert answer.status_code == 400 and "each a text" in answer.json()["detail"]


def test_what_the_rules_refuse_and_how_many_at_once(api: Api) -> None:
    id = ask(api).json()["id"]
    work(api, id, "weighted.toml")
    found = api.json(f"/api/v1/queries/{id}")
    assert found["state"] == "refused" and "version 1 was weighted with no margins, and" in found["error"]
    assert found["figures"] is None and ask(api).json()["id"] != id
    others = [ask(api, variables=v) for v in ([], ["sex"], ["age"])]
    assert [answer.status_code for answer in others] == [202, 202, 429]
    drawn = ask(api, OTHER)
    assert drawn.status_code == 202
    work(api, drawn.json()["id"], "drawn.toml")
    said = api.json(f"/api/v1/queries/{drawn.json()['id']}", OTHER)["error"]
    assert "version 1 was weighted with probability_sample = false, and the release file says" in said
    held = others[1].json()["id"]
    work(api, held, "weighted.toml")
    assert api.json(f"/api/v1/queries/{held}")["state"] == "done", "the release holds it"


def test_without_queue_or_record_it_says_so(api: Api, folder: Path, tmp_path: Path, live: Live) -> None:
    with running_live("valkey") as other, serving(str(api.engine.url), other, folder) as alone:
        other.stop(kill=True)
        for _ in range(2):
            answer = ask(alone)
            assert answer.status_code == 503 and "the queue is not reached" in answer.json()["detail"]
            assert "retry-after" in answer.headers
    assert [q.state for q in queries.asked(api.engine)] == ["waiting"], "once, for the workers' sweep"
    with serving("postgresql+psycopg://somebody:secret@127.0.0.1:1/x", live, tmp_path) as lost:
        for answer in (ask(lost), lost.ask("/api/v1/queries"), lost.ask("/api/v1/queries/x")):
            assert answer.status_code == 503 and "the record is not reached" in answer.json()["detail"]
            assert "secret" not in answer.text


# ---------------------------------------------------------------- answers that stay


def test_of_two_answered_at_once_one_knows_the_other(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both workers have looked at what is out before either answers: the second one computes again."""
    ids = [
        queries.ask(api.engine, "query", WAVE, by, service="health", measure="overall", variables=pair)
        for by, pair in (("a", ("region", "age")), ("b", ("region", "residence")))
    ]
    both, computed, real = threading.Barrier(2, timeout=30), [], table.table_16_6_2

    def together(*given: Any, **values: Any) -> Any:
        computed.append(values["crosses"])
        if len(computed) <= 2:
            both.wait()
        return real(*given, **values)

    monkeypatch.setattr(table, "table_16_6_2", together)
    workers = [threading.Thread(target=work, args=(api, id)) for id in ids]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(computed) == 3
    assert [set(crosses) - {("region", "sex")} for crosses in computed[2:]] == [
        {("region", "age"), ("region", "residence")}
    ]
    states = {q.state for q in queries.asked(api.engine)}
    assert "done" in states and states <= {"done", "refused"}


def test_who_has_the_turn_lets_nobody_pass(database_url: str) -> None:
    """Two transactions of one wave, on each engine: the second sees what the first let out."""
    engine = open_engine(database_url)
    migrate(engine, SMALL)
    seen = served_ids(engine, "w")
    id = queries.ask(engine, "query", "w", "a")
    inside, said = threading.Event(), []

    def second() -> None:
        inside.wait(30)
        try:
            with turn(engine, "w", seen):
                said.append("passed")
        except ComeBetween:
            said.append("came between")

    other = threading.Thread(target=second)
    other.start()
    with turn(engine, "w", seen) as db:
        inside.set()
        other.join(0.3)
        assert other.is_alive() and not said
        db.execute(update(_log).where(_log.c.id == id).values(state="done", answer="{}"))
    other.join()
    assert said == ["came between"]
    engine.dispose()


def test_beside_a_folder_that_lacks_a_version_nothing_is_answered(api: Api) -> None:
    id = ask(api).json()["id"]
    version = table_of(ReleasedVersion)
    with writing(api.engine) as db:  # another program publishes into another folder
        row = db.execute(select(version)).one()
        db.execute(insert(version), {**row._asdict(), "version": 2})
    work(api, id)
    with writing(api.engine) as db:
        db.execute(delete(version).where(version.c.version == 2))
    found = api.json(f"/api/v1/queries/{id}")
    assert found["state"] == "refused" and "folder of releases does not have it" in found["error"]


def test_an_answer_stays_and_the_next_version_is_made_with_it(api: Api) -> None:
    id = ask(api, variables=["residence", "age"]).json()["id"]
    work(api, id)
    for variables in (["age", "residence"], ["sex"]):  # they add nothing to what is out
        work(api, ask(api, OTHER, variables=variables).json()["id"])
    old = ask(api, service="primary").json()["id"]
    later = datetime.now(UTC) + timedelta(days=3)
    assert queries.waiting(api.engine, later) == [old]
    with api.engine.connect() as db:
        rows = db.execute(select(func.count()).select_from(_log)).scalar_one()
    assert rows == 4 and api.json(f"/api/v1/queries/{id}")["figures"]

    out = api.data_dir / "releases"
    plan = load_plan(api.data_dir / "release.toml", instrument())
    made = draft(api.engine, instrument(), WAVE, out, plan)
    ids = served_ids(api.engine, WAVE)
    assert len(ids) == 3
    (answer,) = tables_served(api.engine, ids, all_versions(out, WAVE))
    alone = tables_served(api.engine, ids, [])  # the folder is lost: what was answered is heeded still
    assert alone[0].estimates == answer.estimates and alone[0].material == answer.material
    assert made.served.tables == (answer,) and answer.material == made.material
    assert {e.domain for e in made.served.known} == {e.domain for e in answer.estimates}
    assert {(e.service, e.measure) for e in made.served.known} == {("health", "overall")}
    assert {len(e.domain) for e in made.marked if "residence" in dict(e.domain)} == {1}
    work(api, old)
    assert api.json(f"/api/v1/queries/{old}")["state"] == "done"
    with pytest.raises(ReleaseError, match="a query was answered meanwhile; make the release again"):
        make_release(made, instrument(), out, plan, Publisher("o", "c", "s"),
                     issued=datetime.now(UTC).date(), reason="More tables.")  # fmt: skip
