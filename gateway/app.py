"""The gateway as one ASGI app: what it is made of, how it starts, and whether every part works."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, inspect
from starlette.routing import BaseRoute

from flows.instrument import Fault, InstrumentError
from flows.wave import Wave
from gateway.aggregators.simulator_phones import received
from gateway.airtime_hooks import AirtimeHooks
from gateway.dialogue import Dialogue
from gateway.fieldwork import Door, Figures, fieldwork_routes
from gateway.giving_back import GivingBack
from gateway.health import look_at_parts
from gateway.jobs import enqueue_query, open_queue
from gateway.lookup import RecordLookup
from gateway.pages import page_routes
from gateway.results import ResultsPages, results_routes
from gateway.staff_results import StaffResults, staff_results_routes
from gateway.switchboard import Switchboard
from gateway.webhooks import Doors, webhook_routes
from gateway.words import Words
from storage.database import SchemaError, check_schema, open_engine
from storage.live import LiveStore
from storage.resp import Unavailable
from storage.respondents import OtherKeyError, Pseudonyms
from storage.sealing import Seal

if TYPE_CHECKING:
    from gateway.analysts import Analysts

log = logging.getLogger("dial16.app")
T = TypeVar("T")

_SCHEMA_SECONDS = 2.0  # that a start waits for the database


def create_app(
    *,
    waves: Sequence[Wave],
    live_url: str,
    database_url: str,
    pseudonym_key: bytes,
    secrets: Sequence[str],
    simulator_secret: str | None,
    live_days: int,
    staff_token: str = "",
    analysts: "Analysts | None" = None,
    results: ResultsPages | None = None,
    releases: Path | None = None,
) -> FastAPI:
    """The gateway. `secrets` open Africa's Talking's webhooks; `simulator_secret` None: no simulator;
    `staff_token` opens the fieldwork page, without one there is none; `analysts` None: no results API;
    `results` None: no public pages; `releases`: the folder in which results are published, for who dials,
    None: none are shown.

    Its start raises InstrumentError, OtherKeyError or SchemaError, kept in `state.refusal` too, where
    the stores are another instrument's, another key's or another release's.
    """
    live = LiveStore(live_url, live_days)
    engine = open_engine(database_url)
    lookup = RecordLookup(engine, live_days)
    pseudonyms, seal = Pseudonyms(pseudonym_key), Seal(pseudonym_key)
    board = Switchboard(
        [
            Dialogue(
                wave,
                live,
                pseudonyms,
                lookup.find,
                find_instrument=lookup.instrument,
                seal=seal,
                find_opt_out=lookup.opted_out,
                count_recorded=lookup.completes,
            )
            for wave in waves
        ],
        seal,
    )
    words = Words(board, live, engine)
    giving_back = GivingBack(board.dialogues, releases) if releases else None
    opened: Mapping[str, Sequence[str]] = {"africastalking": secrets} | (
        {"simulator": (simulator_secret,)} if simulator_secret else {}
    )

    doors = Doors(opened)
    airtime = AirtimeHooks(engine, live, pseudonyms, doors)

    figures = Figures(waves, database_url) if staff_token else None

    # No retries: whoever asks whether we are ready asks again, and the client's default is ten.
    probe = redis.Redis.from_url(
        live_url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            try:
                for dialogue in board.dialogues:
                    await _keep_instrument(dialogue)
                await _refuse_other_schema(engine)
            except (InstrumentError, OtherKeyError, SchemaError) as error:
                app.state.refusal = error
                raise
            # Start-up's objects live for good: out of the collector's sight, its pauses shrink from some
            # 60 ms to nothing and a hop gets a fifth cheaper (bench/README.md).
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 50, 50)
            await words.refresh()
            keeping_up = [asyncio.create_task(words.keep_up())]
            if giving_back is not None:
                await giving_back.refresh()
                keeping_up.append(asyncio.create_task(giving_back.keep_up()))
            try:
                yield
            finally:
                for task in keeping_up:
                    task.cancel()
        finally:
            await live.close()
            if analysts is not None:
                analysts.close()
            probe.close()
            airtime.close()
            engine.dispose()
            if figures is not None:
                figures.close()

    async def inbox(msisdn: str) -> list[dict[str, Any]]:
        return await asyncio.to_thread(received, probe, msisdn)

    def staff_pages(door: Door) -> Sequence[BaseRoute]:
        if results is None:
            return ()
        ids = [wave.id for wave in waves]
        staff = StaffResults(engine, waves[0].instrument, ids, results.published, results, ask_worker)
        return staff_results_routes(staff, door)

    def ask_worker(query: str) -> None:
        """Raises redis.RedisError."""
        queue, connection = open_queue(live_url)
        try:
            enqueue_query(queue, query)
        finally:
            connection.close()

    # No interactive documentation page: it loads its scripts from third parties.
    app = FastAPI(title="Dial 16", lifespan=lifespan, docs_url=None, redoc_url=None)
    # The hop's route stands first: routes are tried in order.
    app.router.routes[:0] = webhook_routes(board, doors)
    app.router.routes += airtime.routes()
    app.router.routes += page_routes(
        waves=waves,
        simulator_hook=f"/hooks/simulator/{simulator_secret}/ussd" if simulator_secret else None,
        hook_hint="/hooks/africastalking/<secret>/ussd",
        inbox=inbox,
    )
    if figures is not None:
        app.router.routes += fieldwork_routes(figures, staff_token, staff_pages)
    app.router.routes += analysts.routes() if analysts is not None else []
    app.router.routes += results_routes(results) if results is not None else []

    @app.get("/health/live")
    async def health_live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @app.get("/health/ready")
    async def health_ready() -> JSONResponse:
        """Every part works (200), or which does not and why (503)."""
        parts = await asyncio.to_thread(look_at_parts, probe, engine, board, pseudonyms.key_id)
        ready = all(part["up"] for part in parts.values())
        return JSONResponse({"ready": ready, "parts": parts}, 200 if ready else 503)

    return app


async def _keep_instrument(dialogue: Dialogue) -> None:
    """Notes the pseudonym key, and keeps this instrument version for interviews that outlive it.

    Raises OtherKeyError if the store's interviews are kept under another key; InstrumentError if other
    data was fielded under the same version. A live store that is away
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


async def _refuse_other_schema(engine: Engine) -> None:
    """Raises SchemaError if the database has an older or a newer release's schema.

    One that is away, slow or still empty keeps nobody from answering: readiness tells of it.
    """
    try:
        async with asyncio.timeout(_SCHEMA_SECONDS):
            await asyncio.to_thread(_look_at_schema, engine)
    except SchemaError:
        raise
    except Exception as error:  # its text may name the address and the user
        log.warning("the database is not reached (%s); its schema is not compared", type(error).__name__)


def _look_at_schema(engine: Engine) -> None:
    if inspect(engine).has_table("alembic_version"):
        check_schema(engine)
