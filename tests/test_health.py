"""Whether the gateway says that it works exactly when it does: each part away, then back."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from rq.serializers import JSONSerializer
from rq.utils import utcformat
from sqlalchemy import text

from gateway import jobs
from storage.database import SchemaError, migrate, open_engine
from storage.live import key_id
from storage.recorder import Recorder
from storage.resp import TIMEOUT_SECONDS
from storage.respondents import OtherKeyError
from tests.gateway_app import KEY, WAVE, Gateway, hung_server, running
from tests.stores import Live, give_schema, running_live


@pytest.fixture(params=["valkey", "redis"])
def own_live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with running_live(request.param) as server:
        yield server


async def parts(gateway: Gateway) -> tuple[int, dict[str, bool], dict[str, str]]:
    """Status of readiness; of each part whether it is up, and its line for the operator."""
    live = await gateway.http.get("/health/live")
    assert (live.status_code, live.json()) == (200, {"live": True})  # whatever is away
    answer = await gateway.http.get("/health/ready")
    said: dict[str, Any] = answer.json()
    assert said["ready"] == (answer.status_code == 200)
    up = {name: part["up"] for name, part in said["parts"].items()}
    return answer.status_code, up, {name: part["detail"] for name, part in said["parts"].items()}


@contextmanager
def worker(url: str, name: str) -> Iterator[jobs.Worker]:
    """A worker of ours as Redis knows it, from its birth to its death."""
    queue, connection = jobs.open_queue(url)
    made = jobs.Worker([queue], name=name, connection=connection, serializer=JSONSerializer)
    made.register_birth()  # type: ignore[no-untyped-call]
    yield made
    made.register_death()  # type: ignore[no-untyped-call]
    connection.close()


def test_each_part_until_it_works(own_live: Live, database_url: str) -> None:
    def fold_once() -> None:
        engine = open_engine(database_url)
        with redis.Redis.from_url(own_live.url) as client:
            recorder = Recorder(client, engine, "one")
            recorder.fold_once(1)  # makes the group
            recorder.fold_once(1)  # and is one of it
        engine.dispose()

    async def main() -> None:
        own_live.stop()
        async with running(own_live.url, database_url) as gateway:
            status, up, why = await parts(gateway)
            assert status == 503
            assert up == {
                "instrument": True, "live store": False, "database": False,
                "recorder": False, "worker": False, "sending": True,
            }  # fmt: skip
            assert why["instrument"] == "numbers@1, wave w"
            assert why["live store"].endswith("start it or set DIAL16_REDIS_URL")
            assert why["database"] == "the database is older than this release: run `python main.py migrate`"
            assert why["recorder"] == why["worker"] == "unknown while the live store is away"

            own_live.start()
            status, up, why = await parts(gateway)
            assert status == 503
            assert [name for name, is_up in up.items() if is_up] == ["instrument", "live store", "sending"]
            assert why["worker"] == "none runs: start `python main.py work`"
            assert why["recorder"] == "none runs, 0 entries wait: start `python main.py record`"
            await gateway.dial()
            assert "none runs, 1 entries wait" in (await parts(gateway))[2]["recorder"]

            engine = open_engine(database_url)
            migrate(engine, WAVE.instrument)
            engine.dispose()
            status, up, why = await parts(gateway)
            assert status == 503
            assert [n for n, is_up in up.items() if is_up] == [
                "instrument",
                "live store",
                "database",
                "sending",
            ]
            assert why["database"] == f"{database_url.partition(':')[0].partition('+')[0]}, schema current"

            fold_once()
            status, up, why = await parts(gateway)
            assert status == 503 and [name for name, is_up in up.items() if not is_up] == ["worker"]
            with worker(own_live.url, "one") as one:
                status, up, why = await parts(gateway)
                assert status == 200 and all(up.values())
                assert why["recorder"] == "1 running, 0 entries waiting"
                assert why["worker"] == "1 running"
                long_ago = utcformat(datetime.now(UTC) - timedelta(minutes=4))
                one.connection.hset(one.key, "last_heartbeat", long_ago)  # killed: it could not say so
                assert (await parts(gateway))[1]["worker"] is False
                with worker(own_live.url, "two"):
                    assert (await parts(gateway))[2]["worker"] == "1 running"
            assert (await parts(gateway))[1]["worker"] is False

            own_live.stop()
            status, up, _ = await parts(gateway)
            assert status == 503
            assert [name for name, is_up in up.items() if is_up] == ["instrument", "database", "sending"]

    asyncio.run(main())


def test_a_live_store_that_hangs_is_told_in_time(tmp_path: Path) -> None:
    """Whoever asks gives up after some seconds (a container's check after 3, by deploy/)."""

    async def main(port: int) -> None:
        url = f"redis://:secret-of-the-store@127.0.0.1:{port}"
        async with running(url, f"sqlite:///{tmp_path / 'none.sqlite3'}") as gateway:
            began = time.monotonic()
            status, up, why = await parts(gateway)
            assert time.monotonic() - began < 3 * TIMEOUT_SECONDS
            assert (status, up["live store"]) == (503, False)
            assert "secret-of-the-store" not in str(why)

    with hung_server() as port:
        asyncio.run(main(port))


def test_a_database_away_is_a_reason_without_its_password(redis_url: str) -> None:
    async def main() -> None:
        url = "postgresql+psycopg://dial16:secret-of-the-database@127.0.0.1:9/none"
        async with running(redis_url, url) as gateway:
            status, up, why = await parts(gateway)
            assert (status, up["live store"], up["database"]) == (503, True, False)
            assert why["database"] == "OperationalError: not reached"

    asyncio.run(main())


# ---------------------------------------------------------------- what a start refuses


def test_a_changed_pseudonym_key_does_not_go_unnoticed(redis_url: str, tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path / 'none.sqlite3'}"

    async def start() -> dict[str, str]:
        async with running(redis_url, database_url) as gateway:
            return (await parts(gateway))[2]

    with redis.Redis.from_url(redis_url) as live:
        asyncio.run(start())
        kept = live.get("dial16:key")
        assert kept == key_id(KEY).encode() and KEY not in kept
        asyncio.run(start())  # the same one again
        live.set("dial16:key", key_id(b"another key, which finds nobody here"))
        with pytest.raises(OtherKeyError, match="DIAL16_PSEUDONYM_KEY: is not the one"):
            asyncio.run(start())
        assert live.get("dial16:key") != kept


def test_a_changed_key_shows_where_the_live_store_was_away_at_the_start(
    own_live: Live, tmp_path: Path
) -> None:
    async def main() -> None:
        with redis.Redis.from_url(own_live.url) as live:
            live.set("dial16:key", key_id(b"another key, which finds nobody here"))
        own_live.stop()
        async with running(own_live.url, f"sqlite:///{tmp_path / 'none.sqlite3'}") as gateway:
            own_live.start()
            _, up, why = await parts(gateway)
            assert not up["live store"] and "DIAL16_PSEUDONYM_KEY" in why["live store"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("revision", "words"), [("0000", "newer than this release"), ("", "older than this")]
)
def test_another_release_s_schema_is_refused(
    revision: str, words: str, redis_url: str, database_url: str
) -> None:
    async def start() -> None:
        async with running(redis_url, database_url):
            pass

    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    asyncio.run(start())
    with engine.begin() as db:
        db.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'" if revision else
                        "DELETE FROM alembic_version"))  # fmt: skip
    with pytest.raises(SchemaError, match=words):
        asyncio.run(start())
    engine.dispose()


def test_a_database_that_hangs_delays_the_start_by_seconds(redis_url: str) -> None:
    async def main(port: int) -> None:
        began = time.monotonic()
        async with running(redis_url, f"postgresql+psycopg://dial16@127.0.0.1:{port}/none"):
            assert 1 < time.monotonic() - began < 4

    with hung_server() as port:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(main(port))
        finally:
            loop.close()  # does not wait for the thread that still connects
