"""How a request for results is heard and answered: reader, parameters, a thread of its own, ETag, problems.

A resource is a function of an `Asked`, run beside the hops in one of a few threads with connections of their
own, so that no respondent waits for an analyst. It returns an `Answer` or raises `Problem`. Errors are
application/problem+json (RFC 9457) unless the resource's family says them otherwise.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows.instrument import Instrument
from flows.wave import Wave
from gateway.access import ROWS, Access, ApiToken, Refused
from gateway.faults import where
from storage.analysis.rows import recorded_until
from storage.analysis.sealed import Sealed
from storage.database import open_engine

log = logging.getLogger("dial16.analysts")

_THREADS = 2  # resources worked at; each has a connection
_WAITING = 16  # resources that wait for a thread, at the most
_MOST_QUERY = 8_000  # characters
_MOST_BODY = 16_384  # octets
PAGE, MOST = 500, 5_000  # rows of a page
#: A wish is in the book this long after its time, at the latest; the rest is for clocks that differ.
_ON_ITS_WAY = timedelta(seconds=15)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_QUESTION_SECONDS = 60  # that the database works at one question
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d))?\Z")


class Problem(Exception):
    """A request that cannot be answered. `detail` says what to change; it never repeats an answer."""

    def __init__(self, status: int, title: str, detail: str, **headers: str):
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def bad(detail: str) -> Problem:
    return Problem(400, "The request cannot be understood", detail)


def problem_json(problem: Problem) -> tuple[bytes, str]:
    """As RFC 9457 has it."""
    body = {"title": problem.title, "status": problem.status, "detail": problem.detail}
    return orjson.dumps(body), "application/problem+json"


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes = b""
    kind: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Response | None = None  # sends itself


@dataclass(frozen=True, slots=True)
class Material:
    """What resources read from."""

    engine: Engine
    live: redis.Redis
    wave: Wave
    key: bytes

    @property
    def instrument(self) -> Instrument:
        return self.wave.instrument

    def until(self) -> datetime:
        """Rows from this moment on are not shown yet: see `recorded_until`."""
        return recorded_until(self.live)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, with what it may use."""

    reader: ApiToken
    material: Material
    params: Mapping[str, str]
    path: Mapping[str, str]
    headers: Mapping[str, str]
    base: str  # https://host
    address: str  # path of this request
    body: bytes = b""
    method: str = "GET"

    @property
    def sealed(self) -> Sealed:
        """Ids as this reader sees them."""
        return Sealed(self.material.key, f"api:{self.reader.name}")

    def only(self, *known: str) -> None:
        """Raises Problem for a parameter that is none of these."""
        for name in self.params:
            if name not in known:
                raise bad(f"{name[:40]}: unknown parameter; known: {', '.join(known) or 'none'}")

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        text = self.params.get(name)
        if text is None:
            return default
        if text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most:
            return int(text)
        raise bad(f"{name}: give a whole number from {least} to {most}")

    def after(self) -> list[Any] | None:
        """The key of the row that the page begins after; None: from the first. Raises Problem."""
        given = self.params.get("cursor")
        if given is None:
            return None
        try:
            address, *key = orjson.loads(self.sealed.open(given))
        except ValueError:
            address, key = "", []
        if address != self.address:
            raise bad("cursor: not one of this resource's; take it from `next`, or begin without")
        return list(key)

    def json_object(self, known: Mapping[str, type]) -> dict[str, Any]:
        """The body: an object of these names, each of its type; texts in one line. Raises Problem."""
        try:
            given = orjson.loads(self.body or b"{}")
        except ValueError:
            raise bad("the body must be JSON") from None
        if not isinstance(given, dict):
            raise bad("the body must be an object")
        for name, value in given.items():
            if name not in known:
                raise bad(f"{name[:40]}: unknown; known: {', '.join(known)}")
            if not isinstance(value, known[name]):
                raise bad(f"{name}: must be {known[name].__name__}")
            if isinstance(value, str) and (len(value) > 200 or not value.isprintable()):
                raise bad(f"{name}: must be at most 200 characters in one line")
        return given

    def moment(self, name: str) -> datetime | None:
        text = self.params.get(name)
        return None if text is None else read_moment(name, text)


