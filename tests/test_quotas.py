"""Quotas: read from the wave file, counted as interviews are committed, never overshot by more than what
is in progress. What respondents see of them: tests/transcripts/quota-*.txt."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from flows.check import check
from flows.engine import CellsEntered, Dialled, Ended, ErasureRequested, Replied, load_effect, restore, step
from flows.fielding import Band, Quota
from flows.instrument import InstrumentError, load, parse
from flows.quotas import cell, drawn_alike
from flows.wave import Wave, load_wave
from gateway import counting
from gateway.counting import Counting, CountRecorded
from gateway.erasure import erase_respondent
from gateway.texting import Texting
from storage.analysis.codebook import codebook
from storage.database import open_engine
from storage.live import counts_key
from storage.quota import Cell, cells, completes
from storage.record import Recorded, find_interview
from storage.recorder import Recorder
from storage.respondents import Pseudonyms
from storage.sealing import Seal
from tests.gateway_app import (
    HOUR,
    KEY,
    NUMBER,
    START,
    THANKS,
    WAVE,
    Gateway,
    Talk,
    ask,
    entries,
    numbers,
    running,
    welcome,
)
from tests.record_material import drain
from tests.stores import give_schema
from tests.test_texting import sms

ROOT = Path(__file__).parent.parent
INSTRUMENT = load(ROOT / "flows" / "sdg_16_6_2")
FULL = "Enough of you. Dial *384*16#."
FINISHED = "You have finished.\n1 See results\n2 Withdraw"

# ---------------------------------------------------------------- the wave file

GOOD = """
[[quota]]
name = "sex_region"
items = ["respondent.sex", "respondent.region"]
[quota.cells]
"female,gh_aa" = 40
"male, gh_aa" = 0

