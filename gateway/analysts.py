"""The results API: what is published for everybody with a token, rows for staff, exports as files.

    /api/v1/openapi.json                the description of all this, without a token
    /api/v1/releases  /estimates  /waves  /codebook
    /api/v1/interviews  /responses      rows, a page at a time
    /api/v1/queries ..                  tables that no release holds, see `queries`
    /api/v1/exports ..                  see `downloads`
    /api/v1/odata ..                    for Excel and Power BI, see `odata`
    /api/v1/flow-results ..             FLOIP Flow Results 1.1, see `floip`

Without tokens in DIAL16_API_TOKENS none of it is there. docs/api.md tells readers the rest.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from flows.wave import Wave
from gateway.access import ESTIMATES, Access, ApiToken
from gateway.api_description import describe
from gateway.asking import MOST, PAGE, Answer, Asked, Desk, Problem, as_json, bad, page_of, problem_json
from gateway.downloads import export_routes
from gateway.floip import floip_problem, floip_routes
from gateway.odata import odata_problem, odata_routes
from gateway.queries import query_routes
from storage.analysis.analytics import View, views
from storage.analysis.conditions import Compared, Joined, sql
from storage.analysis.rows import (
    Wanted,
    answers_of,
    interview_page,
    release_rows,
    response_page,
    view_page,
    wave_rows,
)
from storage.database import reading

BASE = "/api/v1"


# ---------------------------------------------------------------- rows


def _wanted(asked: Asked) -> Wanted:
    p = asked.params
    if p.get("counted", "yes") not in ("yes", "all"):
        raise bad("counted: give yes, or all for interviews that do not count too")
    return Wanted(
        until=asked.material.until(), wave=p.get("wave"), instrument=p.get("instrument"),
        disposition=p.get("disposition"), item=p.get("item"), since=asked.moment("since"),
        to=asked.moment("to"), every=p.get("counted") == "all",
    )  # fmt: skip


def _answer(row: Any) -> dict[str, Any]:
    """An answer: its option and code, or its number. 98 years are not code 98."""
    if row.option == "":
        return {"option": None, "code": None, "number": row.number}
    return {"option": row.option, "code": row.code, "number": None}


def interviews(asked: Asked) -> Answer:
    asked.only("wave", "instrument", "disposition", "counted", "since", "to", "limit", "cursor")
    limit, after, wanted = asked.whole("limit", PAGE, 1, MOST), asked.after(), _wanted(asked)
    key = (datetime.fromisoformat(after[0]), after[1]) if after else None
    with reading(asked.material.engine) as db:
        found = interview_page(db, wanted, key, limit + 1)
        shown, more = found[:limit], len(found) > limit
        answers = answers_of(db, [r.id for r in shown])
    seal = asked.sealed.seal
    rows = [
        {
            **r._mapping,
            "id": seal(r.id),
            "respondent": seal(r.respondent),
            "answers": {item: _answer(a) for item, a in answers[r.id].items()},
        }
        for r in shown
    ]
    return page_of(asked, rows, more, (shown[-1].last_at, shown[-1].id) if shown else None)


def responses(asked: Asked) -> Answer:
    asked.only("wave", "instrument", "item", "counted", "since", "to", "limit", "cursor")
    limit, after, wanted = asked.whole("limit", PAGE, 1, MOST), asked.after(), _wanted(asked)
    key = (datetime.fromisoformat(after[0]), after[1], after[2]) if after else None
    with reading(asked.material.engine) as db:
        found = response_page(db, wanted, key, limit + 1)
    shown, more = found[:limit], len(found) > limit
    seal = asked.sealed.seal
    rows = [
        {
            "interview": seal(r.interview), "respondent": seal(r.respondent), "wave": r.wave,
            "instrument": r.instrument, "counted": r.counted, "item": r.item, **_answer(r),
            "given_at": r.given_at, "seconds": r.seconds, "tries": r.tries, "mode": r.mode,
        }
        for r in shown
    ]  # fmt: skip
    last = shown[-1] if shown else None
    return page_of(asked, rows, more, last and (last.given_at, last.interview, last.item))


# ---------------------------------------------------------------- what is published


def releases(asked: Asked) -> Answer:
    asked.only("wave")
    with reading(asked.material.engine) as db:
        rows = release_rows(db)
    wave = asked.params.get("wave")
    return as_json({"data": [r for r in rows if wave is None or r["wave"] == wave]})


_ESTIMATE_FILTERS = ("wave", "version", "period", "service", "measure", "variable", "category", "variable_2",
                     "category_2")  # fmt: skip


def estimates(asked: Asked) -> Answer:
    asked.only(*_ESTIMATE_FILTERS, "limit", "cursor")
    limit, after = asked.whole("limit", PAGE, 1, MOST), asked.after()
    view = _view(asked, "estimate")
    parts = [
        Compared(n, "eq", asked.params[n]) for n in _ESTIMATE_FILTERS if n in asked.params and n != "version"
    ]
    version = asked.params.get("version", "newest")
    if version == "newest":
        parts.append(Compared("newest", "eq", True))
    elif version != "all":
        try:
            parts.append(Compared("version", "eq", asked.whole("version", 0, 1, 99_999)))
        except Problem:
            raise bad("version: give newest, all, or a whole number from 1 to 99999") from None
    with reading(asked.material.engine) as db:
        relation = view.table(db.dialect.name)
        where = sql(Joined("and", tuple(parts)), view, relation, {}) if parts else None
        found = view_page(db, view, where=where, after=tuple(after) if after else None, limit=limit + 1)
    shown, more = found[:limit], len(found) > limit
    key = [shown[-1][k] for k in view.key] if shown else None
    return page_of(asked, [dict(r) for r in shown], more, key, lasting=False)


def _view(asked: Asked, name: str) -> View:
    dialect = asked.material.engine.dialect.name
    return next(v for v in views(asked.material.instrument, dialect) if v.name == name)


def codebook(asked: Asked) -> Answer:
    asked.only("instrument", "item")
    view = _view(asked, "codebook")
    given = {"instrument": asked.material.instrument.reference} | dict(asked.params)
    with reading(asked.material.engine) as db:
        relation = view.table(db.dialect.name)
        where = sql(Joined("and", tuple(Compared(n, "eq", v) for n, v in given.items())), view, relation, {})
        rows = view_page(db, view, where=where, limit=100_000)
    return as_json({"data": [dict(r) for r in rows]})


def waves(asked: Asked) -> Answer:
    """Waves with a release for everybody; staff see how many interviews there are, too."""
    asked.only()
    with reading(asked.material.engine) as db:
        released = release_rows(db)
        held = wave_rows(db) if asked.reader.scope != ESTIMATES else []
    rows: dict[str, dict[str, Any]] = {}
    for r in released:
        row = rows.setdefault(r["wave"], {"wave": r["wave"], "release": None, "issued": None})
        row |= {"release": r["version"], "issued": r["issued"]}
    for h in held:
        row = rows.setdefault(h.wave, {"wave": h.wave, "release": None, "issued": None})
        row.setdefault("instruments", []).append(
            {"instrument": h.instrument, "interviews": h.interviews, "first": h.first, "last": h.last}
        )
    return as_json({"data": [rows[w] for w in sorted(rows)]})


# ---------------------------------------------------------------- routes

_ODATA, _FLOIP = f"{BASE}/odata", f"{BASE}/flow-results"


class _Elsewhere:
    """Requests under the API's address that no route takes, told in the words of their family."""

    def __init__(self, routes: Sequence[Route]):
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.endswith("/") and self._methods({**scope, "path": path.rstrip("/")}):
            await RedirectResponse(Request(scope).url.replace(path=path.rstrip("/")))(scope, receive, send)
            return
        if methods := self._methods(scope):
            allowed = ", ".join(sorted(methods))
            problem = Problem(405, "Not with this method", f"{path[:100]}: takes {allowed}", Allow=allowed)
        else:
            problem = Problem(404, "No such resource", f"{BASE}/openapi.json lists those there are")
        families = {_ODATA: odata_problem, _FLOIP: floip_problem}
        write = next((w for base, w in families.items() if path.startswith(base)), problem_json)
        body, kind = write(problem)
        await Response(body, problem.status, problem.headers, kind)(scope, receive, send)

    def _methods(self, scope: Scope) -> set[str]:
        """Those that the resource at this path takes; none: there is no resource."""
        return {m for r in self._routes if r.matches(scope)[0] is not Match.NONE for m in r.methods or ()}


