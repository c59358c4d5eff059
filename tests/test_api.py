"""The results API: requests and answers, cursors under inserts, ids, rates, files, its description."""

import base64
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import text

from gateway import asking, jobs
from gateway.access import Access, ApiToken, read_tokens
from gateway.api_description import describe
from gateway.asking import methods_of
from gateway.commands.exporting import sweep_exports
from gateway.settings import Settings
from storage.analysis import snapshot
from storage.analysis.exports import ledger
from storage.analysis.sealed import Sealed
from storage.analysis.snapshot import snapshots, take_snapshot
from storage.database import reading, writing
from storage.entries import STREAM
from tests.api_material import KEY, OTHER, PUBLIC, STAFF, TOKENS, Api, database, fill, serving
from tests.record_material import NOW, SMALL, Dialogue, ended, fold_all
from tests.stores import Live, give_schema, running_live

HERE = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running_live("valkey") as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def api(
    request: pytest.FixtureRequest, live: Live, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    with database(request.param, folder, server) as url, serving(url, live, folder) as served:
        fill(served.engine)
        yield served


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, live: Live, tmp_path: Path) -> Iterator[Api]:
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    with database(request.param, tmp_path, server) as url, serving(url, live, tmp_path) as served:
        give_schema(served.engine, SMALL)
        yield served


def walk(api: Api, path: str) -> list[dict[str, Any]]:
    found = []
    following: str | None = path
    while following:
        page = api.json(following)
        found += page["data"]
        following = page["next"]
    return found


# ---------------------------------------------------------------- who may ask

OPEN = ["/api/v1/waves", "/api/v1/releases", "/api/v1/estimates", "/api/v1/codebook"]
CLOSED = ["/api/v1/interviews", "/api/v1/responses", "/api/v1/exports", "/api/v1/exports/x",
          "/api/v1/flow-results/packages", "/api/v1/queries"]  # fmt: skip


@pytest.mark.parametrize("path", OPEN + CLOSED)
def test_a_token_is_needed(api: Api, path: str) -> None:
    for authorization in (
        "",
        "Bearer",
        "Bearer x",
        f"Bearer {STAFF}x",
        "Basic !",
        f"Digest {STAFF}",
        "Token e",
    ):
        answer = api.ask(path, None, Authorization=authorization)
        assert answer.status_code in (401, 429) and STAFF not in answer.text
        if answer.status_code == 401:
            assert (
                "Bearer" in answer.headers["www-authenticate"]
                and "Basic" in answer.headers["www-authenticate"]
            )
        else:
            assert int(answer.headers["retry-after"]) >= 1


def test_wrong_tokens_keep_no_right_one_out(api: Api) -> None:
    assert {api.ask("/api/v1/waves", "x" * 40).status_code for _ in range(30)} <= {401, 429}
    assert api.ask("/api/v1/waves", PUBLIC).status_code == 200


@pytest.mark.parametrize("path", CLOSED)
def test_rows_need_the_scope_of_rows(api: Api, path: str) -> None:
    answer = api.ask(path, PUBLIC)
    assert answer.status_code == 403 and "scope rows" in answer.text


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {PUBLIC}",
        f"bearer  {PUBLIC}",
        f"Token {PUBLIC}",
        "Basic " + base64.b64encode(f"anybody:{PUBLIC}".encode()).decode(),
        "Basic " + base64.b64encode(f":{PUBLIC}".encode()).decode(),
    ],
)
def test_ways_to_give_a_token(api: Api, authorization: str) -> None:
    assert api.ask("/api/v1/waves", None, Authorization=authorization).status_code == 200


def test_a_token_is_slowed_down_after_so_many() -> None:
    at = 0.0
    access = Access(TOKENS, lambda: at, burst=3)
    for _ in range(3):
        access.reader(f"Bearer {STAFF}", "rows")
    with pytest.raises(Exception, match="requests a second") as caught:
        access.reader(f"Bearer {STAFF}", "rows")
    assert caught.value.status == 429 and caught.value.retry_after == 1  # type: ignore[attr-defined]
    access.reader(f"Bearer {OTHER}", "rows")  # each its own
    at = 0.26
    access.reader(f"Bearer {STAFF}", "rows")