[[quota]]
name = "age"
items = ["respondent.age"]
[quota.cells]
65+ = 10
18-34 = 400
50 = 3
"""
GOOD = GOOD.replace("65+ =", '"65+" =')


def wave_file(folder: Path, tables: str) -> Path:
    path = folder / "wave.toml"
    path.write_text((ROOT / "deploy" / "wave.toml").read_text("utf-8") + tables, "utf-8")
    return path


def test_quotas_are_read(tmp_path: Path) -> None:
    wave = load_wave(wave_file(tmp_path, GOOD), INSTRUMENT)
    ages = (Band("18-34", 18, 34), Band("50-50", 50, 50), Band("65+", 65, 97))
    assert wave.quotas == (
        Quota(
            "sex_region", ("respondent.sex", "respondent.region"), {"female,gh_aa": 40, "male,gh_aa": 0}, {}
        ),
        Quota("age", ("respondent.age",), {"65+": 10, "18-34": 400, "50-50": 3}, {"respondent.age": ages}),
    )


FAULTS = [
    ('[[quota]]\nname = "age"', '[[quota]]\nname = "sex_region"', "quota sex_region.name", "another quota"),
    ('name = "age"\n', "", "quota 2.name", "one word"),
    ('name = "age"', 'name = "by age"', "quota by age.name", "one word"),
    ('name = "age"', 'name = "age"\nweight = 1', "quota age.weight", "unknown; known: name, items, cells"),
    ('["respondent.age"]', "[]", "quota age.items", "name the items"),
    ('["respondent.age"]', '"respondent.age"', "quota age.items", "name the items"),
    ('["respondent.age"]', '["respondent.aeg"]', "quota age.items", "no item of sdg_16_6_2@"),
    ('["respondent.age"]', '["household.fridge"]', "quota age.items", "after the services begin"),
    ('["respondent.age"]', '["health.need"]', "quota age.items", "after the services begin"),
    ('["respondent.age"]', '["disability.seeing"]', "quota age.items", "not asked of everybody"),
    ('["respondent.age"]', '["opening.adult"]', "quota age.items", "ends the interview"),
    ('["respondent.age"]', '["respondent.age", "respondent.age"]', "quota age.items", "stands twice"),
    ('"65+" = 10\n18-34 = 400\n50 = 3', "", "quota age.cells", "give each cell its target"),
    ("18-34 = 400", "18-34 = 4.5", "quota age.cells", "whole number"),
    ("18-34 = 400", "18-34 = -1", "quota age.cells", "whole number"),
    ("18-34 = 400", "18-34 = true", "quota age.cells", "whole number"),
    ("18-34 = 400", "18-50 = 4", "quota age.cells", "18-50 and 50-50 of respondent.age overlap"),
    ("18-34 = 400", "34-18 = 4", "quota age.cells", "within 18 to 97"),
    ("18-34 = 400", "17-34 = 4", "quota age.cells", "within 18 to 97"),
    ("18-34 = 400", "18-98 = 4", "quota age.cells", "within 18 to 97"),
    ("18-34 = 400", "young = 4", "quota age.cells", "no band of respondent.age; write 18-34, or 65+"),
    ("18-34 = 400", '"18-34,male" = 4', "quota age.cells", "has 2 parts; the quota crosses 1"),
    ('"65+" = 10', '"65+" = 10\n"65-97" = 10', "quota age.cells", "stands twice"),
    ("female,gh_aa", "woman,gh_aa", "quota sex_region.cells", "no answer of respondent.sex; known: male"),
    ("female,gh_aa", "refused,gh_aa", "quota sex_region.cells", "who gives no answer goes on"),
    ("female,gh_aa", "female", "quota sex_region.cells", "has 1 parts; the quota crosses 2"),
    ('"male, gh_aa" = 0', '"female , gh_aa" = 0', "quota sex_region.cells", "stands twice"),
]


def faults_of(folder: Path, tables: str) -> list[tuple[str, str]]:
    with pytest.raises(InstrumentError) as raised:
        load_wave(wave_file(folder, tables), INSTRUMENT)
    return [(fault.key, fault.message) for fault in raised.value.faults]


@pytest.mark.parametrize(("old", "new", "key", "word"), FAULTS)
def test_a_fault(tmp_path: Path, old: str, new: str, key: str, word: str) -> None:
    assert old in GOOD
    among = faults_of(tmp_path, GOOD.replace(old, new))
    assert [k for k, message in among if word in message] == [key], among


def test_the_same_cross_twice(tmp_path: Path) -> None:
    again = (
        "[[quota]]\nname = 'again'\nitems = ['respondent.region', 'respondent.sex']\n"
        "[quota.cells]\n'gh_aa,male' = 1\n"
    )
    assert faults_of(tmp_path, GOOD + again) == [
        ("quota again.items", "are those of quota sex_region; put all their cells into one quota")
    ]


def test_one_table_is_not_enough(tmp_path: Path) -> None:
    table = GOOD.split("[[quota]]")[1]
    assert faults_of(tmp_path, "[quota]" + table) == [("quota", "must be tables, each begun with [[quota]]")]


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    wrong = GOOD.replace("female", "woman").replace("18-34 = 400", "18-70 = -4").replace('"age"', '"a ge"')
    assert Counter(key for key, _ in faults_of(tmp_path, wrong)) == {
        "quota a ge.name": 1, "quota sex_region.cells": 1, "quota a ge.cells": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (("female", 18), "female,18-34"),
        (("female", 34), "female,18-34"),
        (("male", 97), "male,65+"),
        (("male", 40), None),
        (("male", None), None),
        ((None, 20), None),
    ],
)
def test_the_cell_of_two_answers(values: tuple[str | None, int | None], found: str | None) -> None:
    bands = {"age": (Band("18-34", 18, 34), Band("65+", 65, 97))}
    assert cell(Quota("q", ("sex", "age"), {}, bands), values) == found


def test_only_targets_may_change_without_counting_anew() -> None:
    quota = Quota("q", ("a", "b"), {"x,1-2": 1}, {"b": (Band("1-2", 1, 2),)})
    assert drawn_alike([quota]) == drawn_alike([replace(quota, cells={"y,1-2": 9})])
    others = [
        replace(quota, name="r"),
        replace(quota, items=("b", "a")),
        replace(quota, bands={"b": (Band("1-3", 1, 3),)}),
    ]
    assert len({drawn_alike([q]) for q in [quota, *others]}) == 4
    assert drawn_alike([quota, others[0]]) == drawn_alike([others[0], quota])


# ---------------------------------------------------------------- check


#: Its prompt "Stop" reads as a command, which check refuses.
CHECKED = {name: text.replace('"Stop"', '"Stop here"') for name, text in numbers().sources.items()}


def test_check_walks_a_full_cell_in_every_language_and_mode() -> None:
    wave = replace(WAVE, instrument=parse(CHECKED))
    without = {(w.language, w.mode): w.keys for w in check(wave)}
    found = {(w.language, w.mode): w.keys for w in check(replace(wave, quotas=QUOTAS))}
    assert found.keys() == without.keys()
    assert all(found[k] > without[k] for k in found)


def test_check_refuses_an_end_that_does_not_fit() -> None:
    sources = {name: text.replace("Enough of you.", "x" * 460) for name, text in CHECKED.items()}
    with pytest.raises(InstrumentError) as raised:
        check(replace(WAVE, instrument=parse(sources), quotas=QUOTAS))
    assert {(f.file, f.key) for f in raised.value.faults} == {
        ("en.toml", "prompts.quota_full"), ("fr.toml", "prompts.quota_full"),
    }  # fmt: skip


# ---------------------------------------------------------------- counted in the live store

#: Of the small instrument of tests/gateway_app.py: question 1 by band, question 2 by band.
QUOTAS = (
    Quota("one", ("n1",), {"1-9": 2, "10-19": 3}, {"n1": (Band("1-9", 1, 9), Band("10-19", 10, 19))}),
    Quota("two", ("n2",), {"1-9": 4}, {"n2": (Band("1-9", 1, 9), Band("10-19", 10, 19))}),
)
QUOTA_WAVE = replace(WAVE, quotas=QUOTAS, sms_sender="1616")
COUNTS = counts_key("w", drawn_alike(QUOTAS))


async def nothing_counted(wave: Wave, before: int) -> Mapping[str, int] | None:
    return {}


async def record_away(wave: Wave, before: int) -> Mapping[str, int] | None:
    return None


@dataclass
class Counted(Talk):
    """The dialogue with quotas, on a live store; `count`: what the record has of before."""

    wave: Wave = QUOTA_WAVE
    count: CountRecorded = nothing_counted

    async def __aenter__(self) -> "Counted":
        await super().__aenter__()
        self.dialogue.counting = Counting(self.live, self.count)
        return self

    def counts(self) -> dict[str, int]:
        return counts(self.url)

    async def interview(self, session: str, number: str, *values: int) -> str:
        """Consents and gives these answers from the first question on; the last screen."""
        text = ""
        await self.hop(text, session, number)
        for value in (1, *values):
            text = f"{text}*{value}" if text else str(value)
            screen = await self.hop(text, session, number)
        return screen.text


def counts(url: str, key: str = COUNTS) -> dict[str, int]:
    """Of cells that any completes were counted in."""
    with redis.Redis.from_url(url) as client:
        found: Any = client.hgetall(key)
    return {k.decode(): int(v) for k, v in found.items() if not k.startswith(b":") and int(v)}


def who(n: int) -> str:
    return f"+23320{n:07d}"


def test_completes_count_and_a_full_cell_turns_away(redis_url: str) -> None:
    async def main() -> None:
        async with Counted(redis_url) as talk:
            for n in range(2):
                assert await talk.interview("A", who(n), 5, 15, 3, 4, 5, 6) == THANKS
            assert talk.counts() == {"one:1-9": 2, "two:10-19": 2}
            assert await talk.interview("A", who(2), 5, 15) == FULL
            assert await talk.interview("A", who(3), 15, 5, 3, 4, 5, 6) == THANKS
            assert talk.counts() == {"one:1-9": 2, "two:10-19": 2, "one:10-19": 1, "two:1-9": 1}
            assert [item for item, _ in talk.given(who(2))] == ["consent", "n1", "n2"]

    asyncio.run(main())


def test_either_of_two_crossing_cells_turns_away(redis_url: str) -> None:
    async def full_two(wave: Wave, before: int) -> Mapping[str, int]:
        return {"two:1-9": 4}

    async def main() -> None:
        async with Counted(redis_url, count=full_two) as talk:
            assert await talk.interview("A", who(1), 5, 5) == FULL  # room in `one`
            assert await talk.interview("A", who(2), 5, 15) == ask(3)  # room in both
            assert await talk.interview("A", who(3), 50, 5) == FULL  # in no cell of `one`
            assert await talk.interview("A", who(4), 50, 50) == ask(3)  # in none at all

    asyncio.run(main())


@pytest.mark.parametrize("times", [2, 5])
def test_the_last_hop_at_once_and_again_counts_once(times: int, redis_url: str) -> None:
    async def main() -> None:
        async with Counted(redis_url) as talk:
            await talk.interview("A", NUMBER, 5, 15, 3, 4, 5)
            last = [talk.hop("1*5*15*3*4*5*6") for _ in range(times)]
            assert {screen.text for screen in await asyncio.gather(*last)} == {THANKS}
            assert (await talk.hop("1*5*15*3*4*5*6")).text == THANKS
            assert talk.counts() == {"one:1-9": 1, "two:10-19": 1}

    asyncio.run(main())


def test_who_is_let_in_when_two_come_at_once_for_the_last_place(redis_url: str) -> None:
    """Both: neither has completed. That is the overshoot that there may be."""

    async def main() -> None:
        async with Counted(redis_url) as talk:
            await talk.interview("A", who(0), 5, 15, 3, 4, 5, 6)
            both = (talk.interview("A", who(n), 5, 15, 3, 4, 5, 6) for n in (1, 2))
            assert await asyncio.gather(*both) == [THANKS, THANKS]
            assert await talk.interview("A", who(3), 5, 15) == FULL
            assert talk.counts()["one:1-9"] == 3

    asyncio.run(main())


def test_a_withdrawal_makes_room(redis_url: str) -> None:
    """By dialling, and at the office's request; once each."""

    async def main() -> None:
        async with Counted(redis_url) as talk:
            for n in range(2):
                await talk.interview("A", who(n), 5, 15, 3, 4, 5, 6)
            assert await talk.interview("A", NUMBER, 5, 15) == FULL
            await talk.hop("", "B", who(0))
            await talk.hop("2", "B", who(0))
            await asyncio.gather(*(talk.hop("2*1", "B", who(0)) for _ in range(3)))
            assert talk.counts() == {"one:1-9": 1, "two:10-19": 1}
            assert (await talk.hop("", "C")).text == welcome(3)
            assert (await talk.hop("1", "C")).text == ask(3)
            assert await talk.dialogue.withdraw(who(1)) and await talk.dialogue.withdraw(who(1))
            assert await talk.dialogue.withdraw(NUMBER)  # had not completed
            assert talk.counts() == {}

    asyncio.run(main())


