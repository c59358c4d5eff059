"""Several waves at once: each by its own codes, open and closed by its times and the operator's word."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import redis
from sqlalchemy import Engine

from flows.fielding import Opening
from flows.instrument import InstrumentError
from flows.wave import Wave
from flows.waves import load_waves
from gateway import words
from gateway.commands import Refused
from gateway.commands.wave import refuse_ids
from gateway.dialogue import Dialogue
from gateway.messages import Hop, InboundSms, SessionEnded
from gateway.switchboard import Switchboard
from storage.database import open_engine
from storage.live import LiveStore
from storage.respondents import Pseudonyms
from storage.sealing import Seal
from storage.waves import CLOSE, OPEN, TIMES, copy_word, read_words, say_word
from tests.estimation_material import put
from tests.gateway_app import (
    AFRICAS_TALKING,
    CLOSED,
    CONSENT,
    HOOK,
    HOUR,
    KEY,
    NUMBER,
    START,
    WAVE,
    Gateway,
    ask,
    entries,
    form,
    nothing_recorded,
    numbers,
    running,
    welcome,
)
from tests.stores import give_schema

ONE = replace(WAVE, id="one", service_codes=("*384*16#",), file="one.toml")
OTHER = replace(
    WAVE, id="other", instrument=numbers("2", "Figure"), code="*384*17#", keywords=("OTHER",),
    file="other.toml",
)  # fmt: skip
people = count(1000)
CLOSED_MENU = "Closed.\n1 See results\n2 Withdraw"
TEXT_HOOK = HOOK.removesuffix("ussd") + "sms"


@contextmanager
def database(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    give_schema(engine, WAVE.instrument)
    try:
        yield engine
    finally:
        engine.dispose()


async def dial(gateway: Gateway, code: str, text: str = "", session: str = "A", number: str = NUMBER) -> str:
    status, body = await gateway.dial(text, session, serviceCode=code, phoneNumber=number)
    assert status == 200
    return body


def at(hours: float) -> datetime:
    return datetime.fromtimestamp(START / 1000, UTC) + timedelta(hours=hours)


# ---------------------------------------------------------------- two waves over HTTP


def test_a_dial_belongs_to_the_wave_of_its_code(redis_url: str, database_url: str) -> None:
    async def main() -> None:
        async with running(redis_url, database_url, ONE, OTHER) as gateway:
            assert await dial(gateway, "*384*16#") == f"CON {CONSENT}"
            assert await dial(gateway, "*384*17#", session="B") == f"CON {CONSENT}"
            assert await dial(gateway, "*384*16#", "1") == f"CON {ask(1)}"
            assert await dial(gateway, "*384*17#", "1", "B") == f"CON {ask(1, 'Figure')}"
            assert await dial(gateway, "*384*17#", "1*7", "B") == f"CON {ask(2, 'Figure')}"
            assert await dial(gateway, "*384*16#", "1") == f"CON {ask(1)}"  # a repeat, not mixed up
            # Each goes on where it was.
            assert await dial(gateway, "*384*16#", session="C") == f"CON {welcome(1)}"
            assert await dial(gateway, "*384*17#", session="D") == f"CON {welcome(2)}"
            assert await dial(gateway, "*384*18#", session="E") == f"END {CLOSED}"
            # What a code is not answered by leaves no trace; nor does the end of its session.
            ended = form("", "E", serviceCode="*384*18#") + "&status=Success"
            assert (await gateway.post(HOOK + "/events", ended)).status_code == 200
            kept = {(e["wave"], e["session"]) for e in entries(redis_url, "hop")}
            assert kept == {("one", "A"), ("one", "C"), ("other", "B"), ("other", "D")}
            assert entries(redis_url, "session_ended") == []
            said = (await gateway.http.get("/health/ready")).json()["parts"]["instrument"]["detail"]
            assert said == "numbers@1, wave one; numbers@2, wave other"
            home = (await gateway.http.get("/")).text
            assert "*384*16#" in home and "*384*17#" in home and "numbers@2" in home
            page = (await gateway.http.get("/handset")).text
            assert "*384*16# or *384*17#" in page

    asyncio.run(main())


def test_the_end_of_a_session_is_noted_in_its_own_wave(redis_url: str, database_url: str) -> None:
    async def main() -> None:
        async with running(redis_url, database_url, ONE, OTHER) as gateway:
            await dial(gateway, "*384*16#")
            await dial(gateway, "*384*17#", session="B")
            ended = form("", "B", serviceCode="*384*17#") + "&status=Incomplete"
            assert (await gateway.post(HOOK + "/events", ended)).status_code == 200
            assert [e["session"] for e in entries(redis_url, "session_ended")] == ["B"]
            assert await dial(gateway, "*384*17#", "1", "B") != f"CON {ask(1, 'Figure')}"  # it is over
            assert await dial(gateway, "*384*16#", "1") == f"CON {ask(1)}"

    asyncio.run(main())


def test_texts_go_by_keyword_and_by_where_one_wrote_last(redis_url: str, database_url: str) -> None:
    async def main() -> None:
        pair = (replace(ONE, sms_sender="1616"), replace(OTHER, sms_sender="1616"))
        third = replace(
            WAVE, id="third", code="*384*18#", sms_sender="1717", instrument=numbers("3", "Count")
        )
        ids = count()
        async with running(redis_url, database_url, *pair, third) as gateway:

            async def text(words: str, to: str = "1616") -> tuple[str, str | None]:
                said = f"to={to}&text={quote_plus(words)}&date=x&linkId="
                body = f"id=M{next(ids)}&from={quote_plus(NUMBER)}&{said}"
                assert (await gateway.post(TEXT_HOOK, body)).status_code == 200
                entry = entries(redis_url)[-1]
                return entry["wave"], entry["sends"][0]["text"] if entry["sends"] else None

            bare = ask(1).partition("\n")[0]
            assert await text("survey") == ("one", CONSENT)
            assert (await text("yes"))[1] == f"{bare}\n00 Skip"
            assert await text("other") == ("other", CONSENT)
            assert (await text("1"))[0] == "other"  # no keyword: where one wrote last
            assert (await text("survey"))[0] == "one"  # the keyword leads back
            assert (await text("101"))[0] == "one"
            assert (await text("1", "1717"))[0] == "third"  # another short code
            assert (await text("102"))[0] == "one"
            # Who leaves, leaves all of them.
            assert (await text("stop"))[0] == "one"
            assert await text("5", "1717") == ("third", None)

    asyncio.run(main())


# ---------------------------------------------------------------- opening and closing


@pytest.mark.parametrize(
    ("opening", "hour", "open_then"),
    [
        (Opening(), 0, True),
        (Opening(opens_at=at(1)), 0.99, False),
        (Opening(opens_at=at(1)), 1, True),
        (Opening(closes_at=at(1)), 0.99, True),
        (Opening(closes_at=at(1)), 1, False),
        (Opening(at(1), at(2)), 1.5, True),
        (Opening(at(1), at(2)), 2.5, False),
    ],
)
def test_the_times_of_the_file(opening: Opening, hour: float, open_then: bool, redis_url: str) -> None:
    async def main() -> None:
        live = LiveStore(redis_url, 90)
        dialogue = Dialogue(
            replace(WAVE, opening=opening), live, Pseudonyms(KEY), nothing_recorded,
            lambda: START + int(hour * HOUR),
        )  # fmt: skip
        screen = await dialogue.hop(AFRICAS_TALKING, Hop("A", NUMBER, "62001", WAVE.code, ""))
        assert screen.text == (CONSENT if open_then else CLOSED)
        assert (screen.ends, bool(entries(redis_url))) == (not open_then, open_then)
        for word, wanted in (("open", True), ("close", False), ("", open_then)):
            dialogue.word = word
            assert dialogue.open_at(START + int(hour * HOUR)) == wanted
        await live.close()

    asyncio.run(main())


class Clocked:
    """One wave, or several, on a clock of the test's."""

    def __init__(self, url: str, *waves: Wave):
        self.now, self.live, self.url = START, LiveStore(url, 90), url
        self.dialogues = [
            Dialogue(w, self.live, Pseudonyms(KEY), nothing_recorded, lambda: self.now) for w in waves
        ]
        self.board = Switchboard(self.dialogues, Seal(KEY))

    async def dial(self, text: str = "", session: str = "A", code: str = WAVE.code) -> str:
        screen = await self.board.hop(AFRICAS_TALKING, Hop(session, NUMBER, "62001", code, text))
        return ("END " if screen.ends else "CON ") + screen.text

    async def text(self, words: str, id: str) -> tuple[str, str | None]:
        """What the text was taken as, and the answer to it."""
        await self.board.text("africastalking", InboundSms(id, NUMBER, "1616", "62001", words))
        entry = entries(self.url)[-1]
        return entry.get("what", entry["kind"]), entry["sends"][0]["text"] if entry["sends"] else None