def test_tokens_of_the_setting() -> None:
    good, faults = read_tokens(f"web:estimates:{PUBLIC}, ama:rows:{STAFF},")
    assert not faults and good == (ApiToken("web", "estimates", PUBLIC), ApiToken("ama", "rows", STAFF))
    assert PUBLIC not in repr(good)
    for wrong, said in (
        (PUBLIC, "NAME:SCOPE:TOKEN"),
        (f"web:all:{PUBLIC}", "scope must be estimates or rows"),
        ("web:rows:short", "at least 32"),
        (f"web:rows:{'a' * 40}", "not all alike"),
        (f"Web!:rows:{PUBLIC}", "NAME:SCOPE:TOKEN"),
        (f"a:rows:{PUBLIC},b:rows:{PUBLIC}", "same name or token"),
        (f"a:rows:{PUBLIC},a:rows:{STAFF}", "same name or token"),
    ):
        message = " ".join(read_tokens(wrong)[1])
        assert said in message and PUBLIC not in message


# ---------------------------------------------------------------- literal requests and answers


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1/interviews?limit=0", "limit: give a whole number from 1 to 5000"),
        ("/api/v1/interviews?limit=5001", "limit: give a whole number"),
        ("/api/v1/interviews?limit=٣", "limit: give a whole number"),
        ("/api/v1/interviews?limit=1&limit=2", "limit: given twice"),
        ("/api/v1/interviews?nonsense=1", "nonsense: unknown parameter; known: wave"),
        ("/api/v1/interviews?since=yesterday", "since: give a time with its zone"),
        ("/api/v1/interviews?since=2026-02-30", "since: give a time with its zone"),
        ("/api/v1/interviews?since=2026-02-01T10:00", "since: give a time with its zone"),
        ("/api/v1/interviews?cursor=abc", "cursor: not one of this resource's"),
        ("/api/v1/interviews?counted=no", "counted: give yes, or all"),
        ("/api/v1/interviews?wave=%00", "control characters"),
        ("/api/v1/interviews?wave=%ff", "not UTF-8"),
        ("/api/v1/estimates?version=0", "version: give newest, all, or a whole number from 1 to 99999"),
        ("/api/v1/waves?wave=x", "wave: unknown parameter; known: none"),
    ],
)
def test_what_cannot_be_understood_says_what_to_give(api: Api, path: str, said: str) -> None:
    answer = api.ask(path)
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() == {"title", "status", "detail"} and said in body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "said"),
    [
        ("GET", "/api/v1", 404, "application/problem+json", "/api/v1/openapi.json lists"),
        ("GET", "/api/v1/nothing", 404, "application/problem+json", "No such resource"),
        ("GET", "/api/v1/queries/x/y", 404, "application/problem+json", "No such resource"),
        (
            "DELETE",
            "/api/v1/queries",
            405,
            "application/problem+json",
            "queries: takes GET, HEAD, POST",
        ),
        ("POST", "/api/v1/odata/estimate", 405, "application/json", '{"error":{"code":"405"'),
        (
            "POST",
            "/api/v1/flow-results/packages",
            405,
            "application/vnd.api+json",
            '"status":"405"',
        ),
        ("GET", "/api/v1/flow-results/x", 404, "application/vnd.api+json", "No such resource"),
    ],
)
def test_what_no_resource_takes_is_told_as_a_problem_too(
    api: Api, method: str, path: str, status: int, kind: str, said: str
) -> None:
    answer = api.ask(path, None, method=method)
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind) and said in answer.text
    assert ("allow" in answer.headers) == (status == 405)


def test_a_stroke_too_many_is_led_back(api: Api) -> None:
    answer = api.ask("/api/v1/waves/?x=1")
    assert (answer.status_code, answer.headers["location"]) == (
        307,
        "http://results.example/api/v1/waves?x=1",
    )