def read_moment(name: str, text: str) -> datetime:
    """An instant in UTC from RFC 3339, or the beginning of a day. Raises Problem."""
    text = text.replace(" ", "+") if "T" in text else text  # a plus sign that was not escaped
    if _TIME.match(text):
        try:
            at = datetime.fromisoformat(text)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise bad(f"{name}: give a time with its zone, 2026-11-23T08:00:00Z, or a day")


Resource = Callable[[Asked], Answer]
ProblemWriter = Callable[[Problem], tuple[bytes, str]]


def _bound_questions(raw: Any, _record: Any) -> None:
    raw.execute(f"SET statement_timeout = '{_QUESTION_SECONDS}s'")
    raw.commit()


class Desk:
    """Takes requests in, has them worked at, sends answers."""

    def __init__(self, access: Access, database_url: str, live_url: str, wave: Wave, key: bytes):
        engine = open_engine(database_url, pool_size=_THREADS, max_overflow=0)
        if engine.dialect.name == "postgresql":
            event.listen(engine, "connect", _bound_questions)
        self.access = access
        self.material = Material(
            engine,
            redis.Redis.from_url(
                live_url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
            ),
            wave,
            key,
        )
        self._threads = ThreadPoolExecutor(_THREADS, "analysts")
        self._at_work = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.material.live.close()
        self.material.engine.dispose()

    def route(
        self,
        path: str,
        resource: Resource,
        scope: str = ROWS,
        *,
        method: str = "GET",
        problem: ProblemWriter = problem_json,
        headers: Mapping[str, str] | None = None,
    ) -> Route:
        """The resource at `path`, for readers with that scope."""

        async def answer(request: Request) -> Response:
            try:
                reader = self.access.reader(request.headers.get("authorization", ""), scope)
                answer = await self._work(resource, await self._asked(request, reader))
            except Refused as error:
                answer = _refusal(error, problem)
            except Problem as error:
                answer = _said(error, problem)
            return _response(request, answer, headers or {})

        return Route(path, answer, methods=[method])

    async def _asked(self, request: Request, reader: ApiToken) -> Asked:
        if len(request.url.query) > _MOST_QUERY:
            raise Problem(414, "The address is too long", f"give at most {_MOST_QUERY} characters of query")
        params: dict[str, str] = {}
        for name, value in [*request.query_params.multi_items(), *request.path_params.items()]:
            if _CONTROL.search(name) or _CONTROL.search(value) or "\ufffd" in value:
                raise bad("a parameter holds control characters, or is not UTF-8")
        for name, value in request.query_params.multi_items():
            if name in params:
                raise bad(f"{name[:40]}: given twice")
            params[name] = value
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BODY:
                raise Problem(413, "The body is too large", f"give at most {_MOST_BODY} octets")
        forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
        scheme = "https" if "https" in (request.url.scheme, forwarded) else "http"
        return Asked(
            reader, self.material, params, dict(request.path_params), request.headers,
            f"{scheme}://{request.url.netloc}", request.url.path, body, request.method,
        )  # fmt: skip

    async def _work(self, resource: Resource, asked: Asked) -> Answer:
        if self._at_work >= _WAITING:
            raise Problem(503, "Busy", "many ask at once; ask again", Retry_After="5")
        self._at_work += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, resource, asked)
        except (Problem, Refused):
            raise
        except (SQLAlchemyError, redis.RedisError) as error:  # its text may name the address and the user
            log.warning("no answer: %s at %s", type(error).__name__, where(error))
            what = "the record" if isinstance(error, SQLAlchemyError) else "the live store"
            raise Problem(
                503, "Away", f"{what} is not reached, or was too slow; ask again", Retry_After="10"
            ) from None
        except Exception as error:
            log.error("an answer failed: %s at %s", type(error).__name__, where(error))
            raise Problem(500, "A fault of ours", "the request could not be answered; report it") from None
        finally:
            self._at_work -= 1


