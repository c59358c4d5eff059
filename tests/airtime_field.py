"""Who completed and is thanked with airtime: interviews, workers of airtime, a gateway that takes callbacks.

A worker by itself:  python -m tests.airtime_field '<Work and thanks as JSON>'
"""

import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis
import uvicorn
from sqlalchemy import Engine, select
from starlette.applications import Starlette

from flows.fielding import Thanks
from gateway import jobs
from gateway.airtime_hooks import AirtimeHooks
from gateway.thanks import Thanking
from gateway.webhooks import Doors
from storage.airtime import payment_id
from storage.airtime_sweep import Balance, balances
from storage.database import open_engine, reading
from storage.live import LiveStore
from storage.models import AirtimePayment, AirtimeReport, table_of
from storage.respondents import Pseudonyms
from tests import sending_field
from tests.record_material import WAVE, Dialogue, Entry, ended
from tests.sending_field import KEY, SEAL, Work, now_ms, number

PAYMENT, REPORT = table_of(AirtimePayment), table_of(AirtimeReport)
PSEUDONYMS = Pseudonyms(KEY)
FIVE = Thanks(Decimal("5.00"), "GHS", Decimal(100_000))
SECRET = "a-secret-of-the-airtime-tests-0123456789"
AT = "africastalking"


def who(n: int) -> str:
    """The respondent of number `n`."""
    return PSEUDONYMS.of(number(n))


def ident(n: int) -> str:
    return payment_id(WAVE, who(n))


def interview(n: int, at: int = 0, disposition: str = "complete", aggregator: str = AT) -> list[Entry]:
    """A short interview of number `n` on USSD, sealed with its consent as the gateway does."""
    d = Dialogue(n, at or now_ms() - 60_000)
    d.respondent = who(n)
    d.begin()["opened"]["aggregator"] = aggregator
    d.interview = f"{n:08x}{d.at % 2**32:08x}"
    d.entries[0]["interview"] = d.interview
    d.consent().update({"sealed": SEAL.seal(number(n), d.respondent), "key_id": SEAL.key_id})
    d.answer("age", 40, ended(disposition))
    return d.entries


def completed(numbers: Iterable[int]) -> list[Entry]:
    return [entry for n in numbers for entry in interview(n)]


def withdrawing(n: int) -> Entry:
    """Number `n` withdraws from the interview that `interview` made last."""
    last = interview(n)[-1]
    effects = [{"kind": "ErasureRequested", "receipt": "K7Q2"}]
    return last | {"version": last["version"] + 1, "at": now_ms(), "effects": effects, "hop": last["hop"] + 1}


def opting_out(n: int) -> Entry:
    return {"kind": "opted_out", "respondent": who(n), "at": now_ms(), "aggregator": AT}


def status(word: str, request_id: str = "ATQid_1", n: int = 1, **more: Any) -> Entry:
    return {
        "kind": "airtime_status", "at": now_ms(), "aggregator": AT, "request_id": request_id, "status": word,
        "respondent": who(n), "amount": 500, "currency": "GHS", "detail": None, **more,
    }  # fmt: skip


def payments(engine: Engine) -> dict[str, dict[str, Any]]:
    with reading(engine) as db:
        return {r.id: dict(r._mapping) for r in db.execute(select(PAYMENT))}


def payment(engine: Engine, n: int = 1) -> dict[str, Any]:
    return payments(engine)[ident(n)]


def stands(engine: Engine, n: int = 1) -> tuple[str, str | None]:
    row = payment(engine, n)
    return row["state"], row["reason"]


def balance(engine: Engine) -> Balance:
    """The wave's; every call also checks that the budget is the sum of the payments."""
    (found,) = balances(engine)
    assert found.booked
    return found


# ---------------------------------------------------------------- workers


def thanking(work: Work, live: redis.Redis, thanks: Thanks) -> Thanking:
    dispatch = sending_field.dispatch(work, live)
    return Thanking(dispatch, jobs.Sends(live, work.remember_seconds), {WAVE: thanks})


class Worker(sending_field.Worker):
    """A real RQ worker, of texts and airtime."""

    def __init__(self, work: Work, thanks: Thanks, log: Path):
        super().__init__(work, log)
        given = json.dumps({"work": asdict(work), "thanks": asdict(thanks)}, default=str)
        self.command = [sys.executable, "-m", "tests.airtime_field", given]


@contextmanager
def working(work: Work, thanks: Thanks, folder: Path, count: int = 1) -> Iterator[list[Worker]]:
    workers = [Worker(work, thanks, folder / f"worker-{n}.log") for n in range(count)]
    for worker in workers:
        worker.start()
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill_group()


def main() -> None:
    given = json.loads(sys.argv[1])
    work = Work(**given["work"] | {"timeout": tuple(given["work"]["timeout"])})
    t = given["thanks"]
    thanks = Thanks(Decimal(t["amount"]), t["currency"], Decimal(t["budget"]))
    made = thanking(work, jobs.connect(work.redis_url), thanks)
    composition = jobs.Composition(lambda now: 0, dispatch=made.dispatch, thanking=made)
    jobs.work(work.redis_url, composition)


# ---------------------------------------------------------------- callbacks


@contextmanager
def taking_callbacks(database_url: str, redis_url: str) -> Iterator[str]:
    """The gateway's airtime routes on a port of this machine. Yields their URL."""
    engine = open_engine(database_url)
    live = LiveStore(redis_url, 90)
    hooks = AirtimeHooks(engine, live, PSEUDONYMS, Doors({AT: (SECRET,)}))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await live.close()

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=hooks.routes(), lifespan=lifespan),
            log_level="critical",
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    give_up_at = time.monotonic() + 10
    while not server.started and time.monotonic() < give_up_at:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hooks/{AT}/{SECRET}/airtime"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        hooks.close()
        engine.dispose()


def utc() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