def test_an_interview_as_it_is_shown(api: Api) -> None:
    sealed = Sealed(KEY, "api:ama")
    page = api.json("/api/v1/interviews?disposition=in_progress")
    (row,) = [r for r in page["data"] if r["respondent"] == sealed.seal(f"{901:032x}")]
    assert row | {"answers": None} == {
        "id": row["id"], "respondent": sealed.seal(f"{901:032x}"), "wave": "pilot-2026", "attempt": 1,
        "counted": True, "instrument": "small@1", "language": "en", "mode": "ussd",
        "aggregator": "africastalking", "disposition": "in_progress",
        "began_at": "2025-11-23T01:56:44+00:00", "last_at": row["last_at"], "ended_at": None,
        "answers": None,
    }  # fmt: skip
    assert row["answers"] == {
        "consent": {"option": "yes", "code": 1, "number": None},
        "age": {"option": None, "code": None, "number": 98},  # ninety-eight years old
        "region": {"option": "gh_aa", "code": 3, "number": None},
    }


def test_not_knowing_one_s_age_is_a_code(api: Api) -> None:
    rows = api.json("/api/v1/responses?item=age")["data"]
    assert [r for r in rows if r["option"] == "dont_know"] == [
        r for r in rows if r["code"] == 98 and r["number"] is None
    ]
    assert sum(r["option"] == "dont_know" for r in rows) == 1


def test_withdrawn_interviews_are_nowhere(api: Api) -> None:
    assert len(walk(api, "/api/v1/interviews")) == 33
    gone = Sealed(KEY, "api:ama").seal(f"{902:032x}")
    for path in ("/api/v1/interviews?counted=all", "/api/v1/responses?counted=all&limit=5000"):
        assert gone not in {r["respondent"] for r in walk(api, path)}


def test_answers_are_those_of_the_record(api: Api) -> None:
    found = walk(api, "/api/v1/responses?limit=97")
    with reading(api.engine) as db:
        kept = db.execute(text("SELECT interview, item, code, value FROM responses_long")).all()
    opened = Sealed(KEY, "api:ama").open
    shown = Counter((opened(r["interview"]), r["item"], r["code"], r["number"]) for r in found)
    assert shown == Counter(tuple(r) for r in kept)
    times = [r["given_at"] for r in found]
    assert times == sorted(times)


def test_ids_are_each_reader_s_own(api: Api) -> None:
    ours = {r["respondent"] for r in api.json("/api/v1/interviews?limit=5000")["data"]}
    theirs = {r["respondent"] for r in api.json("/api/v1/interviews?limit=5000", OTHER)["data"]}
    assert len(ours) == len(theirs) == 33 and not ours & theirs
    with reading(api.engine) as db:
        kept = {r for (r,) in db.execute(text("SELECT respondent FROM interview"))}
    assert not (ours | theirs) & kept


def test_a_cursor_is_its_reader_s_and_its_resource_s(api: Api) -> None:
    cursor = api.json("/api/v1/interviews?limit=1")["cursor"]
    assert api.ask(f"/api/v1/interviews?cursor={cursor}").status_code == 200
    assert api.ask(f"/api/v1/interviews?cursor={cursor}", OTHER).status_code == 400
    assert api.ask(f"/api/v1/responses?cursor={cursor}").status_code == 400
    assert api.ask(f"/api/v1/interviews?cursor={cursor[:-1]}").status_code == 400


def test_figures_are_those_released(api: Api) -> None:
    national = api.json("/api/v1/estimates?service=health&measure=overall&variable=", PUBLIC)["data"]
    assert [(r["wave"], r["version"], r["newest"], r["category"]) for r in national] == [("w", 2, True, "")]
    assert national[0]["share"] == pytest.approx(0.6, abs=0.3) and national[0]["mark"] == ""
    assert api.json("/api/v1/estimates?limit=1")["cursor"] is None, "a new release does not come last"
    both = walk(api, "/api/v1/estimates?version=all&limit=501")
    first = walk(api, "/api/v1/estimates?version=1&limit=5000")
    assert len(both) == 2 * len(first) and not any(r["newest"] for r in first)
    assert all(r["share"] is None and r["n"] is None for r in both if r["mark"] == "c")


