"""A small instrument, the dialogue on a real live store and the whole gateway, for the gateway's suites.

The instrument asks for consent and then for six numbers. Every number fits every question, so that an
answer recorded at the wrong one is seen: what is typed at question 3 is 103.
"""

import asyncio
import gc
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import httpx2
import redis
from fastapi import FastAPI

from flows.engine import Screen
from flows.instrument import Instrument, parse
from flows.wave import Wave
from gateway.app import create_app
from gateway.dialogue import Channel, Dialogue
from gateway.messages import Hop, SessionEnded
from storage.entries import read_entry
from storage.live import EVENTS, LiveStore
from storage.record import Recorded
from storage.respondents import Pseudonyms

NUMBER, OTHER_NUMBER = "+233240000001", "+233240000002"
CODE = "*384*16#"
KEY = b"a key of the tests, 32 bytes or more"
SECRET, NEXT_SECRET, SIMULATOR_SECRET = "secret-one", "secret-two", "secret-of-the-simulator"
HOOK = f"/hooks/africastalking/{SECRET}/ussd"
SIMULATOR_HOOK = f"/hooks/simulator/{SIMULATOR_SECRET}/ussd"
FORM = "application/x-www-form-urlencoded"
START = 1_795_420_800_000  # 2026-11-23 08:00 UTC
HOUR = 3_600_000
QUESTIONS = 6

_QUESTIONNAIRE = """
[instrument]
id = "numbers"
version = "1"
title = "Numbers"
source = "-"
consent_version = "1"
reference_months = 12
default_language = "en"
languages = ["en", "fr"]
[nonresponse]
not_applicable = 97
dont_know = 98
refused = 99
[scales]
yes_no = [{ id = "yes", code = 1 }, { id = "no", code = 2 }]
[[blocks]]
id = "opening"
[[blocks.items]]
id = "consent"
role = "consent"
label = "Consent"
scale = "yes_no"
nonresponse = []
ends = { no = "refusal" }
""" + "".join(
    f"""
[[blocks.items]]
id = "n{n}"
kind = "number"
role = "wealth"
label = "Number {n}"
min = 1
max = 9999
nonresponse = ["refused"]
"""
    for n in range(1, QUESTIONS + 1)
)

_WORDS = """
[language]
id = "{id}"
name = "{name}"
iso639_3 = "{id}x"
status = "reviewed"
[prompts]
more = "More"
back = "Back"
skip = "Skip"
invalid_choice = "Press a number shown."
invalid_number = "Type {{min}} to {{max}}."
why = "Why?"
dont_know = "I don't know"
refused = "I'd rather not say"
not_applicable = "Does not apply"
stuck = "That did not work."
try_again = "Try again"
skip_question = "Skip it"
stop = "Stop"
pause = "Part {{part}} of {{parts}} done."
go_on = "Go on"
stop_for_now = "Stop for now"
welcome_back = "{welcome} {{answered}}."
lapsed = "Too long ago."
begin_again = "Begin again"
see_results = "See results"
withdraw = "Withdraw"
finished = "You have finished."
results_unpublished = "Not published yet. Dial {{code}}."
withdraw_confirm = "Delete all?"
withdraw_yes = "Yes, delete"
withdraw_no = "No, keep"
withdrawn = "Deleted. Receipt: {{receipt}}."
thanks = "{thanks} {{code}}."
stopped = "Saved. Dial {{code}} within {{hours}} hours."
refusal = "Fine. Dial {{code}} if you change your mind."
ineligible = "For adults."
session_over = "{over} {{code}}."
unavailable = "{sorry} {{code}}."
not_covered = "Not open in your country."
wave_closed = "Closed."
one_answer = "One at a time."
quota_full = "Enough of you. Dial {{code}}."
help = "{{owner}} {{contact}} {{code}}. Leave: STOP"
opted_out = "{out} {{keyword}}, dial {{code}}."
invitation = "{owner_asks} {{owner}}: dial {{code}}, text {{keyword}}."
reminder = "{owner_asks} {{owner}}, still: dial {{code}}."
reminder_break_off = "{{left}}: dial {{code}}."
results_national = "Satisfied {{period}}:"
results_region = "Satisfied {{region}} {{period}}:"
results_national_weighted = "Estimate {{period}}:"
results_region_weighted = "Estimate {{region}} {{period}}:"
results_text = "{{owner}} {{when}}:"
results_text_weighted = "{{owner}} estimate {{when}}:"
results_figure = "{{service}} {{share}}% ({{answers}})"
results_hidden = "Too few: {{services}}"
results_did = "We did: {{text}}"
results_which_region = "Which region?"
results_made_up = "Made up {{period}}:"
results_by_sms = "Text you the results?"
by_sms_yes = "Yes, text"
by_sms_no = "No, thanks"
[words]
stop = ["{stop}"]
[scales.yes_no]
yes = "{yes}"
no = "{no}"
[items.consent]
text = "{consent}"
"""
_ENGLISH = {
    "id": "en", "name": "English", "welcome": "Welcome back. Answered:", "thanks": "Thank you. Dial",
    "yes": "Yes", "no": "No", "over": "This session is over. Dial", "sorry": "Sorry. Dial",
    "consent": "Take part?", "out": "No more messages. Text", "stop": "leave me",
    "owner_asks": "Asked by",
}  # fmt: skip
_FRENCH = {
    "id": "fr", "name": "Français", "welcome": "Bon retour. Réponses :", "thanks": "Merci. Faites le",
    "yes": "Oui", "no": "Non", "over": "Session terminée. Faites le", "sorry": "Désolés. Faites le",
    "consent": "Acceptez-vous l'été ?", "out": "Plus de messages. Envoyez", "stop": "arrêter",
    "owner_asks": "De la part de",
}  # fmt: skip


