"""Dialogues as files that a survey methodologist can review, and the player of them.

A file in tests/transcripts holds a header, then what the respondent does and what the phone shows:

    language en                 or several: languages en fr
    order health education government      as drawn for this respondent; or: seed 7
    services 2                  as many services drawn for each respondent
    extension answers           keys dialled with the code are answers
    budget 182                  septets a screen
    keywords SURVEY SONDAGE     texts that dial begin with; SURVEY unless said otherwise
    parts 1                     SMS parts that a text of ours may take; 3 unless said otherwise
    shuffle items
    results 2026                the period of the release that is out; with its figures, any that is left out
                                being one that may not be shown: figure national health 61.5 410
    figure gh_ah health 58 120
    did We hired nurses.        what the office says was done with them
    made up                     the release is a demonstration
    weighted                    its figures are weighted
    asks by sms                 who completes is asked whether to text them the results
    quota sex_age respondent.sex,respondent.age female,18-34 2 female,35+ 0
                                its name, its items, each cell and its target; a line a quota

    dial *384*16#               a new session; with more keys: dial *384*16*1#
    CON ...                     the screen that answers, to its last line; END where the session ends
    > 1                         a reply
    keys 1 1 2 34               replies of which only the last screen is written down
    reply of 10240 characters
    again                       the network repeats its last request
    hang up
    close wave                  the wave takes no interviews from now on
    text SURVEY                 a text message, in or out of a session; everything after "text " is its text
    text of 1600 characters
    SMS ...                     the text that answers, to its last line
    NO SMS                      nothing is sent in answer
    texts 1 yes 3               words, a message each, of which only the last answer is written down
    aggregator opts out         the aggregator's own notice
    wait 80 h                   also min, d
    others complete sex_age female,18-34 2      as many others have, by now
    = health.access agree 2     what is recorded by now: item, option, code (or just the option)
    # a remark; also after a command, with a space on both sides of the sign

    = consent given (not given) = in progress | complete | refusal | ineligible | quota_full | withdrawn
    = health.need not answered  = 12 answers              (that stand)
    = health.access given 2 times                         (history included)
    = disability skipped        = language fr             = 2 interviews
    = 3 wrong keys              = drawn health government = probability health 0.6667
    = opted out                 = not opted out           = mode sms            (the interview's, by now)
    = saw national region did                             (screens of results, in that order)
    = wants results             = wants no results
    = entered sex_age female,18-34                        (the quota's cell, by now; or: none)
    = counted sex_age female,18-34 2                      (completes, the others' too)

UPDATE_TRANSCRIPTS=1 with pytest writes the screens anew, from what the engine shows.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx2
import redis

from flows.draw import draw
from flows.engine import (
    LAPSED,
    Began,
    BlockSkipped,
    CellsEntered,
    Consented,
    Dialled,
    Effect,
    Ended,
    ErasureRequested,
    Event,
    Interview,
    InvalidReply,
    LanguageChosen,
    ModeChanged,
    Replied,
    ResponseGiven,
    ResponseRetracted,
    ResultsSeen,
    ResultsWanted,
    Screen,
    asked_again,
    dump_effect,
    dump_interview,
    heard_when_closed,
    lapsed,
    load_effect,
    load_interview,
    restore,
    step,
)
from flows.fielding import Quota, Sharing
from flows.gsm import parts
from flows.instrument import Instrument
from flows.quotas import cells_of, count_name, drawn_alike, full_cells, read_quotas
from flows.reading import clean_text, is_keyword, read_text
from flows.results import Figure, Results, region_item, region_of, services_of, words_of
from flows.results_pages import results_text
from flows.screen import fixed_text
from flows.wave import Wave
from storage.live import EVENTS, counts_key
from storage.respondents import Pseudonyms
from storage.sealing import Seal

CODE = "*384*16#"
SHORT_CODE = "1616"
MSISDN = "+233200000001"
KEY = b"tests" * 8
START = 1_795_420_800_000  # 2026-11-23 08:00 UTC
REPLY_SECONDS = 5

_COMMAND = re.compile(
    r"(dial |> ?|keys |reply of |again\b|hang up\b|close wave|text\b|texts |aggregator opts out|others |"
    r"wait |= |#)"
)
_REMARK = re.compile(r"\s+#\s.*$")
_SHOWN = ("CON ", "END ", "SMS ", "NO SMS")
_HEADER = (
    "language", "languages", "order", "seed", "services", "extension", "budget", "shuffle", "keywords",
    "parts", "quota", "results", "figure", "did", "made", "weighted", "asks",
)  # fmt: skip
_UNITS = {"min": 60, "h": 3600, "d": 86_400}


#: Every arrow of the stage diagram in flows/engine.py, and staying where one is on a wrong key.
ARROWS = {
    ("dial", "language"), ("dial", "item"), ("dial", "resume"), ("dial", "finished"), ("dial", "over"),
    ("dial", "lapsed"), ("lapsed", "item"), ("lapsed", "language"), ("lapsed", "withdraw"),
    ("lapsed", "lapsed"), ("lapsed", "over"), ("withdraw", "lapsed"),
    ("language", "language"), ("language", "item"), ("language", "over"),
    ("item", "item"), ("item", "why"), ("item", "stuck"), ("item", "pause"), ("item", "over"),
    ("why", "item"), ("why", "why"), ("why", "pause"), ("why", "over"),
    ("stuck", "item"), ("stuck", "why"), ("stuck", "over"), ("stuck", "stuck"),
    ("pause", "item"), ("pause", "over"), ("pause", "pause"),
    ("resume", "item"), ("resume", "over"), ("resume", "withdraw"), ("resume", "resume"),
    ("finished", "over"), ("finished", "withdraw"), ("finished", "finished"),
    ("withdraw", "resume"), ("withdraw", "finished"), ("withdraw", "over"), ("withdraw", "withdraw"),
    ("withdraw", "closed"), ("withdraw", "parting"), ("closed", "results"), ("closed", "withdraw"),
    ("dial", "closed"), ("dial", "parting"), ("dial", "results"), ("dial", "visitor"),
    ("language", "results"),
    ("item", "by_sms"), ("by_sms", "by_sms"), ("by_sms", "over"), ("item", "parting"),
    ("parting", "parting"), ("parting", "results"), ("parting", "over"),
    ("visitor", "visitor"), ("visitor", "results"), ("visitor", "over"), ("item", "results"),
    ("finished", "results"), ("resume", "results"), ("results", "results"), ("results", "which_region"),
    ("which_region", "which_region"), ("which_region", "results"), ("results", "closed"),
    ("results", "finished"), ("results", "item"), ("results", "parting"), ("results", "resume"),
    ("results", "visitor"),
}  # fmt: skip


@dataclass
class Line:
    """A line of a file with the screen written under it, if any."""

    number: int
    text: str
    screen: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """Without the remark; a reply may hold anything and has none."""
        return self.text if self.text.startswith((">", "text ")) else _REMARK.sub("", self.text).strip()


@dataclass
class Transcript:
    path: Path
    options: dict[str, str]
    lines: list[Line]  # header and blank lines too, so that the file can be written again

    @property
    def quotas(self) -> list[str]:
        """What each line of the header says that describes a quota."""
        return [line.command.removeprefix("quota ") for line in self.lines if line.text.startswith("quota ")]

    def results(self, wave: Wave) -> Results | None:
        """The results that the header describes."""
        if "results" not in self.options:
            return None
        figures = {
            (place, service): Figure(share, answers)
            for line in self.lines
            if line.text.startswith("figure ")
            for _, place, service, share, answers in [line.command.split()]
        }
        services, item = services_of(wave.instrument), region_item(wave.instrument)
        assert item is not None and item.scale is not None
        at = {
            place: {s: figures.get((place, s), Figure("", "")) for s in services}
            for place in ("national", *(option.id for option in item.scale.options))
        }
        words = {x: words_of(wave.instrument, x, self.options.get("did", "")) for x in wave.languages}
        return Results(
            wave.id, 1, self.options["results"], at.pop("national"), at, words, "made" in self.options,
            "weighted" in self.options, wave.owner,
        )  # fmt: skip

    def wave(self, instrument: Instrument) -> Wave:
        """The wave that the header describes."""
        wave = self._wave(instrument)
        return replace(wave, results=self.results(wave))

    def _wave(self, instrument: Instrument) -> Wave:
        o = self.options
        return Wave(
            id="w",
            instrument=instrument,
            languages=tuple(o.get("languages", o.get("language", "en")).split()),
            owner="Ghana Statistical Service",
            contact="0800 000 000",
            code=CODE,
            services_each=int(o.get("services", 0)),
            shuffle_items=o.get("shuffle") == "items",
            extension=o.get("extension", "address"),
            budget=int(o.get("budget", 160)),
            sms_parts=int(o.get("parts", 3)),
            keywords=tuple(o.get("keywords", "SURVEY").split()),
            sms_sender=SHORT_CODE,
            quotas=tuple(_quota(line, instrument) for line in self.quotas),
            sharing=Sharing(extension="2" if "results" in o else "", by_sms="asks" in o),
        )

    def seed(self, wave: Wave) -> int:
        """The seed named, or the least one that draws the order named."""
        if "order" not in self.options:
            return int(self.options.get("seed", 0))
        blocks = wave.instrument.blocks
        wanted = self.options["order"].split()
        for seed in range(10_000):
            if [blocks[b].id for b in draw(wave, seed) if blocks[b].drawn] == wanted:
                return seed
        raise ValueError(f"{self.path.name}: no seed draws the order {wanted}")

    def written(self) -> str:
        """The file's text."""
        return "".join(f"{row}\n" for line in self.lines for row in (line.text, *line.screen))


