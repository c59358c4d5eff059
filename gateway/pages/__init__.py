"""The pages people open in a browser: home, and a handset to dial with."""

from hashlib import sha256
from os import PathLike, stat_result
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from flows.wave import Wave

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"

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
    "Cache-Control": "no-store",  # the handset page holds the webhook's secret
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


def templates() -> Environment:
    """The pages' templates; what they insert is escaped, what they lack is an error."""
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


def page_routes(*, wave: Wave, simulator_hook: str | None, hook_hint: str) -> list[BaseRoute]:
    """Home, handset and static files.

    `simulator_hook`: path of the simulator's USSD webhook, secret included; None where the simulator
    is off, and then there is no handset page. `hook_hint`: what home shows as the path to post to,
    secret masked.
    """
    pages = templates()
    static = static_versions()
    # Neither page depends on the request: rendered once, here, so a fault shows at start-up.
    home_page = pages.get_template("home.html").render(
        static=static,
        wave=wave,
        instrument=wave.instrument,
        languages=[wave.instrument.languages[name] for name in wave.languages],
        services=[block.id.replace("_", " ") for block in wave.instrument.blocks if block.drawn],
        handset=simulator_hook is not None,
        hook_hint=hook_hint,
    )

    async def home(request: Request) -> Response:
        return HTMLResponse(home_page, headers=HEADERS)

    routes: list[BaseRoute] = [Route("/", home), Mount("/static", _Static(directory=_STATIC))]
    if simulator_hook is not None:
        handset_page = pages.get_template("handset.html").render(
            static=static,
            wave=wave,
            hook=simulator_hook,
            code=wave.code,
            prefix=wave.countries[0] if wave.countries else "+233",
            networks=_networks(wave),
        )

        async def handset(request: Request) -> Response:
            return HTMLResponse(handset_page, headers=HEADERS)

        routes.append(Route("/handset", handset))
    return routes
