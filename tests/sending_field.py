"""Workers in processes of their own, messages to send, and whoever takes the stand-in's reports.

A worker by itself:  python -m tests.sending_field '<Work as JSON>'
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import time as time_of_day
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import redis
from sqlalchemy import Engine, func, select

from flows.fielding import Contact
from gateway import jobs
from gateway.aggregators.africastalking_api import AfricasTalkingApi
from gateway.dispatch import Dispatch, Habits
from storage.database import reading
from storage.entries import STREAM
from storage.models import OutboundMessage, table_of
from storage.rates import Rate
from storage.sealing import Seal
from tests.at_api import AtApi
from tests.record_material import WAVE, Entry, fold_all

KEY = b"a key for the tests of sending, 1"
SENDER = "1616"
SEAL = Seal(KEY)
TEXT = "Thank you. How old are you, in years?"
MESSAGE = table_of(OutboundMessage)
ROOT = Path(__file__).parent.parent


def number(n: int) -> str:
    return f"+23324{n:07d}"


def pseudonym(n: int) -> str:
    return f"{n:032x}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def asking(n: int, *sends: tuple[str, str], at: int | None = None, ident: str = "", **more: Any) -> Entry:
    """An entry that asks to send respondent `n` something."""
    return {
        "kind": "text_command", "respondent": pseudonym(n), "at": at or now_ms(), "wave": WAVE,
        "what": "none",
        "message_id": ident or f"in-{n}", "sends": [{"kind": k, "text": t} for k, t in sends],
        "sealed": SEAL.seal(number(n), pseudonym(n)), "key_id": SEAL.key_id, "sender": SENDER,
        "aggregator": "africastalking", "network_code": "62001", **more,
    }  # fmt: skip


def ask_for(engine: Engine, numbers: Iterable[int], kind: str = "reply", text: str = TEXT) -> None:
    entries = [asking(n, (kind, text)) for n in numbers]
    for first in range(0, len(entries), 500):
        fold_all(engine, entries[first : first + 500])


def messages(engine: Engine) -> list[dict[str, Any]]:
    with reading(engine) as db:
        return [dict(r._mapping) for r in db.execute(select(MESSAGE).order_by(MESSAGE.c.natural_key))]


def states(engine: Engine) -> dict[str, int]:
    with reading(engine) as db:
        found = db.execute(select(MESSAGE.c.state, func.count()).group_by(MESSAGE.c.state))
        return {row[0]: row[1] for row in found}


# ---------------------------------------------------------------- workers


@dataclass(frozen=True)
class Work:
    database_url: str
    redis_url: str
    at_url: str
    username: str = "dial16"
    api_key: str = "key-of-the-stand-in"
    timeout: tuple[float, float] = (1.0, 0.5)
    per_second: float = 1000.0
    remember_seconds: float = 2.0
    habits: dict[str, Any] = field(default_factory=dict)


#: Waits that tests can wait for.
FAST: dict[str, Any] = {
    "backoff_seconds": (0.2, 0.4, 0.6, 0.8), "stuck_seconds": 2.0, "settle_seconds": 1.0,
    "sweep_seconds": 0.5,
    "contact": Contact(time_of_day.min, time_of_day.max, frozenset(range(7))),  # tests run at any hour
}  # fmt: skip


def work_at(api: AtApi, database_url: str, redis_url: str, **more: Any) -> Work:
    return Work(database_url, redis_url, api.url, api.habits.username, api.habits.api_key, **more)


def dispatch(work: Work, live: redis.Redis) -> Dispatch:
    account = AfricasTalkingApi(work.username, work.api_key, work.at_url, timeout=work.timeout)
    return Dispatch(
        work.database_url,
        live,
        SEAL,
        {"africastalking": account},
        jobs.Sends(live, work.remember_seconds),
        Habits(rate=Rate(work.per_second), **FAST | work.habits),
    )


class Worker:
    """A real RQ worker in a process group of its own."""

    def __init__(self, work: Work, log: Path):
        self.command = [sys.executable, "-m", "tests.sending_field", json.dumps(asdict(work))]
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Worker":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return self

    def kill(self) -> None:
        """SIGKILL to the worker and what it has started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            finally:
                self.kill_group()

    def kill_group(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


@contextmanager
def working(work: Work, folder: Path, count: int = 1) -> Iterator[list[Worker]]:
    workers = [Worker(work, folder / f"worker-{n}.log").start() for n in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill_group()


# ---------------------------------------------------------------- delivery reports


@contextmanager
def taking_reports(redis_url: str, told: Callable[[str], str | None]) -> Iterator[str]:
    """A stand-in of the gateway's route: reports go on the stream. Yields its URL.

    told: the pseudonym of a number, for the entry.
    """
    live = redis.Redis.from_url(redis_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            form = {k: v[0] for k, v in parse_qs(body.decode()).items()}
            entry = {
                "kind": "delivery_report", "at": now_ms(), "aggregator": "africastalking",
                "message_id": form["id"], "status": form["status"], "network_code": form.get("networkCode"),
                "failure_reason": form.get("failureReason"), "respondent": told(form["phoneNumber"]),
            }  # fmt: skip
            live.xadd(STREAM, {"e": json.dumps(entry)})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
        live.close()


def main() -> None:
    given = json.loads(sys.argv[1])
    given["timeout"] = tuple(given["timeout"])
    work = Work(**given)
    composed = dispatch(work, jobs.connect(work.redis_url))
    jobs.work(work.redis_url, jobs.Composition(close_unfinished=lambda now: 0, dispatch=composed))


if __name__ == "__main__":
    main()