def test_who_is_in_the_middle_at_the_close_may_finish_in_that_session(redis_url: str) -> None:
    async def main() -> None:
        line = Clocked(redis_url, replace(WAVE, opening=Opening(closes_at=at(1))))
        await line.dial()
        await line.dial("1")
        line.now += HOUR
        for n in range(1, 6):
            text = "*".join(["1", *(str(100 + k) for k in range(1, n + 1))])
            assert await line.dial(text) == f"CON {ask(n + 1)}"
        assert (await line.dial(text + "*106")).startswith("END Thank you.")
        # Afterwards the results, and the way out.
        assert (await line.dial(session="B")).startswith("CON You have finished.\n1 See results\n2 Withdraw")
        await line.live.close()

    asyncio.run(main())


def test_who_hung_up_before_the_close_may_only_withdraw(redis_url: str) -> None:
    async def main() -> None:
        line = Clocked(redis_url, replace(WAVE, opening=Opening(closes_at=at(1))))
        await line.dial()
        await line.dial("1")
        await line.dial("1*101")
        line.now += HOUR
        assert await line.dial(session="B") == f"CON {CLOSED_MENU}"
        assert await line.dial(session="B") == f"CON {CLOSED_MENU}"  # a repeat
        assert await line.dial("1", "B") == "END Not published yet. Dial *384*16#."
        await line.dial(session="C")
        assert await line.dial("2", "C") == "CON Delete all?\n1 Yes, delete\n2 No, keep"
        assert await line.dial("2*2", "C") == f"CON {CLOSED_MENU}"  # no way back into the questions
        for keys in ("2*2*7", "2*2*7*7"):
            assert (await line.dial(keys, "C")).startswith("CON Press a number shown.")
        assert await line.dial("2*2*7*7*7", "C") == f"END {CLOSED}"
        await line.dial(session="D")
        await line.dial("2", "D")
        assert (await line.dial("2*1", "D")).startswith("END Deleted. Receipt: ")
        erased = [e for e in entries(redis_url, "hop") if "ErasureRequested" in json.dumps(e["effects"])]
        assert [e["session"] for e in erased] == ["D"]
        line.now += 24 * HOUR
        assert (await line.dial(session="E")).startswith("END Deleted. Receipt: ")  # the same again
        # Opened again it goes on as it would have: somebody else's interview, not closed for good.
        line.dialogues[0].word = "open"
        assert (await line.dial(session="F")).startswith("END Deleted.")
        await line.live.close()

    asyncio.run(main())


