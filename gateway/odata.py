"""OData 4.0, minimal, over the views of `analytics`: what Excel and Power BI connect to.

    GET {base}                  service document
    GET {base}/$metadata        CSDL: every view, its columns and what they are
    GET {base}/NAME             $select $filter $top $skip $count, @odata.nextLink
    GET {base}/NAME/$count

A page's end is a $skiptoken, the key of its last row, so that nothing is lost or seen twice while rows come
in. Sorting is the key's; $orderby, $expand and $apply are refused with 501, as the protocol wants.
Source: OData 4.0 Part 1, section 13.1.1 (minimal conformance), and 11.2.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode
from xml.sax.saxutils import quoteattr

import orjson
from starlette.routing import Route

from gateway.access import ESTIMATES, ROWS, Refused
from gateway.asking import Answer, Asked, Desk, Problem, bad
from gateway.odata_filter import FilterError, read_filter
from storage.analysis.analytics import View, views
from storage.analysis.conditions import ConditionError, sql
from storage.analysis.rows import view_count, view_page
from storage.database import reading

_VERSION = {"OData-Version": "4.0"}
_JSON = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false"
_PAGE, _MOST = 1_000, 5_000  # rows
_MOST_SKIPPED = 10**9
_TYPES = {
    "text": "Edm.String", "whole": "Edm.Int64", "real": "Edm.Double", "flag": "Edm.Boolean",
    "time": "Edm.DateTimeOffset",
}  # fmt: skip
#: Columns that readers see sealed.
_SEALED = ("interview", "respondent")
_KNOWN = ("$select", "$filter", "$top", "$skip", "$count", "$skiptoken", "$format")
_NOT_SERVED = ("$orderby", "$expand", "$apply", "$search", "$compute", "$levels", "$index")


def odata_problem(problem: Problem) -> tuple[bytes, str]:
    """As OData has errors (Part 1, 9.4; JSON 4.0, 19)."""
    body = {"error": {"code": str(problem.status), "message": f"{problem.title}: {problem.detail}"}}
    return orjson.dumps(body), "application/json"


def odata_routes(desk: Desk, base: str) -> list[Route]:
    def route(path: str, resource: Callable[[Asked], Answer]) -> Route:
        # Everybody with a token sees which sets there are for them; a set's own scope is asked below.
        return desk.route(base + path, resource, ESTIMATES, problem=odata_problem, headers=_VERSION)

    def service(asked: Asked) -> Answer:
        _only(asked, "$format")
        sets = [{"name": v.name, "kind": "EntitySet", "url": v.name} for v in _sets(asked)]
        return _answer({"@odata.context": f"{asked.base}{base}/$metadata", "value": sets})

    def metadata(asked: Asked) -> Answer:
        _only(asked, "$format", kind="xml")
        return Answer(csdl(_sets(asked)).encode(), "application/xml")

    def count(asked: Asked) -> Answer:
        _only(asked, "$filter")
        view = _set(asked)
        with reading(asked.material.engine) as db:
            where = _where(asked, view, db.dialect.name)
            return Answer(str(view_count(db, view, where)).encode(), "text/plain;charset=utf-8")

    def rows(asked: Asked) -> Answer:
        return _rows(asked, base)

    return [
        route("", service),
        route("/", service),
        route("/$metadata", metadata),
        route("/{set}/$count", count),
        route("/{set}", rows),
    ]


# ---------------------------------------------------------------- one set


def _sets(asked: Asked) -> list[View]:
    """The views that this reader may see."""
    every = views(asked.material.instrument, asked.material.engine.dialect.name)
    return [v for v in every if asked.reader.scope == ROWS or not v.rows]


def _set(asked: Asked) -> View:
    name = asked.path["set"]
    every = views(asked.material.instrument, asked.material.engine.dialect.name)
    view = next((v for v in every if v.name == name), None)
    if view is None:
        known = ", ".join(v.name for v in _sets(asked))
        raise Problem(404, "No such set", f"{name[:40]}: known are {known}")
    if view.rows and asked.reader.scope != ROWS:
        raise Refused(403, "this token's scope is estimates; rows need a token of scope rows")
    return view


def _rows(asked: Asked, base: str) -> Answer:
    _only(asked, *_KNOWN)
    view = _set(asked)
    top = asked.whole("$top", -1, 0, _MOST_SKIPPED)
    size = _page_size(asked)
    limit = size if top < 0 else min(size, top)
    after = _skip_token(asked, view)
    skip = 0 if after is not None else asked.whole("$skip", 0, 0, _MOST_SKIPPED)
    picked = _picked(asked, view)
    counted = asked.params.get("$count", "false")
    if counted not in ("true", "false"):
        raise bad("$count: give true or false")
    with reading(asked.material.engine) as db:
        where = _where(asked, view, db.dialect.name)
        found = view_page(db, view, where=where, after=after, limit=limit + 1, skip=skip)
        total = view_count(db, view, where) if counted == "true" else None
    shown = found[:limit]
    names = f"({','.join(picked)})" if "$select" in asked.params else ""
    body: dict[str, Any] = {"@odata.context": f"{asked.base}{base}/$metadata#{view.name}{names}"}
    if total is not None:
        body["@odata.count"] = total
    seal = asked.sealed.seal
    body["value"] = [
        {n: seal(row[n]) if n in _SEALED and row[n] is not None else _value(row[n]) for n in picked}
        for row in shown
    ]
    left = top - len(shown) if top >= 0 else -1
    if len(found) > limit and left != 0 and shown:
        key = [_as_text(shown[-1][k]) for k in view.key]
        rest = {k: v for k, v in asked.params.items() if k not in ("$skip", "$top", "$skiptoken")}
        rest |= {"$top": str(left)} if left >= 0 else {}
        rest["$skiptoken"] = seal(orjson.dumps([view.name, *key]).decode())
        body["@odata.nextLink"] = (
            f"{asked.base}{base}/{view.name}?{urlencode(rest, safe='$', quote_via=quote)}"
        )
    return _answer(body)


def _only(asked: Asked, *known: str, kind: str = "json") -> None:
    for name in asked.params:
        if name in _NOT_SERVED:
            raise Problem(
                501, "Not served", f"{name}: this service sorts by key and knows {', '.join(_KNOWN)}"
            )
        if name.startswith("$") and name not in known:
            raise bad(f"{name[:40]}: unknown here; known: {', '.join(known)}")
    wanted = asked.params.get("$format", kind).partition(";")[0].strip()  # application/json;odata.metadata=..
    if wanted not in (kind, f"application/{kind}"):
        raise bad("$format: rows are served as json, $metadata as xml")
    if asked.headers.get("odata-maxversion", "4.0").strip() not in ("4.0", "4.01"):
        raise bad("OData-MaxVersion: this service speaks 4.0")


def _page_size(asked: Asked) -> int:
    """As the server has it, or fewer or more where `Prefer: odata.maxpagesize=N` asks."""
    for preference in asked.headers.get("prefer", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name in ("odata.maxpagesize", "maxpagesize") and value.isascii() and value.isdigit():
            return max(1, min(int(value[:9]), _MOST))
    return _PAGE


def _picked(asked: Asked, view: View) -> list[str]:
    given = asked.params.get("$select", "*")
    if given.strip() == "*":
        return [c.name for c in view.columns]
    names = list(dict.fromkeys(n.strip() for n in given.split(",")))
    for name in names:
        if view.kind(name) is None:
            raise bad(f"$select: {name[:40]}: no column of {view.name}")
    return names


def _where(asked: Asked, view: View, dialect: str) -> Any:
    text = asked.params.get("$filter")
    if text is None:
        return None
    opened: Mapping[str, Callable[[str], str]] = {n: asked.sealed.open for n in _SEALED if view.kind(n)}
    try:
        return sql(read_filter(text), view, view.table(dialect), opened)
    except (FilterError, ConditionError) as error:
        raise bad(f"$filter: {error}") from None


def _skip_token(asked: Asked, view: View) -> tuple[Any, ...] | None:
    given = asked.params.get("$skiptoken")
    if given is None:
        return None
    try:
        name, *key = orjson.loads(asked.sealed.open(given))
    except ValueError:
        name, key = "", []
    if name != view.name:
        raise bad("$skiptoken: not one of this set's; take it from @odata.nextLink")
    return tuple(key)


def _as_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _answer(body: Mapping[str, Any]) -> Answer:
    # OData writes UTC as Z.
    return Answer(orjson.dumps(body, option=orjson.OPT_UTC_Z), _JSON)


# ---------------------------------------------------------------- metadata


def csdl(sets: list[View]) -> str:
    """The sets as CSDL 4.0, with what each column is and what cannot be asked of a set."""
    types, entries = [], []
    for view in sets:
        keys = "".join(f"<PropertyRef Name={quoteattr(k)}/>" for k in view.key)
        properties = "".join(
            f'<Property Name={quoteattr(c.name)} Type="{_TYPES[c.kind]}"'
            f' Nullable="{"false" if c.name in view.key else "true"}">{_described(c.label)}</Property>'
            for c in view.columns
        )
        types.append(f'<EntityType Name="{view.name}"><Key>{keys}</Key>{properties}</EntityType>')
        entries.append(
            f'<EntitySet Name="{view.name}" EntityType="Dial16.{view.name}">{_described(view.about)}'
            f"{_not('SortRestrictions', 'Sortable')}{_not('ExpandRestrictions', 'Expandable')}"
            f"{_not('InsertRestrictions', 'Insertable')}{_not('UpdateRestrictions', 'Updatable')}"
            f"{_not('DeleteRestrictions', 'Deletable')}</EntitySet>"
        )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>'
        '<Schema Namespace="Dial16" xmlns="http://docs.oasis-open.org/odata/ns/edm">'
        f'{"".join(types)}<EntityContainer Name="Results">{"".join(entries)}</EntityContainer>'
        "</Schema></edmx:DataServices></edmx:Edmx>\n"
    )


def _described(text: str) -> str:
    return f'<Annotation Term="Org.OData.Core.V1.Description" String={quoteattr(text)}/>'


def _not(term: str, name: str) -> str:
    return (
        f'<Annotation Term="Org.OData.Capabilities.V1.{term}"><Record>'
        f'<PropertyValue Property="{name}" Bool="false"/></Record></Annotation>'
    )