def _quota(words: str, instrument: Instrument) -> Quota:
    """The quota that a line of the header describes, read as a wave file's."""
    name, items, *cells = words.split()
    table = {
        "name": name,
        "items": items.split(","),
        "cells": {cells[k]: int(cells[k + 1]) for k in range(0, len(cells), 2)},
    }
    faults: list[tuple[str, str]] = []
    (quota,) = read_quotas([table], instrument, lambda key, message: faults.append((key, message)))
    assert not faults, faults
    return quota


def read_transcript(path: Path) -> Transcript:
    """The transcript in `path`. Raises ValueError naming the line that is not understood."""
    options: dict[str, str] = {}
    lines: list[Line] = []
    showing = started = False
    for number, text in enumerate(path.read_text("utf-8").split("\n")[:-1], 1):
        if text.startswith(_SHOWN):
            if not lines or lines[-1].screen:
                raise ValueError(f"{path.name}:{number}: a screen without what it answers")
            lines[-1].screen.append(text)
            showing = True
            continue
        if showing and text and not _COMMAND.match(text):
            lines[-1].screen.append(text)
            continue
        showing = False
        lines.append(Line(number, text))
        name, _, value = lines[-1].command.partition(" ")
        started = started or name in ("dial", "text", "texts")
        if name in _HEADER and not started:
            options[name] = value
        elif text and not _COMMAND.match(text):
            raise ValueError(f"{path.name}:{number}: not understood: {text!r}")
    return Transcript(path, options, lines)