@pytest.mark.parametrize("keys", [[], [""], ["", "2"]], ids=["nobody", "at the consent", "refused"])
def test_who_gave_no_consent_gets_the_polite_end_and_leaves_no_trace(keys: list[str], redis_url: str) -> None:
    async def main() -> None:
        line = Clocked(redis_url, replace(WAVE, opening=Opening(closes_at=at(1))))
        for text in keys:
            await line.dial(text)
        before = len(entries(redis_url))
        line.now += 2 * HOUR
        for _ in range(2):
            assert await line.dial(session="B") == f"END {CLOSED}"
        assert await line.dial("1", session="B") == f"END {CLOSED}"
        assert len(entries(redis_url)) == before
        await line.live.close()

    asyncio.run(main())


def test_a_closed_wave_by_text(redis_url: str) -> None:
    """A conversation under way goes on while answers come within half an hour of each other."""

    async def main() -> None:
        wave = replace(WAVE, sms_sender="1616", opening=Opening(closes_at=at(1)))
        line = Clocked(redis_url, wave)
        await line.text("survey", "1")
        line.now = START + HOUR - 1
        assert (await line.text("yes", "2"))[0] == "hop"
        line.now += 30 * 60_000
        assert await line.text("101", "3") == ("hop", ask(2).replace("\n00 Skip 0 Back", "\n00 Skip"))
        line.now += 30 * 60_000 + 1
        assert await line.text("102", "4") == ("hop", CLOSED_MENU)
        assert (await line.text("2", "5"))[1] == "Delete all?\n1 Yes, delete\n2 No, keep"
        line.now += 5 * HOUR  # a menu waits
        assert str((await line.text("1", "6"))[1]).startswith("Deleted.")
        await line.live.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("words", "what", "says"),
    [
        ("survey", "closed", CLOSED), ("hello", "none", None),
        ("help", "help", "Office 0800 *384*16#. Leave: STOP"),
    ],
)  # fmt: skip
def test_strangers_who_text_a_closed_wave(words: str, what: str, says: str | None, redis_url: str) -> None:
    """Only the keyword is answered: anything else may be an answering machine's."""

    async def main() -> None:
        line = Clocked(redis_url, replace(WAVE, sms_sender="1616", opening=Opening(closes_at=at(-1))))
        assert await line.text(words, "1") == (what, says)
        await line.live.close()

    asyncio.run(main())


