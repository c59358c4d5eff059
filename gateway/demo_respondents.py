"""Simulated respondents: what one reads on a screen, has in mind and presses, and what was acknowledged.

Each one has a number that is nobody's and a handset that posts as Africa's Talking does. It reads its
screen as a person would: finds the question, looks for the number before the answer it has in mind,
turns pages. Some press wrong keys, go back, skip, hang up and never return, or dial again; the
network sends some requests twice, one after the other or at once. What the gateway acknowledged with
a next screen is noted here, on this side of the wire.
"""

import asyncio
import random
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from urllib.parse import quote_plus, urlsplit

from flows.engine import skip_reasons
from flows.instrument import Item
from flows.results_pages import specimens
from flows.screen import BACK, MORE, item_pages, option_labels, prompt, skip_key
from flows.wave import Wave

_HOP_SECONDS = 10.0  # as long as Africa's Talking waits
_MOST_HOPS = 200
_KEY_AND_LABEL = re.compile(r"(\d+) (.+)")

#: How often, of hops or of sessions. Made up, high enough that each happens in a small demo.
_WRONG_KEY, _SKIP, _GO_BACK, _REPEATED, _AT_THE_SAME_TIME, _HANG_UP = 0.02, 0.03, 0.02, 0.05, 0.05, 0.01
_DIALS_AGAIN = 0.7

#: Weights of the options in their order on the scale, by the item's role; others are even. Made up.
_LIKELY: Mapping[str, tuple[float, ...]] = {
    "consent": (0.96, 0.04),
    "adult": (0.97, 0.03),
    "disability": (0.78, 0.14, 0.06, 0.02),
    "block_gate": (0.92, 0.08),
    "gate": (0.75, 0.25),
    "attribute": (0.30, 0.40, 0.20, 0.10),
    "overall": (0.25, 0.45, 0.20, 0.10),
}


# ---------------------------------------------------------------- reading screens


class Reader:
    """Knows the questionnaire by heart: which question is on a screen, and whether it was asked again."""

    def __init__(self, wave: Wave, budget: int):
        self.wave = wave
        language = wave.languages[0]
        self.words = wave.instrument.languages[language].prompts
        self.unavailable = prompt(wave, language, "unavailable", (("code", wave.code),))
        wrong_key = prompt(wave, language, "invalid_choice")
        self._items: dict[str, dict[str, tuple[Item, bool]]] = {}
        given_back = replace(wave, results=next(specimens(wave, (language,))))  # once there are any
        for item in wave.instrument.items:
            bounds = (("min", str(item.least)), ("max", str(item.most)))
            wrong = prompt(wave, language, "invalid_number", bounds) if item.kind == "number" else wrong_key
            for here, back, notice in product((wave, given_back), (False, True), ("", wrong)):
                for page in item_pages(here, language, item.index, "ussd", budget, back, notice):
                    self._items.setdefault(page, {})[item.id] = (item, bool(notice))

    def item(self, screen: str, before: Item | None) -> tuple[Item | None, bool]:
        """The question on a screen, and whether the last key was refused; None on a menu.

        before: the question on the screen before. Two with the same answers look alike on a second page.
        """
        alike = self._items.get(screen, {})
        if before is not None and before.id in alike:
            return alike[before.id]
        return next(iter(alike.values()), (None, False))

    def labels(self, item: Item) -> Sequence[str]:
        return option_labels(self.wave, self.wave.languages[0], item.index)


def key_of(screen: str, label: str) -> str | None:
    """The number that stands before `label` on the screen."""
    for line in screen.split("\n"):
        found = _KEY_AND_LABEL.fullmatch(line)
        if found and found[2] == label:
            return found[1]
    return None


# ---------------------------------------------------------------- the handset


@dataclass(slots=True)
class Tally:
    """What happened on this side of the wire."""

    hops: int = 0
    sessions: int = 0
    finished: int = 0
    hung_up: int = 0
    wrong_keys: int = 0
    repeated: int = 0
    at_the_same_time: int = 0
    answered_apart: int = 0  # a repeat that got another screen than the request itself
    acknowledged: int = 0  # answers, those that replace an earlier one too
    faults: Counter[str] = field(default_factory=Counter)


