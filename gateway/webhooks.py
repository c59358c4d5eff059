"""The aggregators' webhooks: check the secret, size and content type; translate; call; reply. Thin.

    POST /hooks/{aggregator}/{secret}/ussd           one hop
    POST /hooks/{aggregator}/{secret}/ussd/events    the end of a session
    POST /hooks/{aggregator}/{secret}/sms            a text message; 404 if no wave takes them
    POST /hooks/{aggregator}/{secret}/sms/delivery   what became of a message that we sent
    POST /hooks/{aggregator}/{secret}/sms/opt-out    somebody wants no more messages

Plain ASGI behind plain routes: a hop costs a third of what FastAPI's form parameters cost
(bench/README.md). A wrong secret is 404 before anything is read. A malformed request is a 4xx that
names fields, never values. Whatever else goes wrong is a well-formed END, because the aggregator
shows its own error on anything else; nothing was committed, so a dial goes on at the same question.
What is not a hop is answered 200 once it is durable and 503 until then, because it is sent again.
"""

import asyncio
import hmac
import logging
from collections.abc import Coroutine, Mapping, Sequence
from hashlib import sha256

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.aggregators import AGGREGATORS, Aggregator
from gateway.dialogue import Channel, NotServed
from gateway.faults import where
from gateway.messages import WireError
from gateway.switchboard import Switchboard
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

    def __init__(self, board: Switchboard, doors: Doors):
        self._board = board
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
                screen = await self._board.hop(channel, hop)
        except (Unavailable, TimeoutError) as error:
            log.error("hop not served session=%s: %s", hop.session, str(error) or "hard stop")
            known = error.interview if isinstance(error, NotServed) else None
            screen = self._board.phrase("unavailable", known, hop.service_code)
        except Exception as error:
            # Never the error's text: it may quote an answer.
            log.error("hop failed session=%s: %s at %s", hop.session, type(error).__name__, where(error))
            screen = self._board.phrase("unavailable", code=hop.service_code)
        return aggregator.write_screen(screen.text, screen.ends)


class _NoticeHook(_Hook):
    """A request that nobody waits for on the line. It is sent again until it is answered 200."""

    what = ""
    logged_as = ""

    async def answer(self, aggregator: Aggregator, channel: Channel, body: bytes) -> bytes:
        taking, of = self.take(aggregator, channel, body)
        try:
            async with asyncio.timeout(HARD_STOP_SECONDS):
                await taking
        except (Unavailable, TimeoutError) as error:
            log.error("%s not noted %s: %s", self.logged_as, of, str(error) or "hard stop")
            raise WireError(503, f"the {self.what} could not be stored; send it again") from None
        except Exception as error:
            log.error("%s failed %s: %s at %s", self.logged_as, of, type(error).__name__, where(error))
            raise WireError(500, f"the {self.what} could not be stored") from None
        return b"OK"

    def take(
        self, aggregator: Aggregator, channel: Channel, body: bytes
    ) -> tuple[Coroutine[None, None, None], str]:
        """What takes the request in, and an id for the log: never a number."""
        raise NotImplementedError


class SessionEndedHook(_NoticeHook):
    what = "notice"
    logged_as = "session's end"

    def take(
        self, aggregator: Aggregator, channel: Channel, body: bytes
    ) -> tuple[Coroutine[None, None, None], str]:
        """Answers 200 whatever the status word: an error would only start retries."""
        notice = aggregator.read_session_ended(body)
        return self._board.session_ended(channel, notice), f"session={notice.session}"


class InboundSmsHook(_NoticeHook):
    what = logged_as = "message"

    def take(
        self, aggregator: Aggregator, channel: Channel, body: bytes
    ) -> tuple[Coroutine[None, None, None], str]:
        if not self._board.texted:
            raise WireError(404, "no wave here takes text messages")
        message = aggregator.read_inbound_sms(body)
        return self._board.text(channel.aggregator, message), f"id={message.id}"


class DeliveryReportHook(_NoticeHook):
    what = "report"
    logged_as = "delivery report"

    def take(
        self, aggregator: Aggregator, channel: Channel, body: bytes
    ) -> tuple[Coroutine[None, None, None], str]:
        """Answers 200 whatever the status word."""
        report = aggregator.read_delivery_report(body)
        return self._board.delivered(channel.aggregator, report), f"id={report.message_id}"


class OptOutHook(_NoticeHook):
    what = logged_as = "opt-out"

    def take(
        self, aggregator: Aggregator, channel: Channel, body: bytes
    ) -> tuple[Coroutine[None, None, None], str]:
        return self._board.opted_out(channel.aggregator, aggregator.read_opt_out(body)), "-"


def webhook_routes(board: Switchboard, doors: Doors) -> list[BaseRoute]:
    """The routes."""
    at = "/hooks/{aggregator}/{secret}"
    hooks: dict[str, _Hook] = {
        "ussd": UssdHook(board, doors),
        "ussd/events": SessionEndedHook(board, doors),
        "sms": InboundSmsHook(board, doors),
        "sms/delivery": DeliveryReportHook(board, doors),
        "sms/opt-out": OptOutHook(board, doors),
    }
    return [
        Route(f"{at}/{path}", hook, methods=["POST"], name=path.replace("/", "_"))
        for path, hook in hooks.items()
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