def test_one_code_passes_from_wave_to_wave(redis_url: str) -> None:
    """This year's on last year's code: a session that the change finds under way stays where it began."""

    async def main() -> None:
        last = replace(ONE, opening=Opening(closes_at=at(1)))
        this = replace(OTHER, code=last.code, opening=Opening(opens_at=at(2)))
        line = Clocked(redis_url, this, last)
        await line.dial()
        assert await line.dial("1") == f"CON {ask(1)}"
        line.now = START + int(1.5 * HOUR)  # neither is open: the last one, for its results
        assert await line.dial("1*101") == f"CON {ask(2)}"
        assert await line.dial(session="B") == f"CON {CLOSED_MENU}"
        line.now = START + 2 * HOUR - 1
        assert await line.dial(session="C") == f"CON {CLOSED_MENU}"
        line.now += 1
        notice = SessionEnded("C", NUMBER, "62001", last.code, "Incomplete", 1, 1, "")
        assert await line.dial("2", "C") == "CON Delete all?\n1 Yes, delete\n2 No, keep"
        assert await line.dial(session="D") == f"CON {CONSENT}"
        assert await line.dial("1", "D") == f"CON {ask(1, 'Figure')}"
        await line.board.session_ended(AFRICAS_TALKING, notice)
        waves = [(e["wave"], e["session"]) for e in entries(redis_url, "hop")]
        assert waves[-3:] == [("one", "C"), ("other", "D"), ("other", "D")]
        assert [e["session"] for e in entries(redis_url, "session_ended")] == ["C"]
        await line.live.close()

    asyncio.run(main())


# ---------------------------------------------------------------- the operator's word


