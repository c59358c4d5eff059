"""FLOIP Flow Results 1.1: the descriptor, its rows and pages, as the specification has them."""

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from gateway import floip
from storage.database import reading
from tests.api_material import OTHER, STAFF, Api, database, fill, serving
from tests.results_material import instrument
from tests.stores import running_live

BASE = "/api/v1/flow-results/packages"
HOST = "http://results.example"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("floip")
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    with (
        running_live("valkey") as live,
        database(request.param, folder, server) as url,
        serving(url, live, folder) as served,
    ):
        fill(served.engine)
        yield served


def package(api: Api) -> str:
    (only,) = api.json(BASE)["data"]
    return str(only["id"])


def rows(api: Api, query: str = "page[size]=5000") -> list[Any]:
    found = api.json(f"{BASE}/{package(api)}/responses?{query}")["data"]["attributes"]["responses"]
    assert isinstance(found, list)
    return found


def test_the_list_of_packages(api: Api) -> None:
    answer = api.ask(BASE)
    assert answer.headers["content-type"] == "application/vnd.api+json"
    body = answer.json()
    (only,) = body["data"]
    assert body["links"] == {"self": HOST + BASE, "next": None, "previous": None}
    assert only["type"] == "packages" and uuid.UUID(only["id"]).version == 4
    assert only["attributes"] == {
        "name": "pilot-2026-small-1", "title": "pilot-2026: small@1",
        "created": "2025-11-23T01:56:44+00:00", "modified": "2025-11-23T01:56:44+00:00",
    }  # fmt: skip
    assert api.json(BASE) == body and api.json(BASE, OTHER) == body  # the same id for everybody, each time
    token = api.ask(BASE, None, Authorization=f"Token {STAFF}")  # as the specification has it
    assert token.json() == body


def test_the_descriptor(api: Api) -> None:
    described = api.json(f"{BASE}/{package(api)}")["data"]["attributes"]
    assert described["profile"] == "flow-results-package"
    assert described["flow_results_specification_version"] == "1.1.0"
    assert described["id"] == package(api) and described["name"] == "pilot-2026-small-1"
    (resource,) = described["resources"]
    assert resource["access_method"] == "api" and "data" not in resource
    assert resource["api_data_url"] == f"{HOST}{BASE}/{package(api)}/responses"
    schema = resource["schema"]
    assert schema["language"] == "eng"
    assert [(f["name"], f["type"]) for f in schema["fields"]] == [
        ("timestamp", "datetime"), ("row_id", "string"), ("contact_id", "string"), ("session_id", "string"),
        ("question_id", "string"), ("response", "any"), ("response_metadata", "object"),
    ]  # fmt: skip
    questions = schema["questions"]
    assert all(q.keys() >= {"type", "label", "type_options"} for q in questions.values())
    assert questions["age"]["type"] == "numeric" and questions["age"]["type_options"] == {"range": [18, 110]}
    assert questions["age.nonresponse"]["type_options"]["choices"] == ["dont_know", "refused"]
    assert questions["water.a1"]["type_options"]["choices"][:2] == ["strongly_agree", "agree"]
    assert questions["water.a1"]["semantic_labels"] == ["1", "water", "a1", "attribute"]


def test_questions_are_those_that_were_read() -> None:
    """With the office's name in them, not the place for it."""
    questions = floip._schema(instrument(), {"owner": "Office"})["questions"]
    labels = [q["label"] for q in questions.values()]
    assert any(label.startswith("Office asks how clinics") for label in labels)
    assert not [label for label in labels if "{" in label]


def test_an_independent_reader_takes_the_descriptor(api: Api) -> None:
    """frictionless takes `profile` for a file, so it is left out; the rest is a Data Package."""
    import frictionless

    described = api.json(f"{BASE}/{package(api)}")["data"]["attributes"]
    (resource,) = described["resources"]
    fields = list(resource["schema"]["fields"])
    cells = [[*r[:5], str(r[5]), r[6]] for r in rows(api)]
    data = [[f["name"] for f in fields], *cells]
    for cell in data[1:]:
        cell[0] = cell[0][:19] + "Z"
    taken = frictionless.Resource(
        data=data, schema=frictionless.Schema.from_descriptor({"fields": fields}), format="inline"
    )
    report = taken.validate()
    assert report.valid, report.flatten(["rowNumber", "fieldName", "message"])[:3]


