"""The field for fault tests: the service's processes over stores, people on the line, and both compared.

    Process    one verb of main.py, started, killed and started again
    Person     plays an interview through the webhook, remembers what was acknowledged, dials again when
               cut off and goes on after "welcome back"
    Field      many of them at once while something is done to the service; then what they remember
               beside what the database has

What is known of each answer on this side of the wire: `acknowledged` (the next screen came), `landed`
(no screen came, but the interview went on behind it), `void` (no screen came, and the item was asked
again), or `doubtful` (nobody dialled again to find out; it may be recorded or not, but never wrong).
"""

import asyncio
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import redis
from sqlalchemy import Engine, bindparam, text

from flows.instrument import Item, load
from flows.screen import BACK
from flows.wave import Wave, load_wave
from gateway.demo_respondents import Reader, Respondent, Tally, key_of
from storage.database import reading
from storage.entries import STREAM
from storage.recorder import DEAD, GROUP, health, lag
from storage.respondents import Pseudonyms
from tests.stores import wait_until

HERE = Path(__file__).resolve().parent.parent
MAIN = HERE / "main.py"
SECRET = "field-secret-0123456789abcdef0123456789"
KEY = "field-pseudonym-key-0123456789abcdefghij"

_HOP_TWICE_AT_ONCE, _HOP_REPEATED, _HANGS_UP = 0.04, 0.04, 0.01
_MOST_HOPS, _MOST_SESSIONS = 250, 400
_LOST = (OSError, TimeoutError, EOFError)  # what a cut line raises


def read_field_wave() -> Wave:
    """The wave that the service runs."""
    return load_wave(HERE / "deploy" / "wave.toml", load(HERE / "flows" / "sdg_16_6_2"))


def free_port() -> int:
    """Below the ephemeral range: a caller of a port that nobody listens on for the moment would
    otherwise be given that very port to call from, talk to itself, and keep the server from returning."""
    while True:
        port = random.SystemRandom().randint(16_000, 32_000)
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def environment(folder: Path, port: int, **more: str) -> dict[str, str]:
    """Ours alone: nothing of the developer's own settings."""
    ours = {
        "DIAL16_DATA_DIR": str(folder), "DIAL16_PORT": str(port), "DIAL16_WEBHOOK_SECRET": SECRET,
        "DIAL16_PSEUDONYM_KEY": KEY, "DIAL16_SIMULATOR": "on",
    }  # fmt: skip
    return {k: v for k, v in os.environ.items() if not k.startswith("DIAL16_")} | ours | more


class Process:
    """One verb of main.py as a process of ours."""

    def __init__(self, verb: str, environ: Mapping[str, str], log: Path):
        self.verb, self.environ, self.log = verb, dict(environ), log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(MAIN), self.verb],
                env=self.environ, cwd=self.log.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self, sign: int = signal.SIGTERM) -> int | None:
        """Ends it by `sign` and returns its exit code; None if it was not running."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        process.send_signal(sign)
        try:
            return process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self.process is not None and self.process.poll() is not None


def answers_http(port: int, path: str = "/health/live") -> bool:
    """Whether a gateway answers 200 there."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        line.request("GET", path)
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