def test_waves_show_the_public_what_is_released_and_no_more(api: Api) -> None:
    assert api.json("/api/v1/waves", PUBLIC) == {
        "data": [{"wave": "w", "release": 2, "issued": "2026-11-23"}]
    }
    staff = {w["wave"]: w for w in api.json("/api/v1/waves")["data"]}
    (held,) = staff["pilot-2026"]["instruments"]
    assert held["instrument"] == "small@1" and held["interviews"] == 33


def test_the_codebook(api: Api) -> None:
    rows = api.json("/api/v1/codebook?item=region", PUBLIC)["data"]
    assert [(r["option"], r["code"], r["iso"], r["nonresponse"]) for r in rows[:3]] == [
        ("gh_aa", 3, "GH-AA", False), ("gh_af", 8, "GH-AF", False), ("abroad", 17, None, False),
    ]  # fmt: skip
    assert [r["nonresponse"] for r in rows[3:]] == [True] * (len(rows) - 3)


def test_an_etag_saves_sending_it_again(api: Api) -> None:
    for path in ("/api/v1/estimates", "/api/v1/interviews", "/api/v1/odata/estimate"):
        first = api.ask(path)
        again = api.ask(path, If_None_Match=first.headers["etag"])
        assert (
            again.status_code == 304
            and again.content == b""
            and again.headers["etag"] == first.headers["etag"]
        )
        assert api.ask(path, If_None_Match='"other"').status_code == 200
        assert (
            first.headers["cache-control"].startswith("private") and first.headers["vary"] == "Authorization"
        )


