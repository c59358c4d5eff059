"""OData as Excel and Power BI speak it: documents, options, pages; filters against Python's own."""

import operator
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.odata_filter import FilterError, read_filter
from storage.analysis import analytics
from storage.analysis.conditions import Compared, Joined
from tests.api_material import PUBLIC, Api, database, fill, serving
from tests.record_material import SMALL
from tests.stores import running_live

EDM, EDMX = "{http://docs.oasis-open.org/odata/ns/edm}", "{http://docs.oasis-open.org/odata/ns/edmx}"
BASE = "/api/v1/odata"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("odata")
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    with (
        running_live("valkey") as live,
        database(request.param, folder, server) as url,
        serving(url, live, folder) as served,
    ):
        fill(served.engine)
        yield served


def get(api: Api, path: str, **params: str) -> Any:
    from urllib.parse import quote, urlencode

    named = {f"${k}": v for k, v in params.items()}
    return api.json(f"{BASE}/{path}{'?' if params else ''}{urlencode(named, safe='$', quote_via=quote)}")


def walk(api: Api, path: str, **params: str) -> list[Any]:
    page = get(api, path, **params)
    found = list(page["value"])
    while "@odata.nextLink" in page:
        assert page["@odata.nextLink"].startswith(f"http://results.example{BASE}/")
        page = api.json(page["@odata.nextLink"].removeprefix("http://results.example"))
        found += page["value"]
    return found


def test_the_service_document(api: Api) -> None:
    answer = api.ask(BASE)
    assert answer.headers["odata-version"] == "4.0"
    assert answer.headers["content-type"].startswith("application/json;odata.metadata=minimal")
    body = answer.json()
    assert body["@odata.context"] == f"http://results.example{BASE}/$metadata"
    assert [s["url"] for s in body["value"]] == list(analytics.NAMES)
    assert [s["name"] for s in api.json(BASE, PUBLIC)["value"]] == ["estimate", "codebook"]
    assert api.json(f"{BASE}/") == body


def test_the_metadata_name_every_column_its_type_and_what_it_is(api: Api) -> None:
    answer = api.ask(f"{BASE}/$metadata")
    assert answer.headers["content-type"].startswith("application/xml")
    root = ET.fromstring(answer.text)
    assert root.tag == f"{EDMX}Edmx" and root.get("Version") == "4.0"
    types = {t.get("Name"): t for t in root.iter(f"{EDM}EntityType")}
    for view in analytics.views(SMALL, "sqlite"):
        properties = {p.get("Name"): p for p in types[view.name].iter(f"{EDM}Property")}
        assert list(properties) == [c.name for c in view.columns]
        keys = [k.get("Name") for k in types[view.name].iter(f"{EDM}PropertyRef")]
        assert keys == list(view.key)
        assert all(properties[k].get("Nullable") == "false" for k in view.key)
        for c in view.columns:
            (label,) = properties[c.name].iter(f"{EDM}Annotation")
            assert label.get("String"), c.name
    kinds = {p.get("Name"): p.get("Type") for p in types["answer_wide"].iter(f"{EDM}Property")}
    assert kinds["began_at"] == "Edm.DateTimeOffset" and kinds["age"] == "Edm.Int64"
    sets = {s.get("Name"): s.get("EntityType") for s in root.iter(f"{EDM}EntitySet")}
    assert sets == {name: f"Dial16.{name}" for name in analytics.NAMES}
    public = ET.fromstring(api.ask(f"{BASE}/$metadata", PUBLIC).text)
    assert {t.get("Name") for t in public.iter(f"{EDM}EntityType")} == {"estimate", "codebook"}


def test_values_are_of_the_types_that_the_metadata_say(api: Api) -> None:
    kinds = {"Edm.String": str, "Edm.Int64": int, "Edm.Double": (int, float), "Edm.Boolean": bool,
             "Edm.DateTimeOffset": str}  # fmt: skip
    root = ET.fromstring(api.ask(f"{BASE}/$metadata").text)
    for kind in root.iter(f"{EDM}EntityType"):
        types = {p.get("Name"): str(p.get("Type")) for p in kind.iter(f"{EDM}Property")}
        for row in walk(api, str(kind.get("Name")))[:200]:
            assert list(row) == list(types)
            for name, value in row.items():
                if value is not None:
                    assert isinstance(value, kinds[types[name]]), (kind.get("Name"), name, value)  # type: ignore[arg-type]
                    assert isinstance(value, bool) == (types[name] == "Edm.Boolean")
                    assert types[name] != "Edm.DateTimeOffset" or value.endswith("Z")


@pytest.mark.parametrize("name", [n for n in analytics.NAMES if n not in ("estimate", "codebook")])
def test_rows_need_the_scope_of_rows(api: Api, name: str) -> None:
    for path in (name, f"{name}/$count"):
        answer = api.ask(f"{BASE}/{path}", PUBLIC)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "403"