class Service:
    """Gateway and recorders as production starts them. The database has its schema already."""

    def __init__(self, folder: Path, live_url: str, database_url: str, recorders: int = 1):
        self.port, self.live_url = free_port(), live_url
        environ = environment(folder, self.port, DIAL16_REDIS_URL=live_url, DIAL16_DATABASE_URL=database_url)
        self.gateway = Process("serve", environ, folder / "gateway.log")
        self.recorders = [Process("record", environ, folder / f"recorder{n}.log") for n in range(recorders)]

    @property
    def hook(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/africastalking/{SECRET}/ussd"

    def start(self) -> None:
        for process in self.recorders:
            process.start()
        self.start_gateway()
        with redis.Redis.from_url(self.live_url, socket_timeout=2) as live:
            wait_until(lambda: health(live)[0], "the recorder")

    def start_gateway(self) -> None:
        self.gateway.start()
        wait_until(lambda: self.gateway.ended() or answers_http(self.port), "the gateway")
        assert not self.gateway.ended(), self.gateway.log.read_text()[-2000:]

    def end(self) -> None:
        for process in (self.gateway, *self.recorders):
            process.stop()

    def bugs(self) -> list[str]:
        """What the processes logged that no fault of a store explains."""
        return [
            f"{process.log.name}: {line}"
            for process in (self.gateway, *self.recorders)
            if process.log.exists()
            for line in process.log.read_text().splitlines()
            if "hop failed" in line or "poison" in line
        ]


# ---------------------------------------------------------------- people


@dataclass(slots=True)
class Press:
    """An answer given: option with its code, or "" with a number."""

    option: str
    code: int
    fate: str  # acknowledged | landed | void | doubtful


@dataclass(slots=True)
class Held:
    """An interview as its respondent remembers it: every answer to every item, oldest first."""

    presses: dict[str, list[Press]] = field(default_factory=dict)


@dataclass(slots=True)
class Notes(Tally):
    """What happened on this side of the wire, over all people."""

    cut_off: int = 0  # hops that met a broken line
    polite_ends: int = 0  # hops answered by the polite END
    longest: float = 0.0  # seconds that a reply took
    longest_polite: float = 0.0  # seconds that a polite END took
    same_item: int = 0  # interviews that went on at the item they had stopped at
    began_anew: int = 0
    wrong: list[str] = field(default_factory=list)


class Person(Respondent):
    """A respondent of the demonstration who is cut off by faults, and dials again like a person."""

    tally: Notes

    def __init__(self, number: int, reader: Reader, field_: "Field"):
        chance = random.Random(f"{field_.seed}-{number}")
        # No national number begins with 0, so these are nobody's.
        super().__init__(f"+2330{number:08d}", reader, field_.hook, chance, field_.notes)
        self.field = field_
        self.pseudonym = field_.pseudonyms.of(self.msisdn)
        self.finished = False
        self.held = [Held()]
        self.sessions: dict[str, list[int]] = {}  # id -> hops with a screen, hops that may have had one
        self.left_at = ""  # item on the last screen
        self.went_back = False  # Back was pressed since
        self.pending: tuple[Item, Press] | None = None  # the answer whose screen never came
        self.resuming = False

    async def take_part(self) -> None:
        try:
            for _ in range(_MOST_SESSIONS):
                await self.talk()
                if self.finished:
                    return
                await asyncio.sleep(self.chance.uniform(0.1, 0.3))
            self.tally.wrong.append(f"{self.pseudonym}: {_MOST_SESSIONS} sessions and no end")
        finally:
            self.line.close()
            self.second_line.close()

    async def talk(self) -> bool:
        """One session, until it ends or is cut off. Whether the interview is over."""
        self.session, self.text = f"ATUid_{self.chance.randbytes(16).hex()}", ""
        self.on = self.skipping = None
        self.resuming = bool(self.left_at)
        given: tuple[Item, str, int] | None = None
        for _ in range(_MOST_HOPS):
            await self.field.turn(self)
            answer = await self.exchange()
            if answer is None:
                self.lose(given)
                return False
            screen, ends = answer
            self.take_in(screen, ends, given)
            if self.finished or ends:
                return self.finished
            if self.chance.random() < _HANGS_UP:
                self.tally.hung_up += 1
                with suppress(*_LOST):
                    await self.end("Incomplete")
                return False
            reply, given = self.reply_to(screen)
            self.went_back |= reply == BACK
            self.text = f"{self.text}*{reply}" if self.text else reply
        self.tally.wrong.append(f"{self.pseudonym}: a session without end at {self.left_at}")
        return False

    # ---- what a screen tells

    def take_in(self, screen: str, ends: bool, given: tuple[Item, str, int] | None) -> None:
        """Notes what this screen says about the answer before it, and about where the interview stands."""
        words = self.reader.words
        consent = self.reader.wave.instrument.items[0]
        shown, refused = self.reader.item(screen, given[0] if given else self.on)
        withdraw = key_of(screen, words["withdraw"]) is not None
        if withdraw:  # welcome back, in the middle of a session too; or nothing is left to ask
            if given is not None:
                self.lose(given)
            self.resuming = True
            if key_of(screen, words["go_on"]) is None:
                self.settle_pending(None)
                self.finished = True
            return
        if shown is consent and self.has(consent) and (given is None or given[0] is not consent):
            self.begin_anew()
        elif given is not None:
            if shown is not given[0]:
                self.keep(given, "acknowledged")
            else:  # asked again: right only where the interview was restored meanwhile
                self.keep(given, "void")
                if refused or not self.field.wiped:
                    self.tally.wrong.append(f"{self.pseudonym}: a valid answer to {shown.id} was not taken")
        if ends:
            if given is None:
                self.tally.wrong.append(
                    f"{self.pseudonym}: ended at {self.left_at or 'the dial'}: {screen!r}"
                )
            self.finished = given is not None
            return
        if self.resuming and shown is not None:
            self.check_resumed(shown)
        if shown is not None:
            self.left_at, self.resuming, self.went_back = shown.id, False, False

    def has(self, item: Item) -> bool:
        return item.id in self.answers

    def check_resumed(self, shown: Item) -> None:
        """Going on means: at the item left, or the one after it if its answer arrived after all."""
        arrived = self.settle_pending(shown)
        self.tally.same_item += shown.id == self.left_at
        if shown.id != self.left_at and not arrived and self.has(shown) and not self.went_back:
            self.tally.wrong.append(f"{self.pseudonym}: left at {self.left_at}, goes on at {shown.id}")

    def settle_pending(self, shown: Item | None) -> bool:
        """Where the interview goes on tells what became of the answer whose screen never came."""
        if self.pending is None:
            return False
        (item, press), self.pending = self.pending, None
        if item is shown:
            # One that ends the interview is asked again even where it arrived.
            press.fate = "doubtful" if press.option in item.ends else "void"
            return False
        if self.field.wiped and item.id in self.answers:  # an answer to replace another: restored before it
            press.fate = "void"
            return False
        press.fate = "landed"
        self.answers[item.id] = (press.option, press.code)
        return True

    def keep(self, given: tuple[Item, str, int], fate: str) -> Press:
        item, option, code = given
        press = Press(option, code, fate)
        self.held[-1].presses.setdefault(item.id, []).append(press)
        if fate == "acknowledged":
            self.answers[item.id] = (option, code)
            self.tally.acknowledged += 1
        return press

    def lose(self, given: tuple[Item, str, int] | None) -> None:
        if given is not None:
            self.pending = (given[0], self.keep(given, "doubtful"))

    def begin_anew(self) -> None:
        self.tally.began_anew += 1
        self.held.append(Held())
        self.answers, self.pending, self.left_at, self.resuming = {}, None, "", False
        self.minded.clear()

    # ---- the wire

    async def exchange(self) -> tuple[str, bool] | None:
        """Posts the session so far, sometimes twice. None if no screen of the dialogue came back."""
        count = self.sessions.setdefault(self.session, [0, 0])
        chance = self.chance.random()
        lines = (self.line, self.second_line) if chance < _HOP_TWICE_AT_ONCE else (self.line,)
        self.field.in_flight += 1
        try:
            replies = list(await asyncio.gather(*(self.post(line is self.line) for line in lines)))
            if _HOP_TWICE_AT_ONCE <= chance < _HOP_TWICE_AT_ONCE + _HOP_REPEATED and replies[0]:
                replies.append(await self.post(True))
        finally:
            self.field.in_flight -= 1
        polite = "END " + self.reader.unavailable
        screens = {r for r in replies if r is not None and r != polite}
        if len(screens) > 1:
            self.tally.wrong.append(f"{self.pseudonym}: one hop, two screens at {self.left_at}")
        if not screens:
            count[1] += 1
            self.tally.cut_off += polite not in replies
            return None
        count[0] += 1
        self.tally.hops += 1
        body = screens.pop()
        return body[4:], body.startswith("END ")

    async def post(self, first: bool) -> str | None:
        """One request; None if the line broke."""
        line = self.line if first else self.second_line
        began = time.monotonic()
        try:
            status, body = await line.post(self.form())
        except _LOST:
            line.close()
            return None
        took = time.monotonic() - began
        self.tally.longest = max(self.tally.longest, took)
        if body == "END " + self.reader.unavailable:
            self.tally.polite_ends += 1
            self.tally.longest_polite = max(self.tally.longest_polite, took)
        if status != 200 or body[:4] not in ("CON ", "END "):
            self.tally.wrong.append(f"{self.pseudonym}: status {status} at {self.left_at}")
            return None
        return body


# ---------------------------------------------------------------- all of them


class Field:
    """People at the webhook `hook`, over the record in `engine` and the live store at `live_url`."""

    def __init__(self, hook: str, live_url: str, engine: Engine, seed: str, think: float = 0.03):
        self.hook, self.live_url, self.engine, self.seed, self.think = hook, live_url, engine, seed, think
        self.wave = read_field_wave()
        self.pseudonyms = Pseudonyms(KEY.encode())
        self.notes = Notes()
        self.people: list[Person] = []
        self.in_flight = 0
        self.wiped = False  # the live store, with every reply in and recorded before
        self.chance = random.Random(seed)
        self._open = asyncio.Event()
        self._open.set()

    async def turn(self, person: Person) -> None:
        """A person reads and thinks; while the field is held, everybody does."""
        await asyncio.sleep(person.chance.uniform(0, 2 * self.think))
        await self._open.wait()

    def still(self) -> None:
        """Nobody presses a key until `release`."""
        self._open.clear()

    async def hold(self) -> None:
        """Nobody presses a key until `release`; returns when every reply is in."""
        self.still()
        await self.until(lambda: self.in_flight == 0, "replies to come in")

    def release(self) -> None:
        self._open.set()

    def wipe(self) -> None:
        """Empties the live store."""
        with redis.Redis.from_url(self.live_url) as live:
            live.flushall()
        self.wiped = True

    async def until(self, true: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Returns once `true()`."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds} s for {what}")
            await asyncio.sleep(0.01)

    async def hops_more(self, least: int, most: int) -> None:
        """Returns in the middle of load: after a random number of further hops."""
        target = self.notes.hops + self.chance.randint(least, most)
        await self.until(lambda: self.notes.hops >= target, f"hop {target}")

    async def play(
        self, at_once: int, meanwhile: Callable[[], Awaitable[None]], least: int = 0, seconds: float = 90
    ) -> None:
        """`at_once` people on the line until `meanwhile` is over and `least` have begun; all then finish."""
        reader = Reader(self.wave, self.wave.budget_for("62001"))
        done = False

        async def line() -> None:
            while not done or len(self.people) < least:
                person = Person(len(self.people), reader, self)
                self.people.append(person)
                await person.take_part()

        lines = asyncio.gather(*(line() for _ in range(at_once)))
        try:
            async with asyncio.timeout(seconds):
                await meanwhile()
                done = True
                self.release()
                await lines
        except TimeoutError as error:
            stuck = [f"{p.pseudonym} at {p.left_at}" for p in self.people if not p.finished]
            raise AssertionError(f"{error or 'late'}; not finished: {', '.join(stuck[:10])}") from error
        finally:
            lines.cancel()
            with suppress(asyncio.CancelledError):
                await lines

    # ---- the record

    def drained(self) -> bool:
        """Whether everything that happened is recorded: recorded entries leave the stream."""
        with redis.Redis.from_url(self.live_url, socket_timeout=2) as live:
            return lag(live) == 0

    async def in_hand(self, seconds: float) -> bool:
        """Whether, within so long, some recorder holds entries that it has read and not yet released."""
        deadline = time.monotonic() + seconds
        with redis.Redis.from_url(self.live_url, socket_timeout=2) as live, suppress(redis.RedisError):
            while time.monotonic() < deadline:
                if cast(Any, live.xpending(STREAM, GROUP))["pending"]:
                    return True
                await asyncio.sleep(0)
        return False

    def differences(self, counted_hops: bool = True) -> list[str]:
        """Where the record and people's memory differ, by pseudonym, interview and item; empty if nowhere.

        counted_hops: sessions are compared hop by hop too. Not where the live store was wiped.
        """
        out = [*self.notes.wrong]
        with redis.Redis.from_url(self.live_url, socket_timeout=2) as live:
            if dead := live.xlen(DEAD):
                out.append(f"{dead} entries set aside as poison: {live.xrange(DEAD, count=3)}")
        people = {p.pseudonym: p for p in self.people}
        kept = _read_record(self.engine, list(people))
        for pseudonym, person in people.items():
            out += _compare(person, kept.interviews.get(pseudonym, []))
            if counted_hops:
                out += _compare_sessions(person, kept.sessions.get(pseudonym, {}))
        return out

    def counts(self) -> str:
        """A line of figures: both sides."""
        kept = _read_record(self.engine, [p.pseudonym for p in self.people])
        presses = [x for p in self.people for held in p.held for xs in held.presses.values() for x in xs]
        given = sum(len(v) for k in kept.interviews.values() for i in k for v in i.given.values())
        fates = {fate: sum(x.fate == fate for x in presses) for fate in ("landed", "void", "doubtful")}
        n = self.notes
        return (
            f"people {len(self.people)}, sessions {sum(len(p.sessions) for p in self.people)}, hops {n.hops},"
            f" cut off {n.cut_off}, polite ENDs {n.polite_ends} (longest {n.longest_polite:.2f} s),"
            f" longest reply {n.longest:.2f} s; acknowledged {n.acknowledged}"
            f" + landed unseen {fates['landed']} = {n.acknowledged + fates['landed']}, recorded {given};"
            f" void {fates['void']}, in doubt {fates['doubtful']}; began anew {n.began_anew}"
        )


@dataclass(slots=True)
class KeptInterview:
    id: str
    counted: bool
    disposition: str
    given: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # events, in order
    answers: dict[str, tuple[str, int]] = field(default_factory=dict)  # the response table


@dataclass(slots=True)
class Kept:
    interviews: dict[str, list[KeptInterview]] = field(default_factory=dict)  # by attempt
    sessions: dict[str, dict[str, int]] = field(default_factory=dict)  # id -> hops


def _read_record(engine: Engine, pseudonyms: Sequence[str]) -> Kept:
    def asked(statement: str) -> Iterable[Any]:
        query = text(statement).bindparams(bindparam("who", expanding=True))
        return db.execute(query, {"who": list(pseudonyms)})

    kept, by_id = Kept(), dict[str, KeptInterview]()
    with reading(engine) as db:
        for respondent, id_, counted, disposition in asked(
            "SELECT respondent, id, counted, disposition FROM interview WHERE respondent IN :who"
            " ORDER BY respondent, attempt"
        ):
            by_id[id_] = KeptInterview(id_, bool(counted), disposition)
            kept.interviews.setdefault(respondent, []).append(by_id[id_])
        for id_, item, payload in asked(
            "SELECT e.interview, e.item, e.payload FROM event e JOIN interview i ON i.id = e.interview"
            " WHERE e.kind = 'ResponseGiven' AND i.respondent IN :who ORDER BY e.version, e.position"
        ):
            by_id[id_].given.setdefault(item, []).append(_option_and_code(payload))
        for id_, item, option, code, number in asked(
            "SELECT r.interview, r.item, r.option, r.code, r.number FROM response r"
            " JOIN interview i ON i.id = r.interview WHERE NOT r.retracted AND i.respondent IN :who"
        ):
            by_id[id_].answers[item] = (option, int(number if option == "" else code))
        for id_, respondent, hops in asked(
            "SELECT id, respondent, hops FROM session WHERE respondent IN :who"
        ):
            kept.sessions.setdefault(respondent, {})[id_] = int(hops)
    return kept


def _option_and_code(payload: str) -> tuple[str, int]:
    data = json.loads(payload)
    return data["option"], data["code"]


def _within(part: Sequence[tuple[str, int]], whole: Sequence[tuple[str, int]]) -> bool:
    """Whether `part` is what is left of `whole` when some of it is left out."""
    rest = iter(whole)
    return all(x in rest for x in part)


def _compare(person: Person, kept: Sequence[KeptInterview]) -> Iterator[str]:
    held = [h for h in person.held if h.presses]
    if len(kept) > len(person.held) or len(kept) < len(held):
        yield f"{person.pseudonym}: {len(person.held)} interviews held, {len(kept)} recorded"
        return
    if kept and sum(k.counted for k in kept) != 1:
        yield f"{person.pseudonym}: {sum(k.counted for k in kept)} interviews are counted"
    for memory, interview in zip(person.held, kept, strict=False):
        for item in sorted(memory.presses.keys() | interview.given.keys() | interview.answers.keys()):
            at = f"{person.pseudonym} interview {interview.id} item {item}"
            presses = memory.presses.get(item, [])
            sure = [(x.option, x.code) for x in presses if x.fate in ("acknowledged", "landed")]
            possible = [(x.option, x.code) for x in presses if x.fate != "void"]
            given, answer = interview.given.get(item, []), interview.answers.get(item)
            if not _within(sure, given):
                yield f"{at}: acknowledged {sure}, recorded {given}"
            if not _within(given, possible):
                yield f"{at}: recorded {given}, pressed {possible}"
            ended_by_doubt = answer is None and presses and presses[-1].fate == "doubtful"
            if given and answer != given[-1] and not ended_by_doubt:
                yield f"{at}: last recorded {given[-1]}, the response is {answer}"
            if answer is not None and not given:
                yield f"{at}: the response is {answer}, nothing was recorded as given"


def _compare_sessions(person: Person, kept: Mapping[str, int]) -> Iterator[str]:
    for session, (sure, possible) in person.sessions.items():
        hops = kept.get(session, 0)
        if not sure <= hops <= sure + possible:
            yield f"{person.pseudonym} session {session}: {sure} hops (+{possible}), recorded {hops}"
    for session in kept.keys() - person.sessions.keys():
        yield f"{person.pseudonym}: session {session} is recorded, nobody dialled it"