# ---------------------------------------------------------------- the two phones


@dataclass
class Clock:
    """The time of a transcript, ms."""

    now: int = START


class Phone(Protocol):
    async def dial(self, extension: str) -> Screen: ...
    async def reply(self, text: str) -> Screen: ...
    async def again(self) -> Screen: ...
    async def hang_up(self) -> None: ...
    async def text(self, text: str) -> str | None: ...
    async def close(self) -> None: ...
    async def opt_out(self) -> None: ...
    async def opted_out(self) -> bool: ...
    async def others_complete(self, quota: str, cell: str, times: int) -> None: ...
    async def counted(self, quota: str, cell: str) -> int: ...
    async def effects(self) -> list[Effect]: ...


def interview_id(session: int) -> str:
    return f"{session:012x}0000"


class EnginePhone:
    """The bare engine. The interview goes through JSON between any two steps, and what is restored
    from the effects so far must go on as the interview itself does."""

    def __init__(self, wave: Wave, seed: int, clock: Clock):
        self.wave, self.seed, self.clock = wave, seed, clock
        self.out = False  # has opted out
        self.texts: set[str] = set()  # sent to the respondent
        self.closed = False  # the USSD session is over because a text took the interview on
        self.state = ""
        self.screen = Screen("")
        self.recorded: list[Effect] = []
        self.hops = 0  # steps taken
        self.arrows: set[tuple[str, str]] = set()  # stage before ("dial" for a dial), stage after
        self.screens: set[str] = set()
        self.completes: Counter[str] = Counter()  # of everybody, by quota cell
        self._sessions = 0
        self._blank = True  # nothing but blank replies in this session

    @property
    def interview(self) -> Interview | None:
        return load_interview(json.loads(self.state)) if self.state else None

    async def dial(self, extension: str) -> Screen:
        self._sessions += 1
        self.closed = False
        self._blank = not extension
        known = self.interview is not None
        ahead = tuple(extension.split("*")) if extension and self.wave.extension == "answers" else ()
        return self._take(
            Dialled(
                self.clock.now, interview_id(self._sessions), self.seed, "ussd", self.wave.budget,
                () if known else ahead, results=bool(extension) and extension == self.wave.sharing.extension,
            )
        )  # fmt: skip

    async def text(self, text: str) -> str | None:
        self._sessions += 1
        before, now = self.interview, self.clock.now
        late = before is not None and lapsed(self.wave, before, now)
        sent: str | None = None
        what = read_text(self.wave, before, text, opted_out=self.out, lapsed=late)
        if what == "dial" and self.wave.closed and not heard_when_closed(self.wave, before):
            what = "dial" if is_keyword(self.wave, clean_text(text)) else "none"
        match what:
            case "dial":
                self.out = False
                self.closed = True
                dialled = Dialled(now, interview_id(self._sessions), self.seed, "sms")
                sent = self._take(dialled).text
            case "reply":
                sent = self._take(Replied(now, text)).text
            case "stop":
                sent = None if self.out else self._phrase("opted_out")
                self.out = True
            case "help":
                sent = None if self.out else self._phrase("help")
            case "results" if not self.out:
                sent = self._results()
        if sent is not None:
            self.texts.add(sent)
            assert parts(sent) <= self.wave.sms_parts
        return sent

    def _results(self) -> str:
        results, interview = self.wave.results, self.interview
        if results is None:
            return self._phrase("results_unpublished")
        language = interview.language if interview else self.wave.languages[0]
        region = region_of(self.wave.instrument, interview.answers) if interview else ""
        return results_text(results, language, region)

    async def close(self) -> None:
        self.wave = replace(self.wave, closed=True)

    def _phrase(self, name: str) -> str:
        interview = self.interview
        return fixed_text(self.wave, interview.language if interview else self.wave.languages[0], name)

    async def opt_out(self) -> None:
        self.out = True

    async def opted_out(self) -> bool:
        return self.out

    async def reply(self, text: str) -> Screen:
        if self.closed:
            interview = self.interview
            assert interview is not None
            return Screen(fixed_text(self.wave, interview.language, "session_over"), ends=True)
        if self._blank and not text:
            return self.screen  # on a cumulative wire a blank first reply looks like the dial again
        self._blank = False
        return self._take(Replied(self.clock.now, text))

    async def again(self) -> Screen:
        return self.screen

    async def hang_up(self) -> None:
        pass

    async def others_complete(self, quota: str, cell: str, times: int) -> None:
        self.completes[count_name(quota, cell)] += times

    async def counted(self, quota: str, cell: str) -> int:
        return self.completes[count_name(quota, cell)]

    async def effects(self) -> list[Effect]:
        return self.recorded

    def _counts(self, interview: Interview | None) -> Counter[str]:
        """The quota cells that an interview counts in."""
        if interview is None or interview.disposition != "complete":
            return Counter()
        cells = cells_of(self.wave.quotas, self.wave.instrument, interview.answers, interview.numbers)
        return Counter(count_name(*pair) for pair in cells.items())

    def _take(self, event: Dialled | Replied) -> Screen:
        before = self.interview
        taken = step(self.wave, before, event)
        for effect in taken.effects:
            if isinstance(effect, CellsEntered) and full_cells(
                self.wave.quotas, effect.cells, self.completes
            ):
                taken = step(self.wave, before, replace(event, full=True))
        self.completes.subtract(self._counts(before))
        self.completes.update(self._counts(taken.interview))
        self.hops += 1
        self.state = json.dumps(dump_interview(taken.interview))
        assert self.interview == taken.interview
        self.recorded += [load_effect(json.loads(json.dumps(dump_effect(e)))) for e in taken.effects]
        self.screen = taken.screen
        self.screens.add(taken.screen.text)
        stage = before.stage if before and isinstance(event, Replied) else "dial"
        self.arrows.add((stage, taken.interview.stage))
        check_restored(self.wave, taken.interview, self.recorded)
        return taken.screen