class Analysts:
    """The results API of one gateway: its routes, and its end."""

    def __init__(
        self,
        tokens: Sequence[ApiToken],
        *,
        database_url: str,
        live_url: str,
        wave: Wave,
        key: bytes,
        data_dir: Path,
        access: Access | None = None,  # of these tokens, with other rates
    ):
        self._desk = Desk(access or Access(tokens), database_url, live_url, wave, key)
        self._data_dir = data_dir

    def close(self) -> None:
        self._desk.close()

    def routes(self) -> list[BaseRoute]:
        desk = self._desk
        described = orjson.dumps(describe())

        async def description(request: Request) -> Response:
            return Response(described, media_type="application/json")

        routes = [
            Route(f"{BASE}/openapi.json", description),
            desk.route(f"{BASE}/waves", waves, ESTIMATES),
            desk.route(f"{BASE}/releases", releases, ESTIMATES),
            desk.route(f"{BASE}/estimates", estimates, ESTIMATES),
            desk.route(f"{BASE}/codebook", codebook, ESTIMATES),
            desk.route(f"{BASE}/interviews", interviews),
            desk.route(f"{BASE}/responses", responses),
            *query_routes(desk, f"{BASE}/queries"),
            *export_routes(desk, f"{BASE}/exports", self._data_dir),
            *odata_routes(desk, _ODATA),
            *floip_routes(desk, _FLOIP),
        ]
        elsewhere = _Elsewhere(routes)
        return [*routes, Route(BASE, elsewhere), Route(BASE + "/{rest:path}", elsewhere)]
