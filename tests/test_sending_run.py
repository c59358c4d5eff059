"""Sending end to end: real workers, stores, HTTP to the stand-in, whose books show what was really sent."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from flows.fielding import Contact
from gateway import dispatch as dispatch_module
from gateway import jobs
from gateway.dispatch import Dispatch
from storage.database import migrate, open_engine, writing
from storage.outbox import CANCELLED, DELIVERED, DUE, FAILED, HELD, SENDING, SENT, UNKNOWN
from storage.outgoing import message_id_of
from storage.rates import paused_senders, resume
from storage.recorder import Recorder, lag
from tests.at_api import AtApi, Habits, serving
from tests.record_material import SMALL, fold_all, send
from tests.sending_field import (
    MESSAGE,
    SEAL,
    TEXT,
    ask_for,
    asking,
    dispatch,
    messages,
    now_ms,
    number,
    pseudonym,
    states,
    taking_reports,
    work_at,
    working,
)
from tests.stores import running_live, running_postgres, wait_until

OPEN = {"contact": Contact(days=frozenset(range(7)))}


@pytest.fixture(scope="module")
def scripted() -> Iterator[AtApi]:
    with serving(Habits(scripted=True, slow_seconds=1.2)) as api:
        yield api


@contextmanager
def office(api: AtApi, engine: Engine, redis_url: str, **more: Any) -> Iterator[Dispatch]:
    """A dispatch in this process."""
    url = engine.url.render_as_string(hide_password=False)
    live = redis.Redis.from_url(redis_url)
    made = dispatch(work_at(api, url, redis_url, timeout=(1.0, 0.8), **more), live)
    try:
        yield made
    finally:
        made.close()
        live.close()


def row(engine: Engine, n: int) -> dict[str, Any]:
    return next(r for r in messages(engine) if r["natural_key"] == f"text:in-{n}:0")


def ident(n: int) -> str:
    return message_id_of(f"text:in-{n}:0")


# ---------------------------------------------------------------- one message, in this process

#: How a number ends (see at_api.SCRIPTS), and what becomes of a message to it.
OUTCOMES: dict[int, tuple[str, str | None]] = {
    1: (SENT, None),
    7003: (SENT, None), 7004: (SENT, None), 7022: (SENT, None), 7023: (SENT, None), 7025: (SENT, None),
    9403: (FAILED, "invalid_phone_number"), 9404: (FAILED, "unsupported_number_type"),
    9406: (FAILED, "user_in_blacklist"), 9409: (FAILED, "do_not_disturb_rejection"),
    9502: (FAILED, "rejected_by_gateway"), 9599: (FAILED, "status_599"),
    9500: (DUE, "internal_server_error"), 9501: (DUE, "gateway_error"),
    8429: (DUE, "http_429"), 8503: (DUE, "http_503"), 7002: (DUE, "http_502"), 8400: (FAILED, "http_400"),
    7011: (UNKNOWN, "read_timeout"), 7012: (UNKNOWN, "read_timeout"), 7013: (UNKNOWN, "connection_lost"),
    7001: (UNKNOWN, "unreadable_reply"), 7021: (UNKNOWN, "no_message_id"), 8504: (UNKNOWN, "http_504"),
}  # fmt: skip


def test_every_answer_of_the_aggregator_has_its_state(
    scripted: AtApi, engine: Engine, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ask_for(engine, OUTCOMES)
    with office(scripted, engine, redis_url, habits={"backoff_seconds": (60, 60, 60, 60)}) as made:
        for n in OUTCOMES:
            made.send(ident(n))
            made.send(ident(n))  # a second job of the same row does nothing
    got = {n: (row(engine, n)["state"], row(engine, n)["failure_reason"]) for n in OUTCOMES}
    assert got == OUTCOMES
    assert all(r["attempts"] == 1 for r in messages(engine))
    plain = row(engine, 1)
    assert plain["cost_amount"] == "0.0300" and plain["cost_currency"] == "GHS" and plain["message_id"]
    assert all(number(n)[1:] not in caplog.text for n in OUTCOMES) and TEXT not in caplog.text


@pytest.mark.parametrize("status", [401, 402, 405, 407])
def test_a_hold_pauses_the_sender_and_leaves_its_messages_due(
    scripted: AtApi, engine: Engine, redis_url: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = 9000 + status, 1
    ask_for(engine, [bad, good])
    with office(scripted, engine, redis_url) as made:
        assert [made.send(ident(bad)) for _ in range(3)] == ["paused"] * 3
        assert made.send(ident(good)) == "paused"
        assert (row(engine, bad)["state"], row(engine, bad)["attempts"]) == (DUE, 0)
        assert row(engine, good)["state"] == DUE and caplog.text.count("ALARM") == 1
        assert made.tick() == 0  # no job is given out for what is paused
        (paused,) = paused_senders(made.live)
        assert paused.sender == "1616" and paused.until is None
        resume(made.live, [paused])
        assert made.send(ident(good)) == SENT


def test_five_tries_and_no_more(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    ask_for(engine, [8503])
    before = scripted.books.answers["/version1/messaging 503"]
    with office(scripted, engine, redis_url, habits={"backoff_seconds": (0.05,) * 4}) as made:
        for _ in range(8):
            made.send(ident(8503))
            time.sleep(0.06)
    assert scripted.books.answers["/version1/messaging 503"] - before == 5
    assert (row(engine, 8503)["state"], row(engine, 8503)["failure_reason"]) == (FAILED, "http_503")


def test_many_failures_pause_the_sender_for_a_while(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    ends = [n * 10_000 + 8503 for n in range(25)]
    ask_for(engine, ends)
    with office(scripted, engine, redis_url) as made:
        outcomes = [made.send(ident(n)) for n in ends]
        assert outcomes == [DUE] * 20 + ["paused"] * 5
        (paused,) = paused_senders(made.live)
        assert paused.until is not None and paused.code == "http_503"


def test_without_an_account_messages_are_held_until_there_is_one(
    scripted: AtApi, engine: Engine, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ask_for(engine, [1])
    with office(scripted, engine, redis_url) as made:
        accounts, made.accounts = made.accounts, {}
        assert made.send(ident(1)) == HELD
        made.sweep(datetime.now(UTC))
        assert row(engine, 1)["state"] == HELD and "DIAL16_AT_API_KEY" in caplog.text
        made.accounts = accounts
        made.sweep(datetime.now(UTC))
        assert made.send(ident(1)) == SENT


def test_what_must_not_go_is_cancelled(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    old = now_ms() - 25 * 3_600_000
    fold_all(engine, [asking(1, ("reply", TEXT), at=old), asking(2, ("reply", TEXT), sealed=None),
                      asking(3, ("reply", TEXT), sealed=SEAL.seal(number(3), pseudonym(4)))])  # fmt: skip
    sent = len(scripted.books.messages)
    with office(scripted, engine, redis_url) as made:
        assert [made.send(ident(n)) for n in (1, 2, 3)] == [CANCELLED, CANCELLED, HELD]
    assert [row(engine, n)["failure_reason"] for n in (1, 2, 3)] == ["too_late", "no_number", "not_opened"]
    assert len(scripted.books.messages) == sent


def test_the_hours_are_for_what_nobody_waits_for(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    now = datetime.now(UTC)
    shut = Contact(days=frozenset({(now.weekday() + 2) % 7}), zone=UTC)
    for n, kind in enumerate(("reply", "confirmation", "thanks", "reminder", "invitation"), 1):
        fold_all(engine, [asking(n, (kind, TEXT))])
    with office(scripted, engine, redis_url, habits={"contact": shut}) as made:
        assert [made.send(ident(n)) for n in range(1, 6)] == [SENT] * 2 + ["quiet hours"] * 3
    opens = row(engine, 5)["not_before"]
    assert (opens.hour, opens.weekday()) == (8, (now.weekday() + 2) % 7) and opens > now


def test_each_wave_has_hours_of_its_own(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    now = datetime.now(UTC)
    shut, always = (
        Contact(time_of_day(0), time_of_day.max, frozenset(days), UTC)
        for days in ({(now.weekday() + 2) % 7}, range(7))
    )
    for n, wave in enumerate(("here", "there", "neither"), 1):
        fold_all(engine, [asking(n, ("invitation", TEXT), wave=wave)])
    with office(scripted, engine, redis_url, habits={"contact": shut, "hours": {"there": always}}) as made:
        assert [made.send(ident(n)) for n in (1, 2, 3)] == ["quiet hours", SENT, "quiet hours"]


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-11-23T12:00", "2026-11-23T12:00"), ("2026-11-23T07:59", "2026-11-23T08:00"),
        ("2026-11-23T19:00", "2026-11-24T08:00"), ("2026-11-28T19:30", "2026-11-30T08:00"),
        ("2026-11-29T12:00", "2026-11-30T08:00"),
    ],
)  # fmt: skip
def test_the_window_is_ghana_s_by_default(now: str, opens: str) -> None:
    at, then = (datetime.fromisoformat(t).replace(tzinfo=UTC) for t in (now, opens))
    assert Contact().next_open(at) == then
    with pytest.raises(ValueError):
        Contact(days=frozenset())


def test_too_fast_is_sent_later_and_never_slept_on(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    """At one in ten seconds, so that the slowest machine asks faster than it may send."""
    ask_for(engine, range(10, 30))
    with office(scripted, engine, redis_url, per_second=0.1) as made:
        outcomes = Counter(made.send(ident(n)) for n in range(10, 30))
        assert outcomes[SENT] >= 1 and outcomes["later"] >= 15 and outcomes.total() == 20
        waiting = sorted(r["not_before"] for r in messages(engine) if r["state"] == DUE)
        assert waiting[0] > datetime.now(UTC)  # nobody has waited for it
        assert all(b - a > timedelta(seconds=5) for a, b in pairwise(waiting))  # each a moment of its own


def test_the_job_s_end_in_the_middle_leaves_it_unknown(
    scripted: AtApi, engine: Engine, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.Worker, "_install_signal_handlers", lambda self: None)
    monkeypatch.setattr(jobs, "SEND_SECONDS", 1)
    ask_for(engine, [1])
    with office(scripted, engine, redis_url) as made:

        class Hanging:
            def send_sms(self, msisdn: str, text: str, sender: str | None) -> None:
                time.sleep(10)

        made.accounts = {"africastalking": Hanging()}  # type: ignore[dict-item]
        made.tick()
        jobs.work(redis_url, jobs.Composition(close_unfinished=lambda now: 0, dispatch=made), burst=True)
        for key in made.live.scan_iter("rq:*"):
            kept = made.live.dump(key)
            assert number(1)[1:].encode() not in (kept or b"") and TEXT.encode() not in (kept or b"")
    assert (row(engine, 1)["state"], row(engine, 1)["failure_reason"]) == (UNKNOWN, "interrupted")


def test_a_job_s_batch_ends_at_a_message_that_may_have_gone(
    scripted: AtApi, engine: Engine, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was slow, and the job has so many seconds: the rest get another one."""
    ask_for(engine, [1, 7012, 2])
    with office(scripted, engine, redis_url) as made:
        composition = jobs.Composition(lambda now: 0, dispatch=made)
        monkeypatch.setattr(jobs, "_composition", composition)
        assert jobs.send_message(ident(1), ident(7012), ident(2)) == UNKNOWN
    assert [row(engine, n)["state"] for n in (1, 7012, 2)] == [SENT, UNKNOWN, DUE]