# ---------------------------------------------------------------- cursors


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 60), path=st.sampled_from(["interviews", "responses", "estimates"]))
def test_any_page_size_shows_each_row_once(api: Api, limit: int, path: str) -> None:
    whole = api.json(f"/api/v1/{path}?limit=5000")["data"]
    limit = max(limit, len(whole) // 25)
    assert walk(api, f"/api/v1/{path}?limit={limit}") == whole


@pytest.mark.parametrize("seed", range(4))
def test_a_reader_who_goes_on_loses_nothing_while_rows_come_in(empty: Api, seed: int) -> None:
    """Hops of many respondents at the same instants; recorded late and piece by piece, as recorders do."""
    random = Random(seed)
    entries = []
    for number in range(1, 13):
        d = Dialogue(number, NOW + 4000 * random.randint(0, 4))
        d.begin()
        d.consent()
        for item in ("water.a1", "water.a2", "water.a3"):
            d.answer(item, random.choice(["agree", "disagree"]))
        d.answer("water.overall", "agree", ended())
        entries += d.entries
    entries.sort(key=lambda e: e["at"])
    names = []
    for n, e in enumerate(entries):
        names.append(empty.live.xadd(STREAM, {"e": "-"}, id=f"{e['at']}-{n}"))

    seen: list[tuple[str, str]] = []
    cursor = ""

    def read() -> int:
        nonlocal cursor
        page = empty.json(f"/api/v1/responses?limit={random.randint(1, 9)}{cursor and f'&cursor={cursor}'}")
        seen.extend((r["interview"], r["item"]) for r in page["data"])
        cursor = page["cursor"] or cursor
        return len(page["data"])

    while entries:
        count = random.randint(1, 15)
        batch, entries = entries[:count], entries[count:]
        fold_all(empty.engine, batch)
        if random.random() < 0.5:
            read()  # recorded, and not yet gone from the stream
        empty.live.xdel(STREAM, *names[:count])
        names = names[count:]
        for _ in range(random.randint(0, 3)):
            read()
    while read():
        pass
    assert len(seen) == len(set(seen)) == 12 * 5


def test_what_may_be_followed_by_something_older_is_not_shown_yet(empty: Api) -> None:
    d = Dialogue(1, NOW)
    d.begin()
    d.consent()
    fold_all(empty.engine, d.entries)
    empty.live.xadd(STREAM, {"e": "-"}, id=f"{NOW}-0")
    assert empty.json("/api/v1/responses")["data"] == []
    empty.live.delete(STREAM)
    assert len(empty.json("/api/v1/responses")["data"]) == 1


def test_a_moment_ago_is_too_early(empty: Api) -> None:
    d = Dialogue(1, int(time.time() * 1000) - 9_000)
    d.begin()
    fold_all(empty.engine, d.entries)
    assert empty.json("/api/v1/interviews")["data"] == []


def test_without_the_live_store_rows_wait_and_figures_do_not(tmp_path: Path, live: Live) -> None:
    with (
        running_live("valkey") as other,
        database("sqlite", tmp_path, None) as url,
        serving(url, other, tmp_path) as api,
    ):
        fill(api.engine)
        other.stop(kill=True)
        answer = api.ask("/api/v1/interviews")
        assert answer.status_code == 503 and "live store" in answer.text
        assert "retry-after" in answer.headers
        assert api.ask("/api/v1/estimates", PUBLIC).status_code == 200


def test_without_the_record_it_says_so_and_not_where_it_is(tmp_path: Path, live: Live) -> None:
    with serving("postgresql+psycopg://somebody:secret@127.0.0.1:1/x", live, tmp_path) as api:
        answer = api.ask("/api/v1/estimates")
        assert answer.status_code == 503 and "record is not reached" in answer.text
        assert "somebody" not in answer.text and "127" not in answer.text


# ---------------------------------------------------------------- anything may be asked

NAMES = st.sampled_from(
    "wave instrument disposition item counted since to limit cursor version service variable $filter $select"
    " $top $skip $count $skiptoken $format page[size] page[afterCursor] filter[start-timestamp] x".split()
)
PATHS = st.sampled_from(
    "waves releases estimates codebook interviews responses queries queries/x exports/x exports/x/file"
    " odata odata/estimate odata/answer_wide odata/answer_wide/$count odata/$metadata odata/nothing"
    " flow-results/packages flow-results/packages/x flow-results/packages/x/responses".split()
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, params=st.lists(st.tuples(NAMES, st.text(max_size=30)), max_size=4))
def test_no_question_is_a_fault_of_ours(api: Api, path: str, params: list[tuple[str, str]]) -> None:
    from urllib.parse import urlencode

    query = urlencode(params, errors="replace")
    answer = api.ask(f"/api/v1/{path}?{query}")
    assert answer.status_code in (200, 400, 404, 501), (path, params, answer.text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abcXYZ019-_=\u00e9", max_size=80))
def test_nothing_that_we_did_not_seal_opens(given_text: str) -> None:
    with pytest.raises(ValueError, match="not one of our ids"):
        Sealed(KEY, "x").open(given_text)


@given(st.text(max_size=60), st.text(max_size=10), st.integers(0, 200))
def test_what_is_sealed_opens_for_its_purpose_only(text_: str, purpose: str, flipped: int) -> None:
    sealed = Sealed(KEY, purpose).seal(text_.encode("utf-8", "replace").decode())
    assert Sealed(KEY, purpose).open(sealed) == text_.encode("utf-8", "replace").decode()
    assert re.fullmatch(r"[A-Za-z0-9_-]+", sealed)
    with pytest.raises(ValueError, match="not one"):
        Sealed(KEY, purpose + "x").open(sealed)
    at = flipped % len(sealed)
    other = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
    with pytest.raises(ValueError, match="not one"):
        Sealed(KEY, purpose).open(other)


# ---------------------------------------------------------------- exports


def made(api: Api, answer: Any) -> str:
    """Does what a worker would; the export's id."""
    name = answer.json()["id"]
    ledger.make(api.engine, SMALL, KEY, api.data_dir / "exports", name)
    return str(name)


def test_an_export_is_asked_for_made_and_fetched(empty: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(empty.engine)
    answer = empty.ask(
        "/api/v1/exports", method="POST", body={"formats": ["csv", "datapackage"], "wave": "pilot-2026"}
    )
    assert answer.status_code == 202 and answer.headers["location"].startswith("/api/v1/exports/")
    here = answer.headers["location"]
    assert answer.json()["state"] == "waiting" and answer.json()["file"] is None
    early = empty.ask(f"{here}/file")
    assert early.status_code == 409 and "not made yet" in early.text
    queue = Queue(jobs.ANALYSIS, connection=empty.live, serializer=JSONSerializer)
    (job,) = queue.jobs
    assert list(job.args) == [answer.json()["id"]]

    made(empty, answer)
    stands = empty.json(here)
    assert stands["state"] == "done" and stands["rows"] == 33 and stands["file"] == f"{here}/file"
    whole = empty.ask(stands["file"])
    assert whole.status_code == 200 and whole.headers["accept-ranges"] == "bytes"
    from hashlib import sha256

    assert sha256(whole.content).hexdigest() == stands["sha256"]
    assert whole.headers["etag"] == f'"{stands["sha256"]}"'

    half = len(whole.content) // 2
    rest = empty.ask(stands["file"], Range=f"bytes={half}-", If_Range=whole.headers["etag"])
    assert rest.status_code == 206 and whole.content[:half] + rest.content == whole.content
    assert rest.headers["content-range"] == f"bytes {half}-{len(whole.content) - 1}/{len(whole.content)}"
    assert empty.ask(stands["file"], Range="bytes=0-9", If_Range='"other"').content == whole.content
    assert empty.ask(stands["file"], Range=f"bytes={len(whole.content)}-").status_code == 416

    for path in (here, f"{here}/file"):
        assert empty.ask(path, OTHER).status_code == 404, "somebody else's"
    with writing(empty.engine) as db:
        kept = db.execute(text("SELECT asked_by, rows, state FROM export_audit")).all()
    assert [tuple(r) for r in kept] == [("api:ama", 33, "done")]
    with reading(empty.engine) as db:
        fetched = db.execute(text("SELECT export, fetched_by, part FROM export_fetch ORDER BY fetched_at"))
        assert [tuple(r) for r in fetched] == [
            (stands["id"], "api:ama", part) for part in (False, True, True, True)
        ], "the one refused by range too; none of those before it was made, and of somebody else"
    assert empty.ask(stands["file"], method="HEAD").status_code == 200
    monkeypatch.setattr(asking, "_ON_ITS_WAY", timedelta())
    second = empty.ask("/api/v1/exports", method="POST", body={"variant": "public"}).json()["id"]
    listed = walk(empty, "/api/v1/exports?limit=1")
    assert [(r["id"], r["state"], r["formats"], r["fetches"], r["file"]) for r in listed] == [
        (stands["id"], "done", ["csv", "datapackage"], 4, stands["file"]),
        (second, "waiting", ["csv"], 0, None),
    ]  # fmt: skip
    schemas = describe()["components"]["schemas"]
    for row in listed:
        jsonschema.validate(row, expanded(schemas["ExportListed"], schemas))
    assert walk(empty, "/api/v1/exports") == listed and empty.json("/api/v1/exports", OTHER)["data"] == []
    later = datetime.now(UTC) + timedelta(days=15)
    assert ledger.sweep(empty.engine, empty.data_dir / "exports", later) == 1
    gone = empty.ask(f"{here}/file")
    assert gone.status_code == 410 and "expired" in gone.text
    assert empty.json(here)["state"] == "expired"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "must be an object"),
        ({"variant": "internal"}, "variant: give one of scientific, public"),
        ({"formats": []}, "formats: give some of csv"),
        ({"formats": ["exe"]}, "formats: give some of csv"),
        ({"formats": [1]}, "formats: give some of csv"),
        ({"language": "xx"}, "language: give one of en"),
        ({"excel": "yes"}, "excel: must be bool"),
        ({"wave": "a\nb"}, "wave: must be at most 200 characters"),
        ({"folder": "/etc"}, "folder: unknown; known: variant"),
    ],
)
def test_an_export_that_cannot_be(api: Api, body: Any, said: str) -> None:
    answer = api.ask("/api/v1/exports", method="POST", body=body)
    assert answer.status_code == 400 and said in answer.json()["detail"]