def _language(words: Mapping[str, str], question: str) -> str:
    items = "".join(f'[items.n{n}]\ntext = "{question} {n}?"\n' for n in range(1, QUESTIONS + 1))
    return _WORDS.format(**words) + items


def numbers(version: str = "1", question: str = "Number") -> Instrument:
    """The instrument, also as another version, or with another wording of its questions."""
    return parse(
        {
            "questionnaire.toml": _QUESTIONNAIRE.replace('version = "1"', f'version = "{version}"', 1),
            "en.toml": _language(_ENGLISH, question),
            "fr.toml": _language(_FRENCH, "Numéro"),
        }
    )


WAVE = Wave(
    id="w", instrument=numbers(), languages=("en",), owner="Office", contact="0800", code=CODE,
)  # fmt: skip

# The screens, as phones show them.
CONSENT = "Take part?\n1 Yes\n2 No"
REFUSAL = "Fine. Dial *384*16# if you change your mind."
THANKS = "Thank you. Dial *384*16#."
WRONG = "Type 1 to 9999.\n"
WRONG_KEY = "Press a number shown.\n"
STUCK = "That did not work.\n1 Try again\n2 Skip it\n3 Stop"
OVER = "This session is over. Dial *384*16#."
SORRY = "Sorry. Dial *384*16#."
NOT_COVERED = "Not open in your country."
CLOSED = "Closed."
LAPSED_MENU = "Too long ago.\n1 Begin again\n2 Withdraw"


def ask(n: int, words: str = "Number") -> str:
    """The screen of question `n`. Nobody goes back to consent."""
    return f"{words} {n}?\n00 Skip" + (" 0 Back" if n > 1 else "")


def welcome(answered: int) -> str:
    return f"Welcome back. Answered: {answered}.\n1 Go on\n2 See results\n3 Withdraw"


# ---------------------------------------------------------------- the dialogue alone

AFRICAS_TALKING, SIMULATOR = Channel("africastalking", True), Channel("simulator", False)


async def nothing_recorded(respondent: str, wave: str, born: int) -> Recorded | None:
    return None