class Line:
    """A keep-alive connection to the webhook, as an aggregator holds it."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self.host, self.port, self.path = parts.hostname or "127.0.0.1", parts.port or 80, parts.path
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, fields: Mapping[str, str], path: str = "") -> tuple[int, str]:
        """Status and body. Raises OSError or TimeoutError."""
        async with asyncio.timeout(_HOP_SECONDS):
            if self.streams is None:
                self.streams = await asyncio.open_connection(self.host, self.port)
            reader, writer = self.streams
            body = "&".join(f"{k}={quote_plus(v, safe='*')}" for k, v in fields.items())
            writer.write(
                f"POST {self.path}{path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = re.search(r"content-length: *(\d+)", head)
            if length is None:
                raise OSError("a reply without Content-Length")
            return int(head[9:12]), (await reader.readexactly(int(length[1]))).decode()

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


class Respondent:
    """One person: what they have in mind, what they pressed, what was acknowledged."""

    def __init__(self, msisdn: str, reader: Reader, url: str, chance: random.Random, tally: Tally):
        self.msisdn, self.reader, self.chance, self.tally = msisdn, reader, chance, tally
        self.line, self.second_line = Line(url), Line(url)
        self.session = self.text = ""
        self.minded: dict[str, str] = {}  # item -> label they look for, while they turn pages
        self.answers: dict[str, tuple[str, int]] = {}  # acknowledged: item -> option, code or number
        self.on: Item | None = None  # the question on the screen
        self.skipping: Item | None = None

    async def take_part(self) -> None:
        """Dial, answer, and dial again after hanging up, or not."""
        try:
            while await self.talk() and self.chance.random() < _DIALS_AGAIN:
                pass
        except (OSError, TimeoutError, EOFError) as error:
            self.tally.faults[type(error).__name__] += 1
        finally:
            self.line.close()
            self.second_line.close()

    async def talk(self) -> bool:
        """One session. Whether they hung up, so that dialling again makes sense."""
        self.session, self.text = f"ATUid_{secrets.token_hex(16)}", ""
        self.tally.sessions += 1
        self.on = self.skipping = None
        screen, ends = await self.hop()
        for _ in range(_MOST_HOPS):
            if ends:
                self.tally.finished += 1
                await self.end("Success")
                return False
            if self.chance.random() < _HANG_UP:
                self.tally.hung_up += 1
                await self.end("Incomplete")
                return True
            reply, given = self.reply_to(screen)
            self.text = f"{self.text}*{reply}" if self.text else reply
            screen, ends = await self.hop()
            if given is not None:
                self.note(given, screen)
        self.tally.faults["never ended"] += 1
        return False

    def note(self, given: tuple[Item, str, int], screen: str) -> None:
        """An answer counts once the next screen is there and does not refuse it."""
        item, option, code = given
        shown, refused = self.reader.item(screen, item)
        if screen == self.reader.unavailable:
            self.tally.faults["unavailable"] += 1
        elif refused and shown is item:
            self.tally.faults["a valid answer was refused"] += 1
        else:
            self.answers[item.id] = (option, code)
            self.tally.acknowledged += 1

    # ---- what to press

    def reply_to(self, screen: str) -> tuple[str, tuple[Item, str, int] | None]:
        """The key, and the answer that it gives if it gives one."""
        item, _ = self.reader.item(screen, self.on)
        self.on = item
        if item is None:
            return self.reply_to_menu(screen)
        if self.chance.random() < _WRONG_KEY:
            self.tally.wrong_keys += 1
            return "7777", None
        if self.chance.random() < _GO_BACK and screen.endswith(f"{BACK} {self.reader.words['back']}"):
            return BACK, None
        # Back at a question that others hang on they give the same answer: another one would retract those.
        before = self.answers[item.id][0] if item.routes and item.id in self.answers else None
        skips = item.nonresponse and item.id not in self.minded and self.chance.random() < _SKIP
        if before in item.nonresponse or (before is None and skips):
            self.skipping = item
            return skip_key(item), None
        if item.scale is None:
            number = self.chance.randint(max(item.least, 18), min(item.most, 85))
            return str(number), (item, "", number)
        labels = self.reader.labels(item)
        likely = _LIKELY.get(item.role)
        if likely is None or len(likely) != len(labels):
            likely = (1.0,) * len(labels)
        minded = self.minded.setdefault(item.id, self.chance.choices(labels, likely)[0])
        if before is not None:
            minded = labels[[o.id for o in item.scale.options].index(before)]
        key = key_of(screen, minded)
        if key is None:
            return MORE, None
        del self.minded[item.id]
        option = item.scale.options[labels.index(minded)]
        return key, (item, option.id, option.code)

    def reply_to_menu(self, screen: str) -> tuple[str, tuple[Item, str, int] | None]:
        words = self.reader.words
        if self.skipping is not None:
            item, self.skipping = self.skipping, None
            before = self.answers.get(item.id, ("",))[0]
            known = item.routes and before in item.nonresponse
            reason = before if known else self.chance.choice(skip_reasons(item))
            key = key_of(screen, words[reason])
            if key is not None:
                self.minded.pop(item.id, None)
                return key, (item, reason, self.reader.wave.instrument.codes[reason])
        for wanted in ("go_on", "try_again"):
            if key := key_of(screen, words[wanted]):
                return key, None
        return "1", None  # the choice of language

    # ---- the wire

    async def hop(self) -> tuple[str, bool]:
        """Post the session so far, sometimes twice; the screen and whether it ends the session."""
        chance = self.chance.random()
        if chance < _AT_THE_SAME_TIME:
            self.tally.at_the_same_time += 1
            first, second = await asyncio.gather(
                self.line.post(self.form()), self.second_line.post(self.form())
            )
        else:
            first = second = await self.line.post(self.form())
            if chance < _AT_THE_SAME_TIME + _REPEATED:
                self.tally.repeated += 1
                second = await self.line.post(self.form())
        self.tally.hops += 1
        if first != second:
            self.tally.answered_apart += 1
        status, body = first
        if status != 200 or body[:4] not in ("CON ", "END "):
            raise OSError(f"status {status}")
        return body[4:], body.startswith("END ")

    def form(self) -> dict[str, str]:
        wave = self.reader.wave
        return {
            "sessionId": self.session,
            "phoneNumber": self.msisdn,
            "networkCode": "62001",
            "serviceCode": wave.codes[0],
            "text": self.text,
        }

    async def end(self, status: str) -> None:
        """The aggregator's notice that the session is over."""
        await self.line.post(
            self.form() | {"status": status, "cost": "GHS 0.03", "hopsCount": "1"}, "/events"
        )