def test_by_text_too(redis_url: str) -> None:
    async def main() -> None:
        async with Counted(redis_url) as talk:
            texting = Texting(talk.dialogue, Seal(KEY))
            for n in range(3):
                for k, text in enumerate(("survey", "1", "5", "15", "3", "4", "5", "6")):
                    for _ in range(2):
                        await texting.text("africastalking", sms(text, f"{n}-{k}", who(n)))
            assert talk.counts() == {"one:1-9": 2, "two:10-19": 2}
            said = [e["sends"][0]["text"] for e in talk.entries() if e.get("sends")]
            assert said.count(FULL) == 1 and said.count(THANKS) == 2

    asyncio.run(main())


def test_a_wave_without_quotas_asks_the_store_nothing_more(redis_url: str) -> None:
    """Nor does a hop of a wave with quotas that neither enters a cell nor completes."""

    async def commands(wave: Wave, *values: int) -> Counter[str]:
        with redis.Redis.from_url(redis_url) as client:
            async with Counted(redis_url, wave=wave) as talk:
                await talk.interview("A", NUMBER, 5, 15)
                client.config_resetstat()
                for n in range(len(values)):
                    await talk.hop("*".join(map(str, (1, 5, 15, *values[: n + 1]))))
                found: Any = client.info("commandstats")
            client.flushall()
        names = ("mget", "hmget", "evalsha", "hincrby", "hsetnx", "hget", "expire", "eval")
        return +Counter({n: found.get(f"cmdstat_{n}", {}).get("calls", 0) for n in names})

    async def main() -> None:
        plain = await commands(WAVE, 3, 4, 5, 6)
        assert plain == {"mget": 4, "evalsha": 4}
        assert await commands(QUOTA_WAVE, 3, 4, 5) == {"mget": 3, "evalsha": 3}
        complete = await commands(QUOTA_WAVE, 3, 4, 5, 6) - plain
        assert complete == {"hmget": 1, "hsetnx": 1, "hincrby": 2, "expire": 1}

    asyncio.run(main())