def _refusal(error: Refused, problem: ProblemWriter) -> Answer:
    titles = {401: "No valid token", 403: "Not with this token", 429: "Too many requests"}
    headers = {"Retry_After": str(error.retry_after)} if error.retry_after else {}
    if error.status == 401:
        headers["WWW_Authenticate"] = 'Bearer realm="Dial 16", Basic realm="Dial 16", charset="UTF-8"'
    return _said(Problem(error.status, titles[error.status], error.detail, **headers), problem)


def _said(error: Problem, problem: ProblemWriter) -> Answer:
    body, kind = problem(error)
    return Answer(body, kind, error.status, error.headers)


def _response(request: Request, answer: Answer, more: Mapping[str, str]) -> Response:
    if answer.file is not None:
        return answer.file
    headers = {"Cache-Control": "private, no-cache", "Vary": "Authorization", **more, **answer.headers}
    if answer.status == 200 and request.method in ("GET", "HEAD"):
        tag = f'"{sha256(answer.body).hexdigest()[:32]}"'
        headers["ETag"] = tag
        known = [t.strip().removeprefix("W/") for t in request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
    return Response(answer.body, answer.status, headers, media_type=answer.kind)


def as_json(value: Any, headers: Mapping[str, str] | None = None, kind: str = "application/json") -> Answer:
    """`value` as JSON; times in RFC 3339 with their offset."""
    return Answer(orjson.dumps(value), kind, 200, headers or {})


def page_of(
    asked: Asked,
    rows: Sequence[Mapping[str, Any]],
    more: bool,
    key: Sequence[Any] | None,
    *,
    lasting: bool = True,
) -> Answer:
    """Rows, and where the next ones are: `next` while there are more, `cursor` to ask again later.

    key: of the last row shown. lasting: what comes in later comes after it; else there is no `cursor`.
    """
    cursor = asked.params.get("cursor")
    if key is not None:
        cells = [c.isoformat() if isinstance(c, datetime) else c for c in key]
        cursor = asked.sealed.seal(orjson.dumps([asked.address, *cells]).decode())
    following = {**asked.params, "cursor": cursor} if cursor else dict(asked.params)
    following_page = f"{asked.address}?{urlencode(following)}" if more else None
    return as_json({"data": list(rows), "next": following_page, "cursor": cursor if lasting else None})


def book_page(
    asked: Asked,
    found: Callable[[datetime, tuple[datetime, str] | None, int], Sequence[Any]],
    shown_as: Callable[[Any], Mapping[str, Any]],
) -> Answer:
    """What the reader asked for, page by page in the order of asking.

    found: at most so many, from before a moment and after a key (moment, id). shown_as: what is told of each,
    which has `asked_at` and `id`.
    """
    asked.only("limit", "cursor")
    limit, after = asked.whole("limit", PAGE, 1, MOST), asked.after()
    key = (datetime.fromisoformat(after[0]), after[1]) if after else None
    rows = found(datetime.now(UTC) - _ON_ITS_WAY, key, limit + 1)
    shown, more = rows[:limit], len(rows) > limit
    last = (shown[-1].asked_at, shown[-1].id) if shown else None
    return page_of(asked, [shown_as(row) for row in shown], more, last)


def methods_of(routes: Sequence[Route]) -> dict[str, set[str]]:
    """Path -> methods, of these routes."""
    found: dict[str, set[str]] = {}
    for route in routes:
        found.setdefault(route.path, set()).update((route.methods or set()) - {"HEAD"})
    return found
