"""Text messages on a real live store: one message, one step, whatever is repeated, lost or at once.

What a dialogue by SMS says is in tests/transcripts/sms*.txt; here is what the store and the stream hold.
"""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import redis

from flows.engine import Began, Consented, Effect, ModeChanged, ResponseGiven
from flows.instrument import parse
from flows.questionnaire import PROMPTS_OF_TEXTING
from flows.wave import Wave
from gateway import counting as counting_module
from gateway.messages import InboundSms, OptOut
from gateway.texting import Texting
from storage.database import migrate, open_engine
from storage.record import Recorded
from storage.resp import Unavailable
from storage.sealing import Seal
from tests.gateway_app import (
    CONSENT,
    FORM,
    HOUR,
    KEY,
    NUMBER,
    OTHER_NUMBER,
    OVER,
    REFUSAL,
    SECRET,
    SIMULATOR_SECRET,
    START,
    WAVE,
    WRONG,
    Talk,
    answered,
    ask,
    entries,
    numbers,
    running,
    welcome,
)
from tests.record_material import fold_all
from tests.stores import Live, running_live

TEXTED = replace(WAVE, sms_sender="1616")
HOOK = f"/hooks/africastalking/{SECRET}/sms"
SIMULATOR_HOOK = f"/hooks/simulator/{SIMULATOR_SECRET}/sms"
OUT = "No more messages. Text SURVEY, dial *384*16#."
HELP = "Office 0800 *384*16#. Leave: STOP"
N1, N2, N3 = (f"Number {n}?\n00 Skip" for n in (1, 2, 3))


@dataclass
class Texts(Talk):
    """The dialogue by text and by dial, on one live store."""

    wave: Wave = TEXTED
    messages: int = 0

    async def __aenter__(self) -> "Texts":
        await super().__aenter__()
        self.seal = Seal(KEY)
        self.dialogue.seal = self.seal
        self.texting = Texting(self.dialogue, self.seal)
        return self

    async def text(self, text: str, id: str = "", number: str = NUMBER) -> str | None:
        """What a message is answered with; each has an id of its own unless given."""
        self.messages += 1
        before = len(self.entries())
        await self.texting.text("africastalking", sms(text, id or f"M{self.messages}", number))
        new = self.entries()[before:]
        return said(new[0]) if new else None

    async def texts(self, *texts: str) -> list[str | None]:
        return [await self.text(text) for text in texts]

    async def opt_out(self, number: str = NUMBER) -> None:
        await self.texting.opted_out("africastalking", OptOut(number, "1616"))

    def sends(self) -> list[str]:
        """Everything that is to be sent, in order."""
        return [send["text"] for entry in self.entries() for send in entry.get("sends", ())]


def sms(text: str, id: str, number: str = NUMBER) -> InboundSms:
    return InboundSms(id, number, "1616", "62001", text)


def said(entry: dict[str, Any]) -> str | None:
    return entry["sends"][0]["text"] if entry["sends"] else None


# ---------------------------------------------------------------- one message, one step