def test_the_operator_s_word_reaches_a_running_gateway(
    redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "_EVERY_SECONDS", 0.02)

    async def shows(gateway: Gateway, code: str, screen: str) -> None:
        for _ in range(200):
            number = next(people)
            shown = await dial(gateway, code, session=f"S{number}", number=f"+23324{number:07d}")
            if shown == screen:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{code} does not come to show {screen!r}")

    async def main(engine: Engine, live: "redis.Redis") -> None:
        def tell(wave: str, word: str) -> None:
            copy_word(live, wave, say_word(engine, wave, word))

        over = replace(OTHER, opening=Opening(closes_at=datetime(2020, 1, 1, tzinfo=UTC)))
        async with running(redis_url, database_url, ONE, over) as gateway:
            assert await dial(gateway, "*384*17#") == f"END {CLOSED}"
            tell("other", OPEN)
            await shows(gateway, "*384*17#", f"CON {CONSENT}")
            tell("one", CLOSE)
            await shows(gateway, "*384*16#", f"END {CLOSED}")
            said = (await gateway.http.get("/health/ready")).json()["parts"]["instrument"]["detail"]
            assert said == "numbers@1, wave one (closed); numbers@2, wave other"
            live.flushall()  # the copy is lost with everything else: the database still has the word
            await shows(gateway, "*384*16#", f"END {CLOSED}")
            await asyncio.sleep(0.1)
            assert await dial(gateway, "*384*16#", session="Z") == f"END {CLOSED}"
            tell("other", TIMES)
            await shows(gateway, "*384*17#", f"END {CLOSED}")
        # A gateway that starts later, on an empty store, hears it before its first hop.
        live.flushall()
        async with running(redis_url, database_url, ONE, over) as gateway:
            assert await dial(gateway, "*384*16#") == f"END {CLOSED}"
            assert live.hget("dial16:waves", "one") is not None  # the copy is there again
            tell("one", TIMES)
            await shows(gateway, "*384*16#", f"CON {CONSENT}")

    with database(database_url) as engine, redis.Redis.from_url(redis_url) as live:
        asyncio.run(main(engine, live))


def test_the_later_word_holds(database_url: str) -> None:
    with database(database_url) as engine:
        first, second = say_word(engine, "w", OPEN), say_word(engine, "w", CLOSE)
        assert second > first and read_words(engine) == {"w": second}


def test_an_older_word_in_the_database_does_not_undo_a_newer_copy(redis_url: str, database_url: str) -> None:
    """As between the database's answer and the operator's next word."""

    async def main(engine: Engine, live: "redis.Redis") -> None:
        line = Clocked(redis_url, ONE)
        heard = words.Words(line.board, line.live, engine)
        old = say_word(engine, "one", OPEN)
        copy_word(live, "one", replace(old, at=old.at + 1, word=CLOSE))
        await heard.refresh()
        assert line.dialogues[0].word == CLOSE
        assert live.hget("dial16:waves", "one") == f"{old.at + 1} close".encode()
        await line.live.close()

    with database(database_url) as engine, redis.Redis.from_url(redis_url) as live:
        asyncio.run(main(engine, live))


# ---------------------------------------------------------------- the files together

FILE = """\
id = "{id}"
instrument = "{instrument}"
owner = "Office"
contact = "0800 1"
code = "{code}"
free = true
keywords = ["{keyword}"]
sms_sender = "1616"
{more}
"""


