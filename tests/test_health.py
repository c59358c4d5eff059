"""Whether the gateway says that it works exactly when it does: each part away, then back."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from storage.database import migrate, open_engine
from storage.recorder import Recorder
from storage.resp import TIMEOUT_SECONDS
from tests.gateway_app import WAVE, Gateway, hung_server, running
from tests.stores import Live, running_live


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
                "instrument": True,
                "live store": False,
                "database": False,
                "recorder": False,
                "sending": True,
            }
            assert why["instrument"] == "numbers@1, wave w"
            assert why["live store"].endswith("start it or set DIAL16_REDIS_URL")
            assert why["database"] == "the database is older than this release: run `python main.py migrate`"
            assert why["recorder"] == "unknown while the live store is away"

            own_live.start()
            status, up, why = await parts(gateway)
            assert status == 503
            assert up == {
                "instrument": True,
                "live store": True,
                "database": False,
                "recorder": False,
                "sending": True,
            }
            assert why["recorder"] == "none runs, 0 entries wait: start `python main.py record`"
            await gateway.dial()
            assert "none runs, 1 entries wait" in (await parts(gateway))[2]["recorder"]

            engine = open_engine(database_url)
            migrate(engine, WAVE.instrument)
            engine.dispose()
            status, up, why = await parts(gateway)
            assert status == 503
            assert up == {
                "instrument": True,
                "live store": True,
                "database": True,
                "recorder": False,
                "sending": True,
            }
            assert why["database"] == f"{database_url.partition(':')[0].partition('+')[0]}, schema current"

            fold_once()
            status, up, why = await parts(gateway)
            assert status == 200 and all(up.values())
            assert why["recorder"] == "1 running, 0 entries waiting"

            own_live.stop()
            status, up, _ = await parts(gateway)
            assert status == 503
            assert up == {
                "instrument": True,
                "live store": False,
                "database": True,
                "recorder": False,
                "sending": True,
            }

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
