"""A minimal Redis client for the hop: pipelining by itself, no retries, a deadline on every answer.

redis-py costs some 0.05 to 0.13 ms a round trip in this place, and its default of ten retries would
eat the aggregator's deadline; this one costs under 0.01 (bench/README.md). RESP2, Redis 7.0 commands,
unix:// and redis:// (rediss:// for TLS). Everything off the hop uses redis-py.
"""

import asyncio
import ssl
from collections import deque
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

#: Seconds that a respondent may wait for one answer of the live store, and for a connection to it.
TIMEOUT_SECONDS = 1.0
_WATCH_SECONDS = 0.1


class Unavailable(Exception):
    """A store is away or too slow. Answer politely, commit nothing, let the respondent dial again."""


class _Connection(asyncio.Protocol):
    """One socket. Answers come in the order of the commands; what is written together goes together."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self.loop = loop
        self.reader = hiredis.Reader()
        self.waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self.outgoing: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.watch = self.loop.call_later(_WATCH_SECONDS, self.check)

    def send(self, command: tuple[Any, ...]) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self.loop.create_future()
        if self.transport is None:  # lost since it was opened: nobody would ever answer, nor watch
            future.set_exception(Unavailable("live store: connection lost"))
            return future
        if not self.outgoing:
            self.loop.call_soon(self.flush)
        self.outgoing.append(hiredis.pack_command(command))
        self.waiting.append((future, self.loop.time() + TIMEOUT_SECONDS))
        return future

    def flush(self) -> None:
        if self.transport is not None and self.outgoing:
            self.transport.write(b"".join(self.outgoing))
        self.outgoing.clear()

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        try:
            while (answer := self.reader.gets()) is not False:
                future, _ = self.waiting.popleft()
                if not future.done():
                    future.set_result(answer)
        except (hiredis.ProtocolError, IndexError) as error:
            self.fail(type(error).__name__)

    def check(self) -> None:
        """Fails everything when the oldest command is overdue: answers behind it are late as well."""
        if self.transport is None:
            return
        if self.waiting and self.waiting[0][1] < self.loop.time():
            self.fail("no answer in time")
            return
        self.watch = self.loop.call_later(_WATCH_SECONDS, self.check)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail("connection lost")

    def fail(self, why: str) -> None:
        transport, self.transport = self.transport, None
        if self.watch is not None:
            self.watch.cancel()
        if transport is not None:
            transport.abort()
        self.outgoing.clear()
        while self.waiting:
            future, _ = self.waiting.popleft()
            if not future.done():
                future.set_exception(Unavailable(f"live store: {why}"))


class RespClient:
    """Commands to one server over one connection, opened when first needed and again after a loss."""

    def __init__(self, url: str):
        """`url`: unix:///path?db=0, redis://[user:password@]host[:port][/db], rediss:// for TLS."""
        parts = urlsplit(url)
        if parts.scheme not in ("unix", "redis", "rediss"):
            raise ValueError("the live store's URL must begin with unix://, redis:// or rediss://")
        try:
            parts.port  # noqa: B018  a property that raises
        except ValueError:
            raise ValueError("the live store's URL must have a port from 0 to 65535") from None
        self._parts = parts
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None

    async def call(self, *command: Any) -> Any:
        """The server's answer. Raises Unavailable, or hiredis.ReplyError on a refusal."""
        connection = self._connection
        if connection is None or connection.transport is None:
            connection = await self._open()
        answer = await connection.send(command)
        if isinstance(answer, hiredis.ReplyError):
            raise answer
        return answer

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.fail("closed")

    async def _open(self) -> _Connection:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._connect())
        try:
            return await asyncio.shield(self._opening)
        except (OSError, TimeoutError, hiredis.ReplyError) as error:
            raise Unavailable(f"live store: {type(error).__name__} on connecting") from None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        parts = self._parts

        def factory() -> _Connection:
            return _Connection(loop)

        async with asyncio.timeout(TIMEOUT_SECONDS):
            if parts.scheme == "unix":
                _, connection = await loop.create_unix_connection(factory, unquote(parts.path))
            else:
                secure = ssl.create_default_context() if parts.scheme == "rediss" else None
                _, connection = await loop.create_connection(
                    factory, parts.hostname or "127.0.0.1", parts.port or 6379, ssl=secure
                )
            try:
                for command in self._greeting():
                    answer = await connection.send(command)
                    if isinstance(answer, hiredis.ReplyError):
                        raise answer
            except BaseException:
                connection.fail("not greeted")  # nobody else holds it
                raise
        self._connection = connection
        return connection

    def _greeting(self) -> list[tuple[Any, ...]]:
        parts, out = self._parts, []
        if parts.password:
            name = (unquote(parts.username),) if parts.username else ()
            out.append(("AUTH", *name, unquote(parts.password)))
        number = parse_qs(parts.query).get("db", [""])[0]
        if parts.scheme != "unix":
            number = number or parts.path.strip("/")
        if number and number != "0":
            out.append(("SELECT", number))
        return out
