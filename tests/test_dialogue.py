"""What a hop does to an interview, whatever the network does to hops: on real live stores.

The tables follow the one in gateway/dialogue.py. Each row is what reaches us, in that order, and what
must come of it: the screen of every request, the answers in the stream, the conflicts noted.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from sqlalchemy import Engine

from flows.engine import ResponseGiven, Screen
from flows.instrument import InstrumentError
from gateway.messages import Hop
from storage.database import migrate, open_engine
from storage.live import Live as LiveRecord
from storage.live import LiveStore, Tally
from storage.record import find_interview
from storage.recorder import Recorder, lag
from storage.resp import Unavailable
from storage.respondents import Pseudonyms
from tests.gateway_app import (
    AFRICAS_TALKING,
    CLOSED,
    CODE,
    CONSENT,
    HOUR,
    KEY,
    LAPSED_MENU,
    NOT_COVERED,
    NUMBER,
    OTHER_NUMBER,
    OVER,
    QUESTIONS,
    REFUSAL,
    START,
    STUCK,
    THANKS,
    WAVE,
    WRONG,
    WRONG_KEY,
    Talk,
    answered,
    ask,
    entries,
    hung_server,
    numbers,
    running,
    welcome,
)
from tests.stores import give_schema

TEN_KB = "7" * 10_240
ALL = "1*101*102*103*104*105*106"


@dataclass(frozen=True)
class Row:
    """Requests of one session, in the order in which they arrive."""

    id: str
    texts: list[str]
    screens: list[str]
    given: list[tuple[str, int]] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    hops: int = -1  # entries in the stream; as many as requests if not told


N1, N2, N3, N4 = ask(1), ask(2), ask(3), ask(4)
UP_TO_2 = ["", "1", "1*101", "1*101*102"]
SHOWN_2 = [CONSENT, N1, N2, N3]

ROWS = [
    Row("in order", UP_TO_2, SHOWN_2, answered(101, 102)),
    Row("to the end", ["", *(ALL[: 1 + 4 * n] for n in range(7))],
        [CONSENT, *(ask(n) for n in range(1, 7)), THANKS], answered(*range(101, 107))),
    # ---- the same again
    Row("dial twice", ["", "", "1"], [CONSENT, CONSENT, N1], answered(), hops=2),
    Row("answer twice", ["", "1", "1*101", "1*101"], [CONSENT, N1, N2, N2], answered(101), hops=3),
    Row("answer five times", ["", "1", *["1*101"] * 5, "1*101*102"], [CONSENT, N1, *[N2] * 5, N3],
        answered(101, 102), hops=4),
    Row("the same answer to two questions is no repeat", ["", "1", "1*101", "1*101*101"],
        [CONSENT, N1, N2, N3], answered(101, 101)),
    # ---- too late
    Row("late repeat", [*UP_TO_2, "1*101"], [*SHOWN_2, N3], answered(101, 102), ["older_text"], 4),
    Row("late repeat, then on", [*UP_TO_2, "1", "1*101*102*103"], [*SHOWN_2, N3, N4],
        answered(101, 102, 103), ["older_text"], 5),
    Row("the session starts again", [*UP_TO_2, "", "1*101*102*103"], [*SHOWN_2, N3, N4],
        answered(101, 102, 103), ["older_text"], 5),
    # ---- something else
    Row("another answer, as long", [*UP_TO_2, "1*101*199"], [*SHOWN_2, N3], answered(101, 102),
        ["diverging_text"], 4),
    Row("another past, longer", [*UP_TO_2, "1*199*102*103"], [*SHOWN_2, N3], answered(101, 102),
        ["diverging_text"], 4),
    Row("another past, shorter", [*UP_TO_2, "2"], [*SHOWN_2, N3], answered(101, 102), ["older_text"], 4),
    Row("longer without the joint", ["", "1", "1101"], [CONSENT, N1, N1], answered(), ["diverging_text"], 2),
    Row("longer without the joint, further on", [*UP_TO_2, "1*101*1029*103"], [*SHOWN_2, N3],
        answered(101, 102), ["diverging_text"], 4),
    Row("a letter of the past in another case", ["", "a", "A*1"], [CONSENT, WRONG_KEY + CONSENT,
        WRONG_KEY + CONSENT], [], ["diverging_text"], 2),
    # ---- after the end
    Row("END again", ["", "2", "2"], [CONSENT, REFUSAL, REFUSAL], [("consent", 2)], hops=2),
    Row("on after END", ["", "2", "2*1", "2*1*101"], [CONSENT, *[REFUSAL] * 3], [("consent", 2)],
        ["after_end", "after_end"], 2),
    Row("back before END", ["", "2", ""], [CONSENT, REFUSAL, REFUSAL], [("consent", 2)], ["older_text"], 2),
    Row("on after the last question", ["", *(ALL[: 1 + 4 * n] for n in range(7)), ALL, f"{ALL}*107"],
        [CONSENT, *(ask(n) for n in range(1, 7)), *[THANKS] * 3], answered(*range(101, 107)),
        ["after_end"], 8),
    # ---- `*` and `#` typed by people, who may
    Row("a star within", ["", "1", "1*1*1", "1*1*1*101"], [CONSENT, N1, WRONG + N1, N2], answered(101)),
    Row("a star first", ["", "1", "1**101", "1**101*101"], [CONSENT, N1, WRONG + N1, N2], answered(101)),
    Row("a star last", ["", "1", "1*101*", "1*101**101"], [CONSENT, N1, WRONG + N1, N2], answered(101)),
    Row("a star alone", ["", "1", "1**", "1***101"], [CONSENT, N1, WRONG + N1, N2], answered(101)),
    Row("stars and the same key again", ["", "1", "1*1*1", "1*1*1*1"], [CONSENT, N1, WRONG + N1, N2],
        answered(1)),
    Row("a hash", ["", "#", "#*1#", "#*1#*1"], [CONSENT, WRONG_KEY + CONSENT, WRONG_KEY + CONSENT, N1],
        answered()),
    # ---- nothing typed
    Row("blank first: nothing new, then the joint comes first", ["", "", "*1", "*1*101"],
        [CONSENT, CONSENT, N1, N2], answered(101), hops=3),
    Row("blank twice", ["", "", "*", "**1", "**1*101"], [CONSENT, CONSENT, WRONG_KEY + CONSENT, N1, N2],
        answered(101), hops=4),
    Row("blank later", ["", "1", "1*", "1**101"], [CONSENT, N1, WRONG + N1, N2], answered(101)),
    Row("blank later, twice and repeated", ["", "1", "1*", "1*", "1**", "1***101"],
        [CONSENT, N1, WRONG + N1, WRONG + N1, WRONG + N1, N2], answered(101), hops=5),
    Row("spaces", ["", "1", "1*  ", "1*  * 101 "], [CONSENT, N1, WRONG + N1, N2], answered(101)),
    # ---- much typed
    Row("ten kilobytes", ["", "1", f"1*{TEN_KB}", f"1*{TEN_KB}", f"1*{TEN_KB}*101"],
        [CONSENT, N1, WRONG + N1, WRONG + N1, N2], answered(101), hops=4),
    Row("ten kilobytes, then less", ["", "1", f"1*{TEN_KB}", f"1*{TEN_KB[:-1]}", f"1*{TEN_KB[:-1]}8"],
        [CONSENT, N1, *[WRONG + N1] * 3], answered(), ["older_text", "diverging_text"], 3),
    Row("three wrong keys", ["", "1", "1*a", "1*a*b", "1*a*b*c", "1*a*b*c*1", "1*a*b*c*1*101"],
        [CONSENT, N1, WRONG + N1, WRONG + N1, STUCK, N1, N2], answered(101)),
    Row("not ASCII", ["", "é", "é*１", "é*１*１０１"], [CONSENT, WRONG_KEY + CONSENT, N1, N2], answered(101)),
    # ---- keys dialled with the code are part of the address
    Row("dialled on", ["7", "7*1", "7*1*101"], [CONSENT, N1, N2], answered(101)),
    Row("dialled on, far", ["1*101", "1*101", "1*101*1", "1*101*1*102"], [CONSENT, CONSENT, N1, N2],
        answered(102), hops=3),
    Row("dialled on, then the plain start", ["7", "", "7*1"], [CONSENT, CONSENT, N1], answered(),
        ["older_text"], 2),
    Row("dialled on, no joint", ["7", "71"], [CONSENT, CONSENT], [], ["diverging_text"], 1),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
@pytest.mark.parametrize("times", [1, 3], ids=["once", "thrice"])
def test_requests_of_one_session(row: Row, times: int, redis_url: str) -> None:
    """Sent three times at once, all is the same: but for a conflict, which is noted each time."""

    async def main() -> None:
        async with Talk(redis_url) as talk:
            screens = []
            for text in row.texts:
                talk.now += 4000
                got = await asyncio.gather(*(talk.hop(text) for _ in range(times)))
                assert len(set(got)) == 1
                screens.append(got[0])
            assert [screen.text for screen in screens] == row.screens
            assert [screen.ends for screen in screens] == [s in (REFUSAL, THANKS) for s in row.screens]
            assert talk.given() == row.given
            assert talk.conflicts() == [what for what in row.conflicts for _ in range(times)]
            hops = talk.entries("hop")
            assert [e["version"] for e in hops] == [e["hop"] for e in hops] == list(range(1, len(hops) + 1))
            assert len(hops) == (row.hops if row.hops >= 0 else len(row.texts))
            taken = [code for item, code in row.given if item != "consent"]
            assert (await talk.stands()).count("#") == len(taken)

    asyncio.run(main())


# ---------------------------------------------------------------- at the same time


@pytest.mark.parametrize(
    ("before", "text", "shown"),
    [
        pytest.param([], "", CONSENT, id="dial"),
        pytest.param([], "7*7", CONSENT, id="dial with more keys"),
        pytest.param(["", "1"], "1*101", N2, id="answer"),
        pytest.param(["", "1"], "1*x", WRONG + N1, id="wrong key"),
        pytest.param([""], "2", REFUSAL, id="last answer"),
    ],
)
def test_eight_at_once_are_one(before: list[str], text: str, shown: str, redis_url: str) -> None:
    """Through two gateways: what one lost, another one served."""

    async def main() -> None:
        async with Talk(redis_url) as one, Talk(redis_url) as other:
            for earlier in before:
                await one.hop(earlier)
            screens = await asyncio.gather(*((one, other)[n % 2].hop(text) for n in range(8)))
            assert {screen.text for screen in screens} == {shown}
            assert len(one.entries()) == len(before) + 1
            assert len(set(one.given())) == len(one.given())

    asyncio.run(main())


def test_old_and_new_at_once(redis_url: str) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            for text in UP_TO_2[:-1]:
                await talk.hop(text)
            texts = ["1*101", "1*101*102", "1", "1*101*102", "", "1*101*102"]
            screens = [screen.text for screen in await asyncio.gather(*map(talk.hop, texts))]
            assert screens[1] == screens[3] == screens[5] == N3
            assert set(screens) <= {N2, N3}
            assert talk.given() == answered(101, 102)

    asyncio.run(main())


def test_two_answers_at_once_leave_one(redis_url: str) -> None:
    """A network that lets two different answers through has lost order itself: the first one stands."""

    async def main() -> None:
        async with Talk(redis_url) as talk:
            await talk.hop("")
            await talk.hop("1")
            screens = await asyncio.gather(*(talk.hop(f"1*10{n}") for n in range(4)))
            assert {screen.text for screen in screens} == {N2}
            given = talk.given()
            assert len(given) == 2 and given[1][0] == "n1"
            assert talk.conflicts() == ["diverging_text"] * 3
            code = given[1][1]
            assert (await talk.hop(f"1*{code}*102")).text == N3

    asyncio.run(main())


def test_three_dials_at_once(redis_url: str) -> None:
    """Each is a session; the last one served goes on, and the others are over."""

    async def main() -> None:
        async with Talk(redis_url) as talk:
            screens = await asyncio.gather(*(talk.hop("", session) for session in "ABC"))
            assert {screen.text for screen in screens} == {CONSENT}
            assert len({e["interview"] for e in talk.entries("hop")}) == 1
            current = talk.entries("hop")[-1]["session"]
            for session in "ABC":
                shown = (await talk.hop("1", session)).text
                assert shown == (N1 if session == current else OVER)
            assert talk.given() == answered()

    asyncio.run(main())


def test_too_many_dials_at_once_commit_nothing_for_those_turned_away(redis_url: str) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            got = await asyncio.gather(*(talk.hop("", f"S{n}") for n in range(8)), return_exceptions=True)
            served = [g for g in got if isinstance(g, Screen)]
            assert len(served) + sum(isinstance(g, Unavailable) for g in got) == 8
            assert len(served) == len(talk.entries()) >= 4
            assert (await talk.hop("", "later")).text == CONSENT

    asyncio.run(main())


# ---------------------------------------------------------------- several sessions


NOTICE = None  # in place of a text: the aggregator's notice that the session is over


@dataclass(frozen=True)
class Calls:
    """Requests of several sessions of one respondent, with the screen that answers each."""

    id: str
    steps: list[tuple[str, str | None, str]]
    given: list[tuple[str, int]]
    conflicts: list[str] = field(default_factory=list)


FIRST = [("A", "", CONSENT), ("A", "1", N1), ("A", "1*101", N2)]
CALLS: list[Calls] = [
    Calls("redial goes on at the same question",
          [*FIRST, ("B", "", welcome(2)), ("B", "1", N2), ("B", "1*102", N3)], answered(101, 102)),
    Calls("redial before consent", [("A", "", CONSENT), ("B", "", CONSENT), ("B", "1", N1)], answered()),
    Calls("redial from the middle of going back",
          [*FIRST, ("A", "1*101*0", N1), ("B", "", welcome(2)), ("B", "1", N1), ("B", "1*199", N2)],
          [*answered(101), ("n1", 199)]),
    Calls("redial after refusal asks again",
          [("A", "", CONSENT), ("A", "2", REFUSAL), ("B", "", CONSENT), ("B", "1", N1)],
          [("consent", 2), ("consent", 1)]),
    Calls("repeats of the redial and in it",
          [*FIRST, ("B", "", welcome(2)), ("B", "", welcome(2)), ("B", "1", N2), ("B", "1", N2),
           ("B", "1*102", N3), ("B", "1*102", N3)], answered(101, 102)),
    Calls("hops of an earlier session",
          [*FIRST, ("B", "", welcome(2)), ("A", "1*101", OVER), ("A", "1*101*102", OVER), ("A", "", OVER),
           ("B", "1", N2), ("A", "1*101*103", OVER), ("B", "1*104", N3)], answered(101, 104)),
    Calls("three sessions, the earlier ones in turn",
          [*FIRST, ("B", "", welcome(2)), ("C", "", welcome(2)), ("A", "1*101*9", OVER), ("B", "1", OVER),
           ("C", "1", N2), ("B", "", OVER), ("C", "1*102", N3)], answered(101, 102)),
    Calls("nine sessions: the earliest are remembered",
          [*FIRST, *((s, "", welcome(2)) for s in "BCDEFGHI"), *((s, "1*101*9", OVER) for s in "ABCDEFGH"),
           ("I", "1", N2)], answered(101)),
    Calls("redial with more keys: part of the address",
          [*FIRST, ("B", "1*1", welcome(2)), ("B", "1*1*1", N2), ("B", "1*1*1*102", N3)],
          answered(101, 102)),
    # ---- the notice
    Calls("notice, redial", [*FIRST, ("A", NOTICE, ""), ("B", "", welcome(2)), ("B", "1", N2)],
          answered(101)),
    Calls("notice, then its last hop again", [*FIRST, ("A", NOTICE, ""), ("A", "1*101", OVER)],
          answered(101)),
    Calls("notice, then a hop that is new", [*FIRST, ("A", NOTICE, ""), ("A", "1*101*102", OVER)],
          answered(101), ["after_end"]),
    Calls("notice, late hop, redial",
          [*FIRST, ("A", NOTICE, ""), ("A", "1*101*102", OVER), ("B", "", welcome(2)), ("B", "1", N2),
           ("B", "1*103", N3)], answered(101, 103), ["after_end"]),
    Calls("notice, then an older hop", [*FIRST, ("A", NOTICE, ""), ("A", "1", OVER)], answered(101),
          ["older_text"]),
    Calls("notice twice", [*FIRST, ("A", NOTICE, ""), ("A", NOTICE, ""), ("B", "", welcome(2))],
          answered(101)),
    Calls("notice before its session", [("A", NOTICE, ""), *FIRST], answered(101)),
    Calls("notice of an unknown session", [*FIRST, ("Z", NOTICE, ""), ("A", "1*101*102", N3)],
          answered(101, 102)),
    Calls("notice of an earlier session, late",
          [*FIRST, ("B", "", welcome(2)), ("A", NOTICE, ""), ("B", "1", N2), ("A", NOTICE, ""),
           ("B", "1*102", N3)], answered(101, 102)),
    Calls("notice after END: END again",
          [("A", "", CONSENT), ("A", "2", REFUSAL), ("A", NOTICE, ""), ("A", "2", REFUSAL)],
          [("consent", 2)]),
]  # fmt: skip


@pytest.mark.parametrize("calls", CALLS, ids=lambda calls: calls.id)
def test_sessions_of_one_respondent(calls: Calls, redis_url: str) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            for session, text, shown in calls.steps:
                talk.now += 4000
                if text is NOTICE:
                    await talk.ended(session)
                else:
                    screen = await talk.hop(text, session)
                    assert (session, text, screen.text) == (session, text, shown)
                    assert screen.ends == (shown in (REFUSAL, OVER))
            assert talk.given() == calls.given
            assert talk.conflicts() == calls.conflicts
            notices = talk.entries("session_ended")
            assert [e["session"] for e in notices] == [s for s, text, _ in calls.steps if text is NOTICE]
            assert len({e["interview"] for e in talk.entries("hop")}) == 1
            opened = [e["session"] for e in talk.entries("hop") if "opened" in e]
            assert opened == sorted(set(opened))  # each session opens once

    asyncio.run(main())


def test_what_a_notice_leaves(redis_url: str) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            await talk.ended("A", "Failed")
            (entry,) = talk.entries()
            assert entry == {
                "kind": "session_ended", "session": "A", "respondent": talk.pseudonyms.of(NUMBER),
                "at": START, "aggregator": "africastalking", "status": "Failed", "duration_ms": 41_200,
                "hops": 3, "cost": "GHS 0.03", "network_code": "62001", "service_code": CODE, "error": "",
            }  # fmt: skip

    asyncio.run(main())


def test_respondents_do_not_meet_though_their_sessions_have_one_id(redis_url: str) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            for text in ("", "1", "1*101"):
                await talk.hop(text)
            assert (await talk.hop("1*101*102", number=OTHER_NUMBER)).text == CONSENT
            await talk.ended("A", number=OTHER_NUMBER)
            assert (await talk.hop("1*101*102")).text == N3
            assert talk.given() == answered(101, 102) and talk.given(OTHER_NUMBER) == []

    asyncio.run(main())


def test_after_the_resume_window_a_new_interview(redis_url: str) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            for text in ("", "1", "1*101"):
                await talk.hop(text)
            talk.now += 72 * HOUR
            assert (await talk.hop("", "B")).text == welcome(2)
            talk.now += 72 * HOUR + 1
            assert (await talk.hop("", "C")).text == LAPSED_MENU
            assert (await talk.hop("1", "C")).text == CONSENT
            assert (await talk.hop("1*101*102", "A")).text == OVER
            hops = talk.entries("hop")
            assert [e["interview"] == hops[0]["interview"] for e in hops] == [True] * 5 + [False]
            assert [e["version"] for e in hops] == [1, 2, 3, 4, 5, 6]

    asyncio.run(main())


def test_withdrawal_empties_the_live_record_at_once(redis_url: str) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            for text in ("", "1", "1*101"):
                await talk.hop(text)
            assert await talk.stands() == "1#....."
            for text, shown in (
                ("", welcome(2)),
                ("3", "Delete all?\n1 Yes, delete\n2 No, keep"),
                ("3*1", "Deleted. Receipt: "),
                ("3*1", "Deleted. Receipt: "),
            ):
                assert (await talk.hop(text, "B")).text.startswith(shown)
            assert await talk.stands() == "......."
            erased = [f for e in talk.entries("hop") for f in e["effects"] if f["kind"] == "ErasureRequested"]
            assert len(erased) == 1
            again = await talk.hop("", "C")
            assert again == Screen(f"Deleted. Receipt: {erased[0]['receipt']}.", True)

    asyncio.run(main())


# ---------------------------------------------------------------- who is served


@pytest.mark.parametrize(
    ("number", "code", "codes", "shown"),
    [
        (NUMBER, CODE, (), CONSENT),
        (NUMBER, CODE, (CODE,), CONSENT),
        (NUMBER, "*999#", (), CONSENT),
        (NUMBER, "*999#", (CODE,), CLOSED),
        ("+447400000001", CODE, (), NOT_COVERED),
        ("+0000000000", CODE, (), NOT_COVERED),
        ("+2342400000001", CODE, (), NOT_COVERED),
        ("+447400000001", "*999#", (CODE,), NOT_COVERED),
    ],
)
def test_numbers_and_codes(
    number: str, code: str, codes: tuple[str, ...], shown: str, redis_url: str
) -> None:
    async def main() -> None:
        async with Talk(redis_url, wave=replace(WAVE, service_codes=codes)) as talk:
            screen = await talk.dialogue.hop(AFRICAS_TALKING, Hop("A", number, "62001", code, ""))
            assert screen == Screen(shown, shown != CONSENT)
            assert len(talk.entries()) == (shown == CONSENT)  # who is not served leaves nothing

    asyncio.run(main())


def test_keys_dialled_with_the_code_as_answers(redis_url: str) -> None:
    """They choose the language and stop at consent, which is given on its own screen."""

    async def main() -> None:
        wave = replace(WAVE, languages=("en", "fr"), extension="answers")
        french = "Acceptez-vous l'été ?\n1 Oui\n2 Non"
        async with Talk(redis_url, wave=wave) as talk:
            assert (await talk.hop("2*1")).text == french
            assert (await talk.hop("2*1")).text == french
            assert talk.given() == []
            assert (await talk.hop("2*1*1")).text == "Numéro 1?\n00 Skip"
            assert talk.given() == answered()
            assert (await talk.hop("", "B")).text.startswith("Bon retour. Réponses : 1.")
            assert (await talk.hop("", "A")).text == "Session terminée. Faites le *384*16#."
            # dialled on again, the interview under way takes no answers in advance
            assert (await talk.hop("1*1", "C")).text.startswith("Bon retour")
            assert talk.given() == answered()
            assert [e["opened"]["extension"] for e in talk.entries("hop") if "opened" in e] == ["", "", ""]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("", "", id="none"),
        pytest.param("7", "7", id="one key"),
        pytest.param("7*7#", "7*7#", id="three"),
        pytest.param("1*" * 10, "1*" * 10, id="the longest"),
        pytest.param("1*" * 10 + "1", "", id="too long"),
        pytest.param("\x00", "", id="NUL"),
        pytest.param("7\n", "", id="a line break"),
        pytest.param("Ama", "", id="letters"),
        pytest.param("٣", "", id="digits of another script"),
    ],
)
def test_an_address_is_kept_if_it_can_be_one(text: str, kept: str, redis_url: str) -> None:
    """Digits, stars and hashes can be dialled; nothing else came from a dial, and it may be an answer."""

    async def main() -> None:
        async with Talk(redis_url) as talk:
            await talk.hop(text)
            assert [e["opened"]["extension"] for e in talk.entries("hop")] == [kept]

    asyncio.run(main())


# ---------------------------------------------------------------- sequences, as the simulator has them


@pytest.mark.parametrize(
    ("sent", "screens", "given", "conflicts"),
    [
        pytest.param([(1, ""), (2, "1"), (3, "101")], [CONSENT, N1, N2], answered(101), [], id="in order"),
        pytest.param([(1, ""), (1, ""), (2, "1"), (2, "1"), (3, "101")], [CONSENT, CONSENT, N1, N1, N2],
                     answered(101), [], id="repeats"),
        pytest.param([(1, ""), (2, "1"), (2, "2"), (3, "101")], [CONSENT, N1, N1, N2], answered(101), [],
                     id="the number counts, not the input"),
        pytest.param([(1, ""), (2, "1"), (4, "101"), (3, "102")], [CONSENT, N1, N1, N2], answered(102),
                     ["out_of_order"], id="gap"),
        pytest.param([(1, ""), (2, "1"), (3, "101"), (2, "1"), (1, ""), (4, "102")],
                     [CONSENT, N1, N2, N2, N2, N3], answered(101, 102), ["out_of_order"] * 2, id="late"),
        pytest.param([(1, ""), (2, "1"), (3, "101"), (4, "101")], [CONSENT, N1, N2, N3],
                     answered(101, 101), [], id="the same input is no repeat"),
        pytest.param([(1, ""), (2, "2"), (2, "2"), (3, "1")], [CONSENT, REFUSAL, REFUSAL, REFUSAL],
                     [("consent", 2)], ["after_end"], id="after END"),
        pytest.param([(1, ""), (2, ""), (3, "*"), (4, "1*1"), (5, "1")],
                     [CONSENT, WRONG_KEY + CONSENT, WRONG_KEY + CONSENT,
                      "That did not work.\n1 Try again\n2 Stop", CONSENT], [], [], id="blanks and stars"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("times", [1, 3], ids=["once", "thrice"])
def test_numbered_requests(
    sent: list[tuple[int, str]],
    screens: list[str],
    given: list[tuple[str, int]],
    conflicts: list[str],
    times: int,
    redis_url: str,
) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            shown = []
            for sequence, text in sent:
                got = await asyncio.gather(*(talk.numbered(sequence, text) for _ in range(times)))
                assert len(set(got)) == 1
                shown.append(got[0].text)
            assert shown == screens
            assert talk.given() == given
            assert talk.conflicts() == [what for what in conflicts for _ in range(times)]

    asyncio.run(main())


# ---------------------------------------------------------------- whatever the network does

SESSION = ["", *(ALL[: 1 + 4 * n] for n in range(QUESTIONS + 1))]  # a whole interview, hop by hop
FEW = settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def emptied(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@FEW
@for_all(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, len(SESSION) - 1), max_size=3)), max_size=16)
)
def test_repeats_at_any_time_change_nothing(redis_url: str, plan: list[tuple[bool, list[int]]]) -> None:
    """What people press arrives in order, because they see a screen first; its repeats may come any time
    after, several at once. What is recorded is what was typed, each answer at its question, once."""

    async def main() -> None:
        async with Talk(emptied(redis_url)) as talk:
            sent = 0
            shown: dict[int, str] = {}
            for goes_on, repeats in plan:
                batch = [SESSION[n] for n in repeats if n < sent]
                if goes_on and sent < len(SESSION):
                    batch.append(SESSION[sent])
                    sent += 1
                screens = await asyncio.gather(*map(talk.hop, batch))
                if goes_on and batch:
                    shown[sent] = screens[-1].text
            expected = [CONSENT, *(ask(n) for n in range(1, QUESTIONS + 1)), THANKS]
            assert all(text == expected[n - 1] for n, text in shown.items())
            assert talk.given() == answered(*range(101, 101 + QUESTIONS))[: max(0, sent - 1)]
            assert len(talk.entries("hop")) == sent

    asyncio.run(main())


@FEW
@for_all(st.lists(st.integers(0, len(SESSION) - 1), min_size=1, max_size=20))
def test_any_order_at_all_records_nothing_twice_and_nothing_that_was_not_typed(
    redis_url: str, order: list[int]
) -> None:
    """With hops missing between two requests, which no handset can bring about: the joined inputs read as
    one that fits no question, and what is typed next goes to the question that was shown last."""

    async def main() -> None:
        async with Talk(emptied(redis_url)) as talk:
            shown = ""
            for n in order:
                before = talk.given()
                screen = (await talk.hop(SESSION[n])).text
                if len(given := talk.given()) > len(before):
                    item, code = given[-1]
                    question = "Take part?" if item == "consent" else f"Number {item[1:]}?"
                    assert question in shown
                    assert str(code) == SESSION[n].rpartition("*")[2]
                shown = screen
            given = talk.given()
            items, codes = [item for item, _ in given], [code for _, code in given]
            assert items == ["consent", *(f"n{n}" for n in range(1, QUESTIONS + 1))][: len(items)]
            assert codes == sorted(set(codes))
            versions = [e["version"] for e in talk.entries("hop")]
            assert versions == list(range(1, len(versions) + 1))

    asyncio.run(main())


@FEW
@for_all(st.lists(st.integers(1, len(SESSION)), min_size=1, max_size=24))
def test_numbered_requests_in_any_order_leave_a_prefix(redis_url: str, order: list[int]) -> None:
    """Numbered requests tell a gap, so nothing is read out of turn."""
    keys = ["", "1", *(str(n) for n in range(101, 101 + QUESTIONS))]

    async def main() -> None:
        async with Talk(emptied(redis_url)) as talk:
            await talk.numbered(1, "")
            reached = 1
            for sequence in order:
                await talk.numbered(sequence, keys[sequence - 1])
                reached += sequence == reached + 1
            assert talk.given() == answered(*range(101, 101 + QUESTIONS))[: reached - 1]

    asyncio.run(main())


@FEW
@for_all(st.text(alphabet="01239*# aé٣", max_size=12), st.lists(st.text("019*#", max_size=5), max_size=6))
def test_whatever_is_typed_is_the_engines_affair(redis_url: str, first: str, typed: list[str]) -> None:
    """Inputs joined by `*` and cut again are the inputs: over one wire as over the other."""

    async def main() -> None:
        async with Talk(emptied(redis_url)) as talk:
            keys = [first, *typed]
            numbered = [await talk.numbered(1, "")]
            for n, key in enumerate(keys, 2):
                numbered.append(await talk.numbered(n, key))
            effects = [e["effects"] for e in talk.entries("hop")][1:]
        async with Talk(emptied(redis_url)) as talk:
            joined, text = [await talk.hop("")], ""
            for n, key in enumerate(keys):
                text = f"{text}*{key}" if n else f"*{key}"  # the joint first, as after a blank input
                joined.append(await talk.hop(text))
            assert [s.text for s in joined] == [s.text for s in numbered]
            assert [e["effects"] for e in talk.entries("hop")][1:] == effects

    asyncio.run(main())


# ---------------------------------------------------------------- what the live store has lost


def test_lost_between_reading_and_writing(redis_url: str) -> None:
    """The record is asked again, about a store born later."""
    births: list[int] = []

    async def find(respondent: str, wave: str, born: int) -> None:
        births.append(born)

    async def main() -> None:
        async with Talk(redis_url, find=find) as talk:
            for text in ("", "1"):
                await talk.hop(text)
            wiped = Wiping(talk.live)
            talk.dialogue.live = wiped
            talk.now += HOUR
            assert (await talk.hop("1*101")).text == CONSENT
            assert births == [START, START + HOUR]

    asyncio.run(main())


class Wiping(LiveStore):
    """Loses everything just before its first commit."""

    def __init__(self, live: LiveStore):
        self.__dict__ = live.__dict__
        self.lost = False

    async def commit(
        self, version: int, respondent: str, live: LiveRecord, entry: bytes, tally: Tally | None = None
    ) -> None:
        if not self.lost:
            self.lost = True
            await self._client.call("FLUSHALL")
        await super().commit(version, respondent, live, entry, tally)


def test_a_record_that_is_garbage_is_no_answer(redis_url: str) -> None:
    """A bug or a stray hand: nothing is overwritten, and the webhook answers politely."""

    async def main() -> None:
        async with Talk(redis_url) as talk:
            await talk.hop("")
            with redis.Redis.from_url(redis_url) as client:
                (key,) = client.keys("dial16:interview:*")
                client.set(key, b"00000001[]")
                with pytest.raises(ValueError):
                    await talk.hop("1")
                assert client.get(key) == b"00000001[]"

    asyncio.run(main())


def fold_all(redis_url: str, engine: Engine) -> None:
    """What the stream holds, into the record."""
    with redis.Redis.from_url(redis_url) as client:
        recorder = Recorder(client, engine, "one")
        recorder.fold_once(1)
        while lag(client):
            recorder.fold_once(1)


@pytest.fixture
def record(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    # A dial waits a second for the record and is then served as new: too strict on a busy machine.
    lookup = import_module("gateway.app").RecordLookup
    monkeypatch.setattr(sys.modules[lookup.__module__], "_RECORD_SECONDS", 20.0)
    engine = open_engine(database_url)
    give_schema(engine, WAVE.instrument)
    yield engine
    engine.dispose()


def test_a_live_store_wiped_is_rebuilt_from_the_record(
    redis_url: str, database_url: str, record: Engine
) -> None:
    async def main() -> None:
        async with running(redis_url, database_url) as gateway:
            for text in UP_TO_2:
                await gateway.dial(text)
            fold_all(redis_url, record)
            emptied(redis_url)
            # the session goes on: what it holds is no address, and its input is asked for again
            assert await gateway.dial("1*101*102*103") == (200, f"CON {welcome(3)}")
            assert await gateway.dial("1*101*102*103*1") == (200, f"CON {N3}")
            assert await gateway.dial("1*101*102*103*1*103") == (200, f"CON {N4}")
            (opened,) = (e["opened"] for e in entries(redis_url, "hop") if "opened" in e)
            assert opened["extension"] == ""
            fold_all(redis_url, record)
            found = find_interview(record, Pseudonyms(KEY).of(NUMBER), "w")
            assert found is not None
            told = [(e.item, e.code) for e in found.effects if isinstance(e, ResponseGiven)]
            assert told == answered(101, 102, 103)
            assert found.attempt == 1 and found.version > 1000
            # somebody new is not looked for in vain
            assert await gateway.dial(phoneNumber=OTHER_NUMBER) == (200, f"CON {CONSENT}")

    asyncio.run(main())


def test_a_live_store_wiped_while_the_record_is_away(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        nowhere = f"sqlite:///{tmp_path / 'no folder' / 'none.sqlite3'}"
        async with running(redis_url, nowhere) as gateway:
            for text in UP_TO_2:
                await gateway.dial(text)
            emptied(redis_url)
            assert await gateway.dial(session="B") == (200, f"CON {CONSENT}")
            assert await gateway.dial("1", "B") == (200, f"CON {N1}")

    asyncio.run(main())
    assert "record not reached" in caplog.text


def test_a_record_that_hangs_delays_one_dial_by_a_second_and_no_other(redis_url: str) -> None:
    async def main(port: int) -> None:
        url = f"postgresql+psycopg://dial16@127.0.0.1:{port}/none"
        async with running(redis_url, url) as gateway:
            began = time.monotonic()
            assert await gateway.dial() == (200, f"CON {CONSENT}")
            first = time.monotonic() - began
            assert first < 4  # connecting to such a database ends after five seconds, if at all
            began = time.monotonic()
            assert await gateway.dial(phoneNumber=OTHER_NUMBER) == (200, f"CON {CONSENT}")
            assert time.monotonic() - began < first / 2

    with hung_server() as port:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(main(port))
        finally:
            loop.close()  # does not wait for the thread that still connects


# ---------------------------------------------------------------- versions of the instrument

NEXT = replace(WAVE, instrument=numbers("2", "Figure"))


def test_an_interview_goes_on_with_the_text_it_began_with(redis_url: str, database_url: str) -> None:
    async def main() -> None:
        async with running(redis_url, database_url) as gateway:
            for text in UP_TO_2:
                await gateway.dial(text)
        async with running(redis_url, database_url, NEXT) as gateway:
            assert await gateway.dial("1*101*102*103") == (200, f"CON {N4}")  # the very session
            assert await gateway.dial(session="B") == (200, f"CON {welcome(4)}")
            assert await gateway.dial("1", "B") == (200, f"CON {N4}")
            assert await gateway.dial(phoneNumber=OTHER_NUMBER) == (200, f"CON {CONSENT}")
            shown = await gateway.dial("1", phoneNumber=OTHER_NUMBER)
            assert shown == (200, f"CON {ask(1, 'Figure')}")
        async with running(redis_url, database_url) as gateway:  # and back to the release before
            shown = await gateway.dial("1*101", phoneNumber=OTHER_NUMBER)
            assert shown == (200, f"CON {ask(2, 'Figure')}")
        began = [e["effects"][0]["instrument"] for e in entries(redis_url, "hop") if e["version"] == 1]
        assert began == ["numbers@1", "numbers@2"]

    asyncio.run(main())


def test_what_begins_anew_begins_on_the_instrument_of_today(redis_url: str) -> None:
    async def main() -> None:
        async with Talk(redis_url) as talk:
            for text in ("", "1", "1*101"):
                await talk.hop(text)
        async with Talk(redis_url, wave=NEXT, now=START + 73 * HOUR) as talk:
            # A hop of the old session, however late, is of the old interview.
            assert (await talk.hop("1*101*102")).text == N3
        async with Talk(redis_url, wave=NEXT, now=START + 146 * HOUR) as talk:
            assert (await talk.hop("", "B")).text == LAPSED_MENU
            assert (await talk.hop("1", "B")).text == CONSENT
            assert (await talk.hop("1*1", "B")).text == ask(1, "Figure")

    asyncio.run(main())


def test_other_texts_under_the_same_version_do_not_start(redis_url: str, database_url: str) -> None:
    async def main() -> None:
        async with running(redis_url, database_url) as gateway:
            await gateway.dial()
        changed = replace(WAVE, instrument=numbers("1", "Figure"))
        with pytest.raises(InstrumentError) as raised:
            async with running(redis_url, database_url, changed):
                pass
        assert str(raised.value) == (
            "questionnaire.toml: instrument.version: numbers@1 has been fielded with other texts;"
            " raise the version"
        )

    asyncio.run(main())


def test_other_texts_under_the_same_version_are_not_shown_when_the_store_was_away_at_the_start(
    redis_url: str,
) -> None:
    """Found at the first hop then, before anything is read with the wrong words."""

    async def main() -> None:
        async with Talk(redis_url) as talk:
            await talk.hop("")
        async with Talk(redis_url, wave=replace(WAVE, instrument=numbers("1", "Figure"))) as talk:
            with pytest.raises(Unavailable, match=r"^numbers@1 has been fielded with other texts"):
                await talk.hop("1")
            assert len(talk.entries()) == 1

    asyncio.run(main())


def test_a_live_store_wiped_keeps_the_instrument_again(redis_url: str) -> None:
    """What begins after the loss outlives the next deploy as well."""

    async def main() -> None:
        async with Talk(redis_url) as talk:
            await talk.hop("", number=OTHER_NUMBER)
            emptied(redis_url)
            for text in ("", "1"):
                await talk.hop(text)
        async with Talk(redis_url, wave=NEXT) as talk:
            assert (await talk.hop("1*101")).text == N2

    asyncio.run(main())


def test_an_instrument_that_the_live_store_lost_comes_from_the_record(
    redis_url: str, database_url: str, record: Engine
) -> None:
    async def main() -> None:
        async with running(redis_url, database_url) as gateway:
            for text in UP_TO_2:
                await gateway.dial(text)
        fold_all(redis_url, record)
        migrate(record, NEXT.instrument)
        emptied(redis_url)
        async with running(redis_url, database_url, NEXT) as gateway:
            assert await gateway.dial(session="B") == (200, f"CON {welcome(3)}")
            assert await gateway.dial("1", "B") == (200, f"CON {N3}")

    asyncio.run(main())


def test_an_instrument_that_no_store_has(redis_url: str) -> None:
    """Nothing is made up: the respondent is asked to dial later, and nothing is written."""

    async def main() -> None:
        async with Talk(redis_url) as talk:
            await talk.hop("")
        with redis.Redis.from_url(redis_url) as client:
            client.delete("dial16:instruments")
        async with Talk(redis_url, wave=NEXT) as talk:
            with pytest.raises(Unavailable, match=r"^instrument numbers@1 is in no store"):
                await talk.hop("1")
            assert len(talk.entries()) == 1

    asyncio.run(main())