def test_so_many_exports_at_once_and_no_more(empty: Api) -> None:
    def asked(token: str) -> int:
        return empty.ask("/api/v1/exports", token, method="POST", body={}).status_code

    assert [asked(STAFF) for _ in range(4)] == [202, 202, 202, 429]
    assert asked(OTHER) == 202
    assert empty.ask("/api/v1/exports", PUBLIC, method="POST", body={}).status_code == 403
    huge = empty.ask("/api/v1/exports", method="POST", body={"purpose": "x" * 20_000})
    assert huge.status_code == 413


# ---------------------------------------------------------------- the night's copy


def test_a_snapshot_is_whole_once_a_day_and_the_newest_are_kept(
    empty: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    assert snapshot.KEPT == 7
    monkeypatch.setattr(snapshot, "KEPT", 2)  # each takes seconds
    fill(empty.engine)
    folder = empty.data_dir / "snapshots"
    day = datetime(2026, 11, 23, 2, tzinfo=UTC)
    first = take_snapshot(empty.engine, SMALL, KEY, folder, day)
    assert first is not None and first.name == "2026-11-23"
    assert take_snapshot(empty.engine, SMALL, KEY, folder, day + timedelta(hours=3)) is None
    assert {f.name for f in first.iterdir()} == {
        "wide.parquet", "long.parquet", "estimate.parquet", "README.md", "SHA256SUMS",
    }  # fmt: skip
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=first, check=True)
    with duckdb.connect() as db:
        assert db.execute(f"SELECT COUNT(*) FROM '{first}/wide.parquet'").fetchone() == (33,)
        shown = db.execute(f"SELECT COUNT(*), COUNT(share) FROM '{first}/estimate.parquet'").fetchone()
    with reading(empty.engine) as sql:
        kept = sql.execute(text("SELECT COUNT(*), COUNT(share) FROM released_estimate")).one()
    assert shown == tuple(kept)
    for n in (1, 2):
        take_snapshot(empty.engine, SMALL, KEY, folder, day + timedelta(days=n))
    assert snapshots(folder) == ["2026-11-24", "2026-11-25"]
    assert sorted(f.name for f in folder.iterdir()) == snapshots(folder)
    # Who was erased since is in them: they go also where no new one is taken.
    url = empty.engine.url.render_as_string(hide_password=False)
    environ = {"DIAL16_DATA_DIR": str(empty.data_dir), "DIAL16_DATABASE_URL": url}
    given = Settings.from_environment(environ)
    for n, left in ((2, ["2026-11-24", "2026-11-25"]), (3, ["2026-11-25"]), (9, [])):
        sweep_exports(given, day + timedelta(days=n))
        assert snapshots(folder) == left