def written(folder: Path, name: str, more: str = "", **values: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    given = {"id": name, "instrument": "numbers", "code": "*384*16#", "keyword": "SURVEY"} | values
    path.write_text(FILE.format(more=more, **given), "utf-8")
    return path


def instruments(folder: Path, *versions: str) -> Path:
    for version in versions:
        (folder / version).mkdir(parents=True)
        for name, text in numbers(version).sources.items():
            (folder / version / name).write_text(text, "utf-8")
    return folder


def faults(waves: Path, folder: Path) -> list[tuple[str, str, str]]:
    with pytest.raises(InstrumentError) as raised:
        load_waves([waves], [folder])
    return [(Path(f.file).name, f.key, f.message) for f in raised.value.faults]


def test_every_file_of_a_folder_on_the_instrument_that_it_names(tmp_path: Path) -> None:
    folder = instruments(tmp_path / "instruments", "1", "2")
    waves = tmp_path / "waves"
    written(waves, "b.toml", instrument="numbers@2", code="*384*17#", keyword="OTHER")
    one = written(waves, "a.toml", instrument="numbers@1")
    (waves / "notes.txt").write_text("not a wave")
    read = load_waves([waves], [folder])
    assert [(w.id, w.instrument.reference) for w in read] == [
        ("a.toml", "numbers@1"),
        ("b.toml", "numbers@2"),
    ]
    assert [w.file for w in load_waves([one], [folder / "1"])] == [str(one)]


def test_an_id_that_can_name_no_release_is_refused_before_the_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'd.sqlite3'}")
    give_schema(engine, WAVE.instrument)
    refuse_ids(engine, [replace(WAVE, id=fit) for fit in ("pilot-2026", "2.b_", "x" * 64)])
    for unfit in ("x" * 65, "pilot 2026", "-a", "..", "a/b", "\u00e9", "a\n"):
        with pytest.raises(Refused, match=r"id: .* cannot name a folder of releases: give 1 to 64"):
            refuse_ids(engine, [replace(WAVE, id=unfit)])
    put(engine, WAVE.instrument, [{}], wave="pilot 2026")
    refuse_ids(
        engine, [replace(WAVE, id="pilot 2026")]
    )  # people took part: under another id they would again
    assert "goes on without releases" in capsys.readouterr().err
    engine.dispose()


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({}, {"keyword": "OTHER"}, [("code", "*384*16#")]),
        ({}, {"code": "*384*17#"}, [("keywords", "SURVEY to 1616")]),
        ({}, {"code": "*384*17#", "keyword": "survey"}, [("keywords", "SURVEY to 1616")]),
        ({"id": "x"}, {"id": "x", "code": "*384*17#", "keyword": "OTHER"}, [("id", "'x'")]),
        (
            {"more": 'service_codes = ["*384*17#", "*384*18#"]'},
            {"code": "*384*17#", "keyword": "OTHER"},
            [("service_codes", "*384*17#")],
        ),
        (
            {"more": "[opening]\ncloses_at = 2027-01-01T00:00:01Z"},
            {"more": "[opening]\nopens_at = 2027-01-01T00:00:00Z"},
            [("code", "*384*16#"), ("keywords", "SURVEY to 1616")],
        ),
        (
            {"more": "[opening]\ncloses_at = 2027-01-01T00:00:00Z"},
            {"more": "[opening]\nopens_at = 2027-01-01T00:00:00+00:00"},
            [],
        ),
        ({}, {"code": "*384*17#", "keyword": "OTHER"}, []),
    ],
)
def test_waves_that_would_answer_for_each_other(
    first: dict[str, str], second: dict[str, str], found: list[tuple[str, str]], tmp_path: Path
) -> None:
    folder = instruments(tmp_path / "instruments", "1")
    waves = tmp_path / "waves"
    written(waves, "a.toml", **first)
    written(waves, "b.toml", **second)
    if not found:
        assert len(load_waves([waves], [folder])) == 2
        return
    got = faults(waves, folder)
    assert [(file, key) for file, key, _ in got] == [("a.toml", key) for key, _ in found]
    for (_, _, message), (_, what) in zip(got, found, strict=True):
        assert what in message and str(waves / "b.toml") in message


def test_faults_of_all_files_are_listed_at_once(tmp_path: Path) -> None:
    folder = instruments(tmp_path / "instruments", "1", "2")
    waves = tmp_path / "waves"
    written(waves, "a.toml")  # which version?
    written(waves, "b.toml", instrument="numbers@9")
    written(waves, "c.toml", "resume_hours = 0", instrument="numbers@2")
    assert [(file, key) for file, key, _ in faults(waves, folder)] == [
        ("a.toml", "instrument"), ("b.toml", "instrument"), ("c.toml", "resume_hours"),
    ]  # fmt: skip
    assert "there are: numbers@1, numbers@2" in faults(waves, folder)[0][2]
    (tmp_path / "none").mkdir()
    assert faults(tmp_path / "none", folder) == [
        ("none", "-", "holds no *.toml; put the wave files there, or name them")
    ]
    (folder / "1b").mkdir()
    for name, text in numbers("1").sources.items():
        (folder / "1b" / name).write_text(text, "utf-8")
    assert [key for _, key, _ in faults(waves, folder)] == ["instrument.version"]
