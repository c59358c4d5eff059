"""What RQ workers do: work that nobody on the line waits for.

A job's arguments are row ids or nothing: never a number, an answer or a secret, for RQ keeps them
in Redis. What a job needs beyond that (the database, the wave's windows) is composed in the worker's
process before it starts, see `compose`; JSON is the only serializer, so that writing to Redis is not
running code.

    dial16                  what recurs
    dial16-analysis         exports, queries, the night's copy: minutes each; `work --only analysis`
    dial16-reply .. -invitation     messages, the kind's queue; workers take the first first; one a job,
                                    or a few of those that nobody waits for

A job is only the fastest way to a message: its row says whether it is due (`storage/outbox.py`). Airtime
goes the same way (`storage/airtime.py`), in the queue of thanks.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry
from rq import Queue, SimpleWorker, get_current_job, worker_registration
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer
from rq.utils import utcparse

from gateway.campaigns import Campaigns
from gateway.dispatch import Dispatch
from gateway.faults import where
from gateway.thanks import Thanking
from storage.entries import PRIORITY
from storage.outbox import UNKNOWN

QUEUE = "dial16"
ANALYSIS = "dial16-analysis"
SWEEP_EVERY = timedelta(minutes=10)
SNAPSHOT_HOUR = 2  # UTC
_EXPORT_SECONDS = 6 * 3600  # a million interviews in every format take minutes; a job may not hang for ever
_QUERY_SECONDS = 600  # the table of a million interviews takes seconds
#: A job whose worker was killed is forgotten soon: as long as RQ keeps it (a year, if not told), it takes no
#: other one of that id, and the sweep could not have the work done again.
_KEPT_SECONDS = 60
_WORKER_TTL = 90  # seconds; a worker that waits for jobs gives a sign of life every 75
_RUNNING = timedelta(seconds=150)  # a sign of life within this time: it runs
SEND_SECONDS = 60  # a send's job is ended then; its call of the aggregator has time-outs well below
#: Messages that share a job, of kinds that nobody waits for: RQ asks Redis some 25 things a job. Few enough
#: that a reply waits for no more than seconds until a worker is free.
_PER_JOB = {"reminder": 10, "invitation": 10}
_QUEUED = "dial16:queued:"  # + message id: it has a job
_QUEUED_SECONDS = 20  # then it is given another one, if it is still due: its worker may have died

log = logging.getLogger("dial16.jobs")


@dataclass(frozen=True, slots=True)
class Composition:
    """What the jobs of this process use."""

    close_unfinished: Callable[[datetime], int]  # closes what was not resumed in time; how many
    dispatch: Dispatch | None = None  # sends the outbox
    thanking: Thanking | None = None  # and airtime
    campaigns: Campaigns | None = None  # asks for invitations and reminders
    make_export: Callable[[str], None] | None = None  # of this id; see `exports.ledger`
    answer_query: Callable[[str], None] | None = None  # of this id; see `analysis.queries`
    waiting_queries: Callable[[datetime], list[str]] | None = None  # clears old drafts; ids still to answer
    sweep_exports: Callable[[datetime], list[str]] | None = (
        None  # removes what is past its time; ids still to make
    )
    take_snapshot: Callable[[datetime], object] | None = None  # the night's copy of the data


_composition: Composition | None = None


def compose(composition: Composition) -> None:
    """Give this process what its jobs use."""
    global _composition
    _composition = composition


def close_stale_interviews() -> int:
    """Interviews that nobody resumed within the wave's window become `partial` or `break_off`.

    Safe to run at any time and several at once: closing a closed one changes nothing.
    """
    if _composition is None:
        raise RuntimeError("this worker was not composed: start it with `main.py work`")
    closed = _composition.close_unfinished(datetime.now(UTC))
    if closed:
        log.info("closed %d interviews that were not resumed in time", closed)
    return closed


def send_message(*messages: str) -> str:
    """Send the messages with these ids, those of them that are due. Their rows say what became of them;
    the last one's outcome is returned.

    Ends well whatever happens: RQ would keep an exception's text.
    """
    if _composition is None or _composition.dispatch is None:
        raise RuntimeError("this worker was not composed: start it with `main.py work`")
    dispatch, outcome = _composition.dispatch, ""
    for message in messages:
        try:
            outcome = dispatch.send(message)
            dispatch.live.delete(_QUEUED + message)
        except Exception as error:  # a store is away, or a bug: a due row is given another job later
            log.error("message %s: %s", message, type(error).__name__)
            outcome = "error"
        log.debug("message %s: %s", message, outcome)
        if outcome in (UNKNOWN, "error"):  # slow, or away: the rest get jobs later
            break
    return outcome


def send_airtime(payment: str) -> str:
    """Order the payment with this id, if it is due. Its row says what became of it. Ends well, as above."""
    if _composition is None or _composition.thanking is None:
        raise RuntimeError("this worker was not composed for airtime: start it with `main.py work`")
    thanking = _composition.thanking
    try:
        outcome = thanking.send(payment)
        thanking.dispatch.live.delete(_QUEUED + payment)
    except Exception as error:  # a store is away, or a bug: a due row is given another job later
        log.error("payment %s: %s", payment, type(error).__name__)
        return "error"
    log.debug("payment %s: %s", payment, outcome)
    return outcome


def queue_name(kind: str) -> str:
    return f"{QUEUE}-{kind}"


class Sends:
    """Gives messages their jobs: one at a time each, as far as the live store remembers."""

    def __init__(self, live: redis.Redis, remember_seconds: float = _QUEUED_SECONDS):
        self.live, self.remember_ms = live, int(remember_seconds * 1000)
        self._queues = {
            kind: Queue(queue_name(kind), connection=live, serializer=JSONSerializer) for kind in PRIORITY
        }

    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return sum(queue.count for queue in self._queues.values())

    def enqueue(self, due: Sequence[tuple[str, str]]) -> int:
        """Jobs for those of these messages (id, kind) that have none; how many."""
        return self._enqueue(due, "send_message")

    def enqueue_payments(self, payments: Sequence[str]) -> int:
        """Jobs for those of these payments that have none; how many."""
        return self._enqueue([(payment, "thanks") for payment in payments], "send_airtime")

    def _enqueue(self, due: Sequence[tuple[str, str]], what: str) -> int:
        if not due:
            return 0
        with self.live.pipeline(transaction=False) as pipe:
            for message, _ in due:
                pipe.set(_QUEUED + message, 1, nx=True, px=self.remember_ms)
            fresh = [m for m, is_new in zip(due, pipe.execute(), strict=True) if is_new]
        for kind, queue in self._queues.items():
            theirs = [message for message, its_kind in fresh if its_kind == kind]
            most = 1 if what == "send_airtime" else _PER_JOB.get(kind, 1)
            jobs = [
                Queue.prepare_data(
                    f"gateway.jobs.{what}", tuple(theirs[n : n + most]), timeout=SEND_SECONDS * most,
                    result_ttl=0, failure_ttl=3600, description=what,
                )
                for n in range(0, len(theirs), most)
            ]  # fmt: skip
            if jobs:
                queue.enqueue_many(jobs)
        return len(fresh)


def make_export(export: str) -> None:
    """Make the export of this id. Safe to run again: what is made is not made twice."""
    if _composition is None or _composition.make_export is None:
        raise RuntimeError("this worker was not composed for exports: start it with `main.py work`")
    try:
        _composition.make_export(export)
    except Exception as error:  # RQ would keep its text, which may hold an answer
        log.error("export %s: %s at %s", export, type(error).__name__, where(error))


def analysis_queue(queue: Queue) -> Queue:
    """The queue of what takes minutes, beside any of ours: no message waits behind it."""
    return Queue(ANALYSIS, connection=queue.connection, serializer=JSONSerializer)


def enqueue_export(queue: Queue, export: str) -> None:
    """Have a worker make the export of this id, once however many ask."""
    with contextlib.suppress(DuplicateJobError):
        analysis_queue(queue).enqueue(
            make_export, export, job_id=f"export-{export}", unique=True, job_timeout=_EXPORT_SECONDS,
            failure_ttl=_KEPT_SECONDS,
        )  # fmt: skip


def sweep_exports() -> None:
    """Expired exports, old nights' copies and drafts go; exports and questions that a wiped Redis forgot, or
    a worker died over, are given to a worker again."""
    if _composition is None or _composition.sweep_exports is None:
        return
    job = get_current_job()
    assert job is not None  # it runs as one
    queue = Queue(QUEUE, connection=job.connection, serializer=JSONSerializer)
    if _composition.waiting_queries is not None:
        for query in _composition.waiting_queries(datetime.now(UTC)):
            enqueue_query(queue, query)
    for export in _composition.sweep_exports(datetime.now(UTC)):
        enqueue_export(queue, export)


def answer_query(query: str) -> None:
    """Answer the question of this id. Safe to run again: what is answered is not answered twice."""
    if _composition is None or _composition.answer_query is None:
        raise RuntimeError("this worker was not composed for queries: start it with `main.py work`")
    try:
        _composition.answer_query(query)
    except Exception as error:
        log.error("query %s: %s at %s", query, type(error).__name__, where(error))


def enqueue_query(queue: Queue, query: str) -> None:
    """Have a worker answer the question of this id, once however many ask."""
    with contextlib.suppress(DuplicateJobError):
        analysis_queue(queue).enqueue(
            answer_query, query, job_id=f"query-{query}", unique=True, job_timeout=_QUERY_SECONDS,
            result_ttl=0, failure_ttl=_KEPT_SECONDS,
        )  # fmt: skip


def take_snapshot() -> None:
    """The night's copy of the data. Safe to run again: a day has one."""
    if _composition is None or _composition.take_snapshot is None:
        return
    try:
        _composition.take_snapshot(datetime.now(UTC))
    except Exception as error:
        log.error("no snapshot: %s at %s", type(error).__name__, where(error))