def test_an_interview_by_text(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            assert await talk.texts("survey", "yes", "101", "no", "102") == [
                CONSENT, N1, N2, WRONG + N2, N3,
            ]  # fmt: skip
            assert talk.given() == answered(101, 102)
            assert await talk.stands() == "1##...."

    asyncio.run(main())


def test_the_entry_of_a_step(redis_url: str) -> None:
    """What the recorder and the sending side are given."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1")
            first, second = talk.entries()
            for entry in (first, second):
                assert talk.seal.open(entry.pop("sealed"), entry["respondent"]) == NUMBER
                assert entry.pop("effects")
            respondent = talk.pseudonyms.of(NUMBER)
            common = {
                "kind": "hop", "interview": first["interview"], "respondent": respondent, "wave": "w",
                "session": "sms:M1", "at": START, "mode": "sms", "ends": False, "stage": "item",
                "sender": "1616", "aggregator": "africastalking", "network_code": "62001",
                "key_id": talk.seal.key_id,
            }  # fmt: skip
            opened = {
                "aggregator": "africastalking", "network_code": "62001", "service_code": "1616",
                "extension": "",
            }  # fmt: skip
            assert first == common | {
                "version": 1, "hop": 1, "shown": "consent", "opened": opened,
                "sends": [{"kind": "reply", "text": CONSENT}],
            }  # fmt: skip
            assert second == common | {
                "version": 2, "hop": 2, "shown": "n1", "sends": [{"kind": "reply", "text": N1}],
            }  # fmt: skip

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "what", "sends"),
    [
        ("Stop", "stop", [{"kind": "confirmation", "text": OUT}]),
        ("LEAVE ME", "stop", [{"kind": "confirmation", "text": OUT}]),
        ("arreter", "stop", [{"kind": "confirmation", "text": OUT}]),  # a word of another language
        ("help", "help", [{"kind": "reply", "text": HELP}]),
    ],
)
def test_the_entry_of_a_command(text: str, what: str, sends: list[dict[str, str]], redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.text(text)
            (entry,) = talk.entries()
            assert talk.seal.open(entry.pop("sealed"), entry["respondent"]) == NUMBER
            assert entry == {
                "kind": "text_command", "respondent": talk.pseudonyms.of(NUMBER), "at": START, "wave": "w",
                "what": what, "message_id": "M1", "sends": sends, "sender": "1616",
                "aggregator": "africastalking", "network_code": "62001", "key_id": talk.seal.key_id,
            }  # fmt: skip

    asyncio.run(main())


def test_the_entry_of_nothing_to_say_holds_no_number(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            assert await talk.texts("survey", "no", "ok thank you") == [CONSENT, REFUSAL, None]
            assert talk.entries()[-1] == {
                "kind": "text_command", "respondent": talk.pseudonyms.of(NUMBER), "at": START, "wave": "w",
                "what": "none", "message_id": "M3", "sends": [],
            }  # fmt: skip

    asyncio.run(main())


@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize("texts", [["survey", "1", "101"], ["help"], ["stop"], ["survey", "no", "ok"]])
def test_a_message_sent_again_is_one_message(texts: list[str], times: int, redis_url: str) -> None:
    """One after the other, and all at once."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            for n, text in enumerate(texts):
                message = sms(text, f"id-{n}")
                if n % 2:
                    for _ in range(times):
                        await talk.texting.text("africastalking", message)
                else:
                    await asyncio.gather(
                        *(talk.texting.text("africastalking", message) for _ in range(times))
                    )
                assert len(talk.entries()) == n + 1

    asyncio.run(main())


def test_a_message_repeated_every_minute_for_twelve_hours(redis_url: str) -> None:
    """Also when the interview has gone on since, and the same text would be an answer to the next item."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1")
            await talk.text("101", "late")
            for minute in range(720):
                talk.now += 60_000
                assert await talk.text("101", "late") is None
                if minute == 300:
                    assert await talk.text("102") == N3
            assert talk.given() == answered(101, 102)
            with redis.Redis.from_url(redis_url) as client:
                remembered: Any = [client.ttl(k) for k in client.keys("dial16:message:*")]
            assert len(remembered) == 4
            assert all(7 * 86_400 - 120 < seconds <= 7 * 86_400 for seconds in remembered)

    asyncio.run(main())


def test_another_id_is_another_message_though_it_says_the_same(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1", "101", "101")
            assert talk.given() == answered(101, 101)

    asyncio.run(main())


def test_two_aggregators_may_use_the_same_ids(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            for text in ("survey", "1"):
                for aggregator in ("africastalking", "simulator"):
                    await talk.texting.text(aggregator, sms(text, text))
            assert talk.given() == answered(1)  # the second "1" answers the first number

    asyncio.run(main())


# ---------------------------------------------------------------- at once


def test_messages_at_once_take_one_step_each(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1")
            batch = [sms(str(100 + n), f"x{n}") for n in range(4)]
            await asyncio.gather(*(talk.texting.text("africastalking", m) for m in batch))
            codes = [code for item, code in talk.given() if item != "consent"]
            assert sorted(codes) == [100, 101, 102, 103]
            assert [item for item, _ in talk.given()] == ["consent", "n1", "n2", "n3", "n4"]
            assert [e["version"] for e in talk.entries()] == [1, 2, 3, 4, 5, 6]

    asyncio.run(main())


def test_more_at_once_than_can_be_served_are_sent_again(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1")
            waiting = {f"x{n}": sms(str(100 + n), f"x{n}") for n in range(6)}
            rounds = 0
            while waiting:
                rounds += 1
                done = await asyncio.gather(
                    *(talk.texting.text("africastalking", m) for m in waiting.values()),
                    return_exceptions=True,
                )
                assert all(r is None or isinstance(r, Unavailable) for r in done)
                waiting = {m: waiting[m] for m, r in zip(waiting, done, strict=True) if r is not None}
                assert rounds < 7
            assert sorted(code for item, code in talk.given() if item != "consent") == list(range(100, 106))

    asyncio.run(main())


@pytest.mark.parametrize("attempt", range(5))
def test_a_dial_and_a_text_at_once(attempt: int, redis_url: str) -> None:
    """Both go on at the same item; whoever comes second finds what the first left."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            for text in ("", "1", "1*101"):
                await talk.hop(text)
            calls = [talk.hop("", "B"), talk.texting.text("africastalking", sms("survey", "m"))]
            screens = await asyncio.gather(*(calls if attempt % 2 else reversed(calls)))
            (screen,) = (s for s in screens if s is not None)
            assert screen.text == welcome(2)
            assert talk.sends() == [N2]
            assert talk.given() == answered(101)
            versions = [e["version"] for e in talk.entries()]
            assert versions == list(range(1, len(versions) + 1)) and len(versions) == 5
            # Whichever came last is the mode that goes on; the other's answer is not taken for one.
            last = talk.entries()[-1]["mode"]
            late = await talk.hop("1", "B")
            if last == "sms":
                assert (late.text, late.ends) == (OVER, True)
                assert await talk.text("102") == N3
            else:
                assert late.text == ask(2)
                assert await talk.text("102") == N2  # the question, by SMS
            assert talk.given() == answered(*([101, 102] if last == "sms" else [101]))

    asyncio.run(main())


@pytest.mark.parametrize("attempt", range(6))
def test_an_answer_by_each_mode_at_once_is_one_answer(attempt: int, redis_url: str) -> None:
    """A USSD answer and a keyword at the same moment: the answer is taken first or not at all."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            for text in ("", "1"):
                await talk.hop(text)
            calls = [talk.hop("1*101"), talk.texting.text("africastalking", sms("survey", "m"))]
            screens = await asyncio.gather(*(calls if attempt % 2 else reversed(calls)))
            (screen,) = (s for s in screens if s is not None)
            if talk.given() == answered(101):
                assert screen.text == ask(2) and talk.sends() == [N2]
            else:
                assert talk.given() == answered()
                assert screen.text == OVER and talk.sends() == [N1]

    asyncio.run(main())


@pytest.mark.parametrize("attempt", range(6))
def test_stop_and_an_answer_at_once(attempt: int, redis_url: str) -> None:
    """The answer counts if it came first; nothing is asked after the opt-out."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1")
            calls = [talk.texting.text("africastalking", sms(t, t)) for t in ("101", "stop")]
            await asyncio.gather(*(calls if attempt % 2 else reversed(calls)))
            assert talk.sends()[-1] == OUT and talk.sends().count(OUT) == 1
            assert await talk.text("102") is None
            assert talk.given() in (answered(), answered(101))
            assert talk.sends() == [CONSENT, N1, *([N2] if talk.given() == answered(101) else []), OUT]

    asyncio.run(main())