def test_every_row_is_one_of_its_schema(api: Api) -> None:
    described = api.json(f"{BASE}/{package(api)}")["data"]["attributes"]
    questions = described["resources"][0]["schema"]["questions"]
    found = rows(api)
    with reading(api.engine) as db:
        kept = db.execute(text("SELECT COUNT(*) FROM responses_long")).scalar()
    assert len(found) == kept
    assert len({r[1] for r in found}) == len(found)
    for row in found:
        at, row_id, contact, session, question, response, metadata = row
        assert datetime.fromisoformat(at).tzinfo is not None and at.endswith("+00:00")
        assert all(isinstance(x, str) and x for x in (row_id, contact, session))
        assert metadata.keys() == {"seconds", "tries", "mode"}
        if questions[question]["type"] == "numeric":
            least, most = questions[question]["type_options"]["range"]
            assert least <= response <= most
        else:
            assert response in questions[question]["type_options"]["choices"]
    assert [r[5] for r in found if r[4] == "age.nonresponse"] == ["dont_know"]
    assert 98 in [r[5] for r in found if r[4] == "age"]  # years


def test_no_id_of_the_aggregator_or_of_the_database(api: Api) -> None:
    whole = str(rows(api))
    with reading(api.engine) as db:
        ids = [str(x) for (x,) in db.execute(text("SELECT id FROM session UNION SELECT id FROM interview"))]
        ids += [str(x) for (x,) in db.execute(text("SELECT pseudonym FROM respondent"))]
    assert ids and not [i for i in ids if i in whole]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(15, 400))
def test_walking_forward_and_back_shows_each_row_once(api: Api, size: int) -> None:
    whole = rows(api)
    pages, following = [], f"{BASE}/{package(api)}/responses?page[size]={size}"
    links: dict[str, str | None] = {}
    while following:
        data = api.json(following)["data"]
        links = data["relationships"]["links"]
        pages.append(data["attributes"]["responses"])
        following = (links["next"] or "").removeprefix(HOST)
    assert [r for page in pages for r in page] == whole
    back = [pages[-1]]
    while links["previous"]:
        data = api.json(links["previous"].removeprefix(HOST))["data"]
        links = data["relationships"]["links"]
        back.append(data["attributes"]["responses"])
    back = [page for page in back if page]
    assert [r for page in back[::-1] for r in page] == whole


def test_filters_by_time(api: Api) -> None:
    whole = rows(api)
    times = sorted({r[0] for r in whole})
    middle = times[len(times) // 2]
    escaped = middle.replace("+", "%2B")
    after = rows(api, f"page[size]=5000&filter[start-timestamp]={escaped}")
    until = rows(api, f"page[size]=5000&filter[end-timestamp]={escaped}")
    assert after == [r for r in whole if r[0] > middle]  # exclusive
    assert until == [r for r in whole if r[0] <= middle]  # inclusive
    assert rows(api, f"filter[start-timestamp]={escaped}&filter[end-timestamp]={escaped}") == []
    assert rows(api, "page[size]=5000&filter[min-version]=2025-11-23T01:56:44Z") == whole
    assert rows(api, "filter[min-version]=2025-11-23T01:56:45Z") == []
    assert rows(api, "filter[max-version]=2025-11-23T01:56:43Z") == []


def test_what_cannot_be_asked(api: Api) -> None:
    here = f"{BASE}/{package(api)}/responses"
    one = rows(api)[0][1]
    for path, status, said in (
        (f"{BASE}/x", 404, "take an id"),
        (f"{BASE}/{uuid.uuid4()}/responses", 404, "take an id"),
        (f"{here}?page[size]=0", 400, "page[size]: give a whole number"),
        (f"{here}?page[afterCursor]=x", 400, "page[afterCursor]: give the row_id"),
        (f"{here}?page[afterCursor]={one}&page[beforeCursor]={one}", 400, "not both"),
        (f"{here}?filter[start-timestamp]=x", 400, "filter[start-timestamp]: give a time"),
        (f"{here}?filter[x]=1", 400, "filter[x]: unknown parameter"),
    ):
        answer = api.ask(path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/vnd.api+json"
        (error,) = answer.json()["errors"]
        assert error["status"] == str(status) and said in error["detail"]
    assert api.ask(BASE, method="POST", body={}).status_code == 405
