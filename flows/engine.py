"""The whole dialogue in one file: `step(wave, interview, event) -> Step(interview, screen, effects)`.

Pure: it reads no clock, no randomness and no environment, and never awaits. Time is a field of the
event, every random choice comes from `Interview.seed`, so a dialogue can be replayed exactly.

The rules
---------
 1. A first dial draws the order of the service blocks (and which of them, when the wave asks each
    respondent for a subset only) from the seed, asks for the language if the wave offers more than
    one, then goes to the first item: consent. Nothing is asked before consent.
 2. A reply on an item is, in this order: a control key (0 back, 98 more, 99 or 00 skip), an answer
    (its number, its text, or its first word where that is unique), or invalid.
 3. An answer is recorded; if it ends the interview (no consent, under age) it ends; else the next
    item is the first one, in the drawn order, that applies and has no answer yet. Skips only go
    forward, so every path ends.
 4. Back goes to the item answered before. A new answer there replaces the old one; answers that the
    new one makes inapplicable are retracted, and said so in effects. Consent and the adult gate are
    not gone back to: a respondent leaves by withdrawing.
 5. Skip leads to a small screen with the reasons the item allows: don't know, rather not say, does
    not apply. None of them is read out with the question.
 6. An invalid reply shows the item again under a line that says what to press. After three in a row
    the respondent may try again, skip or stop.
 7. Between two service blocks the respondent is told that a part is done and may stop there.
 8. A dial while the interview is unfinished and within the wave's resume window offers to go on at
    the same item, to see results, or to withdraw. After the window a new interview begins.
 9. A dial after the end offers results and withdrawal. After withdrawal it repeats the receipt.
    Refused or under age: the item that ended the interview is asked again (people mistype).
10. Withdrawal is confirmed once; then the answers leave the interview and `ErasureRequested` tells
    the host to erase them everywhere. The receipt is derived from the seed.
11. Keys dialled with the code (`*384*16*1#`) may answer in advance, but never the consent item.

Stages
------
              language ── item ──┬── why (which reason for skipping) ── item
                           │     ├── stuck (three wrong keys)        ── item | why | over
                           │     └── pause (between service blocks)  ── item | over
   dial again: resume ─────┤
               finished ───┴── results ── over,   withdraw ── resume | finished | over
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, assert_never

from flows import screen as screens
from flows.instrument import (
    MARK_NONRESPONSE,
    NONRESPONSE_MARKS,
    NUMBER_GIVEN,
    UNANSWERED,
    Instrument,
    Item,
)
from flows.screen import BACK, MORE, Menu, match_option, read_number, skip_key
from flows.wave import Wave

# ---------------------------------------------------------------- events: what happened


@dataclass(frozen=True, slots=True)
class Dialled:
    """The respondent dialled. `id` and `seed` serve only if an interview begins with this dial."""

    at: int  # ms since the epoch, UTC
    id: str
    seed: int  # 32 bits, the same for a respondent and wave every time
    mode: str = "ussd"
    budget: int = 160  # septets a screen
    ahead: tuple[str, ...] = ()  # keys dialled with the code


@dataclass(frozen=True, slots=True)
class Replied:
    at: int
    text: str


Event = Dialled | Replied

# ---------------------------------------------------------------- effects: what the host records


@dataclass(frozen=True, slots=True)
class Began:
    instrument: str  # id@version
    wave: str
    language: str
    mode: str
    seed: int
    blocks: str  # drawn order, space-separated block ids
    probabilities: dict[str, float]  # of each drawn block having been selected
    items_shuffled: bool


@dataclass(frozen=True, slots=True)
class LanguageChosen:
    language: str


@dataclass(frozen=True, slots=True)
class Consented:
    version: str


@dataclass(frozen=True, slots=True)
class ResponseGiven:
    """`option` is an option id, a nonresponse name, or "" for a number; `code` what analysts see."""

    item: str
    option: str
    code: int
    seconds: float  # since the item was first shown in this session
    tries: int  # replies it took, the valid one included


@dataclass(frozen=True, slots=True)
class ResponseRetracted:
    """A changed earlier answer made this one inapplicable."""

    item: str


@dataclass(frozen=True, slots=True)
class InvalidReply:
    """A reply that no rule accepts; its content is not kept."""

    item: str
    tries: int


@dataclass(frozen=True, slots=True)
class PageTurned:
    item: str
    page: int


@dataclass(frozen=True, slots=True)
class WentBack:
    item: str  # where to


@dataclass(frozen=True, slots=True)
class BlockSkipped:
    block: str


@dataclass(frozen=True, slots=True)
class Resumed:
    item: str


@dataclass(frozen=True, slots=True)
class MenuChosen:
    """A choice that is not an answer: menu (stage) and option."""

    menu: str
    option: str


@dataclass(frozen=True, slots=True)
class Ended:
    disposition: str  # complete | refusal | ineligible


@dataclass(frozen=True, slots=True)
class ErasureRequested:
    receipt: str


Effect = (
    Began | LanguageChosen | Consented | ResponseGiven | ResponseRetracted | InvalidReply
    | PageTurned | WentBack | BlockSkipped | Resumed | MenuChosen | Ended | ErasureRequested
)  # fmt: skip

EFFECTS: dict[str, type[Effect]] = {
    kind.__name__: kind
    for kind in (
        Began, LanguageChosen, Consented, ResponseGiven, ResponseRetracted, InvalidReply,
        PageTurned, WentBack, BlockSkipped, Resumed, MenuChosen, Ended, ErasureRequested,
    )
}  # fmt: skip
_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in EFFECTS.values()}


def dump_effect(effect: Effect) -> dict[str, Any]:
    """JSON-able form: {"kind": "ResponseGiven", "item": ..., ...}."""
    kind = type(effect)
    out: dict[str, Any] = {"kind": kind.__name__}
    for name in _FIELDS[kind]:
        out[name] = getattr(effect, name)
    return out


def load_effect(data: dict[str, Any]) -> Effect:
    """The effect that `dump_effect` wrote. Raises KeyError or TypeError on anything else."""
    return EFFECTS[data["kind"]](**{k: v for k, v in data.items() if k != "kind"})


# ---------------------------------------------------------------- the interview


@dataclass(frozen=True, slots=True)
class Interview:
    """One respondent, one instrument, one wave. Small, frozen, JSON-able through dump and load."""

    id: str
    instrument: str  # id@version it began with and goes on with
    wave: str
    language: str
    mode: str
    budget: int
    seed: int
    blocks: str  # block indexes in the drawn order, two hex digits each
    answers: str  # one character an item in questionnaire order, see instrument.py
    at: str = ""  # current item
    stage: str = "item"
    page: int = 0
    tries: int = 0  # invalid replies in a row
    shown_at: int = 0  # ms
    last_at: int = 0  # ms
    disposition: str = ""  # "" in progress
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Screen:
    text: str
    ends: bool = False  # the session is over once it is shown


@dataclass(frozen=True, slots=True)
class Step:
    interview: Interview
    screen: Screen
    effects: tuple[Effect, ...]