@pytest.mark.parametrize("attempt", range(6))
def test_stop_and_a_first_text_at_once(attempt: int, redis_url: str) -> None:
    """Somebody unknown: there is no live record yet whose version could tell."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            calls = [talk.texting.text("africastalking", sms(t, t)) for t in ("hello", "stop")]
            await asyncio.gather(*(calls if attempt % 2 else reversed(calls)))
            assert talk.sends() in ([CONSENT, OUT], [OUT])
            assert await talk.text("1") is None

    asyncio.run(main())


# ---------------------------------------------------------------- from one mode to the other


def test_each_answer_keeps_its_mode(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            for text in ("", "1", "1*101"):
                await talk.hop(text)
            await talk.texts("survey", "102")
            for text in ("", "1", "1*103"):
                await talk.hop(text, "B")
            modes = {
                e["item"]: entry["mode"]
                for entry in talk.entries("hop")
                for e in entry["effects"]
                if e["kind"] == "ResponseGiven"
            }
            assert modes == {"consent": "ussd", "n1": "ussd", "n2": "sms", "n3": "ussd"}
            changed = [
                e["mode"] for x in talk.entries("hop") for e in x["effects"] if e["kind"] == "ModeChanged"
            ]
            assert changed == ["sms", "ussd"]
            sessions = list(dict.fromkeys(e["session"] for e in talk.entries("hop")))
            assert sessions == ["A", "sms:M1", "B"]

    asyncio.run(main())


def test_the_network_cannot_take_a_text_conversation_back(redis_url: str) -> None:
    """Late hops and the late notice of a USSD session that a text has taken over."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            for text in ("", "1"):
                await talk.hop(text)
            await talk.text("survey")
            for late in ("1*101", "1", ""):
                assert (await talk.hop(late)).text == OVER
            await talk.ended()
            assert await talk.text("101") == N2
            assert talk.given() == answered(101)

    asyncio.run(main())