def test_nothing_in_redis_but_ids(scripted: AtApi, engine: Engine, redis_url: str) -> None:
    ask_for(engine, [1, 2])
    with office(scripted, engine, redis_url) as made:
        assert made.tick() == 2
        jobs_seen = 0
        for key in made.live.scan_iter("*"):
            if made.live.type(key) == b"hash" and key.startswith(b"rq:job:"):
                job: dict[bytes, bytes] = made.live.hgetall(key)  # type: ignore[assignment]
                jobs_seen += 1
                assert job[b"description"] == b"send_message"
                told = str(job)
                assert number(1)[1:] not in told and number(2)[1:] not in told and TEXT not in told
        assert jobs_seen == 2
        made.live.delete(dispatch_module._TURN)
        assert made.tick() == 2 and made.jobs.waiting() == 2  # they have their jobs


# ---------------------------------------------------------------- workers that die


def sent_twice(api: AtApi) -> list[str]:
    taken = Counter(m["number"] for m in api.books.messages if m["state"] == "accepted")
    return [n for n, times in taken.items() if times > 1]


def quiet(engine: Engine) -> bool:
    left = states(engine)
    return not left.get(DUE) and not left.get(SENDING)


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_worker_killed_around_the_call_sends_nothing_twice(
    engine: Engine, redis_url: str, tmp_path: Path, moment: str
) -> None:
    """before: it was claimed, the aggregator not reached; during: it has the request; after: it answered."""
    url = engine.url.render_as_string(hide_password=False)
    with serving(Habits(latency_seconds=0.4 if moment == "during" else 0.0)) as api:
        work = work_at(api, url, redis_url, timeout=(1.0, 5.0), habits={"stuck_seconds": 1.0})
        if moment == "before":  # an address that takes connections and never reads
            ask_for(engine, [1])
            with writing(engine) as db:  # what a worker leaves that dies right after its claim
                db.execute(MESSAGE.update().values(state=SENDING, claimed_at=datetime.now(UTC), attempts=1))
            with working(work, tmp_path):
                wait_until(lambda: quiet(engine), "the sweep", 20)
        else:
            with working(work, tmp_path) as (worker,):
                ask_for(engine, [1])
                if moment == "during":
                    wait_until(lambda: bool(states(engine).get(SENDING)), "the claim", 20)
                    time.sleep(0.1)
                else:
                    wait_until(lambda: bool(api.books.messages), "the send", 20)
                worker.kill()
                worker.start()
                wait_until(lambda: quiet(engine), "the sweep", 20)
        time.sleep(0.5)
        taken = len(api.books.messages)
    assert taken == (0 if moment == "before" else 1)
    assert row(engine, 1)["state"] == UNKNOWN or (moment == "after" and row(engine, 1)["state"] == SENT)