# ---------------------------------------------------------------- counts that the store has lost


def test_nobody_is_turned_away_before_the_record_is_counted(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "_PATIENCE_SECONDS", 0.02)
    asked: list[int] = []
    may_answer = asyncio.Event()

    async def slow(wave: Wave, before: int) -> Mapping[str, int]:
        asked.append(before)
        await may_answer.wait()
        return {"one:1-9": 2}

    async def main() -> None:
        async with Counted(redis_url, count=slow) as talk:
            assert await talk.interview("A", who(1), 5, 15) == ask(3)
            assert await talk.interview("A", who(2), 5, 15, 3, 4, 5, 6) == THANKS
            assert asked == [START]
            may_answer.set()
            while talk.counts() != {"one:1-9": 3, "two:10-19": 1}:
                await asyncio.sleep(0.01)
            assert await talk.interview("A", who(3), 5, 15) == FULL
            assert asked == [START]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_record_that_is_away_turns_nobody_away_and_loses_no_count(redis_url: str) -> None:
    async def main() -> None:
        async with Counted(redis_url, count=record_away) as talk:
            for n in range(3):
                assert await talk.interview("A", who(n), 5, 15, 3, 4, 5, 6) == THANKS
        async with Counted(redis_url) as talk:  # it is back
            assert await talk.interview("A", who(4), 5, 15) == FULL
            assert talk.counts() == {"one:1-9": 3, "two:10-19": 3}

    asyncio.run(main())


