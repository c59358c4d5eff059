"""The fieldwork page: how a wave stands, for staff who hold the staff token.

Open with `Authorization: Bearer TOKEN`, or by signing in: the cookie then holds until when, and the
token's HMAC over that, so a new token or the time alone ends it and nothing is kept here. Wrong tokens
are counted over everybody, since behind a proxy all callers look alike; who is signed in is not affected.

Figures are counted on an engine and a thread of their own, one wave at a time, so that no hop waits for
them; everybody who looks meanwhile gets the figures of before.
"""

import asyncio
import hmac
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import parse_qs, urlencode

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from flows.wave import Wave
from gateway.pages import HEADERS, NETWORKS, static_versions, templates
from storage.analysis.fieldwork import KINDS, Fieldwork, fieldwork, waves
from storage.database import open_engine

log = logging.getLogger("dial16.fieldwork")

PATH = "/fieldwork"
_COOKIE = "dial16_staff"
_SIGNED_IN_SECONDS = 12 * 3600  # a working day
_MOST_FAILURES, _FAILURE_SECONDS = 10, 60
_MOST_FORM = 2048  # octets of a sign-in
_FRESH_SECONDS = 10.0  # figures are counted again after that,
_FRESH_TIMES = 20.0  # or after this many times what counting took: it takes a twentieth of the time at most
_PATIENCE_SECONDS = 4.0  # that a page waits for figures
_RELOAD_SECONDS = 30  # after which an open page fetches them again

_STAFF_HEADERS = HEADERS | {
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace(
        "form-action 'none'", "form-action 'self'"
    )
}
NETWORK_NAMES = {code: name for code, name, _ in NETWORKS}


# ---------------------------------------------------------------- figures


@dataclass
class _Kept:
    """A wave's figures, and how they were had."""

    figures: Fieldwork | None = None
    until: float = 0.0  # fresh
    away: bool = False  # the last try found no database
    running: "asyncio.Task[None] | None" = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to show. Without figures: away, or not counted yet."""

    figures: Fieldwork | None
    away: bool
    waves: Sequence[str]


@dataclass
class Figures:
    """The figures of every wave, counted when asked for and kept for some seconds."""

    served: Sequence[Wave]  # by the gateway; the first is shown unless another is asked for
    database_url: str

    def __post_init__(self) -> None:
        self._engine = open_engine(self.database_url, pool_size=1, max_overflow=0)
        self._thread = ThreadPoolExecutor(1, "fieldwork")
        self._kept: dict[str, _Kept] = {}
        self._by_id = {wave.id: wave for wave in self.served}
        self._waves: list[str] = [*self._by_id]

    async def of(self, wave: str) -> Shown:
        """The wave's figures, fresh if they can be had in a few seconds; of a wave nobody knows, none."""
        if wave not in self._waves and wave not in self._kept:
            away = await self._look_for_waves()  # it may be new
            if wave not in self._waves:
                return Shown(None, away, self._waves)
        kept = self._kept.setdefault(wave, _Kept())
        if time.monotonic() >= kept.until:
            if kept.running is None or kept.running.done():
                kept.running = asyncio.create_task(self._refresh(kept, wave))
            done, _ = await asyncio.wait([kept.running], timeout=_PATIENCE_SECONDS)
            for task in done:
                task.result()
        return Shown(kept.figures, kept.away, self._waves)

    async def _refresh(self, kept: _Kept, wave: str) -> None:
        begun = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            kept.figures, self._waves = await loop.run_in_executor(self._thread, self._count, wave)
            kept.away = False
        except SQLAlchemyError as error:  # its text may name the address and the user
            log.warning("no fieldwork figures: %s", type(error).__name__)
            kept.away = True
        now = time.monotonic()
        kept.until = now + max(_FRESH_SECONDS, _FRESH_TIMES * (now - begun))

    async def _look_for_waves(self) -> bool:
        """Whether the database was away."""
        try:
            self._waves = await asyncio.get_running_loop().run_in_executor(self._thread, self._known)
        except SQLAlchemyError:
            return True
        return False

    def _known(self) -> list[str]:
        return sorted({*waves(self._engine), *self._by_id})

    def _count(self, wave: str) -> tuple[Fieldwork, list[str]]:
        figures = fieldwork(
            self._engine, wave, self.file_of(wave).instrument, served=self._by_id.get(wave),
            networks=NETWORK_NAMES,
        )  # fmt: skip
        return figures, self._known()

    def file_of(self, wave: str) -> Wave:
        """The wave as its file has it; of one that is over, the first: its questions are much the same."""
        return self._by_id.get(wave, self.served[0])

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()


# ---------------------------------------------------------------- who may look


class Staff:
    """Who holds the token. `now`: seconds since 1970; replaced in tests only by waiting less."""

    def __init__(self, token: str, now: Callable[[], float] = time.time):
        if not token:
            raise ValueError("without a staff token there is no page")
        self._token, self._now = token.encode(), now
        self._failures: deque[float] = deque()

    def ticket(self) -> str:
        """The cookie's value: until when, and the proof."""
        until = str(int(self._now()) + _SIGNED_IN_SECONDS)
        return f"{until}.{self._proof(until)}"

    def _proof(self, until: str) -> str:
        return hmac.digest(self._token, b"dial16 staff v1 " + until.encode(), "sha256").hex()

    def holds_ticket(self, cookie: str) -> bool:
        until, _, proof = cookie.partition(".")
        if not (until.isascii() and until.isdigit() and len(until) < 16):
            return False
        return hmac.compare_digest(proof.encode(), self._proof(until).encode()) and int(until) > self._now()

    @property
    def locked(self) -> bool:
        """Too many wrong tokens lately: none is looked at."""
        while self._failures and self._failures[0] <= self._now() - _FAILURE_SECONDS:
            self._failures.popleft()
        return len(self._failures) >= _MOST_FAILURES

    def is_token(self, given: str) -> bool:
        if hmac.compare_digest(given.encode(), self._token):
            return True
        self._failures.append(self._now())
        return False

    def refusal(self, request: Request) -> int:
        """0 if this request may look; else the status to refuse with."""
        if self.holds_ticket(request.cookies.get(_COOKIE, "")):
            return 0
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return 401
        if self.locked:
            return 429
        return 0 if self.is_token(given.strip()) else 401


