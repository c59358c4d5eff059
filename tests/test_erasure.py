"""Withdrawal at the office's request, on real stores."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis
from sqlalchemy import Engine, text

from flows.questionnaire import UNANSWERED
from flows.wave import Wave
from gateway.campaigns import sealed_numbers
from gateway.erasure import Erased, erase_respondent
from gateway.sampling import Sample, Sampled
from storage.campaigns import create_campaign
from storage.database import open_engine
from storage.live import EVENTS, key_id, opted_out_key
from storage.recorder import Recorder
from storage.respondents import OtherKeyError, Pseudonyms
from storage.sample import load_numbers
from storage.sealing import Seal
from tests.gateway_app import KEY, NUMBER, OTHER_NUMBER, WAVE, Talk, welcome
from tests.stores import give_schema


async def _answer(url: str, number: str, wave: Wave = WAVE, session: str = "A") -> None:
    async with Talk(url, wave) as talk:
        for text_so_far in ("", "1", "1*101", "1*101*102"):
            await talk.hop(text_so_far, session=session, number=number)


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


def _erase(redis_url: str, database_url: str, number: str, key: bytes = KEY) -> Erased:
    return asyncio.run(
        erase_respondent(
            number,
            waves=[WAVE],
            live_url=redis_url,
            database_url=database_url,
            pseudonym_key=key,
            live_days=90,
        )
    )


def test_the_office_erases_what_is_recorded_and_what_is_on_its_way(redis_url: str, database_url: str) -> None:
    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    asyncio.run(_answer(redis_url, NUMBER))
    _record(redis_url, engine)
    asyncio.run(_answer(redis_url, OTHER_NUMBER))  # still on the stream
    mine = _erase(redis_url, database_url, NUMBER)
    other = _erase(redis_url, database_url, OTHER_NUMBER)
    (my_receipt,), (other_receipt,) = mine.receipts, other.receipts
    assert len(my_receipt) == len(other_receipt) == 6
    assert (mine.interviews, other.interviews) == (1, 0)
    _record(redis_url, engine)
    assert _numbers(engine) == []
    with engine.connect() as db:
        standing = {tuple(row) for row in db.execute(text("SELECT disposition, receipt FROM interview"))}
    assert standing == {("withdrawn", my_receipt), ("withdrawn", other_receipt)}
    engine.dispose()


def test_whoever_dials_after_it_is_told_and_keeps_the_receipt(redis_url: str, database_url: str) -> None:
    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    asyncio.run(_answer(redis_url, NUMBER))
    first = _erase(redis_url, database_url, NUMBER)
    assert _erase(redis_url, database_url, NUMBER).receipts == first.receipts

    async def dial() -> None:
        async with Talk(redis_url) as talk:
            again = await talk.hop("", session="B")
            assert (again.text, again.ends) == (f"Deleted. Receipt: {first.receipts[0]}.", True)
            late = await talk.hop("1*101*102*103", session="A")
            assert late.ends
            assert late.text != welcome(2)

    asyncio.run(dial())
    engine.dispose()


def test_a_number_that_nobody_dialled_from_has_nothing_to_erase(redis_url: str, database_url: str) -> None:
    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    assert _erase(redis_url, database_url, NUMBER) == Erased((), 0, False)
    engine.dispose()


def test_who_was_only_sampled_is_erased_too_and_never_invited_again(
    redis_url: str, database_url: str
) -> None:
    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    pseudonyms, seal, now = Pseudonyms(KEY), Seal(KEY), datetime.now(UTC)

    def load(wave: str) -> Mapping[str, int]:
        create_campaign(engine, wave, wave, "africastalking", "1616", now)
        sample = Sample((Sampled(NUMBER, "csv"), Sampled(OTHER_NUMBER, "csv")))
        return load_numbers(engine, wave, wave, sealed_numbers(sample, pseudonyms, seal), now)

    assert load("w") == {"loaded": 2, "already": 0}
    assert _erase(redis_url, database_url, NUMBER) == Erased((), 0, True)
    with engine.connect() as db:
        kept = db.execute(text("SELECT respondent FROM directory")).scalars().all()
    assert kept == [pseudonyms.of(OTHER_NUMBER)]
    with redis.Redis.from_url(redis_url) as live:
        assert live.exists(opted_out_key(pseudonyms.of(NUMBER)))
    _record(redis_url, engine)
    assert load("next") == {"loaded": 1, "already": 0, "opted_out": 1}
    engine.dispose()


def test_answers_of_earlier_waves_leave_the_live_store_too(redis_url: str, database_url: str) -> None:
    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    for wave_id in ("before", "w", "long before"):
        for number in (NUMBER, OTHER_NUMBER):
            asyncio.run(_answer(redis_url, number, replace(WAVE, id=wave_id), session=wave_id))
    _record(redis_url, engine)
    erased = _erase(redis_url, database_url, NUMBER)
    assert (len(set(erased.receipts)), erased.interviews) == (3, 3)

    async def stands() -> None:
        for wave_id in ("before", "w", "long before"):
            async with Talk(redis_url, replace(WAVE, id=wave_id)) as talk:
                assert set(await talk.stands(NUMBER)) == {UNANSWERED}, wave_id
                assert set(await talk.stands(OTHER_NUMBER)) != {UNANSWERED}, wave_id

    asyncio.run(stands())
    _record(redis_url, engine)
    with engine.connect() as db:
        receipts = db.execute(text("SELECT receipt FROM interview WHERE disposition = 'withdrawn'")).scalars()
        assert set(receipts) == set(erased.receipts)
    assert _numbers(engine) == [101, 101, 101, 102, 102, 102]  # the other one's
    engine.dispose()


def test_under_another_key_nothing_is_looked_for(redis_url: str, database_url: str) -> None:
    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    other = b"another key, which finds nobody here"
    with redis.Redis.from_url(redis_url) as live:
        # Nobody has kept one yet.
        assert _erase(redis_url, database_url, NUMBER, other) == Erased((), 0, False)
        assert live.get("dial16:key") is None  # and asking keeps none
        asyncio.run(_answer(redis_url, NUMBER))
        assert live.get("dial16:key") == key_id(KEY).encode()  # the first dial does
    with pytest.raises(OtherKeyError, match="PSEUDONYM_KEY: is not the one"):
        _erase(redis_url, database_url, NUMBER, other)
    assert len(_erase(redis_url, database_url, NUMBER).receipts) == 1
    engine.dispose()