def test_what_the_record_has_is_added_once_by_two_gateways(redis_url: str) -> None:
    async def before(wave: Wave, moment: int) -> Mapping[str, int]:
        await asyncio.sleep(0.01)
        return {"one:10-19": 1, "two:10-19": 7}

    async def main() -> None:
        async with Counted(redis_url, count=before) as one, Counted(redis_url, count=before) as other:
            people = [talk.interview("A", who(n), 15, 15, 3, 4, 5, 6) for n, talk in enumerate((one, other))]
            assert await asyncio.gather(*people) == [THANKS, THANKS]
            assert one.counts() == {"one:10-19": 3, "two:10-19": 9}
            assert await other.interview("A", who(9), 15, 15) == FULL

    asyncio.run(main())


def test_a_store_emptied_while_the_record_is_counted_is_counted_again(redis_url: str) -> None:
    """What was counted for the emptied store is not added to the new one's."""
    wiped = False

    async def before(wave: Wave, moment: int) -> Mapping[str, int]:
        nonlocal wiped
        if not wiped:
            wiped = True
            with redis.Redis.from_url(redis_url) as client:
                client.flushall()
        return {"one:1-9": 1}

    async def main() -> None:
        async with Counted(redis_url, count=before) as talk:
            await talk.interview("A", who(0), 15, 15)
            assert talk.counts() == {}
            talk.now += 1000
            await talk.interview("B", who(1), 15, 15)
            assert talk.counts() == {"one:1-9": 1}

    asyncio.run(main())


def test_other_bands_are_counted_from_the_record(redis_url: str) -> None:
    async def main() -> None:
        async with Counted(redis_url) as talk:
            await talk.interview("A", who(0), 5, 15, 3, 4, 5, 6)
        changed = Quota("one", ("n1",), {"1-5": 1}, {"n1": (Band("1-5", 1, 5),)})

        async def recorded(wave: Wave, before: int) -> Mapping[str, int]:
            return {"one:1-5": 1}

        async with Counted(redis_url, wave=replace(QUOTA_WAVE, quotas=(changed,)), count=recorded) as talk:
            assert await talk.interview("A", who(1), 5) == FULL
            assert counts(redis_url, counts_key("w", drawn_alike([changed]))) == {"one:1-5": 1}

    asyncio.run(main())


