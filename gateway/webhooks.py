"""The aggregators' webhooks: check the secret, size and content type; translate; call; reply. Thin.

    POST /hooks/{aggregator}/{secret}/ussd           one hop
    POST /hooks/{aggregator}/{secret}/ussd/events    the end of a session

Plain ASGI behind plain routes: a hop costs a third of what FastAPI's form parameters cost
(bench/README.md). A wrong secret is 404 before anything is read. A malformed request is a 4xx that
names fields, never values. Whatever else goes wrong is a well-formed END, because the aggregator
shows its own error on anything else; nothing was committed, so a dial goes on at the same question.
"""

import asyncio
import hmac
import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.aggregators import AGGREGATORS, Aggregator
from gateway.dialogue import Channel, Dialogue, NotServed
from gateway.faults import where
from gateway.messages import WireError
from storage.resp import Unavailable

log = logging.getLogger("dial16.webhooks")

#: Aggregators allow 7 to 10 s; a respondent is told to dial again well before that.
HARD_STOP_SECONDS = 4.0


class Doors:
    """Which secrets open which aggregator's webhooks. Kept as digests, compared in constant time."""

    def __init__(self, secrets: Mapping[str, Sequence[str]]):
        """`secrets`: by aggregator; two may be valid at once, for rotation. None given: closed."""
        self._digests = {
            name: tuple(sha256(s.encode()).digest() for s in valid) for name, valid in secrets.items()
        }

    def open(self, aggregator: str, secret: str) -> bool:
        given = sha256(secret.encode("utf-8", "surrogatepass")).digest()
        fits = False
        for digest in self._digests.get(aggregator, ()):
            fits |= hmac.compare_digest(given, digest)
        return fits


class _Hook:
    """One webhook as an ASGI app."""

    def __init__(self, dialogue: Dialogue, doors: Doors):
        self._dialogue = dialogue
        self._doors = doors
        self._channels = {n: Channel(n, a.cumulative) for n, a in AGGREGATORS.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: dict[str, str] = scope["path_params"]
        name = path["aggregator"]
        if not self._doors.open(name, path["secret"]):
            await _send(send, 404, b"not found", b"text/plain; charset=utf-8")
            return
        aggregator = AGGREGATORS[name]
        try:
            body = await _read(scope, receive, aggregator)
            answer = await self.answer(aggregator, self._channels[name], body)
        except WireError as error:
            await _send(send, error.status, str(error).encode(), b"text/plain; charset=utf-8")
            return
        await _send(send, 200, answer, aggregator.reply_type.encode())

    async def answer(self, aggregator: Aggregator, channel: Channel, body: bytes) -> bytes:
        raise NotImplementedError


class UssdHook(_Hook):
    async def answer(self, aggregator: Aggregator, channel: Channel, body: bytes) -> bytes:
        hop = aggregator.read_hop(body)
        try:
            async with asyncio.timeout(HARD_STOP_SECONDS):
                screen = await self._dialogue.hop(channel, hop)
        except (Unavailable, TimeoutError) as error:
            log.error("hop not served session=%s: %s", hop.session, str(error) or "hard stop")
            known = error.interview if isinstance(error, NotServed) else None
            screen = self._dialogue.phrase("unavailable", known)
        except Exception as error:
            # Never the error's text: it may quote an answer.
            log.error("hop failed session=%s: %s at %s", hop.session, type(error).__name__, where(error))
            screen = self._dialogue.phrase("unavailable")
        return aggregator.write_screen(screen.text, screen.ends)


class SessionEndedHook(_Hook):
    async def answer(self, aggregator: Aggregator, channel: Channel, body: bytes) -> bytes:
        """Answers 200 whatever the status word: an error would only start retries."""
        notice = aggregator.read_session_ended(body)
        try:
            async with asyncio.timeout(HARD_STOP_SECONDS):
                await self._dialogue.session_ended(channel, notice)
        except (Unavailable, TimeoutError) as error:
            log.error("session's end not noted session=%s: %s", notice.session, str(error) or "hard stop")
            raise WireError(503, "the notice could not be stored; send it again") from None
        except Exception as error:
            what = f"{type(error).__name__} at {where(error)}"
            log.error("session's end failed session=%s: %s", notice.session, what)
            raise WireError(500, "the notice could not be stored") from None
        return b"OK"


def webhook_routes(dialogue: Dialogue, doors: Doors) -> list[BaseRoute]:
    at = "/hooks/{aggregator}/{secret}/ussd"
    return [
        Route(at, UssdHook(dialogue, doors), methods=["POST"], name="ussd"),
        Route(at + "/events", SessionEndedHook(dialogue, doors), methods=["POST"], name="ussd_events"),
    ]


async def _read(scope: Scope, receive: Receive, aggregator: Aggregator) -> bytes:
    """The body. Raises WireError 415 on another content type, 413 on too much."""
    for key, value in scope["headers"]:
        if key == b"content-type":
            kind = value.decode("latin-1").partition(";")[0].strip().lower()
            if kind != aggregator.content_type:
                raise WireError(415, f"content type must be {aggregator.content_type}")
            break
    else:
        raise WireError(415, f"content type must be {aggregator.content_type}")
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise WireError(400, "the request was not sent to its end")
        chunk = message.get("body", b"")
        body = body + chunk if body else chunk
        if len(body) > aggregator.max_body:
            raise WireError(413, f"the body is over {aggregator.max_body} octets")
        more = message.get("more_body", False)
    return body


async def _send(send: Send, status: int, body: bytes, kind: bytes) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", kind), (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})
