"""The live store's records: kept whole, one step at a time, small."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import orjson
import pytest
import redis

from flows.engine import Interview
from flows.gsm import septets
from flows.instrument import load
from flows.wave import Wave
from storage.live import (
    EVENTS,
    Live,
    LiveStore,
    NewerState,
    dump_live,
    hop_entry,
    load_live,
    session_mark,
    transcript_digest,
)
from storage.resp import Unavailable
from tests.gateway_app import NUMBER, Talk

WHO = "0123456789abcdef0123456789abcdef"
SESSION = "ATUid_0f0e0d0c0b0a09080706050403020100"
KEEP_DAYS = 30

INTERVIEW = Interview(
    id="00112233aabbccdd", instrument="numbers@1", wave="w", language="fr", mode="ussd", budget=160,
    seed=2**32 - 1, blocks="000102", answers="1#.D2N", at="n3", stage="stuck", page=2, tries=3,
    shown_at=1_795_420_800_000, last_at=1_795_420_804_321, disposition="", receipt="", shuffled=True,
)  # fmt: skip
LIVE = Live(
    version=7, session=SESSION, seen=12, digest=transcript_digest("1*101*102*x*"), hop=5, over=False,
    past=session_mark("A") + session_mark("B"), screen="Numéro 3 ?\n“€”\t\\ \"0\" 👍\x00", ends=False,
    interview=INTERVIEW,
)  # fmt: skip


@asynccontextmanager
async def store(url: str) -> AsyncIterator[LiveStore]:
    made = LiveStore(url, KEEP_DAYS)
    try:
        yield made
    finally:
        await made.close()


def events(url: str) -> list[bytes]:
    with redis.Redis.from_url(url) as client:
        return [fields[b"e"] for _, fields in client.xrange(EVENTS)]


# ---------------------------------------------------------------- what is written is what is read


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(LIVE, id="all of it"),
        pytest.param(replace(LIVE, over=True, ends=True, version=1), id="ended"),
        pytest.param(replace(LIVE, version=2**32 - 1), id="the last version of eight digits"),
        pytest.param(replace(LIVE, session="séance *1#", screen=""), id="any session id"),
        pytest.param(replace(LIVE, screen="é" * 182), id="the longest screen"),
        pytest.param(
            replace(LIVE, interview=replace(INTERVIEW, disposition="withdrawn", receipt="K7Q2ZZ")),
            id="withdrawn",
        ),
    ],
)
def test_there_and_back(live: Live, redis_url: str) -> None:
    assert load_live(dump_live(live)) == live

    async def main() -> None:
        async with store(redis_url) as kept:
            await kept.commit(0, WHO, live, b"{}")
            assert await kept.read("w", WHO) == (live, 0)
            assert await kept.read("w", WHO[::-1]) == (None, 0)
            assert await kept.read("v", WHO) == (None, 0)

    asyncio.run(main())


def test_an_older_record_with_fewer_fields_is_read() -> None:
    """A deploy meets records of the release before: fields are only added at the end, with defaults."""
    plain = replace(INTERVIEW, shuffled=False)
    raw = dump_live(replace(LIVE, interview=plain))
    fields = orjson.loads(raw[8:])
    first = [f.name for f in dataclasses.fields(Interview)].index("at")
    assert len(fields[8]) > first + 3
    for _ in range(3):
        fields[8].pop()
        left = {f.name for f in dataclasses.fields(Interview)[len(fields[8]) :]}
        older = load_live(raw[:8] + orjson.dumps(fields)).interview
        assert all(
            getattr(older, f.name) == (f.default if f.name in left else getattr(plain, f.name))
            for f in dataclasses.fields(Interview)
        )


@pytest.mark.parametrize(
    "raw", [b"", b"00000001", b"00000001{}", b"0000000x[]", b"00000001[1,2]", b"\xff" * 99]
)
def test_what_is_no_record_is_an_error(raw: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        load_live(raw)


def test_sessions_of_the_past_are_told_apart_and_forgotten_in_turn() -> None:
    live = replace(LIVE, past="")
    assert live.past_with("") == ""
    for n in range(12):
        live = replace(live, past=live.past_with(f"ATUid_{n}"))
    assert len(live.past) == 6 * 8
    assert [live.knows_past(f"ATUid_{n}") for n in range(13)] == [False] * 4 + [True] * 8 + [False]
    # a mark is looked for where one can begin, not anywhere in the row of digits
    shifted = replace(live, past="0" + session_mark("Z") + "00000")
    assert not shifted.knows_past("Z")


def test_the_streams_entry() -> None:
    effects = [{"kind": "WentBack", "item": "n2"}]
    entry = orjson.loads(hop_entry(LIVE, WHO, 1_795_420_800_000, effects, None))
    assert entry == {
        "kind": "hop", "interview": "00112233aabbccdd", "respondent": WHO, "wave": "w", "version": 7,
        "session": SESSION, "hop": 5, "at": 1_795_420_800_000, "shown": "n3", "stage": "stuck",
        "mode": "ussd", "ends": False, "effects": effects,
    }  # fmt: skip
    opened = {"extension": "", "network_code": "62001"}
    assert orjson.loads(hop_entry(LIVE, WHO, 1, [], opened))["opened"] == opened


# ---------------------------------------------------------------- one step at a time


def test_a_commit_counts_if_nobody_else_stepped(redis_url: str) -> None:
    async def main() -> None:
        first, second, other = LIVE, replace(LIVE, version=8, hop=6), replace(LIVE, version=8, screen="X")
        async with store(redis_url) as kept:
            with pytest.raises(NewerState) as nothing:
                await kept.commit(6, WHO, first, b"early")  # over a record that is gone
            assert nothing.value.live is None
            await kept.commit(0, WHO, first, b"first")
            with pytest.raises(NewerState) as stands:
                await kept.commit(0, WHO, other, b"again")  # a second beginning
            assert stands.value.live == first
            await kept.commit(7, WHO, second, b"second")
            for version in (7, 6, 9, 0x70000000):
                with pytest.raises(NewerState) as stands:
                    await kept.commit(version, WHO, other, b"late")
                assert stands.value.live == second
            assert await kept.read("w", WHO) == (second, 0)
        assert events(redis_url) == [b"first", b"second"]

    asyncio.run(main())


def test_eight_commits_at_once_are_one(redis_url: str) -> None:
    async def main() -> None:
        async with store(redis_url) as one, store(redis_url) as other:
            await one.commit(0, WHO, LIVE, b"first")
            offers = [replace(LIVE, version=8, screen=str(n)) for n in range(8)]
            got = await asyncio.gather(
                *(
                    (one, other)[n % 2].commit(7, WHO, live, live.screen.encode())
                    for n, live in enumerate(offers)
                ),
                return_exceptions=True,
            )
            won = [n for n, error in enumerate(got) if error is None]
            assert len(won) == 1
            assert all(isinstance(e, NewerState) and e.live == offers[won[0]] for e in got if e is not None)
        assert events(redis_url) == [b"first", str(won[0]).encode()]

    asyncio.run(main())


def test_a_script_that_the_server_forgot(redis_url: str) -> None:
    """After a restart or a failover; more than one commit may find it gone."""

    async def main() -> None:
        async with store(redis_url) as kept:
            for n in range(3):
                with redis.Redis.from_url(redis_url) as client:
                    client.script_flush()
                people = [f"{n}{k}" for k in range(5)]
                await asyncio.gather(*(kept.commit(0, who, LIVE, b"e") for who in people))
                with pytest.raises(NewerState):
                    await kept.commit(0, people[0], LIVE, b"e")
            assert len(events(redis_url)) == 15

    asyncio.run(main())


def test_a_refusal_is_unavailable_and_quotes_nothing(redis_url: str) -> None:
    async def main() -> None:
        async with store(redis_url) as kept:
            with redis.Redis.from_url(redis_url) as client:
                client.set(EVENTS, "no stream")
            for refused in (kept.append(b"31415"), kept.commit(0, WHO, LIVE, b"31415")):
                with pytest.raises(Unavailable, match=r"^live store: refused \(\w+\)$"):
                    await refused

    asyncio.run(main())


def test_what_is_appended_alone(redis_url: str) -> None:
    async def main() -> None:
        async with store(redis_url) as kept:
            await kept.append(b'{"kind":"conflict"}')
            assert await kept.read("w", WHO) == (None, 0)
        assert events(redis_url) == [b'{"kind":"conflict"}']

    asyncio.run(main())


# ---------------------------------------------------------------- how long, since when, on what


def test_a_record_lives_for_the_days_set_after_its_last_hop(redis_url: str) -> None:
    async def main() -> None:
        async with store(redis_url) as kept:
            with redis.Redis.from_url(redis_url) as client:
                await kept.commit(0, WHO, LIVE, b"e")
                (key,) = client.keys("dial16:interview:*")
                assert key.decode() == f"dial16:interview:w:{WHO}"
                client.expire(key, 60)
                await kept.commit(7, WHO, replace(LIVE, version=8), b"e")
                left = client.ttl(key)
                assert isinstance(left, int) and KEEP_DAYS * 86_400 - 5 <= left <= KEEP_DAYS * 86_400
                assert client.ttl(EVENTS) == -1

    asyncio.run(main())


def test_the_birth_of_a_store_is_noted_once(redis_url: str) -> None:
    async def main() -> None:
        async with store(redis_url) as kept:
            assert await kept.read("w", WHO) == (None, 0)
            assert await kept.mark_born(1000) == 1000
            assert await kept.mark_born(2000) == 1000
            assert await kept.read("w", WHO) == (None, 1000)
            with redis.Redis.from_url(redis_url) as client:
                assert client.ttl("dial16:born") == -1  # or the record would be asked for ever
                client.flushall()
            assert await kept.read("w", WHO) == (None, 0)
            assert await asyncio.gather(*(kept.mark_born(n) for n in range(3000, 3008))) == [3000] * 8

    asyncio.run(main())


def test_an_instrument_is_kept_once(redis_url: str) -> None:
    async def main() -> None:
        async with store(redis_url) as kept:
            assert await kept.instrument_sources("a@1") is None
            assert await kept.keep_instrument("a@1", "d1", {"fr.toml": "é\n"}) == "d1"
            assert await kept.keep_instrument("a@1", "d2", {"fr.toml": "other"}) == "d1"
            assert await kept.keep_instrument("a@2", "d2", {}) == "d2"
            assert await kept.instrument_sources("a@1") == {"fr.toml": "é\n"}
            assert await kept.instrument_sources("a@2") == {}

    asyncio.run(main())


# ---------------------------------------------------------------- how much memory


@lru_cache
def fielded(language: str) -> Wave:
    """The instrument that is fielded, at the widest screens a network shows."""
    return Wave(
        id="pilot-2026", instrument=load(Path(__file__).parent.parent / "flows" / "sdg_16_6_2"),
        languages=(language,), owner="Ghana Statistical Service", contact="0800 000 000", code="*384*16#",
        budget=182,
    )  # fmt: skip


@pytest.mark.parametrize("language", ["en", "fr"])
def test_an_interview_takes_less_than_a_kilobyte(language: str, redis_url: str) -> None:
    """Its key and the server's own account included; with a session id of 38 characters, eight earlier
    sessions remembered, and whatever screen comes, from the first to the last."""

    async def main() -> None:
        wave = fielded(language)
        sizes: list[int] = []
        widest, text = 0, ""
        with redis.Redis.from_url(redis_url) as client:
            async with Talk(redis_url, wave=wave) as talk:
                for n in range(10):
                    screen = await talk.hop("", session := f"{SESSION[:-1]}{n}")
                while not screen.ends:
                    (name,) = client.keys("dial16:interview:*")
                    used = client.memory_usage(name, samples=0)
                    assert isinstance(used, int)
                    sizes.append(used)
                    widest = max(widest, septets(screen.text))
                    live, _ = await talk.live.read(wave.id, talk.pseudonyms.of(NUMBER))
                    assert live is not None and len(live.past) == 48 and len(live.session) == 38
                    number = wave.instrument.by_id[live.interview.at].kind == "number"
                    key = "34" if number else "1"
                    text = f"{text}*{key}" if text else key
                    screen = await talk.hop(text, session)
                assert len(talk.given()) > 40  # the first option leads through all services
                used = client.memory_usage(name, samples=0)
                assert isinstance(used, int)
                sizes.append(used)
        assert widest > 150
        assert max(sizes) < 1024

    asyncio.run(main())


def test_the_largest_record_there_can_be_takes_less_than_a_kilobyte(redis_url: str) -> None:
    """Everything at its widest at once, which no dialogue reaches: 182 letters of two octets."""

    async def main() -> None:
        wave = fielded("fr")
        interview = Interview(
            "f" * 16, wave.instrument.reference, wave.id, "fr", "ussd", 182, 2**32 - 1,
            "".join(f"{b.index:02x}" for b in wave.instrument.blocks), "#" * len(wave.instrument.items),
            max((i.id for i in wave.instrument.items), key=len), "language", 9, 9, 10**13, 10**13,
            "ineligible", "ZZZZZZ", True,
        )  # fmt: skip
        live = Live(2**31, SESSION, 16_000, "f" * 16, 999, False, "f" * 48, "é" * 182, False, interview)
        async with store(redis_url) as kept:
            await kept.commit(0, WHO, live, b"e")
        with redis.Redis.from_url(redis_url) as client:
            (name,) = client.keys("dial16:interview:*")
            used = client.memory_usage(name, samples=0)
            assert isinstance(used, int) and used < 1024, used

    asyncio.run(main())
