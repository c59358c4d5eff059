"""The aggregators' webhooks on airtime: whether an order is ours, and what became of it. JSON.

    POST /hooks/{aggregator}/{secret}/airtime/validation   asked before paying
    POST /hooks/{aggregator}/{secret}/airtime/status       what became of an order

A validation is answered from our own ledger and by nothing else, and no is the answer to whatever is not
certain: an order that we do not know, a database that is away or slow. A status goes on the stream, as a
delivery report does, and is answered 200 whatever its word once it is there; 503 until then.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.aggregators import AGGREGATORS, Aggregator
from gateway.faults import where
from gateway.messages import WireError
from gateway.served_wave import now_ms
from gateway.webhooks import Doors
from storage.airtime import REFUSED, VALIDATED, hundredths, validate
from storage.live import LiveStore, compact
from storage.resp import Unavailable
from storage.respondents import Pseudonyms

log = logging.getLogger("dial16.webhooks")

_MOST_OCTETS = 8192  # five short fields
_ANSWER_SECONDS = 3.0  # our own: no deadline is documented for these, and a hop's is 10
_THREADS = 4  # apart from the lookups of hops: a database that hangs must not fill their threads


class AirtimeHooks:
    def __init__(self, engine: Engine, live: LiveStore, pseudonyms: Pseudonyms, doors: Doors):
        self._engine, self._live, self._pseudonyms, self._doors = engine, live, pseudonyms, doors
        self._threads = ThreadPoolExecutor(_THREADS, "airtime")

    def routes(self) -> list[BaseRoute]:
        at = "/hooks/{aggregator}/{secret}/airtime"
        return [
            Route(f"{at}/validation", self._door(self._validation), methods=["POST"]),
            Route(f"{at}/status", self._door(self._status), methods=["POST"]),
        ]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _door(
        self, answer: Callable[[Aggregator, bytes], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A wrong secret is 404 before anything is read; a malformed request a 4xx that names fields."""

        async def hook(request: Request) -> Response:
            name = request.path_params["aggregator"]
            if not self._doors.open(name, request.path_params["secret"]):
                return PlainTextResponse("not found", 404)
            try:
                return await answer(AGGREGATORS[name], await _read(request))
            except WireError as error:
                return PlainTextResponse(str(error), error.status)

        return hook

    async def _validation(self, aggregator: Aggregator, body: bytes) -> Response:
        asked = aggregator.read_airtime_validation(body)
        respondent = self._pseudonyms.of(asked.msisdn)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                ours = await asyncio.get_running_loop().run_in_executor(
                    self._threads, validate, self._engine, aggregator.name, asked.transaction_id, respondent,
                    asked.amount, asked.currency, datetime.now(UTC),
                )  # fmt: skip
        except Exception as error:  # a store is away, or a bug: no in either case, and never its text
            log.error("airtime not validated: %s at %s", type(error).__name__, where(error))
            ours = False
        if not ours:
            log.error("ALARM airtime refused: transaction=%s is no payment of ours", asked.transaction_id)
        said = json.dumps({"status": VALIDATED if ours else REFUSED}, separators=(",", ":"))
        return Response(said, media_type="application/json")

    async def _status(self, aggregator: Aggregator, body: bytes) -> Response:
        status = aggregator.read_airtime_status(body)
        try:
            amount = None if status.amount is None else hundredths(status.amount)
        except ValueError:
            amount = None
        entry = {
            "kind": "airtime_status",
            "at": now_ms(),
            "aggregator": aggregator.name,
            "request_id": status.request_id,
            "status": status.status,
            "respondent": self._pseudonyms.of(status.msisdn),
            "amount": amount,
            "currency": status.currency or None,
            "detail": status.detail or None,
        }
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._live.append(compact(entry))
        except (Unavailable, TimeoutError) as error:
            log.error("airtime status not noted id=%s: %s", status.request_id, str(error) or "too slow")
            raise WireError(503, "the status could not be stored; send it again") from None
        except Exception as error:
            log.error("airtime status failed: %s at %s", type(error).__name__, where(error))
            raise WireError(500, "the status could not be stored") from None
        return PlainTextResponse("OK")


async def _read(request: Request) -> bytes:
    """The body. Raises WireError 415 on another content type, 413 on too much."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise WireError(415, "content type must be application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_OCTETS:
            raise WireError(413, f"the body is over {_MOST_OCTETS} octets")
    return body