def test_pages_select_top_skip_and_count(api: Api) -> None:
    whole = walk(api, "disposition")
    assert len(whole) == 34
    page = get(api, "disposition", top="5", skip="3", count="true", select="interview,wave")
    assert page["@odata.count"] == 34 and "@odata.nextLink" not in page
    assert page["@odata.context"].endswith("$metadata#disposition(interview,wave)")
    assert page["value"] == [{"interview": r["interview"], "wave": r["wave"]} for r in whole[3:8]]
    assert get(api, "disposition", top="0", count="true") == {
        "@odata.context": f"http://results.example{BASE}/$metadata#disposition", "@odata.count": 34,
        "value": [],
    }  # fmt: skip
    assert get(api, "disposition", skip="99")["value"] == []
    assert api.ask(f"{BASE}/disposition/$count").text == "34"
    assert api.ask(f"{BASE}/disposition/$count?$filter=counted eq true").text == "34"


@pytest.mark.parametrize("size", [1, 2, 7, 33, 34, 35])
@pytest.mark.parametrize("top", ["", "1", "33", "34", "99"])
def test_following_the_links_shows_each_row_once(api: Api, size: int, top: str) -> None:
    path = f"{BASE}/disposition?$skip=2" + (f"&$top={top}" if top else "")
    found, following = [], path
    while following:
        page = api.json(following, Prefer=f"odata.maxpagesize={size}")
        assert len(page["value"]) <= size
        found += page["value"]
        following = page.get("@odata.nextLink", "").removeprefix("http://results.example")
    assert found == walk(api, "disposition")[2:][: int(top) if top else None]


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("nothing", 404, "nothing: known are respondent"),
        ("estimate?$orderby=share", 501, "$orderby: "),
        ("estimate?$expand=x", 501, "$expand: "),
        ("estimate?$apply=aggregate(x)", 501, "$apply: "),
        ("estimate?$top=-1", 400, "$top: give a whole number"),
        ("estimate?$count=yes", 400, "$count: give true or false"),
        ("estimate?$select=nothing", 400, "$select: nothing: no column of estimate"),
        ("estimate?$skiptoken=x", 400, "$skiptoken: not one of this set's"),
        ("estimate?$nonsense=1", 400, "$nonsense: unknown here"),
        ("estimate?$format=atom", 400, "$format: rows are served as json"),
        ("estimate?$format=xml", 400, "$format: rows are served as json"),
        ("$metadata?$format=json", 400, "$metadata as xml"),
        ("estimate?$filter=", 400, "$filter: ends too early"),
        ("estimate?$filter=nothing eq 1", 400, "$filter: nothing: no column of estimate"),
        ("estimate?$filter=share eq 'a'", 400, "$filter: share: compare it with a number"),
        ("estimate?$filter=wave eq 1", 400, "$filter: wave: compare it with text"),
        ("estimate?$filter=newest gt true", 400, "$filter: newest: true and false"),
        (
            "estimate?$filter=version eq 99999999999999999999",
            400,
            "version: the number is too large",
        ),
        ("estimate?$filter=contains(wave,'w')", 400, "$filter: contains(..): functions are not served"),
        ("estimate?$filter=(wave eq 'w'", 400, "$filter: a bracket is not closed"),
        ("estimate?$filter=wave eq 'w' wave", 400, "$filter: unexpected 'wave'"),
        ("estimate?$filter=wave like 'w'", 400, "$filter: 'like' is unknown"),
        ("estimate?$filter=not share gt 1", 400, "$filter: not with gt"),
        ("disposition?$filter=interview gt 'x'", 400, "$filter: interview: ids can be compared by eq"),
        ("disposition?$filter=began_at ge '2026'", 400, "$filter: began_at: compare it with a time"),
        ("disposition?$filter=began_at ge 2026-13-01T00:00:00Z", 400, "is no time"),
    ],
)
def test_what_is_not_served_says_so(api: Api, path: str, status: int, said: str) -> None:
    answer = api.ask(f"{BASE}/{path}")
    assert answer.status_code == status and answer.headers["odata-version"] == "4.0"
    error = answer.json()["error"]
    assert error["code"] == str(status) and said in error["message"]


def test_a_version_that_we_do_not_speak(api: Api) -> None:
    assert api.ask(f"{BASE}/estimate", OData_MaxVersion="3.0").status_code == 400
    assert api.ask(f"{BASE}/estimate", OData_MaxVersion="4.0", OData_Version="4.0").status_code == 200