def test_a_wiped_redis_loses_no_message(engine: Engine, redis_url: str, tmp_path: Path) -> None:
    url = engine.url.render_as_string(hide_password=False)
    live = redis.Redis.from_url(redis_url)
    recorder = Recorder(live, engine, "one", enqueue=jobs.Sends(jobs.connect(redis_url)).enqueue)
    recorder.fold_once(1)
    send(live, [asking(n, ("reply", TEXT)) for n in range(20)])
    recorder.fold_once(1)
    assert lag(live) == 0 and live.llen("rq:queue:dial16-reply") == 20  # row first, then its job
    live.flushall()
    with serving(Habits()) as api, working(work_at(api, url, redis_url), tmp_path):
        wait_until(lambda: states(engine) == {SENT: 20}, "the sweep", 20)
        assert len(api.books.messages) == 20
    live.close()


def test_the_recorder_s_jobs_are_sent_at_once(engine: Engine, redis_url: str, tmp_path: Path) -> None:
    """Without the outbox's sweep: it would take up to a second."""
    url = engine.url.render_as_string(hide_password=False)
    live = redis.Redis.from_url(redis_url)
    recorder = Recorder(live, engine, "one", enqueue=jobs.Sends(jobs.connect(redis_url)).enqueue)
    recorder.fold_once(1)
    live.set(dispatch_module._TURN, 1)  # as if another worker had just swept, for ever
    with serving(Habits()) as api, working(work_at(api, url, redis_url), tmp_path):
        for n in range(3):
            send(live, [asking(n, ("reply", TEXT))])
            recorder.fold_once(100)
            wait_until(lambda n=n: states(engine).get(SENT) == n + 1, "the reply", 20)  # type: ignore[misc]
    live.close()


