"""Tables that no release holds, over HTTP: asked for, watched, read. A worker answers: `analysis.queries`.

    POST /api/v1/queries                 202, Location; 200 if the same was answered to you already
    GET  /api/v1/queries                 what you asked, in the order of asking
    GET  /api/v1/queries/{id}            how it stands, and its figures

The same questions as on the staff's page, in the same book: a reader sees their own. What cannot be asked is
said at once; what the rules refuse stands in the answer, with the reason.
"""

import logging
from functools import partial
from typing import Any

import redis
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import Connection
from starlette.routing import Route

from gateway.asking import Answer, Asked, Desk, Problem, as_json, bad, book_page
from gateway.faults import where
from gateway.jobs import QUEUE, enqueue_query
from storage.analysis import queries
from storage.analysis.differencing import Query
from storage.analysis.released import cells_of, tables_of
from storage.database import reading

log = logging.getLogger("dial16.queries")

_MOST_AT_ONCE = 3  # questions of one reader that are not answered yet
_KEYS = {"wave": str, "service": str, "measure": str, "variables": list}


def query_routes(desk: Desk, base: str) -> list[Route]:
    def ask(asked: Asked) -> Answer:
        asked.only()
        engine, by = asked.material.engine, asker(asked)
        with reading(engine) as db:
            query, newest = _query(asked, db)
        before = queries.asked_before(engine, by, query)
        if before is not None and before.state == queries.DONE:
            version = queries.read_figures(before.answer)[2] if before.answer else 0
            if version == newest:
                return _stands(before, base, 200)
            before = None
        if before is None and queries.open_of(engine, by) >= _MOST_AT_ONCE:
            raise Problem(
                429, "Too many queries", f"{_MOST_AT_ONCE} are being answered; wait for one", Retry_After="10"
            )
        id = before.id if before else queries.ask(
            engine, queries.QUERY, query.wave, by, service=query.service, measure=query.measure,
            variables=query.variables,
        )  # fmt: skip
        try:
            enqueue_query(Queue(QUEUE, connection=asked.material.live, serializer=JSONSerializer), id)
        except redis.RedisError as error:  # its text may name the address
            log.warning("no query: %s at %s", type(error).__name__, where(error))
            raise Problem(
                503,
                "Away",
                "the queue is not reached, so no worker was told; the query is written down: ask again, and"
                " it is not asked twice",
                Retry_After="10",
            ) from None
        return _stands(_own(asked, id), base, 202)

    def one(asked: Asked) -> Answer:
        asked.only()
        return _stands(_own(asked, asked.path["query"]), base, 200)

    def every(asked: Asked) -> Answer:
        return book_page(asked, partial(queries.asked_page, asked.material.engine, asker(asked)), _about)

    return [
        desk.route(base, ask, method="POST"),
        desk.route(base, every),
        desk.route(base + "/{query}", one),
    ]


def asker(asked: Asked) -> str:
    """The reader's name in the book."""
    return f"{queries.API}{asked.reader.name}"


def _query(asked: Asked, db: Connection) -> tuple[Query, int]:
    """What is asked for, and the number of the version that it is asked beside. Raises Problem."""
    given = asked.json_object(_KEYS)
    if lacking := [name for name in ("wave", "service", "measure") if not given.get(name)]:
        raise bad(f"{lacking[0]}: is missing; give wave, service, measure, and variables as a list")
    variables = given.get("variables", [])
    if not all(isinstance(v, str) for v in variables):
        raise bad("variables: give their names, each a text")
    if len(variables) > 2 or len(set(variables)) < len(variables):
        raise bad("variables: give two different ones at most")
    newest, measures, known = tables_of(db, given["wave"])
    if not newest:
        raise bad("wave: has no release to protect a table with; see /api/v1/releases")
    if (given["service"], given["measure"]) not in measures:
        there = ", ".join(sorted(f"{s} {m}" for s, m in measures))
        raise bad(f"measure: not one of the release, which has {there}")
    if not all(v in known for v in variables):
        raise bad(f"variables: give names out of {', '.join(sorted(known))}")
    return Query(given["wave"], given["service"], given["measure"], tuple(variables)), newest


def _own(asked: Asked, id: str) -> queries.Asked:
    """The question, if this reader asked it over the API. Raises Problem."""
    question = queries.find(asked.material.engine, id)
    if question is None or question.asked_by != asker(asked) or question.kind != queries.QUERY:
        raise Problem(404, "No such query", "ask one with POST /api/v1/queries")
    return question


def _about(question: queries.Asked) -> dict[str, Any]:
    return {
        "id": question.id, "asked_at": question.asked_at, "wave": question.wave, "service": question.service,
        "measure": question.measure, "variables": question.variables, "state": question.state,
        "shown": question.shown, "hidden": question.hidden, "error": question.said or None,
    }  # fmt: skip


def _stands(question: queries.Asked, base: str, status: int) -> Answer:
    body: dict[str, Any] = _about(question) | {"version": None, "caution": None, "figures": None}
    if question.answer:
        figures, caution, version = queries.read_figures(question.answer)
        body |= {"version": version, "caution": caution, "figures": [cells_of(e) for e in figures]}
    answer = as_json(body)
    headers = {"Location": f"{base}/{question.id}"} if status == 202 else {}
    return Answer(answer.body, answer.kind, status, headers)