def test_a_snapshot_that_fails_leaves_nothing(empty: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(empty.engine)
    folder = empty.data_dir / "snapshots"
    with writing(empty.engine) as db:  # the view is gone half-way: as if the database were
        db.execute(text("ALTER TABLE released_estimate RENAME TO elsewhere"))
        name = "analytics.estimate" if db.dialect.name == "postgresql" else "analytics_estimate"
        db.execute(text(f"DROP VIEW {name}"))
    with pytest.raises(Exception, match="estimate"):
        take_snapshot(empty.engine, SMALL, KEY, folder, datetime(2026, 11, 23, tzinfo=UTC))
    assert list(folder.iterdir()) == []


def test_a_snapshot_is_scheduled_once_a_night(live: Live) -> None:
    queue = jobs.analysis_queue(jobs.open_queue(live.url)[0])
    queue.connection.flushall()
    for hour in (3, 12, 23):
        jobs.schedule_snapshot(queue, datetime(2026, 11, 23, hour, tzinfo=UTC))
    jobs.schedule_snapshot(queue, datetime(2026, 11, 24, 1, tzinfo=UTC))
    (name,) = queue.scheduled_job_registry.get_job_ids()
    at = queue.scheduled_job_registry.get_scheduled_time(name)
    assert at == datetime(2026, 11, 24, jobs.SNAPSHOT_HOUR, tzinfo=UTC)


# ---------------------------------------------------------------- the description


def expanded(schema: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "components": {"schemas": schemas}}


def test_the_description_is_of_these_routes_and_its_examples_are_true(api: Api) -> None:
    described = describe()
    served = {p: m for p, m in methods_of(api.app.routes).items() if m}  # type: ignore[arg-type]
    assert {p: {m.upper() for m in o if m != "parameters"} for p, o in described["paths"].items()} == served
    schemas = described["components"]["schemas"]
    for name, schema in schemas.items():
        jsonschema.validate(schema["examples"][0], expanded(schema, schemas), jsonschema.Draft202012Validator)
        jsonschema.Draft202012Validator.check_schema(schema), name
    for operations in described["paths"].values():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            for response in operation["responses"].values():
                for kind, content in response.get("content", {}).items():
                    if kind != "application/zip":  # an archive has no example that could be read
                        jsonschema.validate(content["example"], expanded(content["schema"], schemas))
    assert api.json("/api/v1/openapi.json", None) == described
    assert described["openapi"].startswith("3.1")


@pytest.mark.parametrize("token", [PUBLIC, STAFF])
def test_live_answers_are_as_described(api: Api, token: str) -> None:
    described = describe()
    schemas = described["components"]["schemas"]
    for path in OPEN + (["/api/v1/interviews", "/api/v1/responses"] if token == STAFF else []):
        content = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        body = api.json(path, token)
        assert body["data"], path
        jsonschema.validate(body, expanded(content["schema"], schemas))
    problem = api.ask("/api/v1/interviews?x=1").json()
    jsonschema.validate(problem, expanded(schemas["Problem"], schemas))


def test_live_answers_of_the_families_are_as_described(api: Api) -> None:
    paths = describe()["paths"]
    base = "/api/v1/flow-results/packages"
    (package,) = api.json(base)["data"]
    for path, asked in {
        "/api/v1/openapi.json": "",
        "/api/v1/odata": "",
        "/api/v1/odata/": "",
        "/api/v1/odata/$metadata": "",
        "/api/v1/odata/{set}": "?$top=3&$count=true",
        "/api/v1/odata/{set}/$count": "",
        base: "",
        base + "/{package}": "",
        base + "/{package}/responses": "?page[size]=3",
    }.items():
        described = paths[path]["get"]["responses"]
        filled = path.replace("{set}", "estimate").replace("{package}", package["id"])
        for query, status in ((asked, "200"), ("?$format=exe", "400")):
            if status == "400" and path.endswith("openapi.json"):
                continue
            answer = api.ask(filled + query)
            kind = answer.headers["content-type"].partition(";")[0]
            assert str(answer.status_code) == status, filled
            body = answer.json() if kind.endswith("json") else answer.text
            jsonschema.validate(body, described[status]["content"][kind]["schema"])


def test_the_gateway_carries_no_heavy_library() -> None:
    """Also with the results API, and after it was asked."""
    script = f"""
import asyncio, sys, httpx2
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from tests.api_material import TOKENS, WAVE, KEY, PUBLIC
from gateway.analysts import Analysts
from gateway.app import create_app
url = "sqlite:///nowhere.sqlite3"
live = "redis://127.0.0.1:1"
analysts = Analysts(TOKENS, database_url=url, live_url=live, wave=WAVE, key=KEY, data_dir=Path("."))
app = create_app(waves=[WAVE], live_url=live, database_url=url, pseudonym_key=KEY,
                 secrets=["s" * 40], simulator_secret=None, live_days=1, analysts=analysts)
async def ask():
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as http:
        for path in ("openapi.json", "odata", "odata/$metadata"):
            answer = await http.get("/api/v1/" + path, headers={{"Authorization": "Bearer " + PUBLIC}})
            assert answer.status_code == 200, answer.text
asyncio.run(ask())
heavy = {{"numpy", "scipy", "pandas", "duckdb", "pyreadstat", "xlsxwriter", "matplotlib"}}
print(sorted(heavy & {{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=HERE)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_without_tokens_nothing_is_there(live: Live, tmp_path: Path) -> None:
    import asyncio

    import httpx2

    from gateway.app import create_app
    from tests.api_material import WAVE

    app = create_app(
        waves=[WAVE], live_url=live.url, database_url=f"sqlite:///{tmp_path}/x", pseudonym_key=KEY,
        secrets=["s" * 40], simulator_secret=None, live_days=1,
    )  # fmt: skip

    async def status(path: str) -> int:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as http:
            return (await http.get(path)).status_code

    for path in ("/api/v1/openapi.json", "/api/v1/waves", "/api/v1/odata"):
        assert asyncio.run(status(path)) == 404