@dataclass
class Talk:
    """The dialogue on a live store, and what it left there."""

    url: str
    wave: Wave = WAVE
    find: Callable[[str, str, int], Awaitable[Recorded | None]] = nothing_recorded
    now: int = START
    pseudonyms: Pseudonyms = field(default_factory=lambda: Pseudonyms(KEY))

    async def __aenter__(self) -> "Talk":
        self.live = LiveStore(self.url, keep_days=90)
        self.dialogue = Dialogue(self.wave, self.live, self.pseudonyms, self.find, lambda: self.now)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.live.close()

    async def hop(self, text: str, session: str = "A", number: str = NUMBER) -> Screen:
        """One request of Africa's Talking's kind: everything typed in the session so far."""
        return await self.dialogue.hop(AFRICAS_TALKING, Hop(session, number, "62001", CODE, text))

    async def numbered(self, sequence: int, text: str, session: str = "A") -> Screen:
        """One request of the simulator's kind: this input alone, and its number."""
        return await self.dialogue.hop(SIMULATOR, Hop(session, NUMBER, "99999", CODE, text, sequence))

    async def ended(self, session: str = "A", status: str = "Incomplete", number: str = NUMBER) -> None:
        await self.dialogue.session_ended(
            AFRICAS_TALKING, SessionEnded(session, number, "62001", CODE, status, 41_200, 3, "GHS 0.03")
        )

    def entries(self, *kinds: str) -> list[dict[str, Any]]:
        """What the stream holds, of these kinds or all; each is one that the recorder reads."""
        return entries(self.url, *kinds)

    def given(self, number: str = NUMBER) -> list[tuple[str, int]]:
        """Item and code of every answer in the stream, in order."""
        return given(self.url, number)

    def conflicts(self) -> list[str]:
        return [e["what"] for e in self.entries("conflict")]

    async def stands(self, number: str = NUMBER) -> str:
        """The answers in the live store, a character an item."""
        live, _ = await self.live.read(self.wave.id, self.pseudonyms.of(number))
        return live.interview.answers if live else ""


def entries(url: str, *kinds: str) -> list[dict[str, Any]]:
    with redis.Redis.from_url(url) as client:
        rows: Any = client.xrange(EVENTS)
    for _, fields in rows:
        read_entry(fields[b"e"])
    return [e for _, fields in rows if (e := json.loads(fields[b"e"]))["kind"] in kinds or not kinds]


def given(url: str, number: str = NUMBER) -> list[tuple[str, int]]:
    respondent = Pseudonyms(KEY).of(number)
    return [
        (effect["item"], effect["code"])
        for entry in entries(url, "hop")
        if entry["respondent"] == respondent
        for effect in entry["effects"]
        if effect["kind"] == "ResponseGiven"
    ]


def answered(*values: int) -> list[tuple[str, int]]:
    """What `given` tells of consent and these numbers, one a question from the first."""
    return [("consent", 1), *((f"n{n}", value) for n, value in enumerate(values, 1))]


# ---------------------------------------------------------------- the whole gateway


@dataclass
class Gateway:
    app: FastAPI
    http: httpx2.AsyncClient

    async def dial(self, text: str = "", session: str = "A", **fields: str) -> tuple[int, str]:
        """Status and body of one hop of Africa's Talking."""
        answer = await self.post(HOOK, form(text, session, **fields))
        return answer.status_code, answer.text

    async def post(self, path: str, body: str | bytes, kind: str | None = FORM) -> httpx2.Response:
        headers = {} if kind is None else {"content-type": kind}
        return await self.http.post(path, content=body, headers=headers)


def form(text: str = "", session: str = "A", **fields: str) -> str:
    """A request of Africa's Talking; `fields` replace or add."""
    named = {
        "sessionId": session, "phoneNumber": NUMBER, "networkCode": "62001", "serviceCode": CODE,
        "text": text,
    } | fields  # fmt: skip
    return "&".join(f"{name}={quote_plus(value, safe='*')}" for name, value in named.items())


@asynccontextmanager
async def running(
    live_url: str, database_url: str, *waves: Wave, secrets: tuple[str, ...] = (SECRET, NEXT_SECRET)
) -> AsyncIterator[Gateway]:
    """The assembled gateway, from its start to its end; on WAVE alone if no waves are given."""
    waves = waves or (WAVE,)
    app = create_app(
        waves=waves, live_url=live_url, database_url=database_url, pseudonym_key=KEY, secrets=secrets,
        simulator_secret=SIMULATOR_SECRET if secrets else None, live_days=90,
    )  # fmt: skip
    thresholds = gc.get_threshold()
    gc.freeze()  # its start collects what is garbage: not through all that the suite has loaded
    transport = httpx2.ASGITransport(app=app)
    try:
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http,
        ):
            yield Gateway(app, http)
    finally:
        # The gateway's start sets the collector for a process of its own.
        gc.unfreeze()
        gc.set_threshold(*thresholds)


@contextmanager
def hung_server() -> Iterator[int]:
    """A port that accepts connections, reads what comes and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                accepted.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for connection in accepted:
            connection.close()


def seconds_since(began: float) -> float:
    return asyncio.get_running_loop().time() - began