def test_a_higher_target_lets_in_who_was_turned_away(redis_url: str) -> None:
    async def main() -> None:
        async with Counted(redis_url) as talk:
            for n in range(2):
                await talk.interview("A", who(n), 5, 15, 3, 4, 5, 6)
            assert await talk.interview("A", NUMBER, 5, 15) == FULL
            talk.now += 500 * HOUR
            assert (await talk.hop("", "B")).text == FINISHED
        raised = (replace(QUOTAS[0], cells={"1-9": 3}), QUOTAS[1])
        async with Counted(
            redis_url, wave=replace(QUOTA_WAVE, quotas=raised), now=START + 600 * HOUR
        ) as talk:
            assert (await talk.hop("", "C")).text == welcome(3)
            for keys in ("1", "1*3", "1*3*4", "1*3*4*5", "1*3*4*5*6"):
                screen = await talk.hop(keys, "C")
            assert screen.text == THANKS
            assert talk.counts() == {"one:1-9": 3, "two:10-19": 3}

    asyncio.run(main())


def test_without_quotas_any_more_who_was_turned_away_goes_on(redis_url: str) -> None:
    async def main() -> None:
        async with Counted(redis_url, wave=replace(QUOTA_WAVE, quotas=CLOSED)) as talk:
            assert await talk.interview("A", NUMBER, 5) == FULL
        async with Counted(redis_url, wave=WAVE) as talk:
            assert (await talk.hop("", "B")).text == welcome(2)
            assert (await talk.hop("1", "B")).text == ask(2)

    asyncio.run(main())


CLOSED = (Quota("one", ("n1",), {"1-9": 0}, {"n1": (Band("1-9", 1, 9),)}),)


def test_a_version_fielded_before_quotas_ends_with_thanks(redis_url: str) -> None:
    """It lacks the prompt; the counts are those of today's version."""
    sources = {
        name: "\n".join(x for x in text.split("\n") if not x.startswith("quota_full"))
        for name, text in numbers().sources.items()
    }
    old = parse(sources, fielded=True)
    with pytest.raises(InstrumentError, match=r"prompts\.quota_full"):
        parse(sources)

    async def main() -> None:
        async with Counted(redis_url, wave=replace(WAVE, instrument=old)) as talk:
            await talk.hop("")
        async with Counted(
            redis_url, wave=replace(QUOTA_WAVE, instrument=numbers("2"), quotas=CLOSED)
        ) as talk:
            for text in ("1", "1*5"):
                screen = await talk.hop(text)
            assert screen.text == THANKS

    asyncio.run(main())


def test_an_age_given_leaves_the_live_store_with_a_withdrawal() -> None:
    begun = step(QUOTA_WAVE, None, Dialled(0, "0" * 16, 0))
    effects = [*begun.effects]
    for keys in ("1", "5"):
        begun = step(QUOTA_WAVE, begun.interview, Replied(0, keys))
        effects += begun.effects
    assert begun.interview.numbers == "n1=5"
    assert restore(QUOTA_WAVE, "0" * 16, effects, 0).numbers == "n1=5"
    begun = step(QUOTA_WAVE, begun.interview, Dialled(0, "1" * 16, 0))
    for keys in ("3", "1"):
        begun = step(QUOTA_WAVE, begun.interview, Replied(0, keys))
    assert (begun.interview.disposition, begun.interview.numbers) == ("withdrawn", "")
    plain = step(WAVE, step(WAVE, None, Dialled(0, "0" * 16, 0)).interview, Replied(0, "1"))
    assert step(WAVE, plain.interview, Replied(0, "5")).interview.numbers == ""


# ---------------------------------------------------------------- the whole gateway, and the record


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    yield engine
    engine.dispose()


def record(url: str, engine: Engine) -> None:
    """Everything of the stream into the record."""
    with redis.Redis.from_url(url) as client:
        recorder = Recorder(client, engine, "one")
        drain(recorder)


_QUESTION = re.compile(r"Number (\d)\?")


