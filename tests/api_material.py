"""The results API over a small record, with a client that asks it: for the suites of its families."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import redis
from sqlalchemy import Engine
from starlette.applications import Starlette

from flows.wave import Wave
from gateway.access import Access, ApiToken
from gateway.analysts import Analysts
from storage.analysis.release import Release, Rules, make
from storage.analysis.released import keep_release
from storage.database import migrate, open_engine, writing
from tests import figures_material
from tests.record_material import SMALL, Dialogue, complete, ended, fold_all
from tests.stores import Live, PostgreSQL

KEY = b"k" * 32
PUBLIC, STAFF, OTHER = ("public-token-" + "0123456789abcdef" * 2, "staff-token-" + "fedcba9876543210" * 2,
                        "other-token-" + "0f1e2d3c4b5a6978" * 2)  # fmt: skip
TOKENS = (
    ApiToken("web", "estimates", PUBLIC),
    ApiToken("ama", "rows", STAFF),
    ApiToken("kofi", "rows", OTHER),
)
WAVE = Wave(id="pilot-2026", instrument=SMALL, languages=("en",), owner="Office", contact="0800", code="*1#")
_numbers = count(1)


def release(wave: str = "w", version: int = 1) -> Release:
    return Release(
        wave=wave, version=version, issued="2026-11-23", reason="First version.", instrument="x@1",
        owner="Office", contact="0800", licence="-", weighted=False, margins=(), probability_sample=False,
        interviews=1200, material="m", software="0", rules=Rules(),
        estimates=make(figures_material.table(wave=wave), Rules()),
    )  # fmt: skip


def fill(engine: Engine) -> None:
    """Thirty complete interviews, many hops at one instant; two left, one refused, one withdrawn."""
    migrate(engine, SMALL)
    dialogues = [complete(n) for n in range(1, 31)]
    left = Dialogue(901)
    left.begin()
    left.consent()
    left.answer("age", 98)
    left.answer("region", "gh_aa")
    unsure = Dialogue(903)
    unsure.begin()
    unsure.consent()
    unsure.answer("age", "dont_know")
    refused = Dialogue(904)
    refused.begin()
    refused.answer("consent", "no", ended("refusal"))
    gone = Dialogue(902)
    gone.begin()
    gone.consent()
    gone.withdraw()
    fold_all(engine, [e for d in [*dialogues, left, unsure, refused, gone] for e in d.entries])
    with writing(engine) as db:
        keep_release(db, release())
        keep_release(db, release(version=2))


@dataclass
class Api:
    """The API and where it reads from."""

    app: Starlette
    engine: Engine
    live: redis.Redis
    data_dir: Path

    def ask(
        self, path: str, token: str | None = STAFF, *, method: str = "GET", body: Any = None, **headers: str
    ) -> httpx2.Response:
        """One request. Header names with _ for -."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given.setdefault("Authorization", f"Bearer {token}")

        async def once() -> httpx2.Response:
            transport = httpx2.ASGITransport(app=self.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://results.example") as http:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                content = None if body is None else raw
                return await http.request(method, path, headers=given, content=content)

        return asyncio.run(once())

    def json(self, path: str, token: str | None = STAFF, **headers: str) -> Any:
        """The answer of a request that is answered."""
        answer = self.ask(path, token, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def database(kind: str, folder: Path, server: PostgreSQL | None) -> Iterator[str]:
    """A fresh one: sqlite | postgresql."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / f'api{next(_numbers)}.sqlite3'}"
        return
    assert server is not None
    name = f"api_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def serving(url: str, live: Live, folder: Path, access: Access | None = None) -> Iterator[Api]:
    client = redis.Redis.from_url(live.url)
    client.flushall()
    analysts = Analysts(
        TOKENS, database_url=url, live_url=live.url, wave=WAVE, key=KEY, data_dir=folder,
        access=access or Access(TOKENS, burst=10**9),
    )  # fmt: skip
    engine = open_engine(url)
    try:
        yield Api(Starlette(routes=analysts.routes()), engine, client, folder)
    finally:
        analysts.close()
        engine.dispose()
        client.close()


def rows(page: Mapping[str, Any]) -> list[Any]:
    return list(page["data"])
