"""The hop's client: on real servers, and on servers of the test that answer late, wrongly or not at all."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import hiredis
import pytest
import redis

from storage.resp import TIMEOUT_SECONDS, RespClient, Unavailable
from tests.gateway_app import hung_server
from tests.stores import Server, live_program, missing, private_folder

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def client(url: str) -> AsyncIterator[RespClient]:
    made = RespClient(url)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def answering(handler: Answering) -> AsyncIterator[str]:
    """A server of the test on a free port; its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def settled(*calls: Awaitable[object]) -> list[object]:
    return list(await asyncio.gather(*calls, return_exceptions=True))


# ---------------------------------------------------------------- on real servers


def test_a_thousand_at_once_are_answered_in_order(redis_url: str) -> None:
    async def main() -> None:
        with redis.Redis.from_url(redis_url) as other:
            before = len(other.client_list())  # other suites' connections may still be closing
        async with client(redis_url) as live:
            calls = [live.call("ECHO", f"é{n}") for n in range(1000)]
            assert await asyncio.gather(*calls) == [f"é{n}".encode() for n in range(1000)]
            with redis.Redis.from_url(redis_url) as other:
                info = other.client_list()
            assert len(info) <= before + 1  # one connection for all of them

    asyncio.run(main())


def test_values_of_all_sizes_and_kinds(redis_url: str) -> None:
    async def main() -> None:
        big = bytes(range(256)) * 40_000  # 10 MB, every octet
        async with client(redis_url) as live:
            for value in (b"", b"\r\n$-1\r\n", "naïve".encode(), big):
                assert await live.call("SET", "k", value) == b"OK"
                assert await live.call("GET", "k") == value
            assert await live.call("GET", "no such key") is None
            assert await live.call("MGET", "k", "no such key") == [big, None]
            assert await live.call("INCR", "n") == 1

    asyncio.run(main())


def test_a_refusal_is_raised_to_its_own_caller(redis_url: str) -> None:
    async def main() -> None:
        async with client(redis_url) as live:
            got = await settled(
                live.call("SET", "k", "word"), live.call("INCR", "k"), live.call("NOSUCH"),
                live.call("GET", "k"),
            )  # fmt: skip
            assert got[0] == b"OK" and got[3] == b"word"
            assert isinstance(got[1], hiredis.ReplyError) and isinstance(got[2], hiredis.ReplyError)

    asyncio.run(main())


def test_a_caller_that_gives_up_does_not_shift_the_answers(redis_url: str) -> None:
    async def main() -> None:
        async with client(redis_url) as live:
            await live.call("PING")
            given_up = asyncio.ensure_future(live.call("ECHO", "for nobody"))
            await asyncio.sleep(0)
            given_up.cancel()
            assert await live.call("ECHO", "for us") == b"for us"

    asyncio.run(main())


@pytest.fixture(params=["valkey", "redis"])
def guarded(request: pytest.FixtureRequest) -> Iterator[tuple[int, Path]]:
    """A server on TCP and on a unix socket that asks for a password; its port and folder."""
    program = live_program(request.param)
    if program is None:
        missing(request.param)
        raise AssertionError
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]

    def answers() -> bool:
        try:
            with redis.Redis(port=port, password="p@ss/word") as probe:
                return bool(probe.ping())
        except redis.RedisError:
            return False

    with private_folder() as folder:
        command = [
            program, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(folder / "a socket"),
            "--requirepass", "p@ss/word", "--dir", str(folder), "--save", "",
        ]  # fmt: skip
        server = Server(command, folder, answers)
        try:
            server.start()
            with redis.Redis(port=port, password="p@ss/word") as db:
                db.execute_command("ACL", "SETUSER", "ama", "on", ">secret", "~*", "+@all")
            yield port, folder
        finally:
            server.stop(kill=True)


def test_every_form_of_url(guarded: tuple[int, Path]) -> None:
    port, folder = guarded
    password = quote("p@ss/word", safe="")
    unix = quote(str(folder / "a socket"))

    async def database(url: str) -> str:
        """Which numbered database a URL leads to, by where a key lands."""
        async with client(url) as live:
            await live.call("SET", "here", "1")
        for number in range(16):
            with redis.Redis(port=port, password="p@ss/word", db=number) as db:
                if db.delete("here"):
                    return str(number)
        return "none"

    async def main() -> None:
        for url, number in (
            (f"redis://:{password}@127.0.0.1:{port}", "0"),
            (f"redis://:{password}@127.0.0.1:{port}/", "0"),
            (f"redis://:{password}@127.0.0.1:{port}/3", "3"),
            (f"redis://:{password}@127.0.0.1:{port}?db=4", "4"),
            (f"redis://default:{password}@localhost:{port}/5", "5"),
            (f"redis://ama:secret@127.0.0.1:{port}/6", "6"),
            (f"unix://:{password}@{unix}", "0"),
            (f"unix://:{password}@{unix}?db=7", "7"),
            (f"unix://ama:secret@{unix}?db=8", "8"),
        ):
            assert (url, await database(url)) == (url, number)
        for url in (
            f"redis://127.0.0.1:{port}/1",  # no password, and then a greeting that needs one
            f"redis://:wrong@127.0.0.1:{port}",
            f"redis://nobody:{password}@127.0.0.1:{port}",
            f"redis://:{password}@127.0.0.1:{port}/99",
            f"redis://:{password}@127.0.0.1:{port}/name",
            f"rediss://:{password}@127.0.0.1:{port}",  # the server speaks no TLS
        ):
            async with client(url) as live:
                with pytest.raises(Unavailable) as raised:
                    await live.call("PING")
            assert "wrong" not in str(raised.value) and "p@ss" not in str(raised.value)

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://localhost", "postgresql://localhost", "redis://h:99999", "redis://h:six"],
)
def test_a_url_that_cannot_be_one_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the live store's URL "):
        RespClient(url)