async def take_part(gateway: Gateway, number: str, chance: random.Random) -> None:
    """One respondent: any answers, some twice at once, some put right, some withdrawn, some left."""
    text, session = "", "A"

    async def send(key: str | None) -> str:
        nonlocal text
        text = "" if key is None else f"{text}*{key}" if text else key
        copies = 2 if chance.random() < 0.3 else 1
        answers = [gateway.dial(text, session, phoneNumber=number) for _ in range(copies)]
        ((_, body),) = {*await asyncio.gather(*answers)}
        return body

    screen = await send(None)
    while screen.startswith("CON "):
        question = _QUESTION.search(screen)
        if "Take part?" in screen:
            screen = await send("1")
        elif question is None:
            screen = await send("1")  # why it is skipped
        elif chance.random() < 0.03:
            return
        elif int(question[1]) > 1 and chance.random() < 0.1:
            screen = await send("0")
        else:
            screen = await send(chance.choice(["5", "5", "5", "15", "50", "00"]))
    if chance.random() < 0.1:
        text, session = "", "B"
        await send(None)
        await send("2")
        await send("1")


def replayed(url: str) -> tuple[Counter[str], dict[str, int], int]:
    """From the stream alone, in its order: completes by cell, the most that there ever were, and how many
    were turned away."""
    wanted = {f"{q.name}:{its_cell}": target for q in QUOTAS for its_cell, target in q.cells.items()}
    inside: dict[str, dict[str, str]] = {}
    complete: Counter[str] = Counter()
    most: Counter[str] = Counter()
    turned_away = 0
    counted_in: dict[str, list[str]] = {}
    for entry in entries(url, "hop"):
        respondent = entry["respondent"]
        for effect in map(load_effect, entry["effects"]):
            match effect:
                case CellsEntered(entered):
                    inside[respondent] = entered
                case ErasureRequested():
                    complete.subtract(counted_in.pop(respondent, []))
                case Ended(disposition):
                    names = [f"{quota}:{its_cell}" for quota, its_cell in inside[respondent].items()]
                    if disposition == "complete":
                        counted_in[respondent] = names
                        complete.update(names)
                        most |= complete
                    else:
                        turned_away += 1
                        assert any(most[name] >= wanted.get(name, 10**9) for name in names)
                case _:
                    pass
    return +complete, most, turned_away


LINES, PEOPLE = 6, 60


@pytest.mark.parametrize("seed", range(3))
def test_no_cell_overshoots_by_more_than_what_is_in_progress(
    seed: int, redis_url: str, database_url: str, engine: Engine
) -> None:
    """Many at a time over HTTP, on two gateways. Whoever is let in finds less than the target, and those
    who may then still complete are on the other lines."""
    waiting = list(range(PEOPLE))

    async def line(gateways: list[Gateway], chance: random.Random) -> None:
        while waiting:
            n = waiting.pop()
            await take_part(gateways[n % 2], who(n), chance)

    async def main() -> None:
        async with (
            running(redis_url, database_url, QUOTA_WAVE) as one,
            running(redis_url, database_url, QUOTA_WAVE) as other,
        ):
            await asyncio.gather(*(line([one, other], random.Random(seed * 100 + n)) for n in range(LINES)))

    asyncio.run(main())
    complete, most, turned_away = replayed(redis_url)
    assert counts(redis_url) == complete
    for quota in QUOTAS:
        for its_cell, target in quota.cells.items():
            assert most[f"{quota.name}:{its_cell}"] <= target - 1 + LINES
    assert turned_away > 10
    record(redis_url, engine)
    found = cells(engine, QUOTA_WAVE)
    assert {f"{c.quota}:{c.cell}": c.complete for c in found if c.complete} == complete
    assert completes(engine, QUOTA_WAVE, datetime.now(UTC)) == complete


