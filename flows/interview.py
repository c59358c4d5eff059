"""One interview as it stands: a small frozen value, to and from JSON, and restored from the record."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from flows.draw import AskingOrder, asking_order
from flows.events import (
    Began,
    CellsEntered,
    Effect,
    Ended,
    ErasureRequested,
    LanguageChosen,
    MenuChosen,
    ModeChanged,
    ResponseGiven,
    ResponseRetracted,
    Resumed,
)
from flows.instrument import (
    MARK_NONRESPONSE,
    NONRESPONSE_MARKS,
    NUMBER_GIVEN,
    UNANSWERED,
    Instrument,
    Item,
)
from flows.wave import Wave

#: Disposition of an interview that is too old to go on with, as the menu after its dial shows it.
LAPSED = "lapsed"
#: Disposition of one whose quota cell had all the completes it wants. AAPOR 4.8, quota filled.
QUOTA_FULL = "quota_full"
#: Disposition of a dial that came for the results, and neither took part nor said no.
RESULTS_ONLY = "results_only"
#: From the results to the question whether to take part, in one session: `Resumed` is of a later dial.
BACK_TO_QUESTION = MenuChosen("results", "back")


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
    shuffled: bool = False  # items within a battery too
    wrong: int = 0  # invalid replies at the current item, by whatever menus
    several: bool = False  # the last of them held several answers
    numbers: str = ""  # those that quotas need, which `answers` has not: "respondent.age=34"
    region: str = ""  # whose results are being shown: an option id. No answer


def order_of(instrument: Instrument, interview: Interview) -> AskingOrder:
    """All items that this respondent may meet, in the order drawn."""
    return asking_order(instrument, interview.blocks, interview.seed if interview.shuffled else None)


_NAMES = tuple(f.name for f in fields(Interview))


def dump_interview(interview: Interview) -> list[Any]:
    """JSON-able: the fields in order. `load_interview` reads it, and older ones with fewer fields."""
    return [getattr(interview, name) for name in _NAMES]


def load_interview(values: list[Any]) -> Interview:
    """What `dump_interview` wrote. Fields are only ever added at the end, with defaults."""
    return Interview(*values)


def restore(wave: Wave, interview_id: str, effects: Iterable[Effect], last_at: int) -> Interview:
    """The interview that these recorded effects leave behind, at its first unanswered item.

    Raises ValueError without a `Began` among them.
    """
    instrument = wave.instrument
    interview: Interview | None = None
    for effect in effects:
        if isinstance(effect, Began):
            order = [b.index for name in effect.blocks.split() for b in instrument.blocks if b.id == name]
            interview = Interview(
                interview_id, effect.instrument, effect.wave, effect.language, effect.mode, 160,
                effect.seed, "".join(f"{b:02x}" for b in order), UNANSWERED * len(instrument.items),
                at=instrument.items[0].id, stage="language" if len(wave.languages) > 1 else "item",
                shuffled=bool(effect.items),
            )  # fmt: skip
        elif interview is not None:
            interview = _folded(wave, interview, effect)
    if interview is None:
        raise ValueError("the record of an interview starts with Began")
    if not interview.disposition:
        follows = order_of(instrument, interview).following(interview.answers)
        interview = replace(interview, at=follows.id if follows else interview.at)
    return replace(interview, shown_at=last_at, last_at=last_at)


def with_number(wave: Wave, numbers: str, item: Item, value: int | None) -> str:
    """`Interview.numbers` after an answer to `item`, None: after none."""
    if item.scale is not None or not any(item.id in quota.items for quota in wave.quotas):
        return numbers
    others = [pair for pair in numbers.split() if not pair.startswith(f"{item.id}=")]
    return " ".join(others if value is None else [*others, f"{item.id}={value}"])


def _folded(wave: Wave, interview: Interview, effect: Effect) -> Interview:
    instrument = wave.instrument

    def marked(item_id: str, mark: str) -> str:
        i = instrument.by_id[item_id].index
        return interview.answers[:i] + mark + interview.answers[i + 1 :]

    match effect:
        case LanguageChosen(language):
            return replace(interview, language=language, stage="item")
        case ModeChanged(mode):
            return replace(interview, mode=mode)
        case ResponseGiven(item=item_id, option=option, code=code):
            item = instrument.by_id[item_id]
            marks = {o.id: o.mark for o in item.scale.options} if item.scale else {"": NUMBER_GIVEN}
            mark = marks.get(option) or NONRESPONSE_MARKS[option]
            numbers = with_number(wave, interview.numbers, item, code if mark == NUMBER_GIVEN else None)
            return replace(interview, answers=marked(item_id, mark), at=item_id, numbers=numbers)
        case ResponseRetracted(item=item_id):
            return replace(interview, answers=marked(item_id, UNANSWERED), disposition="")
        case CellsEntered():
            return replace(interview, disposition="")
        case _ if interview.disposition == RESULTS_ONLY and asked_again(effect):
            return replace(interview, disposition="")
        case Ended(disposition):
            return replace(interview, disposition=disposition)
        case ErasureRequested(receipt):
            blank = UNANSWERED * len(interview.answers)
            return replace(interview, answers=blank, numbers="", disposition="withdrawn", receipt=receipt)
        case _:
            return interview


def asked_again(effect: Effect) -> bool:
    """Whether it brings who had looked at the results only to the question whether to take part."""
    return isinstance(effect, Resumed) or effect == BACK_TO_QUESTION


def begins_anew(wave: Wave, interview: Interview, now: int) -> bool:
    """Whether a dial begins a new interview at once: the old one is too old to go on with, and has no
    answers under a consent that its respondent might withdraw."""
    return lapsed(wave, interview, now) and not consented(wave, interview)


def heard_when_closed(wave: Wave, interview: Interview | None) -> bool:
    """Whether a dial in a closed wave has a dialogue even without results: who has answers there that may
    be withdrawn, or has done so."""
    if interview is None or interview.disposition in ("refusal", "ineligible"):
        return False
    return interview.disposition == "withdrawn" or consented(wave, interview)


def consented(wave: Wave, interview: Interview) -> bool:
    """Whether consent was given, and not withdrawn."""
    consent = wave.instrument.items[0]
    options = consent.scale.options if consent.scale else ()
    given = interview.answers[consent.index]
    return any(o.mark == given and o.id not in consent.ends for o in options)


def lapsed(wave: Wave, interview: Interview, now: int) -> bool:
    """Unfinished for longer than the resume window. What is finished stays so."""
    if interview.disposition in ("complete", "withdrawn", QUOTA_FULL):
        return False
    return now - interview.last_at > wave.resume_hours * 3_600_000


def most_left(instrument: Instrument, interview: Interview) -> int:
    """How many questions are left at most: one is ruled out only by what is answered already."""
    answers = interview.answers
    left: set[int] = set()  # items that may still be asked; conditions name earlier ones
    for item in order_of(instrument, interview).items:
        if answers[item.index] == UNANSWERED and (
            not item.ask_if
            or any(all(answers[i] in marks or i in left for i, marks in every) for every in item.ask_if)
        ):
            left.add(item.index)
    return len(left)


def answered_marks(instrument: Instrument, interview: Interview) -> dict[str, str]:
    """Item id -> option id, nonresponse name, or "given" for a number; only what is answered."""
    out = {}
    for item in instrument.items:
        mark = interview.answers[item.index]
        if mark == UNANSWERED:
            continue
        if mark == NUMBER_GIVEN:
            out[item.id] = "given"
        elif mark in MARK_NONRESPONSE:
            out[item.id] = MARK_NONRESPONSE[mark]
        elif item.scale:
            out[item.id] = next(o.id for o in item.scale.options if o.mark == mark)
    return out
