"""Withdrawal at the office's request, on real stores."""

import asyncio

import redis
from sqlalchemy import Engine, text

from gateway.erasure import Erased, erase_respondent
from storage.database import migrate, open_engine
from storage.live import EVENTS
from storage.recorder import Recorder
from tests.gateway_app import KEY, NUMBER, OTHER_NUMBER, WAVE, Talk, welcome


async def _answer(url: str, number: str) -> None:
    async with Talk(url) as talk:
        await talk.hop("", number=number)
        await talk.hop("1", number=number)
        await talk.hop("1*101", number=number)
        await talk.hop("1*101*102", number=number)


def _record(url: str, engine: Engine) -> None:
    with redis.Redis.from_url(url) as live:
        recorder = Recorder(live, engine, "test")
        while recorder.fold_once(50) or live.xlen(EVENTS):
            pass


def _numbers(engine: Engine) -> list[int]:
    with engine.connect() as db:
        return list(
            db.execute(text("SELECT number FROM response WHERE number IS NOT NULL ORDER BY 1")).scalars()
        )


def _erase(redis_url: str, database_url: str, number: str) -> Erased:
    return asyncio.run(
        erase_respondent(
            number, wave=WAVE, live_url=redis_url, database_url=database_url, pseudonym_key=KEY, live_days=90
        )
    )


def test_the_office_erases_what_is_recorded_and_what_is_on_its_way(redis_url: str, database_url: str) -> None:
    engine = open_engine(database_url)
    migrate(engine, WAVE.instrument)
    asyncio.run(_answer(redis_url, NUMBER))
    _record(redis_url, engine)
    asyncio.run(_answer(redis_url, OTHER_NUMBER))  # still on the stream
    mine = _erase(redis_url, database_url, NUMBER)
    other = _erase(redis_url, database_url, OTHER_NUMBER)
    assert len(mine.receipt) == len(other.receipt) == 6
    assert (mine.interviews, other.interviews) == (1, 0)
    _record(redis_url, engine)
    assert _numbers(engine) == []
    with engine.connect() as db:
        standing = {tuple(row) for row in db.execute(text("SELECT disposition, receipt FROM interview"))}
    assert standing == {("withdrawn", mine.receipt), ("withdrawn", other.receipt)}
    engine.dispose()


def test_whoever_dials_after_it_is_told_and_keeps_the_receipt(redis_url: str, database_url: str) -> None:
    engine = open_engine(database_url)
    migrate(engine, WAVE.instrument)
    asyncio.run(_answer(redis_url, NUMBER))
    first = _erase(redis_url, database_url, NUMBER)
    assert _erase(redis_url, database_url, NUMBER).receipt == first.receipt

    async def dial() -> None:
        async with Talk(redis_url) as talk:
            again = await talk.hop("", session="B")
            assert (again.text, again.ends) == (f"Deleted. Receipt: {first.receipt}.", True)
            late = await talk.hop("1*101*102*103", session="A")
            assert late.ends
            assert late.text != welcome(2)

    asyncio.run(dial())
    engine.dispose()


def test_a_number_that_nobody_dialled_from_has_nothing_to_erase(redis_url: str, database_url: str) -> None:
    engine = open_engine(database_url)
    migrate(engine, WAVE.instrument)
    assert _erase(redis_url, database_url, NUMBER) == Erased("", 0)
    engine.dispose()