# ---------------------------------------------------------------- all of it at once


@pytest.mark.parametrize(
    ("database", "store", "rows"), [("postgresql", "redis", 300), ("sqlite", "valkey", 200)]
)
def test_a_campaign_with_everything_going_wrong(database: str, store: str, rows: int, tmp_path: Path) -> None:
    """5 % refused, 2 % without an answer, reports twice and out of order, workers killed throughout."""
    chance = random.Random(16)
    habits = Habits(
        refused=0.05, slow=0.02, cut=0.005, passing=0.02, busy=0.01, slow_seconds=0.8, report_seconds=0.5,
        undelivered=0.05, twice=0.3, unordered=0.3, unknown_words=0.1, price=Decimal("0.0371"),
    )  # fmt: skip
    quitters = set(chance.sample(range(rows), rows // 20))
    with ExitStack() as stack:
        live_server = stack.enter_context(running_live(store))
        if database == "postgresql":
            server = stack.enter_context(running_postgres())
            server.execute("CREATE DATABASE run")
            url = server.url("run")
        else:
            url = f"sqlite:///{tmp_path / 'run.sqlite3'}"
        engine = open_engine(url)
        stack.callback(engine.dispose)
        migrate(engine, SMALL)
        by_number = {number(n): pseudonym(n) for n in range(rows)}
        told = stack.enter_context(taking_reports(live_server.url, by_number.get))
        api = stack.enter_context(serving(replace(habits, reports=told)))
        live = redis.Redis.from_url(live_server.url)
        sends = jobs.Sends(jobs.connect(live_server.url), remember_seconds=2)
        recorder = Recorder(live, engine, "one", enqueue=sends.enqueue)
        stop = threading.Event()
        thread = threading.Thread(target=recorder.run, args=(stop.is_set,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        work = work_at(api, url, live_server.url, timeout=(2.0, 0.5), habits={"reply_hours": 1})
        send(live, [asking(n, ("thanks", TEXT)) for n in range(rows)])
        workers = stack.enter_context(working(work, tmp_path, 3))
        # Some opt out at once, before or after theirs was sent.
        wait_until(lambda: len(api.books.messages) > rows // 20, "the workers", 30)
        until, next_kill = time.monotonic() + 120, time.monotonic() + 0.5
        asked, kills, began = sorted(quitters), 0, time.monotonic()
        while time.monotonic() < until:
            if asked:
                mine, asked = asked[:20], asked[20:]
                told_to = ("confirmation", "No more.")
                send(live, [asking(n, told_to, ident=f"stop-{n}", what="stop") for n in mine])
            if time.monotonic() > next_kill:
                killed = chance.choice(workers)
                killed.kill()
                killed.start()
                kills += 1
                next_kill = time.monotonic() + 5
            if not lag(live) and not asked and quiet(engine):
                break
            time.sleep(0.2)
        assert quiet(engine), states(engine)
        # Reports and the settling of what nobody knows take another moment.
        time.sleep(3.0)
        wait_until(lambda: not lag(live), "the recorder", 20)
        found = messages(engine)
    books = [m for m in api.books.messages if m["state"] == "accepted"]
    taken = Counter((m["number"], m["text"]) for m in books)
    assert max(taken.values()) == 1, "sent twice"
    explained = {DELIVERED, FAILED, UNKNOWN, CANCELLED, SENT}
    assert {r["state"] for r in found} <= explained
    assert all(r["failure_reason"] for r in found if r["state"] in (FAILED, UNKNOWN, CANCELLED))
    assert len(found) == rows + len(quitters)
    # The ledger is the stand-in's books: message by message, and to the last pesewa.
    known = {r["message_id"]: r for r in found if r["message_id"]}
    ours = {m["id"]: m for m in books}
    assert known.keys() <= ours.keys()
    for message_id, message in ours.items():
        if message_id in known and known[message_id]["cost_amount"] is not None:
            assert Decimal(known[message_id]["cost_amount"]) == message["cost"]
    # What is in the books and not in the ledger is what nobody could know: each has its unknown row.
    missing = [m for i, m in ours.items() if i not in known]
    unknown = {r["respondent"] for r in found if r["state"] == UNKNOWN}
    assert all(by_number[m["number"]] in unknown for m in missing)
    for message_id, r in known.items():
        delivery = ours[message_id]["delivery"]
        if r["state"] == DELIVERED:
            assert delivery == "Success", (delivery, r["status_raw"])
    cancelled = {r["respondent"] for r in found if r["state"] == CANCELLED}
    sent_to = {by_number[m["number"]] for m in books if m["text"] == TEXT}
    assert not cancelled & sent_to, "sent after the opt-out was known"
    outcome = Counter((r["state"], r["failure_reason"]) for r in found)
    print(f"{kills} kills, {time.monotonic() - began:.0f} s: {sorted(outcome.items(), key=str)}")
    assert kills >= 1 and sum(n for (state, _), n in outcome.items() if state == DELIVERED) > rows * 0.8
