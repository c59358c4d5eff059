"""The recorder when something is killed, away, wiped or broken: nothing lost, nothing doubled."""

import logging
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from storage.database import migrate, open_engine, writing
from storage.entries import STREAM
from storage.models import Interview, table_of
from storage.recorder import GROUP, Recorder, dead_entries, health, lag
from tests.record_material import SMALL, Dialogue, complete, contents, drain, empty, fold_all, rows, send
from tests.stores import Live, give_schema, running_live, running_postgres

HERE = Path(__file__).resolve().parent.parent
INTERVIEW = table_of(Interview)


@pytest.fixture
def live(redis_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0))
    yield client
    client.close()


def test_a_dead_consumer_s_entries_are_claimed(live: redis.Redis, engine: Engine) -> None:
    send(live, complete(1).entries)
    dead = Recorder(live, engine, "dead")
    dead.fold_once(1)  # makes the group
    live.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=1000)
    alive = Recorder(live, engine, "alive", claim_after_ms=100)
    assert alive.fold_once(1) == 0
    assert lag(live) > 0
    time.sleep(0.3)
    drain(alive)
    assert rows(engine, INTERVIEW)[0]["disposition"] == "complete"


def test_stopped_between_commit_and_release_it_folds_again_to_no_effect(
    live: redis.Redis, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = complete(1).entries
    send(live, entries)
    recorder = Recorder(live, engine, "one")
    recorder.fold_once(1)  # makes the group

    def fail(ids: object) -> None:
        raise redis.ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "_release", fail)
        with pytest.raises(redis.ConnectionError):
            recorder.fold_once(1)
    recorded = contents(engine)
    assert lag(live) == len(entries)
    assert recorder.fold_once(1) == len(entries)
    assert contents(engine) == recorded
    assert lag(live) == 0


def test_idle_consumers_are_forgotten_unless_they_hold_entries(
    live: redis.Redis, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.recorder._FORGET_MS", 100)
    Recorder(live, engine, "one").fold_once(1)
    for name, entries in (("idle", complete(1).entries[:1]), ("holding", complete(2).entries[:1])):
        send(live, entries)
        live.xreadgroup(GROUP, name, {STREAM: ">"})
    first: Any = live.xrange(STREAM, count=1)
    live.xack(STREAM, GROUP, first[0][0])
    time.sleep(0.2)
    Recorder(live, engine, "other").fold_once(1)
    consumers: Any = live.xinfo_consumers(STREAM, GROUP)
    names = {c["name"] for c in consumers}
    assert names >= {b"holding", b"other"}
    assert b"idle" not in names


def test_a_restarted_namesake_begins_with_what_it_had_read(live: redis.Redis, engine: Engine) -> None:
    send(live, complete(1).entries)
    Recorder(live, engine, "host-1").fold_once(1)
    live.xreadgroup(GROUP, "host-1", {STREAM: ">"}, count=3)
    assert Recorder(live, engine, "host-1").fold_once(1) == 3


def test_a_wiped_live_store_is_taken_up_again(live: redis.Redis, engine: Engine) -> None:
    recorder = Recorder(live, engine, "one")
    first, second = complete(1), complete(2)
    send(live, first.entries)
    drain(recorder)
    live.flushall()
    assert health(live)[0] is False
    send(live, second.entries)
    drain(recorder)
    assert len(rows(engine, INTERVIEW)) == 2


RECORDER = """
    import sys
    import redis
    from storage.database import open_engine
    from storage.recorder import Recorder
    Recorder(redis.Redis.from_url(sys.argv[1]), open_engine(sys.argv[2]), sys.argv[3],
             batch=11, claim_after_ms=200).run(lambda: False)
"""


def start_recorder(redis_url: str, database_url: str, name: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RECORDER), redis_url, database_url, name],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stderr=subprocess.DEVNULL,
    )


def test_killed_at_random_it_neither_loses_nor_doubles(
    live: redis.Redis, redis_url: str, engine: Engine, database_url: str
) -> None:
    entries = [e for n in range(60) for e in complete(n).entries]
    fold_all(engine, entries)
    expected = contents(engine)
    empty(engine)
    engine.dispose()
    chance = random.Random(11)
    send(live, entries[: len(entries) // 2])
    kills = 0
    while kills < 4:
        process = start_recorder(redis_url, database_url, f"victim-{kills}")
        before = lag(live)
        until = time.monotonic() + 15
        while lag(live) == before and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.wait()
        kills += 1
        send(live, entries[len(entries) * (kills + 3) // 8 : len(entries) * (kills + 4) // 8])
    survivor = Recorder(live, engine, "survivor", claim_after_ms=200)
    until = time.monotonic() + 60
    while lag(live) and time.monotonic() < until:
        survivor.fold_once(50)
    assert contents(engine) == expected


@pytest.fixture
def own_live() -> Iterator[Live]:
    with running_live("valkey") as server:
        yield server


def run_in_thread(recorder: Recorder) -> tuple[threading.Event, threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=recorder.run, args=(stop.is_set,))
    thread.start()
    return stop, thread


def wait_for_empty(live: redis.Redis, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if not lag(live):
                return
        except redis.RedisError:
            pass
        time.sleep(0.05)
    raise AssertionError("entries are left on the stream")


def test_the_database_stopped_and_started_again(own_live: Live) -> None:
    with running_postgres() as server:
        engine = open_engine(server.url("postgres"))
        migrate(engine, SMALL)
        live = redis.Redis.from_url(own_live.url)
        stop, thread = run_in_thread(Recorder(live, engine, "one"))
        send(live, complete(1).entries)
        wait_for_empty(live)
        server.stop()
        second = complete(2).entries
        send(live, second)
        time.sleep(0.5)
        assert lag(live) == len(second)  # nothing acknowledged
        server.start()
        wait_for_empty(live)
        stop.set()
        thread.join()
        assert [i["disposition"] for i in rows(engine, INTERVIEW)] == ["complete", "complete"]
        engine.dispose()
        live.close()


def test_the_live_store_killed_and_started_again(own_live: Live, tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'd.sqlite3'}")
    give_schema(engine, SMALL)
    live = redis.Redis.from_url(own_live.url, retry=Retry(NoBackoff(), 0))
    stop, thread = run_in_thread(Recorder(live, engine, "one"))
    send(live, complete(1).entries)
    wait_for_empty(live)
    own_live.stop(kill=True)
    time.sleep(0.5)
    own_live.start()
    send(live, complete(2).entries)
    wait_for_empty(live)
    stop.set()
    thread.join()
    assert len(rows(engine, INTERVIEW)) == 2
    engine.dispose()
    live.close()


def test_errors_and_log_lines_hold_no_answer(
    live: redis.Redis, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with writing(engine) as db:
        db.exec_driver_sql("DROP TABLE conflict")
        db.exec_driver_sql("ALTER TABLE response RENAME COLUMN option TO gone")
    d = Dialogue(1)
    d.begin()
    d.answer("water.a1", "strongly_disagree")
    send(live, d.entries)
    caplog.set_level(logging.DEBUG)
    recorder = Recorder(live, engine, "one")
    recorder.fold_once(1)
    with pytest.raises(SQLAlchemyError) as caught:
        recorder.fold_once(1)
    assert "strongly_disagree" not in str(caught.value)
    assert lag(live) == 2  # the database is at fault, not the entries
    assert dead_entries(live) == 0
    asked = iter([False, True])
    recorder.run(lambda: next(asked, True))
    assert "recorder waits" in caplog.text
    assert "strongly_disagree" not in caplog.text