def test_an_interview_rebuilt_from_the_record_asks_before_it_takes_an_answer(redis_url: str) -> None:
    async def recorded(respondent: str, wave: str, born: int) -> Recorded | None:
        if not born:
            return None
        at = datetime.fromtimestamp(START / 1000, UTC)
        effects: tuple[Effect, ...] = (
            Began("numbers@1", "w", "en", "sms", 7, "opening", {}, ""), Consented("1"),
            ResponseGiven("consent", "yes", 1, 1.0, 1), ResponseGiven("n1", "", 101, 1.0, 1),
        )  # fmt: skip
        return Recorded(
            "f" * 16, "numbers@1", "w", 1, 4, ("sms:M0",), at, at, "in_progress", None, "n2", "item", effects
        )

    async def main() -> None:
        async with Texts(redis_url, find=recorded) as talk:
            assert await talk.text("55") == N2
            assert talk.given() == []
            assert await talk.text("102") == N3
            assert [code for _, code in talk.given()] == [102]
            assert [e["version"] for e in talk.entries()] == [1001, 1002]

    asyncio.run(main())


def test_a_restored_interview_knows_its_mode(redis_url: str) -> None:
    """One that had gone from USSD to SMS and was lost with the live store changes no mode by texting on."""

    async def recorded(respondent: str, wave: str, born: int) -> Recorded | None:
        at = datetime.fromtimestamp(START / 1000, UTC)
        effects: tuple[Effect, ...] = (
            Began("numbers@1", "w", "en", "ussd", 7, "opening", {}, ""),
            ResponseGiven("consent", "yes", 1, 1.0, 1), Consented("1"), ModeChanged("sms"),
        )  # fmt: skip
        return Recorded(
            "f" * 16, "numbers@1", "w", 1, 4, ("A",), at, at, "in_progress", None, "n1", "item", effects
        )

    async def main() -> None:
        async with Texts(redis_url, find=recorded) as talk:
            assert await talk.text("survey") == N1
            (entry,) = talk.entries()
            assert [e["kind"] for e in entry["effects"]] == ["Resumed"]

    asyncio.run(main())


def test_a_version_fielded_before_texting_can_be_gone_on_with_by_text(redis_url: str) -> None:
    """It lacks the prompts of texting; the service's own are of today's version."""
    sources = dict(numbers().sources)
    for name in ("en.toml", "fr.toml"):
        lines = sources[name].split("\n")
        lacking = (*PROMPTS_OF_TEXTING, "[words]", "stop = [")
        sources[name] = "\n".join(x for x in lines if not x.startswith(lacking))
        assert len(lines) - len(sources[name].split("\n")) == len(PROMPTS_OF_TEXTING) + 2
    old = parse(sources, fielded=True)
    with pytest.raises(Exception, match="one_answer"):
        parse(sources)

    async def main() -> None:
        async with Texts(redis_url, wave=replace(TEXTED, instrument=old)) as talk:
            for text in ("", "1"):
                await talk.hop(text)
        new = replace(TEXTED, instrument=numbers("2", "Figure"))
        async with Texts(redis_url, wave=new) as talk:
            assert await talk.texts("survey", "1 2 x", "1,2", "help", "101", "stop") == [
                N1, WRONG + N1, WRONG + N1, HELP, N2, OUT,
            ]  # fmt: skip

    asyncio.run(main())


# ---------------------------------------------------------------- opting out, and numbers


