"""The gateway as one ASGI app: what it is made of, how it starts, and whether every part works."""

import asyncio
import gc
import json
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import redis
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, select

from flows.instrument import Fault, InstrumentError
from flows.wave import Wave
from gateway.dialogue import Dialogue
from gateway.health import look_at_parts
from gateway.pages import page_routes
from gateway.webhooks import Doors, webhook_routes, where
from storage.database import open_engine, reading
from storage.live import LiveStore
from storage.models import StoredInstrument, table_of
from storage.record import Recorded, find_interview, knows_before
from storage.resp import Unavailable
from storage.respondents import Pseudonyms

log = logging.getLogger("dial16.app")
T = TypeVar("T")

#: A respondent who dials while the record is slow is served as new after this long; the recorder
#: settles the double.
_RECORD_SECONDS = 1.0
_RECORD_AWAY_SECONDS = 10.0  # how long the record is left alone after it failed
_ASK_AGAIN_SECONDS = 60.0


class RecordLookup:
    """The record as the hop uses it: only where the live store may have lost what the record has.

    Most first dials must not wait for SQL. The live store is complete since its birth, for as long as
    it keeps interviews; so the record can only know more if it has interviews from before that, which
    is asked once a minute, not once a dial.
    """

    def __init__(self, engine: Engine, keep_days: int):
        self._engine = engine
        self._keep = timedelta(days=keep_days)
        self._knows_more: dict[int, tuple[bool, float]] = {}
        self._away_until = 0.0

    async def find(self, respondent: str, wave: str, born: int) -> Recorded | None:
        """What the record has of a respondent whom the live store, born at `born` ms, does not know."""
        return await self._asked(self._find(respondent, wave, born))

    async def instrument(self, reference: str) -> Mapping[str, str] | None:
        """The sources of an instrument fielded earlier, by file name."""
        return await self._asked(asyncio.to_thread(find_instrument, self._engine, reference))

    async def _find(self, respondent: str, wave: str, born: int) -> Recorded | None:
        now = time.monotonic()
        knows, asked_at = self._knows_more.get(born, (False, -_ASK_AGAIN_SECONDS))
        if now - asked_at > _ASK_AGAIN_SECONDS:
            moment = max(datetime.fromtimestamp(born / 1000, UTC), datetime.now(UTC) - self._keep)
            knows = await asyncio.to_thread(knows_before, self._engine, moment)
            self._knows_more = {born: (knows, now)}
        if not knows:
            return None
        return await asyncio.to_thread(find_interview, self._engine, respondent, wave)

    async def _asked(self, question: Coroutine[Any, Any, T]) -> T | None:
        """The record's answer; None while it is away or slow, and for some seconds after."""
        now = time.monotonic()
        if now < self._away_until:
            question.close()
            return None
        try:
            async with asyncio.timeout(_RECORD_SECONDS):
                return await question
        except Exception as error:
            self._away_until = now + _RECORD_AWAY_SECONDS
            log.warning("record not reached for a dial: %s at %s", type(error).__name__, where(error))
            return None


def find_instrument(engine: Engine, reference: str) -> Mapping[str, str] | None:
    """The sources of a stored instrument, by file name."""
    stored = table_of(StoredInstrument)
    with reading(engine) as db:
        sources = db.execute(select(stored.c.sources).where(stored.c.reference == reference)).scalar()
    return None if sources is None else dict(json.loads(sources))


def create_app(
    *,
    wave: Wave,
    live_url: str,
    database_url: str,
    pseudonym_key: bytes,
    secrets: Sequence[str],
    simulator_secret: str | None,
    live_days: int,
) -> FastAPI:
    """The gateway. `secrets` open Africa's Talking's webhooks; `simulator_secret` None: no simulator."""
    live = LiveStore(live_url, live_days)
    engine = open_engine(database_url)
    lookup = RecordLookup(engine, live_days)
    dialogue = Dialogue(
        wave, live, Pseudonyms(pseudonym_key), lookup.find, find_instrument=lookup.instrument
    )  # fmt: skip
    opened: Mapping[str, Sequence[str]] = {"africastalking": secrets} | (
        {"simulator": (simulator_secret,)} if simulator_secret else {}
    )

    # No retries: whoever asks whether we are ready asks again, and the client's default is ten.
    probe = redis.Redis.from_url(
        live_url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await _keep_instrument(dialogue)
            # Start-up's objects live for good: out of the collector's sight, its pauses shrink from some
            # 60 ms to nothing and a hop gets a fifth cheaper (bench/README.md).
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 50, 50)
            yield
        finally:
            await live.close()
            probe.close()
            engine.dispose()

    # No interactive documentation page: it loads its scripts from third parties.
    app = FastAPI(title="Dial 16", lifespan=lifespan, docs_url=None, redoc_url=None)
    # The hop's route stands first: routes are tried in order.
    app.router.routes[:0] = webhook_routes(dialogue, Doors(opened))
    app.router.routes += page_routes(
        wave=wave,
        simulator_hook=f"/hooks/simulator/{simulator_secret}/ussd" if simulator_secret else None,
        hook_hint="/hooks/africastalking/<secret>/ussd",
    )

    @app.get("/health/live")
    async def health_live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @app.get("/health/ready")
    async def health_ready() -> JSONResponse:
        """Every part works (200), or which does not and why (503)."""
        parts = await asyncio.to_thread(look_at_parts, probe, engine, wave)
        ready = all(part["up"] for part in parts.values())
        return JSONResponse({"ready": ready, "parts": parts}, 200 if ready else 503)

    return app


async def _keep_instrument(dialogue: Dialogue) -> None:
    """Keeps this instrument version for interviews that outlive it.

    Raises InstrumentError if other data was fielded under the same version. A live store that is away
    does not keep the gateway from starting: it answers politely until the store is back.
    """
    try:
        ours = await dialogue.keep_instrument()
    except Unavailable as error:
        log.error("%s; hops are answered politely until it is back", error)
        return
    if not ours:
        reference = dialogue.wave.instrument.reference
        raise InstrumentError(
            [
                Fault(
                    "questionnaire.toml",
                    "instrument.version",
                    f"{reference} has been fielded with other texts; raise the version",
                )
            ]
        )