# ---------------------------------------------------------------- routes


#: None: may look. Else the answer for who may not.
Door = Callable[[Request], Response | None]


def fieldwork_routes(
    figures: Figures, token: str, more: Callable[[Door], Sequence[BaseRoute]] | None = None
) -> list[BaseRoute]:
    """The page, its figures alone, signing in and out. No token: no routes, so nothing is found there.

    `more`: other pages for staff, under this one's path, behind the same door."""
    if not token:
        return []
    staff, pages = Staff(token), templates()
    pages.filters |= FILTERS
    static = static_versions()
    page, fragment = pages.get_template("fieldwork.html"), pages.get_template("fieldwork_figures.html")
    door = pages.get_template("fieldwork_sign_in.html")

    def html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return HTMLResponse(text, status, {**_STAFF_HEADERS, **(headers or {})})

    def refused(status: int, said: str = "") -> Response:
        more = {"Retry-After": str(_FAILURE_SECONDS)} if status == 429 else {}
        return html(door.render(static=static, said=said, action=f"{PATH}/sign-in"), status, more)

    def turned_away(request: Request) -> Response | None:
        status = staff.refusal(request)
        if status == 401 and "authorization" not in request.headers:
            return RedirectResponse(f"{PATH}/sign-in", 303, _STAFF_HEADERS)
        return refused(status, _SAID[status]) if status else None

    async def show(request: Request) -> Response:
        if (answer := turned_away(request)) is not None:
            return answer
        status, values = await context(request)
        return html(page.render(static=static, path=PATH, seconds=_RELOAD_SECONDS, **values), status)

    async def show_figures(request: Request) -> Response:
        if status := staff.refusal(request):
            return html(_SAID[status], status)
        status, values = await context(request)
        return html(fragment.render(**values), status)

    async def context(request: Request) -> tuple[int, dict[str, object]]:
        wave = request.query_params.get("wave", "") or figures.served[0].id
        shown = await figures.of(wave)
        known = wave in shown.waves
        status = 404 if not known else 200 if shown.figures else 503
        return status, {
            "wave": wave,
            "query": urlencode({"wave": wave}),
            "waves": shown.waves,
            "instrument": figures.file_of(wave).instrument,
            "f": shown.figures,
            "away": shown.away,
            "known": known,
            "zone": figures.file_of(wave).contacting.zone,
            "kinds": KIND_NAMES,
        }

    async def ask(request: Request) -> Response:
        return refused(200)

    async def sign_in(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return refused(403, "Sign in from this page.")
        if staff.locked:
            return refused(429, _SAID[429])
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_FORM:
                return refused(413, _SAID[401])
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if not staff.is_token(given):
            return refused(403, _SAID[401])
        response = RedirectResponse(PATH, 303, _STAFF_HEADERS)
        response.set_cookie(
            _COOKIE, staff.ticket(), max_age=_SIGNED_IN_SECONDS, path=PATH, httponly=True, samesite="strict",
            secure=_over_https(request),
        )  # fmt: skip
        return response

    async def sign_out(request: Request) -> Response:
        response = RedirectResponse(f"{PATH}/sign-in", 303, _STAFF_HEADERS)
        response.delete_cookie(
            _COOKIE, path=PATH, httponly=True, samesite="strict", secure=_over_https(request)
        )
        return response

    def route(path: str, endpoint: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        return Route(PATH + path, endpoint, methods=[method])

    return [
        route("", show, "GET"),
        route("/figures", show_figures, "GET"),
        route("/sign-in", ask, "GET"),
        route("/sign-in", sign_in, "POST"),
        route("/sign-out", sign_out, "POST"),
        *(more(turned_away) if more is not None else ()),
    ]


_SAID = {
    401: "That is not the staff token.",
    429: "Too many wrong tokens. Wait a minute, then try again.",
}


def _over_https(request: Request) -> bool:
    """Here, or at the proxy before us. Who forges the header restricts their own cookie."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))


# ---------------------------------------------------------------- words and numbers

KIND_NAMES = dict(
    zip(
        KINDS,
        ("complete", "partial", "in progress", "break-off", "refused", "not eligible", "looked at results"),
        strict=True,
    )
)


def share(value: float | None, digits: int = 1) -> str:
    """0.1858 -> 18.6 %; a dash where there is no base."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def whole(value: int) -> str:
    return f"{value:,}"


def money(value: Decimal) -> str:
    """To the hundredth; what is not nought does not show as nought."""
    return f"{value:,.2f}" if value >= Decimal("0.01") or not value else f"{value:,.4f}"


def words(name: str) -> str:
    return name.replace("break_off", "break-off").replace("_", " ")


FILTERS: dict[str, Callable[..., str]] = {"share": share, "whole": whole, "money": money, "words": words}