def test_an_opt_out_is_confirmed_once_and_lasts(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1")
            assert await talk.texts("STOP", "stop", "101", "help", "why") == [OUT, None, None, None, None]
            assert [e["what"] for e in talk.entries("text_command")] == [
                "stop",
                "stop",
                "none",
                "help",
                "none",
            ]
            talk.now += 400 * 24 * HOUR
            assert await talk.text("101") is None
            with redis.Redis.from_url(redis_url) as client:
                assert client.ttl(f"dial16:opted-out:{talk.pseudonyms.of(NUMBER)}") == -1  # for good
            assert await talk.text("hello", number=OTHER_NUMBER) == CONSENT  # nobody else is concerned

    asyncio.run(main())


def test_opting_out_holds_for_every_wave(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.text("stop")
        async with Texts(redis_url, wave=replace(TEXTED, id="w2"), messages=10) as talk:
            assert await talk.text("hello") is None

    asyncio.run(main())


def test_the_keyword_opts_in_again_and_says_so(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1", "stop")
            assert await talk.texts("Survey", "101") == [N1, N2]
            assert [e.get("opted_in") for e in talk.entries("hop")] == [None, None, True, None]
            assert await talk.text("stop") == OUT  # and out again, confirmed again

    asyncio.run(main())


def test_a_dial_is_no_opting_in(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1", "stop")
            assert (await talk.hop("")).text == welcome(1)
            assert (await talk.hop("1")).text == ask(1)
            assert (await talk.hop("1*101")).text == ask(2)
            assert await talk.text("102") is None
            assert not any("opted_in" in e for e in talk.entries())

    asyncio.run(main())


def test_stop_by_text_leaves_a_ussd_session_alone(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            for text in ("", "1"):
                await talk.hop(text)
            assert await talk.text("stop") == OUT
            assert (await talk.hop("1*101")).text == ask(2)
            assert talk.given() == answered(101)
            assert talk.conflicts() == []

    asyncio.run(main())


def test_the_aggregators_own_opt_out(redis_url: str) -> None:
    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1")
            for _ in range(3):
                await talk.opt_out()
            assert talk.entries("opted_out") == [
                {"kind": "opted_out", "respondent": talk.pseudonyms.of(NUMBER), "at": START,
                 "aggregator": "africastalking"}
            ]  # fmt: skip
            assert await talk.texts("101", "stop", "survey", "101") == [None, None, N1, N2]
            await talk.opt_out(OTHER_NUMBER)  # somebody whom we never met
            assert await talk.text("hello", number=OTHER_NUMBER) is None

    asyncio.run(main())


@pytest.mark.parametrize(("text", "answer", "what"), [
    ("survey", None, "none"), ("hello", None, "none"), ("help", None, "none"), ("stop", OUT, "stop"),
])  # fmt: skip
def test_a_number_of_another_country(text: str, answer: str | None, what: str, redis_url: str) -> None:
    """Not served, and not written to; but it may opt out."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            assert await talk.text(text, number="+447400000001") == answer
            (entry,) = talk.entries()
            assert entry["what"] == what and ("sealed" in entry) == (what == "stop")

    asyncio.run(main())


def test_numbers_are_kept_sealed_of_those_who_consented(redis_url: str) -> None:
    """By USSD: with the consent, and with the first hop of each session after it; no other hop."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            for text in ("", "1", "1*101"):
                await talk.hop(text)
            await talk.hop("", "B")
            await talk.hop("1", "B")
            for text in ("", "3", "3*1"):  # withdraws
                await talk.hop(text, "C")
            await talk.hop("", "D")
            sealed = [
                (e["session"], e["hop"]) for e in talk.entries("hop") if "sealed" in e and "key_id" in e
            ]
            assert sealed == [("A", 2), ("B", 1), ("C", 1)]
            for e in talk.entries("hop"):
                assert "sealed" not in e or talk.seal.open(e["sealed"], e["respondent"]) == NUMBER
            for text in ("", "2"):  # no consent, no number
                await talk.hop(text, "E", OTHER_NUMBER)
            await talk.hop("", "F", OTHER_NUMBER)
            assert not any("sealed" in e for e in talk.entries("hop") if e["session"] in ("E", "F"))

    asyncio.run(main())


# ---------------------------------------------------------------- over HTTP: literal requests


AT_SMS = (
    "date=2026-11-23+08%3A00%3A00&from=%2B233240000001&id=ATXid_1&linkId=SampleLinkId&text=Survey"
    "&to=1616&cost=GHS+0.0000&networkCode=62001"
)
AT_REPORT = (
    "id=ATXid_9&status=Failed&phoneNumber=%2B233240000001&networkCode=62001"
    "&failureReason=UserInBlackList&retryCount=0"
)
AT_OUT = "senderId=1616&phoneNumber=%2B233240000001"
SIM_SMS = '{"id": "s-1", "msisdn": "+233240000001", "network": "99999", "to": "1616", "text": "Survey"}'
SIM_REPORT = '{"id": "s-9", "status": "Success"}'
SIM_OUT = '{"msisdn": "+233240000001", "sender": "1616"}'
JSON = "application/json"
row = pytest.param


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'dial16.sqlite3'}"


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "answer"),
    [
        row(HOOK, AT_SMS, FORM, 200, "OK", id="as documented"),
        row(HOOK, AT_SMS, FORM + "; charset=utf-8", 200, "OK", id="with a charset"),
        row(HOOK, "from=%2B233240000001&id=a&text=&to=1616", FORM, 200, "OK", id="what we need, blank"),
        row(HOOK, AT_SMS.replace("=%2B233", "=+233"), FORM, 200, "OK", id="an unescaped plus"),
        row(HOOK, AT_SMS + "&tomorrow=1", FORM, 200, "OK", id="fields of tomorrow"),
        row(HOOK, AT_SMS.replace("Survey", "%F0%9F%91%8D" * 400), FORM, 200, "OK", id="400 emoji"),
        row(HOOK, AT_SMS.replace("Survey", "x" * 16_000), FORM, 200, "OK", id="16,000 characters"),
        row(HOOK, "", FORM, 400, "missing: id, from, to, text", id="nothing"),
        row(HOOK, AT_SMS.replace("&id=ATXid_1", ""), FORM, 400, "missing: id", id="no id"),
        row(HOOK, AT_SMS.replace("ATXid_1", "+"), FORM, 400, "empty: id", id="blank id"),
        row(HOOK, AT_SMS.replace("ATXid_1", "A%0AB"), FORM, 400, "not printable: id", id="line break in id"),
        row(HOOK, AT_SMS.replace("to=1616", "to=%00"), FORM, 400, "not printable: to", id="NUL in to"),
        row(HOOK, AT_SMS.replace("ATXid_1", "A" * 129), FORM, 400, "too long: id", id="long id"),
        row(HOOK, AT_SMS.replace("Survey", "x" * 16_001), FORM, 400, "too long: text", id="long text"),
        row(HOOK, AT_SMS + "&text=2", FORM, 400, "field given twice: text", id="twice"),
        row(HOOK, AT_SMS.replace("%2B233240000001", "MTN"), FORM, 400,
            "from: must be in international form, + and 7 to 15 digits", id="from a name"),
        row(HOOK, AT_SMS, JSON, 415, f"content type must be {FORM}", id="another content type"),
        row(HOOK, "x" * 65_537, FORM, 413, "the body is over 65536 octets", id="too much"),
        row("/hooks/africastalking/wrong/sms", AT_SMS, FORM, 404, "not found", id="wrong secret"),
        row(f"/hooks/simulator/{SECRET}/sms", SIM_SMS, JSON, 404, "not found", id="another's secret"),
        row(HOOK + "/delivery", AT_REPORT, FORM, 200, "OK", id="a report"),
        row(HOOK + "/delivery", "id=1&status=Teleported", FORM, 200, "OK", id="a status of tomorrow"),
        row(HOOK + "/delivery", "id=1&status=a%00%0Ab", FORM, 200, "OK", id="a status not to be stored"),
        row(HOOK + "/delivery", "status=Success", FORM, 400, "missing: id", id="a report of nothing"),
        row(HOOK + "/delivery", "id=1&status=", FORM, 400, "empty: status", id="a report of no status"),
        row(HOOK + "/delivery", "id=1&status=" + "x" * 65, FORM, 400, "too long: status", id="long status"),
        row(HOOK + "/opt-out", AT_OUT, FORM, 200, "OK", id="an opt-out"),
        row(HOOK + "/opt-out", "phoneNumber=1&senderId=1616", FORM, 400,
            "phoneNumber: must be in international form, + and 7 to 15 digits", id="an opt-out of nobody"),
        row(HOOK + "/opt-out", "senderId=1616", FORM, 400, "missing: phoneNumber", id="no number"),
        row(SIMULATOR_HOOK, SIM_SMS, JSON, 200, "OK", id="simulator"),
        row(SIMULATOR_HOOK, SIM_SMS.replace('"s-1"', "1"), JSON, 400, "must be a string: id", id="id 1"),
        row(SIMULATOR_HOOK, SIM_SMS.replace('"s-1"', '" "'), JSON, 400, "empty: id", id="blank"),
        row(SIMULATOR_HOOK, SIM_SMS.replace("s-1", "\\u0000"), JSON, 400, "not printable: id", id="NUL id"),
        row(SIMULATOR_HOOK, SIM_SMS.replace("+233", "233"), JSON, 400,
            "msisdn: must be in international form, + and 7 to 15 digits", id="simulator: no plus"),
        row(SIMULATOR_HOOK, "{}", JSON, 400, "missing: id, msisdn, network, to, text", id="{}"),
        row(SIMULATOR_HOOK, '{"id": "1", "id": "2"}', JSON, 400, "a field is given twice", id="id twice"),
        row(SIMULATOR_HOOK, SIM_SMS, FORM, 415, f"content type must be {JSON}", id="simulator: a form"),
        row(SIMULATOR_HOOK + "/delivery", SIM_REPORT, JSON, 200, "OK", id="simulator: a report"),
        row(SIMULATOR_HOOK + "/delivery", SIM_REPORT.replace("}", ', "reason": 1}'), JSON, 400,
            "must be a string: reason", id="simulator: a reason that is no text"),
        row(SIMULATOR_HOOK + "/delivery", '{"status": "x"}', JSON, 400, "missing: id", id="simulator: no id"),
        row(SIMULATOR_HOOK + "/opt-out", SIM_OUT, JSON, 200, "OK", id="simulator: an opt-out"),
        row(SIMULATOR_HOOK + "/opt-out", '{"msisdn": "+233240000001"}', JSON, 400, "missing: sender",
            id="simulator: an opt-out of nothing"),
    ],
)  # fmt: skip
def test_a_request(
    path: str, body: str, kind: str, status: int, answer: str, redis_url: str, database: str
) -> None:
    async def main() -> None:
        async with running(redis_url, database, TEXTED) as gateway:
            for _ in range(2):
                got = await gateway.post(path, body, kind)
                assert (got.status_code, got.text) == (status, answer)
            if "delivery" in path:
                assert len(entries(redis_url)) == (2 if status == 200 else 0)
            else:
                assert len(entries(redis_url)) == (1 if status == 200 else 0)

    asyncio.run(main())


def test_get_is_not_answered(redis_url: str, database: str) -> None:
    async def main() -> None:
        async with running(redis_url, database, TEXTED) as gateway:
            for path in (HOOK, HOOK + "/delivery", HOOK + "/opt-out"):
                assert (await gateway.http.get(path)).status_code == 405

    asyncio.run(main())


def test_the_entries_of_reports(redis_url: str, database: str) -> None:
    """As sent, the number left out; what cannot be stored is a space."""

    async def main() -> None:
        async with running(redis_url, database, TEXTED) as gateway:
            for body in (AT_REPORT, "id=1&status=a%00%0Ab"):
                await gateway.post(HOOK + "/delivery", body)
            simulated = '{"id": "s", "status": "x", "reason": "r", "network": "99999"}'
            await gateway.post(SIMULATOR_HOOK + "/delivery", simulated, JSON)
            reports = entries(redis_url, "delivery_report")
            assert all(isinstance(r.pop("at"), int) for r in reports)
            # Only where the report names its number.
            assert [len(r.pop("respondent") or "") for r in reports] == [32, 0, 0]
            common = {"kind": "delivery_report", "aggregator": "africastalking"}
            assert reports == [
                common | {"message_id": "ATXid_9", "status": "Failed", "failure_reason": "UserInBlackList",
                          "network_code": "62001"},
                common | {"message_id": "1", "status": "a  b", "failure_reason": "", "network_code": ""},
                common | {"message_id": "s", "status": "x", "failure_reason": "r", "network_code": "99999",
                          "aggregator": "simulator"},
            ]  # fmt: skip

    asyncio.run(main())


def test_a_wave_without_a_sender_takes_no_texts(redis_url: str, database: str) -> None:
    """Reports and opt-outs still come in, of what an earlier wave sent."""

    async def main() -> None:
        async with running(redis_url, database, WAVE) as gateway:
            assert (await gateway.post(HOOK, AT_SMS)).status_code == 404
            assert (await gateway.post(HOOK, "nonsense")).status_code == 404
            assert entries(redis_url) == []
            assert (await gateway.post(HOOK + "/delivery", AT_REPORT)).status_code == 200
            assert (await gateway.post(HOOK + "/opt-out", AT_OUT)).status_code == 200

    asyncio.run(main())


def test_no_number_and_no_text_is_kept(
    redis_url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the live store, nor in the stream, nor in the log; a number only sealed."""
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with running(redis_url, database, TEXTED) as gateway:
            for n, text in enumerate(["Survey", "yes", "3141", "elephant", "1 27182818", "help", "stop"]):
                body = AT_SMS.replace("Survey", quote_plus(text)).replace("ATXid_1", f"ATXid_{n}")
                assert (await gateway.post(HOOK, body)).status_code == 200
            await gateway.post(HOOK + "/delivery", AT_REPORT)
            await gateway.post(HOOK + "/opt-out", AT_OUT)
            for n in range(4):
                await gateway.post(HOOK, AT_SMS.replace("%2B233240000001", "24000000x" * n))
        with redis.Redis.from_url(redis_url) as client:
            keys: Any = client.keys()
            kept = b"".join(client.get(key) or b"" for key in keys if client.type(key) == b"string")
            kept += b"".join(keys)
        kept += json.dumps(entries(redis_url)).encode()
        assert b"3141" in kept and b"Number 2?" in kept  # the search does find what is there
        # Long ones: four digits stand in a digest by chance.
        for secret in ("240000001", "elephant", "27182818", "24000000x"):
            assert secret.encode() not in kept
            assert secret not in caplog.text

    asyncio.run(main())


def test_a_bug_is_500_and_a_line_of_ids(
    redis_url: str, database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The aggregator sends it again, for up to twelve hours: time to mend it."""
    caplog.set_level(logging.DEBUG)

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError(f"{NUMBER} said 31415")

    async def main() -> None:
        async with running(redis_url, database, TEXTED) as gateway:
            with monkeypatch.context() as patch:
                patch.setattr(counting_module, "step", failing)
                got = await gateway.post(HOOK, AT_SMS)
                assert (got.status_code, got.text) == (500, "the message could not be stored")
            assert entries(redis_url) == []
            assert (await gateway.post(HOOK, AT_SMS)).status_code == 200
            assert len(entries(redis_url)) == 1

    asyncio.run(main())
    (line,) = [r.getMessage() for r in caplog.records if r.name == "dial16.webhooks"]
    assert line.startswith("message failed id=ATXid_1: RuntimeError at ")
    assert "31415" not in caplog.text and NUMBER not in caplog.text


@pytest.fixture(params=["valkey", "redis"])
def own_live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with running_live(request.param) as server:
        yield server


def test_while_the_live_store_is_away_messages_are_to_be_sent_again(
    own_live: Live, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(own_live.url, database, TEXTED) as gateway:
            assert (await gateway.post(HOOK, AT_SMS)).status_code == 200
            answer = AT_SMS.replace("Survey", "1").replace("ATXid_1", "ATXid_2")
            own_live.stop()
            for path, body in ((HOOK, answer), (HOOK + "/delivery", AT_REPORT), (HOOK + "/opt-out", AT_OUT)):
                got = await gateway.post(path, body)
                assert got.status_code == 503 and got.text.endswith("could not be stored; send it again")
            own_live.start()
            for _ in range(3):
                assert (await gateway.post(HOOK, answer)).status_code == 200
            given = [e["effects"] for e in entries(own_live.url, "hop")]
            assert len(given) == 2 and given[1][0]["item"] == "consent"

    asyncio.run(main())
    assert "+233" not in caplog.text


def test_a_step_whose_answer_was_lost_is_not_taken_twice(redis_url: str) -> None:
    """The script ran, its answer did not come: the aggregator hears 503, sends again, and is told 200."""

    async def main() -> None:
        async with Texts(redis_url) as talk:
            await talk.texts("survey", "1")
            commit = talk.live.commit_text

            async def committed(*args: Any, **kwargs: Any) -> bool:
                await commit(*args, **kwargs)
                raise Unavailable("live store: no answer in time")

            talk.live.commit_text = committed  # type: ignore[method-assign]
            with pytest.raises(Unavailable):
                await talk.texting.text("africastalking", sms("101", "lost"))
            talk.live.commit_text = commit  # type: ignore[method-assign]
            await talk.texting.text("africastalking", sms("101", "lost"))
            assert talk.given() == answered(101)

    asyncio.run(main())


def test_an_opt_out_outlives_the_live_store(own_live: Live, database_url: str) -> None:
    """What an emptied live store has forgotten, the record knows."""

    def text(words: str) -> str:
        return AT_SMS.replace("Survey", words).replace("ATXid_1", f"ATXid_{words}")

    async def main() -> None:
        engine = open_engine(database_url)
        async with running(own_live.url, database_url, TEXTED) as gateway:
            migrate(engine, TEXTED.instrument)
            for words in ("survey", "yes", "stop"):
                assert (await gateway.post(HOOK, text(words))).status_code == 200
            fold_all(engine, entries(own_live.url))
            engine.dispose()
            with redis.Redis.from_url(own_live.url) as client:
                client.flushall()
            await asyncio.sleep(0.002)  # the store is younger than what is recorded
            await gateway.post(HOOK, text("101"))
            (command,) = entries(own_live.url)
            assert (command["kind"], command["what"], command["sends"]) == ("text_command", "none", [])
            await gateway.post(HOOK, text("SURVEY"))
            hop = entries(own_live.url)[-1]
            assert hop["opted_in"] is True and hop["sends"]

    asyncio.run(main())