def current(effects: Sequence[Effect]) -> list[Effect]:
    """The effects of the last interview begun."""
    last = max(n for n, e in enumerate(effects) if isinstance(e, Began))
    return list(effects[last:])


def check_restored(wave: Wave, interview: Interview, effects: Sequence[Effect]) -> None:
    """What the record leaves behind has the same answers and, dialled, goes on in the same way."""
    if interview.disposition == LAPSED:
        return  # nothing but a menu: the record has the interview as it was left
    restored = restore(wave, interview.id, current(effects), interview.last_at)
    for name in ("answers", "language", "seed", "blocks", "shuffled", "disposition", "receipt"):
        assert getattr(restored, name) == getattr(interview, name), name
    if restored.at != interview.at:
        # Gone back, or withdrawn: the record knows the first item without an answer, not the way there.
        assert interview.disposition == "withdrawn" or interview.answers[_index(wave, interview.at)] != "."
        return
    here, there = interview, restored
    for keys in (None, "1", "1", "99", "1"):
        at = here.last_at + 1000
        event: Event = (
            Replied(at, keys)
            if keys
            else Dialled(at, interview.id, interview.seed, interview.mode, interview.budget)
        )
        if lapsed(wave, here, at):
            return
        one, other = step(wave, here, event), step(wave, there, event)
        assert one.screen == other.screen
        assert one.effects == other.effects
        here, there = one.interview, other.interview
        if one.screen.ends:
            return
        assert replace(here, shown_at=0) == replace(there, shown_at=0)