def schedule_snapshot(queue: Queue, now: datetime) -> None:
    """See that it is taken in the night to come, once however many workers ask."""
    at = now.replace(hour=SNAPSHOT_HOUR, minute=0, second=0, microsecond=0)
    at += timedelta(days=1) if at <= now else timedelta(0)
    with contextlib.suppress(DuplicateJobError):
        analysis_queue(queue).enqueue_at(
            at, take_snapshot, job_id=f"snapshot-{at.date()}", unique=True, job_timeout=_EXPORT_SECONDS
        )


def schedule_sweep(queue: Queue, now: datetime) -> None:
    """See that the sweep runs once in the ten minutes to come, however many workers ask for it.

    The job's id is that of its ten minutes: a fixed id alone would be taken as long as RQ keeps the
    last run's result, and would lose the next run when that result expires.
    """
    _every_ten_minutes(queue, close_stale_interviews, "close-stale-interviews", now)


def schedule_export_sweep(queue: Queue, now: datetime) -> None:
    """The same for exports."""
    _every_ten_minutes(analysis_queue(queue), sweep_exports, "sweep-exports", now)


def _every_ten_minutes(queue: Queue, job: Callable[[], object], name: str, now: datetime) -> None:
    period = int(SWEEP_EVERY.total_seconds())
    turn = int(now.timestamp()) // period + 1
    at = datetime.fromtimestamp(turn * period, UTC)
    with contextlib.suppress(DuplicateJobError):  # another worker asked first
        queue.enqueue_at(at, job, job_id=f"{name}-{turn}", unique=True)