# ---------------------------------------------------------------- away, lost, late


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]

    async def main() -> None:
        for url in (f"redis://127.0.0.1:{port}", f"unix://{tmp_path}/none", "redis://no-such-host.invalid"):
            async with client(url) as live:
                began = time.monotonic()
                got = await settled(*(live.call("PING") for _ in range(20)))
                assert all(isinstance(g, Unavailable) for g in got), got
                assert time.monotonic() - began < 3 * TIMEOUT_SECONDS

    asyncio.run(main())


def test_a_connection_lost_fails_all_who_wait_and_the_next_call_opens_another() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await reader.readuntil(b"third\r\n")
            writer.write(b"+one\r\n$9\r\nhalf")  # the second answer breaks off
            await writer.drain()
            return
        while await reader.readuntil(b"PING\r\n"):
            writer.write(b"+PONG\r\n")

    async def main() -> None:
        async with answering(handler) as url, client(url) as live:
            got = await settled(
                live.call("ECHO", "first"), live.call("ECHO", "second"), live.call("ECHO", "third")
            )
            assert got[0] == b"one"
            assert [str(g) for g in got[1:]] == ["live store: connection lost"] * 2  # not: no answer in time
            assert await asyncio.gather(*(live.call("PING") for _ in range(3))) == [b"PONG"] * 3
            assert connections == 2

    asyncio.run(main())


def test_a_server_that_closes_as_soon_as_it_accepts() -> None:
    """As a proxy does whose own server is away. Nobody may be left waiting."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    async def main() -> None:
        async with answering(handler) as url, client(url) as live:
            for _ in range(5):
                got = await asyncio.wait_for(settled(*(live.call("PING") for _ in range(5))), 10)
                assert all(isinstance(g, Unavailable) and "in time" not in str(g) for g in got), got

    asyncio.run(main())


def test_a_call_on_a_connection_that_was_lost_before_its_turn() -> None:
    """The loss may come between the opening and the first command; that command must not wait for ever."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"PING\r\n"):
            writer.write(b"+PONG\r\n")

    async def main() -> None:
        async with answering(handler) as url, client(url) as live:
            connection = await live._connect()
            connection.fail("lost meanwhile")
            await asyncio.sleep(0.05)  # and said to be lost: nothing else will come of it
            with pytest.raises(Unavailable):
                await asyncio.wait_for(connection.send(("PING",)), 10)
            assert await live.call("PING") == b"PONG"

    asyncio.run(main())


def test_no_answer_in_time() -> None:
    async def main(port: int) -> None:
        async with client(f"redis://127.0.0.1:{port}") as live:
            for _ in range(2):  # each call waits on a connection of its own: the first one is given up
                began = time.monotonic()
                got = await settled(live.call("PING"), live.call("PING"))
                waited = time.monotonic() - began
                assert [str(g) for g in got] == ["live store: no answer in time"] * 2
                assert TIMEOUT_SECONDS <= waited < 3 * TIMEOUT_SECONDS

    with hung_server() as port:
        asyncio.run(main(port))


def test_no_answer_to_the_greeting() -> None:
    async def main(port: int) -> None:
        async with client(f"redis://:secret@127.0.0.1:{port}/1") as live:
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await live.call("PING")
            assert time.monotonic() - began < 3 * TIMEOUT_SECONDS

    with hung_server() as port:
        asyncio.run(main(port))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b"$notanumber\r\n", id="broken"),
        pytest.param(b"+PONG\r\n+PONG\r\n", id="more than was asked"),
    ],
)
def test_answers_that_make_no_sense(answer: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"PING\r\n"):
            writer.write(answer)

    async def main() -> None:
        async with answering(handler) as url, client(url) as live:
            for _ in range(3):
                got = (await settled(asyncio.wait_for(live.call("PING"), 2)))[0]
                assert got == b"PONG" or isinstance(got, Unavailable), got

    asyncio.run(main())


def test_closing_fails_who_still_waits() -> None:
    async def main(port: int) -> None:
        live = RespClient(f"redis://127.0.0.1:{port}")
        waiting = asyncio.ensure_future(live.call("PING"))
        await asyncio.sleep(0.1)
        await live.close()
        with pytest.raises(Unavailable, match="closed"):
            await waiting
        await RespClient("redis://127.0.0.1").close()  # never opened

    with hung_server() as port:
        asyncio.run(main(port))
