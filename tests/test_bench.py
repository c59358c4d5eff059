"""The load generator counts what it plays, refuses strangers, and says when a server misbehaves."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from bench.load import NOBODYS, Load, answer_by
from tests.stores import wait_until

HERE = Path(__file__).resolve().parent.parent
HOPS = 12

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll and /proc")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("floor", ["form", "bare"])
def test_it_plays_whole_interviews_and_counts_their_hops(floor: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"bench.floors:{floor}", "--port", str(port)]
    environ = os.environ | {"BENCH_HOPS": str(HOPS)}
    with subprocess.Popen([*command, "--log-level", "error"], cwd=HERE, env=environ) as server:
        try:
            wait_until(lambda: listens(port), "the floor")
            load = Load(
                f"http://127.0.0.1:{port}/ussd", respondents=4, interviews=20, warmup=0, server=server.pid
            )
            report = load.run()
        finally:
            server.terminate()
    assert (report.stopped, report.errors) == ("done", {})
    assert (report.interviews, report.hops, report.hops_per_interview) == (20, 20 * HOPS, HOPS)
    assert 0 < report.p50 <= report.p99 <= report.max
    assert report.server_ms_per_hop >= 0


@pytest.mark.parametrize("url", ["http://10.0.0.1/ussd", "https://127.0.0.1/ussd", "http://example.org/ussd"])
def test_it_loads_nothing_but_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="127"):
        Load(url)


def test_a_rule_answers_the_screen_it_fits_and_1_the_rest() -> None:
    answer = answer_by([(r"old are you", "34"), (r"are you", "2")])
    assert [answer(x) for x in ("How old are you?", "Who are you?", "Go on?", "Go on?")] == [
        "34",
        "2",
        "1",
        "1",
    ]


def test_numbers_are_nobody_s() -> None:
    assert NOBODYS == "+2330"  # no national number begins with 0


@contextmanager
def answering(reply: Callable[[], bytes]) -> Iterator[int]:
    """A server that takes one connection at a time and answers each request with `reply()`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    while line.recv(65_536):
                        line.sendall(reply())

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno", "status 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", "neither CON nor END"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nCON on", "never ended"),
    ],
)
def test_a_server_s_faults_are_counted_by_kind(reply: bytes, error: str) -> None:
    with answering(lambda: reply) as port:
        report = Load(
            f"http://127.0.0.1:{port}/ussd", respondents=1, interviews=2, warmup=0, seconds=20
        ).run()
    assert report.errors == {error: 2} and report.interviews == 0
