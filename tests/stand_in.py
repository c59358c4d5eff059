"""A gateway of four fixed screens behind the simulator's wire, for tests of the two handsets.

Literal and small, so that what a handset shows, posts and saves can be compared word for word. It
resumes like the real one and remembers what reached it.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flows.instrument import load
from flows.wave import Wave, load_wave
from gateway.aggregators.simulator import Simulator
from gateway.messages import Hop, SessionEnded, WireError
from gateway.pages import page_routes

ROOT = Path(__file__).parent.parent
SECRET = "not-a-secret"
HOOK = f"/hooks/simulator/{SECRET}/ussd"
CODE = "*384*16#"

CONSENT = "Survey on public services. Free, 10 min, private.\nTake part?\n1 Yes\n2 No"
AGE = "How old are you, in years? [99 Skip]"
HEALTH = (
    "Health centre: easy to get there?\n1 Strongly agree\n2 Agree\n3 Disagree\n4 Strongly disagree\n0 Back"
)
THANKS = "Thank you. Dial *384*16# to see results."
BACK_AGAIN = "Welcome back.\n1 Go on\n2 Stop"
SCREENS = (CONSENT, AGE, HEALTH, THANKS)


@dataclass
class StandIn:
    url: str = ""
    hops: list[Hop] = field(default_factory=list)
    notices: list[SessionEnded] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)  # msisdn -> index of the screen it is at
    shown: dict[tuple[str, int], bytes] = field(default_factory=dict)  # (session, sequence) -> reply
    failing: int = 0  # answer this status instead of a screen
    fails_from: int = 0  # from this hop of a session on, answer 503
    delay_seconds: float = 0.0
    ready: bool = True

    def answer(self, hop: Hop) -> bytes:
        """The reply to a hop; a repeat gets the same and moves nothing."""
        key = (hop.session, hop.sequence)
        if key not in self.shown:
            place = self.places.get(hop.msisdn)
            if hop.sequence == 1:
                text = BACK_AGAIN if place else SCREENS[0]
                self.places.setdefault(hop.msisdn, 0)
            elif hop.sequence == 2 and self.shown[hop.session, 1] == Simulator().write_screen(
                BACK_AGAIN, False
            ):
                text = SCREENS[self.places[hop.msisdn]]
            else:
                self.places[hop.msisdn] = min((place or 0) + 1, len(SCREENS) - 1)
                text = SCREENS[self.places[hop.msisdn]]
            self.shown[key] = Simulator().write_screen(text, text == THANKS)
        return self.shown[key]

    def app(self) -> Starlette:
        async def ussd(request: Request) -> Response:
            try:
                hop = Simulator().read_hop(await request.body())
            except WireError as error:
                return JSONResponse({"error": str(error)}, error.status)
            self.hops.append(hop)
            if self.failing or 0 < self.fails_from <= hop.sequence:
                return JSONResponse({"error": "away"}, self.failing or 503)
            body = self.answer(hop)
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            return Response(body, media_type=Simulator.reply_type)

        async def events(request: Request) -> Response:
            self.notices.append(Simulator().read_session_ended(await request.body()))
            return Response(status_code=204)

        async def health(request: Request) -> Response:
            parts = {
                "live store": {"up": True, "detail": "1.2 ms"},
                "database": {"up": self.ready, "detail": "" if self.ready else "refused the connection"},
            }
            return JSONResponse({"ready": self.ready, "parts": parts}, 200 if self.ready else 503)

        hook_hint = "/hooks/africastalking/••••••••/ussd"
        pages = page_routes(waves=[wave()], simulator_hook=HOOK, hook_hint=hook_hint)
        return Starlette(
            routes=[
                *pages,
                Route(HOOK, ussd, methods=["POST"]),
                Route(HOOK + "/events", events, methods=["POST"]),
                Route("/health/ready", health),
            ]
        )


def wave() -> Wave:
    return load_wave(ROOT / "deploy" / "wave.toml", load(ROOT / "flows" / "sdg_16_6_2"))


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """`stand_in` on a free port of this machine, for as long as the block runs."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(stand_in.app(), log_level="warning", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    give_up_at = time.monotonic() + 10
    while not server.started and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert server.started, "the stand-in did not start"
    stand_in.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield stand_in
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