def _index(wave: Wave, item: str) -> int:
    return wave.instrument.by_id[item].index


class FixedPseudonyms(Pseudonyms):
    """The seed of the transcript, and the interview ids that EnginePhone gives."""

    def __init__(self, seed: int):
        super().__init__(KEY)
        self._seed = seed

    def seed(self, pseudonym: str, wave: str) -> int:
        return self._seed

    def interview_id(self, pseudonym: str, session_id: str) -> str:
        return interview_id(int(session_id.rpartition("_")[2]))


class HttpPhone:
    """Africa's Talking over HTTP: cumulative text, every request sent twice."""

    def __init__(
        self, client: httpx2.AsyncClient, hook: str, store: redis.Redis, wave: Wave,
        close: Callable[[], None] = lambda: None,
    ):  # fmt: skip
        self._close = close
        self.client, self.hook, self.store = client, hook, store
        self._counts = counts_key(wave.id, drawn_alike(wave.quotas))
        self._sessions = 0
        self._messages = 0
        self._text = ""
        self._inputs = 0

    async def dial(self, extension: str) -> Screen:
        self._sessions += 1
        self._session_number = self._sessions + self._messages
        self._text = extension
        self._inputs = 1 if extension else 0
        return await self.again()

    async def reply(self, text: str) -> Screen:
        self._text = f"{self._text}*{text}" if self._inputs else text
        self._inputs += 1
        return await self.again()

    async def again(self) -> Screen:
        form = self._session() | {"text": self._text}
        first = await self._post(self.hook, form)
        assert await self._post(self.hook, form) == first, "the repeat of a request got another screen"
        kind, _, text = first.partition(" ")
        assert kind in ("CON", "END")
        return Screen(text, kind == "END")

    async def hang_up(self) -> None:
        notice = self._session() | {
            "status": "Incomplete", "durationInMillis": "60000", "hopsCount": str(self._inputs + 1),
            "input": self._text, "lastAppResponse": "CON ...", "cost": "0",
        }  # fmt: skip
        await self._post(self.hook + "/events", notice)
        await self._post(self.hook + "/events", notice)

    async def text(self, text: str) -> str | None:
        self._messages += 1
        message = {
            "date": "2026-11-23 08:00:00", "from": MSISDN, "id": f"ATXid_{self._sessions + self._messages}",
            "linkId": "", "text": text, "to": SHORT_CODE, "cost": "GHS 0.00", "networkCode": "62001",
        }  # fmt: skip
        before = len(self.entries())
        await self._post(self.hook.removesuffix("ussd") + "sms", message)
        await self._post(self.hook.removesuffix("ussd") + "sms", message)
        (entry,) = self.entries()[before:]
        if not entry["sends"]:
            return None
        (send,) = entry["sends"]
        assert send["kind"] == ("confirmation" if entry.get("what") == "stop" else "reply")
        assert Seal(KEY).open(entry["sealed"], entry["respondent"]) == MSISDN
        return str(send["text"])

    async def close(self) -> None:
        self._close()

    async def opt_out(self) -> None:
        for _ in range(2):
            form = {"senderId": SHORT_CODE, "phoneNumber": MSISDN}
            await self._post(self.hook.removesuffix("ussd") + "sms/opt-out", form)

    async def opted_out(self) -> bool:
        """By the stream alone: what the recorder makes of it."""
        out = False
        for entry in self.entries():
            if entry["kind"] == "opted_out" or entry.get("what") == "stop":
                out = True
            elif entry.get("opted_in"):
                out = False
        return out

    async def others_complete(self, quota: str, cell: str, times: int) -> None:
        self.store.hincrby(self._counts, count_name(quota, cell), times)

    async def counted(self, quota: str, cell: str) -> int:
        counts: Any = self.store.hget(self._counts, count_name(quota, cell))
        return int(counts or 0)

    async def effects(self) -> list[Effect]:
        return [load_effect(e) for entry in self.entries("hop") for e in entry["effects"]]

    def entries(self, *kinds: str) -> list[dict[str, Any]]:
        """The entries of the event stream, of these kinds or all."""
        rows: Any = self.store.xrange(EVENTS)
        return [e for _, f in rows if (e := json.loads(f[b"e"]))["kind"] in kinds or not kinds]

    def _session(self) -> dict[str, str]:
        return {
            "sessionId": f"ATUid_{self._session_number}",
            "phoneNumber": MSISDN,
            "networkCode": "62001",
            "serviceCode": CODE,
        }

    async def _post(self, url: str, form: dict[str, str]) -> str:
        answer = await self.client.post(
            url,
            content=urlencode(form),
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code == 200, answer.text
        return answer.text


# ---------------------------------------------------------------- the player


class Mismatch(Exception):
    """The transcript and the dialogue differ. Names the line."""


async def play(
    transcript: Transcript, phone: Phone, clock: Clock, items: Container[str], write: bool = False
) -> None:
    """Plays `transcript` on `phone`. Raises Mismatch; with `write`, notes the screens instead.

    `items`: the ids that exist, so that a misspelt one is a fault.
    """
    talking = False
    for line in transcript.lines:
        where = f"{transcript.path.name}:{line.number}"
        if line.command.startswith("= "):
            if line.command in ("= opted out", "= not opted out"):
                out = await phone.opted_out()
                verdict: bool | str = out == (line.command == "= opted out") or "is not so"
            elif counted := re.fullmatch(r"= counted (\S+) (\S+) (\d+)", line.command):
                times = await phone.counted(counted[1], counted[2])
                verdict = times == int(counted[3]) or str(times)
            else:
                verdict = told(line.command[2:], await phone.effects(), items)
            if verdict is not True:
                raise Mismatch(f"{where}: {line.command[2:]!r} does not hold: {verdict}")
            continue
        if line.command.startswith("dial"):
            talking = True
        elif not talking and line.command.startswith((">", "keys", "reply")):
            raise ValueError(f"{where}: nobody is on the line")
        screen = await _do(line.command, phone, clock)
        if line.command == "hang up":
            talking = False
        if screen is None:
            continue
        if isinstance(screen, Screen):
            talking = talking and not screen.ends
            shown = f"{'END' if screen.ends else 'CON'} {screen.text}".split("\n")
        else:
            shown = f"SMS {screen.text}".split("\n") if screen.text is not None else ["NO SMS"]
        if any(_COMMAND.match(row) for row in shown[1:]):
            raise Mismatch(f"{where}: a line of this screen would read as a command: {shown}")
        if write:
            line.screen = shown
        elif line.screen != shown:
            raise Mismatch(
                "\n".join((f"{where}: shows", *shown, "where is written", *(line.screen or ["nothing"])))
            )


@dataclass(frozen=True)
class Sms:
    """What a text message is answered with; None: nothing."""

    text: str | None


async def _do(command: str, phone: Phone, clock: Clock) -> Screen | Sms | None:
    """Carries out one command; its last screen or text."""
    verb, _, rest = command.partition(" ")
    if verb in ("text", "texts"):
        found = re.fullmatch(r"text of (\d+) characters", command)
        messages = ["a" * int(found[1])] if found else rest.split() if verb == "texts" else [rest]
        for message in messages:
            clock.now += REPLY_SECONDS * 1000
            sent = await phone.text(message)
        return Sms(sent)
    if command == "close wave":
        await phone.close()
        return None
    if command == "aggregator opts out":
        await phone.opt_out()
        return None
    if others := re.fullmatch(r"others complete (\S+) (\S+) (-?\d+)", command):
        await phone.others_complete(others[1], others[2], int(others[3]))
        return None
    if command.startswith(">"):
        replies = [command[1:].removeprefix(" ")]
    elif verb == "keys":
        replies = rest.split()
    elif found := re.fullmatch(r"reply of (\d+) characters", command):
        replies = ["a" * int(found[1])]
    elif verb == "dial":
        assert rest == CODE or (rest.startswith("*384*16*") and rest.endswith("#")), rest
        clock.now += REPLY_SECONDS * 1000
        return await phone.dial(rest.removeprefix("*384*16").removesuffix("#").removeprefix("*"))
    elif command == "again":
        return await phone.again()
    elif command == "hang up":
        await phone.hang_up()
        return None
    elif found := re.fullmatch(r"wait (\d+) (min|h|d)", command):
        clock.now += int(found[1]) * _UNITS[found[2]] * 1000
        return None
    elif not command or command.startswith("#") or verb in _HEADER:
        return None
    else:
        raise ValueError(f"not understood: {command!r}")
    for number, reply in enumerate(replies, 1):
        clock.now += REPLY_SECONDS * 1000
        screen = await phone.reply(reply)
        if screen.ends and number < len(replies):
            raise ValueError(f"the session ends before the last key of {command!r}")
    return screen


def told(statement: str, effects: Sequence[Effect], items: Container[str]) -> bool | str:
    """Whether a statement of a transcript holds for these effects; if not, what does."""
    ours = current(effects)
    given = [e for e in ours if isinstance(e, ResponseGiven)]
    stands: dict[str, ResponseGiven] = {}
    disposition = ""
    for effect in ours:
        match effect:
            case ResponseGiven(item=item):
                stands[item] = effect
            case ResponseRetracted(item=item):
                stands.pop(item)
                disposition = ""
            case CellsEntered():
                disposition = ""
            case _ if disposition == "results_only" and asked_again(effect):
                disposition = ""
            case Ended(disposition=ended):
                disposition = ended
            case ErasureRequested():
                stands.clear()
                disposition = "withdrawn"
            case _:
                pass
    words = statement.split()
    begun = next(e for e in ours if isinstance(e, Began))
    match words:
        case ["consent", "given"]:
            return any(isinstance(e, Consented) for e in ours) or "no consent"
        case ["consent", "not", "given"]:
            return not any(isinstance(e, Consented) for e in ours) or "consent given"
        case ["in", "progress"]:
            return disposition == "" or disposition
        case ["entered", quota, cell]:
            entered = [e.cells.get(quota, "none") for e in ours if isinstance(e, CellsEntered)]
            return entered[-1:] == [cell] or str(entered)
        case ["complete" | "refusal" | "ineligible" | "quota_full" | "withdrawn" | "results_only" as name]:
            return disposition == name or disposition or "in progress"
        case [item, "not", "answered"]:
            return (item in items and item not in stands) or str(stands.get(item, "no such item"))
        case [item, "given", number, "times"]:
            times = sum(e.item == item for e in given)
            return times == int(number) or f"{times} times"
        case [number, "answers"]:
            return len(stands) == int(number) or f"{len(stands)} answers"
        case [number, "interviews"]:
            count = sum(isinstance(e, Began) for e in effects)
            return count == int(number) or f"{count} interviews"
        case [number, "wrong", "keys"]:
            count = sum(isinstance(e, InvalidReply) for e in ours)
            return count == int(number) or f"{count} wrong keys"
        case [block, "skipped"]:
            return BlockSkipped(block) in ours or "not skipped"
        case ["mode", mode]:
            used = [e.mode for e in ours if isinstance(e, Began | ModeChanged)][-1]
            return used == mode or used
        case ["saw", *screens]:
            shown = [e.screen for e in ours if isinstance(e, ResultsSeen)]
            return shown == screens or " ".join(shown)
        case ["wants", "results"]:
            return any(isinstance(e, ResultsWanted) for e in ours) or "wants none"
        case ["wants", "no", "results"]:
            return not any(isinstance(e, ResultsWanted) for e in ours) or "wants them"
        case ["language", language]:
            chosen = [e.language for e in ours if isinstance(e, Began | LanguageChosen)][-1]
            return chosen == language or chosen
        case ["drawn", *blocks]:
            drawn = [b for b in begun.blocks.split() if b in begun.probabilities]
            return drawn == blocks or " ".join(drawn)
        case ["probability", block, share]:
            return f"{begun.probabilities[block]:.4f}" == share or f"{begun.probabilities[block]:.4f}"
        case [item, option, *code]:
            if item not in stands:
                return "not answered" if item in items else "no such item"
            response = stands[item]
            found = [word for word in (response.option, str(response.code)) if word]
            return [option, *code] in (found, found[:1]) or str(response)
    raise ValueError(f"not understood: {statement!r}")