class Worker(SimpleWorker):
    """RQ's worker, which also keeps the recurring jobs scheduled: a Redis that was wiped has them
    again a minute later. Jobs run in its own process, so that they share connections to the database
    and to the aggregator; a fork for each would open its own."""

    def run_maintenance_tasks(self) -> None:
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        names = {queue.name for queue in self.queues}
        if QUEUE in names:
            schedule_sweep(self.queues[0], datetime.now(UTC))
        if ANALYSIS not in names:
            return
        if _composition is not None and _composition.sweep_exports is not None:
            schedule_export_sweep(self.queues[0], datetime.now(UTC))
        if _composition is not None and _composition.take_snapshot is not None:
            schedule_snapshot(self.queues[0], datetime.now(UTC))


def open_queue(redis_url: str) -> tuple[Queue, Any]:
    """The queue of what recurs and its connection. Few retries: the worker has its own, and must not
    end slowly because Redis ended first."""
    connection = connect(redis_url)
    return Queue(QUEUE, connection=connection, serializer=JSONSerializer), connection


def connect(redis_url: str) -> redis.Redis:
    """A client as workers and whoever gives them jobs use it."""
    return redis.Redis.from_url(redis_url, retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.1), 2))


def work(redis_url: str, composition: Composition, *, burst: bool = False, only: str = "") -> None:
    """Run jobs until SIGTERM, with the scheduler for those due later and the outbox's sweep.

    only: messages or analysis; "" = both, and what takes minutes last.
    """
    compose(composition)
    recurring, connection = open_queue(redis_url)
    sends = [Queue(queue_name(k), connection=connection, serializer=JSONSerializer) for k in PRIORITY]
    queues = [] if only == "analysis" else [recurring, *sends]
    if only != "messages":
        queues.append(analysis_queue(recurring))
    worker = Worker(
        queues, connection=connection, serializer=JSONSerializer, maintenance_interval=60,
        worker_ttl=_WORKER_TTL,
    )  # fmt: skip
    worker.log_job_description = False
    stop = threading.Event()
    parts = (composition.dispatch, composition.thanking, composition.campaigns)
    watched = [part for part in parts if part and not burst]
    watches = [threading.Thread(target=part.watch, args=(stop,), daemon=True) for part in watched]
    for watch in watches:
        watch.start()
    try:
        worker.work(with_scheduler=True, burst=burst, logging_level="WARNING")
    finally:
        stop.set()
        for watch in watches:
            watch.join(2)


def worker_health(live: "redis.Redis") -> tuple[bool, str]:
    """Whether a worker runs, and a line for the operator. Raises redis.RedisError.

    Asks Redis itself: RQ's own way would set the connection's time-outs to a worker's minutes.
    """
    names = worker_registration.get_keys(queue=Queue(QUEUE, connection=live, serializer=JSONSerializer))
    signs = [cast(bytes | None, live.hget(name, "last_heartbeat")) for name in names]
    since = datetime.now(UTC) - _RUNNING
    running = sum(sign is not None and utcparse(sign.decode()) > since for sign in signs)
    if not running:
        return False, "none runs: start `python main.py work`"
    return True, f"{running} running"