def test_excel_and_power_bi_open_it(api: Api) -> None:
    """What they ask in turn, with the token as a password of Basic."""
    from base64 import b64encode

    basic = "Basic " + b64encode(f"token:{PUBLIC}".encode()).decode()
    accept = "application/json;odata.metadata=minimal;q=1.0,application/json;odata=minimalmetadata"
    refused = api.ask(BASE, None, Accept=accept)
    assert refused.status_code == 401 and 'Basic realm="Dial 16"' in refused.headers["www-authenticate"]
    for path in ("", "/$metadata", "/estimate", "/estimate?$top=1000",
                 "/estimate?$filter=(newest eq true) and (service eq 'health')&$select=share"):  # fmt: skip
        answer = api.ask(
            BASE + path, None, Authorization=basic, Accept=accept, OData_MaxVersion="4.0",
            OData_Version="4.0", Prefer="odata.maxpagesize=1000",
        )  # fmt: skip
        assert answer.status_code == 200, path


def test_an_id_that_was_shown_can_be_asked_for(api: Api) -> None:
    row = get(api, "disposition", top="1", skip="7")["value"][0]
    assert get(api, "disposition", filter=f"interview eq '{row['interview']}'")["value"] == [row]
    assert get(api, "disposition", filter=f"respondent eq '{row['respondent']}'")["value"] == [row]
    assert get(api, "disposition", filter="interview eq 'nobody'")["value"] == []
    assert len(walk(api, "disposition", filter=f"interview ne '{row['interview']}'")) == 33


# ---------------------------------------------------------------- filters, against Python

ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le,
}  # fmt: skip


def holds(condition: Any, row: dict[str, Any]) -> bool:
    if isinstance(condition, Joined):
        return (all if condition.how == "and" else any)(holds(p, row) for p in condition.parts)
    cell, value = row[condition.column], condition.value
    if condition.how == "eq":
        return bool(cell == value)
    if condition.how == "ne":
        return bool(cell != value)
    return cell is not None and value is not None and ORDERINGS[condition.how](cell, value)


def written(condition: Any) -> str:
    if isinstance(condition, Joined):
        return "(" + f" {condition.how} ".join(written(p) for p in condition.parts) + ")"
    value = condition.value
    if isinstance(value, str):
        text = "'" + value.replace("'", "''") + "'"
    elif value is None:
        text = "null"
    else:
        text = str(value).lower()
    return f"{condition.column} {condition.how} {text}"


_SOME = st.sampled_from(["", "w", "health", "sex", "female", "overall", "c", "u", "'", "a'' or 1 eq 1", "é"])
_COMPARED = st.one_of(
    st.builds(Compared, st.sampled_from(["wave", "service", "variable", "category", "mark", "measure"]),
              st.sampled_from(["eq", "ne"]), st.none() | _SOME),
    st.builds(Compared, st.sampled_from(["n", "version", "position", "not_applicable"]),
              st.sampled_from(["eq", "ne", *ORDERINGS]), st.none() | st.integers(-5, 1500)),
    st.builds(Compared, st.sampled_from(["share", "low", "se"]), st.sampled_from(list(ORDERINGS)),
              st.none() | st.integers(0, 1) | st.sampled_from([0.25, 0.5, 0.625])),
    st.builds(Compared, st.sampled_from(["newest", "weighted"]), st.sampled_from(["eq", "ne"]),
              st.none() | st.booleans()),
)  # fmt: skip
_CONDITIONS = st.recursive(
    _COMPARED,
    lambda inner: st.builds(
        Joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3).map(tuple)
    ),
    max_leaves=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(condition=_CONDITIONS)
def test_a_filter_lets_through_what_it_says(api: Api, condition: Any) -> None:
    every = _estimates(api)
    shown = {
        (r["wave"], r["version"], r["position"]) for r in walk(api, "estimate", filter=written(condition))
    }
    assert shown == {(r["wave"], r["version"], r["position"]) for r in every if holds(condition, r)}


_kept: dict[int, list[Any]] = {}


def _estimates(api: Api) -> list[Any]:
    return _kept.setdefault(id(api), walk(api, "estimate"))


@settings(max_examples=200)
@given(_CONDITIONS)
def test_a_filter_written_is_the_filter_read(condition: Any) -> None:
    assert read_filter(written(condition)) == condition


@settings(max_examples=300)
@given(st.text(alphabet="abeqnorgt ()'=1-.TZ:,$é\u0000", max_size=60) | st.text(max_size=40))
def test_a_filter_is_read_or_refused(text: str) -> None:
    try:
        read_filter(text)
    except FilterError as error:
        assert str(error)


def test_not_turns_a_filter_round() -> None:
    assert read_filter("not (a eq 1 and not b ne 'x')") == Joined(
        "or", (Compared("a", "ne", 1), Compared("b", "ne", "x"))
    )


def test_a_filter_may_not_be_endless() -> None:
    for text in ("(" * 50 + "a eq 1" + ")" * 50, " and ".join(["a eq 1"] * 200), "a eq " + "9" * 50):
        with pytest.raises(FilterError):
            read_filter(text)