def test_an_emptied_store_counts_from_the_record_before_it_turns_away(
    redis_url: str, database_url: str, engine: Engine
) -> None:
    async def take(gateway: Gateway, number: str, *values: int) -> str:
        text = ""
        await gateway.dial("", "A", phoneNumber=number)
        for value in (1, *values):
            text = f"{text}*{value}" if text else str(value)
            _, screen = await gateway.dial(text, "A", phoneNumber=number)
        return screen[4:]

    async def main() -> None:
        async with running(redis_url, database_url, QUOTA_WAVE) as gateway:
            for n in range(2):
                assert await take(gateway, who(n), 5, 15, 3, 4, 5, 6) == THANKS
            assert await take(gateway, who(2), 15, 15, 3) == ask(4)
            record(redis_url, engine)
            with redis.Redis.from_url(redis_url) as client:
                client.flushall()
            assert await take(gateway, who(3), 5, 15) == FULL
            assert counts(redis_url) == {"one:1-9": 2, "two:10-19": 2}
            # Who was in the middle goes on from the record and is counted; who completed withdraws.
            for text in ("", "1", "1*4", "1*4*5", "1*4*5*6"):
                _, screen = await gateway.dial(text, "B", phoneNumber=who(2))
            assert screen == f"END {THANKS}"
            for text in ("", "2", "2*1"):
                await gateway.dial(text, "B", phoneNumber=who(0))
            assert counts(redis_url) == {"one:1-9": 1, "two:10-19": 2, "one:10-19": 1}

    asyncio.run(main())
    record(redis_url, engine)
    assert completes(engine, QUOTA_WAVE, datetime.now(UTC)) == counts(redis_url)
    assert cells(engine, QUOTA_WAVE) == [
        Cell("one", "1-9", 2, 1, 0, 1),
        Cell("one", "10-19", 3, 1, 0, 0),
        Cell("two", "1-9", 4, 0, 0, 0),
        Cell("two", "10-19", None, 2, 0, 1),
    ]
    assert [c.full for c in cells(engine, QUOTA_WAVE)] == [False] * 4


def test_how_the_record_keeps_who_was_turned_away(redis_url: str, engine: Engine) -> None:
    """Answers and disposition; in no figure; in progress again once there is room; then restored so."""

    def stands() -> Recorded:
        found = find_interview(engine, Pseudonyms(KEY).of(NUMBER), "w")
        assert found is not None
        return found

    async def main() -> None:
        async with Counted(redis_url, wave=replace(QUOTA_WAVE, quotas=CLOSED)) as talk:
            await talk.interview("A", NUMBER, 5)
            record(redis_url, engine)
            assert stands().disposition == "quota_full"
            (closed,) = cells(engine, talk.wave)
            assert closed == Cell("one", "1-9", 0, 0, 0, 1) and closed.full
            restored = restore(talk.wave, stands().interview, stands().effects, START)
            assert (restored.disposition, restored.answers, restored.numbers) == (
                "quota_full",
                "1#.....",
                "n1=5",
            )
            await talk.hop("", "B")
            record(redis_url, engine)
            assert stands().disposition == "quota_full"
        async with Counted(redis_url) as talk:
            await talk.hop("", "C")
            record(redis_url, engine)
            assert stands().disposition == "in_progress"
            assert [c.in_progress for c in cells(engine, QUOTA_WAVE)] == [1, 0, 0]
            restored = restore(QUOTA_WAVE, stands().interview, stands().effects, START)
            assert (restored.disposition, restored.at) == ("", "n2")

    asyncio.run(main())


def test_a_withdrawal_at_the_office_takes_the_count_back_from_the_record_too(
    redis_url: str, database_url: str, engine: Engine
) -> None:
    """Also where the store was emptied and nobody has been counted in it since."""

    async def main() -> None:
        async with Counted(redis_url, now=START - 24 * HOUR) as talk:
            for n in range(2):
                await talk.interview("A", who(n), 5, 15, 3, 4, 5, 6)
        record(redis_url, engine)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        erased = await erase_respondent(
            who(0), waves=[QUOTA_WAVE], live_url=redis_url, database_url=database_url, pseudonym_key=KEY,
            live_days=90,
        )  # fmt: skip
        assert len(erased.receipts) == 1
        assert counts(redis_url) == {"one:1-9": 1, "two:10-19": 1}

    asyncio.run(main())


def test_the_codebook_names_the_disposition() -> None:
    labels = {row[9]: row[11] for row in codebook(INSTRUMENT) if row[1] == "disposition"}
    assert labels["quota_full"].startswith("Quota filled")
