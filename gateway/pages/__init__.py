"""The pages people open in a browser: home, and a handset to dial with."""

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from hashlib import sha256
from os import PathLike, stat_result
from pathlib import Path

import orjson
import redis
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from flows.wave import Wave
from gateway.aggregators.simulator_phones import Inbox

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
_MOST_ASKED = 256  # octets

#: Networks that the page handset can be on: network code, name, name on the phone's status line.
NETWORKS = (
    ("99999", "Sandbox", "Sandbox"),
    ("62001", "MTN Ghana", "MTN"),
    ("62002", "Telecel Ghana", "Telecel"),
    ("62003", "AirtelTigo (ex-Tigo)", "AT"),
    ("62006", "AirtelTigo (ex-Airtel)", "AT"),
)

# Nothing inline and nothing from elsewhere: pages hand data to scripts in data- attributes.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",  # the handset page holds the webhook's secret, others figures for staff
}


class _Static(StaticFiles):
    """Static files: kept for good when asked for by version, else revalidated."""

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        versioned = scope["query_string"].startswith(b"v=")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


@cache
def templates() -> Environment:
    """The pages' templates, each read once; what they insert is escaped, what they lack is an error."""
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def static_versions() -> dict[str, str]:
    """Each static file's address, with a digest of its content so that a new release is a new address."""
    return {
        file.name: f"/static/{file.name}?v={sha256(file.read_bytes()).hexdigest()[:10]}"
        for file in sorted(_STATIC.iterdir())
    }


def _networks(wave: Wave) -> list[dict[str, str | int]]:
    known = {code for code, _, _ in NETWORKS}
    rows = NETWORKS + tuple((code, code, code) for code in wave.budgets if code not in known)
    return [
        {"code": code, "name": name, "short": short, "budget": wave.budget_for(code)}
        for code, name, short in rows
    ]


def _shown(wave: Wave) -> dict[str, object]:
    """What home tells of a wave."""
    return {
        "wave": wave,
        "instrument": wave.instrument,
        "languages": [wave.instrument.languages[name] for name in wave.languages],
        "services": [wave.instrument.blocks[index].id.replace("_", " ") for index in wave.drawn],
        "opens": f"{wave.opening.opens_at:%Y-%m-%d %H:%M %Z}" if wave.opening.opens_at else "",
        "closes": f"{wave.opening.closes_at:%Y-%m-%d %H:%M %Z}" if wave.opening.closes_at else "",
    }


def page_routes(
    *, waves: Sequence[Wave], simulator_hook: str | None, hook_hint: str, inbox: Inbox | None = None
) -> list[BaseRoute]:
    """Home, handset and static files.

    `simulator_hook`: path of the simulator's USSD webhook, secret included; None where the simulator
    is off, and then there is no handset page. `inbox`: what a simulated phone received; None: the handset
    has no text messages. `hook_hint`: what home shows as the path to post to,
    secret masked.
    """
    pages, static = templates(), static_versions()
    # Neither page depends on the request: rendered once, here, so a fault shows at start-up.
    home_page = pages.get_template("home.html").render(
        static=static,
        waves=[_shown(wave) for wave in waves],
        handset=simulator_hook is not None,
        hook_hint=hook_hint,
    )

    async def home(request: Request) -> Response:
        return HTMLResponse(home_page, headers=HEADERS)

    routes: list[BaseRoute] = [Route("/", home), Mount("/static", _Static(directory=_STATIC))]
    if simulator_hook is not None:
        wave, codes = waves[0], list(dict.fromkeys(w.code for w in waves))
        handset_page = pages.get_template("handset.html").render(
            static=static,
            wave=wave,
            hook=simulator_hook,
            codes=json.dumps(codes),
            prompt=" or ".join(codes),
            prefix=wave.countries[0] if wave.countries else "+233",
            networks=_networks(wave),
            texting=inbox is not None and bool(wave.sms_sender),
        )

        async def handset(request: Request) -> Response:
            return HTMLResponse(handset_page, headers=HEADERS)

        routes.append(Route("/handset", handset))
        if inbox is not None:
            path = simulator_hook.removesuffix("/ussd") + "/inbox"
            routes.append(Route(path, _inbox_of(inbox), methods=["POST"]))
    return routes


def _inbox_of(inbox: Inbox) -> Callable[[Request], Awaitable[Response]]:
    """POST `{"msisdn": ...}`: a number stands in no address. 503 while the live store is away."""

    async def answer(request: Request) -> Response:
        try:
            asked = orjson.loads((await request.body())[:_MOST_ASKED])
            msisdn = asked["msisdn"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return JSONResponse({"error": "msisdn is missing"}, 400, HEADERS)
        if not isinstance(msisdn, str):
            return JSONResponse({"error": "msisdn must be a string"}, 400, HEADERS)
        try:
            return JSONResponse(await inbox(msisdn), headers=HEADERS)
        except redis.RedisError:
            return JSONResponse({"error": "the live store is away"}, 503, HEADERS)

    return answer
