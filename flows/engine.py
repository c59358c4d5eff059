"""The whole dialogue in one file: `step(wave, interview, event) -> Step(interview, screen, effects)`.

Pure: it reads no clock, no randomness and no environment, and never awaits. Time is a field of the
event, every random choice comes from `Interview.seed`, so a dialogue can be replayed exactly.

The rules
---------
 1. A first dial draws the order of the service blocks (and which of them, when the wave asks each
    respondent for a subset only) from the seed, asks for the language if the wave offers more than
    one, then goes to the first item: consent. Nothing is asked before consent. A dial before
    consent offers the languages again: the way back from a wrong one.
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
    the same item, to see results, or to withdraw. After the window it offers to begin again or to
    withdraw; without consent a new interview begins at once.
 9. A dial after the end offers results and withdrawal. After withdrawal it repeats the receipt.
    Refused or under age: the item that ended the interview is asked again (people mistype).
10. Withdrawal is confirmed once; then the answers leave the interview and `ErasureRequested` tells
    the host to erase them everywhere. The receipt is derived from the seed.
11. Keys dialled with the code (`*384*16*1#`) may answer in advance, but never the consent item.

12. By SMS the keyword, or a first text, dials. There is no menu of rule 8 and no pause of rule 7: a
    message costs money, so the current item comes at once. What was asked on a USSD screen is not
    answered by a text: the item is sent first. Several answers in one message are none.
13. An interview outlives its mode: `ModeChanged` says that it goes on in another one.
14. While the wave is closed a dial offers results and withdrawal to those who consented, and no question;
    with nobody else there is a dialogue (`heard_when_closed`), unless results are out. A session begun
    before goes on to its end.
15. Where the wave has quotas, `CellsEntered` says which cells the answers fall in, once all that any quota
    crosses is asked, and again when one of those answers changes. If the host finds one of the cells full,
    it takes the step anew with `full`: the interview ends, its answers are kept. A dial later goes on with
    it if there is room by then, else it is one after the end; it never lapses, so that nobody answers
    otherwise for being let in.
16. Results, once the wave has any, are there for everybody: on the menus after a dial, after every last
    word (thanks, refusal, under age, receipt), in a closed wave, and at once for who dials with the keys
    for them. Three screens: the country, the respondent's region, what was done. Whose region is not
    known chooses one, which is no answer. Nothing there changes an answer, and looking is no activity
    that keeps an interview from lapsing. By SMS: one text.
17. Who completes may be asked whether to text them the results (`Wave.sharing`); `ResultsWanted` says yes.

Stages
------
              language ── item ──┬── why (which reason for skipping) ── item
                           │     ├── stuck (three wrong keys)        ── item | why | over
                           │     └── pause (between service blocks)  ── item | over
   dial again: resume ─────┤
               finished ───┴── results ── over,   withdraw ── resume | finished | lapsed | over
               lapsed ── a new interview | withdraw
               closed ── results ── over,   withdraw ── closed | over
   the end: by_sms ── parting ── results,    a closed wave's stranger: visitor ── results
               results ── which_region ── results;   0 Back: to the menu it was reached from
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from flows.draw import draw, mix, probabilities, receipt
from flows.events import (
    EFFECTS,
    Began,
    BlockSkipped,
    CellsEntered,
    Consented,
    Dialled,
    Effect,
    Ended,
    ErasureRequested,
    Event,
    InvalidReply,
    LanguageChosen,
    MenuChosen,
    ModeChanged,
    PageTurned,
    Replied,
    ResponseGiven,
    ResponseRetracted,
    ResultsSeen,
    ResultsWanted,
    Resumed,
    WentBack,
    WithdrawalAsked,
    dump_effect,
    load_effect,
)
from flows.instrument import NONRESPONSE_MARKS, NUMBER_GIVEN, PROMPTS, UNANSWERED, Item
from flows.interview import (
    LAPSED,
    QUOTA_FULL,
    RESULTS_ONLY,
    Interview,
    answered_marks,
    dump_interview,
    load_interview,
    order_of,
    restore,
    with_number,
)
from flows.quotas import all_asked, cells_of
from flows.reading import clean, clean_text, match_option, read_number, several
from flows.results import region_of
from flows.results_pages import (
    DID,
    NATIONAL,
    REGION,
    TEXT,
    Page,
    region_choice,
    region_names,
    results_pages,
    results_text,
)
from flows.screen import (
    BACK,
    MORE,
    SKIP,
    LayoutError,
    Menu,
    item_pages,
    language_screen,
    menu_screen,
    option_labels,
    prompt,
    skip_key,
)
from flows.wave import Wave

__all__ = [
    "EFFECTS", "LAPSED", "QUOTA_FULL", "RESULTS_ONLY", "Began", "BlockSkipped", "CellsEntered", "Consented",
    "Dialled", "Effect", "Ended", "ErasureRequested", "Event", "Interview", "InvalidReply", "LanguageChosen",
    "MenuChosen", "ModeChanged", "PageTurned", "Replied", "ResponseGiven", "ResponseRetracted",
    "ResultsSeen", "ResultsWanted", "Resumed", "Screen", "Step", "WentBack", "WithdrawalAsked",
    "answered_marks", "begins_anew", "dump_effect", "dump_interview", "heard_when_closed",
    "lapsed", "load_effect", "load_interview", "restore", "skip_reasons", "step",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Screen:
    text: str
    ends: bool = False  # the session is over once it is shown


@dataclass(frozen=True, slots=True)
class Step:
    interview: Interview
    screen: Screen
    effects: tuple[Effect, ...]


# ---------------------------------------------------------------- one step

_MENUS = {
    "stuck": Menu("stuck", ("try_again", "skip_question", "stop")),
    "pause": Menu("pause", ("go_on", "stop_for_now")),
    "resume": Menu("welcome_back", ("go_on", "see_results", "withdraw")),
    "finished": Menu("finished", ("see_results", "withdraw")),
    "lapsed": Menu("lapsed", ("begin_again", "withdraw")),
    "closed": Menu("wave_closed", ("see_results", "withdraw")),
    "withdraw": Menu("withdraw_confirm", ("withdraw_yes", "withdraw_no")),
    "visitor": Menu("wave_closed", ("see_results",)),
    "by_sms": Menu("results_by_sms", ("by_sms_yes", "by_sms_no")),
}
_STUCK_WITHOUT_SKIP = Menu("stuck", ("try_again", "stop"))
_PATIENCE = 3  # wrong keys in a row before other ways are offered


def step(wave: Wave, interview: Interview | None, event: Event) -> Step:
    """One turn of the dialogue. `wave.instrument` must be the version that the interview began with.

    `interview` None is right only for a first dial. The result's interview is to be stored and its
    effects recorded together, before its screen is shown.
    """
    match event:
        case Dialled():
            return _dial(wave, interview, event)
        case Replied():
            if interview is None:
                raise ValueError("a reply needs the interview it belongs to")
            turn = _Turn(wave, interview, event.at, event.full)
            reply = clean_text(event.text) if interview.mode == "sms" else clean(event.text)
            screen = _REPLY[turn.stage](turn, reply)
            return turn.successor or turn.done(screen)
        case WithdrawalAsked():
            if interview is None:
                raise ValueError("a withdrawal needs the interview it belongs to")
            turn = _Turn(wave, interview, event.at)
            return turn.done(turn.withdraw())
        case _:
            assert_never(event)


class _Turn:
    """The parts of an interview that a turn may change, and the effects so far."""

    __slots__ = (
        "_order",
        "answers",
        "at",
        "before",
        "disposition",
        "effects",
        "full",
        "language",
        "now",
        "numbers",
        "page",
        "receipt",
        "region",
        "several",
        "shown_at",
        "stage",
        "successor",
        "tries",
        "wave",
        "wrong",
    )  # fmt: skip

    def __init__(self, wave: Wave, interview: Interview, now: int, full: bool = False):
        self.wave = wave
        self.before = interview
        self.now = now
        self.full = full
        self.effects: list[Effect] = []
        self.language = interview.language
        self.answers = interview.answers
        self.numbers = interview.numbers
        self.at = interview.at
        self.stage = interview.stage
        self.page = interview.page
        self.tries = interview.tries
        self.wrong = interview.wrong
        self.several = interview.several
        self.shown_at = interview.shown_at
        self.disposition = interview.disposition
        self.receipt = interview.receipt
        self.region = interview.region
        self.successor: Step | None = None  # the interview that begins in place of this one
        self._order = order_of(wave.instrument, interview)

    def done(self, screen: Screen) -> Step:
        b = self.before
        only_looked = self.disposition == LAPSED or self.stage in ("closed", "results", "which_region")
        interview = Interview(
            b.id, b.instrument, b.wave, self.language, b.mode, b.budget, b.seed, b.blocks, self.answers,
            self.at, self.stage, self.page, self.tries, self.shown_at,
            b.last_at if only_looked else self.now, self.disposition,
            self.receipt, b.shuffled, self.wrong, self.several, self.numbers, self.region,
        )  # fmt: skip
        return Step(interview, screen, tuple(self.effects))

    @property
    def item(self) -> Item:
        return self.wave.instrument.by_id[self.at]

    # ---- screens

    def show_item(self) -> Screen:
        """The current item; first its first page, later the page that `page` names.

        From a wrong key to the answer all pages are those laid out with the line that helps, so that
        98 goes on where the page before ended.
        """
        self.stage = "item"
        pages = item_pages(
            self.wave, self.language, self.item.index, self.before.mode, self.before.budget,
            self.previous() is not None, self.notice() if self.tries else "",
        )  # fmt: skip
        self.page = min(self.page, len(pages) - 1)
        return Screen(pages[self.page])

    def notice(self) -> str:
        """What to press, for the current item."""
        prompts = self.wave.instrument.languages[self.language].prompts
        if self.several and "one_answer" in prompts:  # instruments fielded earlier lack it
            return prompt(self.wave, self.language, "one_answer")
        if self.item.kind == "number":
            bounds = (("min", str(self.item.least)), ("max", str(self.item.most)))
            return prompt(self.wave, self.language, "invalid_number", bounds)
        return prompt(self.wave, self.language, "invalid_choice")

    def go_to(self, item: Item) -> Screen:
        self.arrive(item)
        return self.show_item()

    def arrive(self, item: Item) -> None:
        self.at, self.page, self.tries, self.wrong, self.shown_at = item.id, 0, 0, 0, self.now
        self.several = False

    def show_menu(self, stage: str, notice: str = "") -> Screen:
        if stage != self.stage:
            self.stage, self.tries = stage, 0
        if stage == "language":
            return Screen(language_screen(self.wave, self.before.budget))
        return Screen(
            menu_screen(
                self.wave, self.language, self.menu(), self.before.mode, self.before.budget, notice,
                self.inserted(stage),
            )
        )  # fmt: skip

    def menu(self) -> Menu:
        if self.stage == "why":
            return Menu("why", skip_reasons(self.item), back=True)
        if self.stage == "stuck" and not self.item.nonresponse:
            return _STUCK_WITHOUT_SKIP
        if self.stage == "parting":
            return Menu(self.last_word, ("see_results",))
        return _MENUS[self.stage]

    def inserted(self, stage: str) -> tuple[tuple[str, str], ...]:
        if stage == "pause":
            drawn = [i.block for i in self._order.items if self.wave.instrument.blocks[i.block].drawn]
            parts = list(dict.fromkeys(drawn))
            return (("part", str(parts.index(self.item.block))), ("parts", str(len(parts))))
        if stage == "resume":
            return (("answered", str(len(self.answers) - self.answers.count(UNANSWERED))),)
        if stage == "parting":
            return self.values(self.last_word)
        return ()

    def stop(self) -> Screen:
        """The respondent stops for now, and is told what is true of this interview."""
        if self.disposition == "complete":
            return self.end("thanks")
        if self.disposition in (QUOTA_FULL, "refusal", "ineligible", "withdrawn"):
            return self.end(self.last_word)
        if self.wave.closed:
            return self.end("wave_closed")
        if self.disposition == LAPSED:
            return self.end("session_over")
        consent = self.wave.instrument.items[0]
        return self.end("refusal" if self.answers[consent.index] == UNANSWERED else "stopped")

    def end(self, name: str) -> Screen:
        """A last screen: a prompt, and the session is over."""
        self.stage = "over"
        return Screen(prompt(self.wave, self.language, name, self.values(name)), ends=True)

    def values(self, name: str) -> tuple[tuple[str, str], ...]:
        """What a prompt inserts."""
        values = {
            "code": self.wave.code,
            "hours": str(self.wave.resume_hours),
            "receipt": self.receipt,
        }
        return tuple((k, values[k]) for k in values if k in PROMPTS[name])

    @property
    def last_word(self) -> str:
        """The prompt of this interview's disposition."""
        prompts = self.wave.instrument.languages[self.language].prompts
        late = self.disposition == QUOTA_FULL and QUOTA_FULL not in prompts  # fielded earlier: lacks it
        return "thanks" if self.disposition == "complete" or late else self.disposition

    def part(self) -> Screen:
        """The last word, and with it the way to the results once they are out, where both fit."""
        if self.wave.results is not None:
            try:
                return self.show_menu("parting")
            except LayoutError:  # of a language or a network that nobody checked it for
                pass
        return self.end(self.last_word)

    # ---- results

    def see_results(self) -> Screen:
        """The first of the results' screens; by SMS all in one text."""
        results = self.wave.results
        if results is None:
            return self.end("results_unpublished")
        self.region = region_of(self.wave.instrument, self.answers)
        if self.before.mode == "sms":
            self.stage = "over"
            self.effects.append(ResultsSeen(TEXT))
            return Screen(results_text(results, self.language, self.region), ends=True)
        self.page, self.tries = 0, 0
        return self.show_results()

    def results_pages(self) -> tuple[Page, ...]:
        """None where there are no results any more."""
        results = self.wave.results
        if results is None:
            return ()
        return results_pages(results, self.language, self.region, self.before.budget)

    def show_results(self, again: bool = False) -> Screen:
        """The results' screen that `page` names: of today's results, whatever they were a hop ago."""
        pages = self.results_pages()
        if not pages:
            return self.end("results_unpublished")
        self.stage = "results"
        self.page = min(self.page, len(pages) - 1)
        name, text = pages[self.page]
        if not again:
            self.effects.append(ResultsSeen(name))
        return Screen(text)

    def show_regions(self) -> Screen:
        """The choice of a region, at `page`."""
        if self.wave.results is None:
            return self.end("results_unpublished")
        self.stage = "which_region"
        pages = region_choice(self.wave.results, self.language, self.before.budget)
        self.page = min(self.page, len(pages) - 1)
        return Screen(pages[self.page])

    def leave_results(self) -> Screen:
        """Back to the menu from which this interview reaches its results."""
        self.page, self.region = 0, ""
        if self.disposition == RESULTS_ONLY and not self.wave.closed:
            self.disposition = ""  # by way of the question whether to take part
            self.effects.append(Resumed(self.at))
            return self.go_to(self.item)
        if self.disposition == "withdrawn":
            return self.part()
        if self.disposition in ("refusal", "ineligible"):
            return self.show_menu("visitor") if self.wave.closed else self.part()
        if self.disposition in ("complete", QUOTA_FULL):
            return self.show_menu("finished")
        if self.wave.closed:
            return self.show_menu("closed" if _consented(self.wave, self.before) else "visitor")
        if lapsed(self.wave, self.before, self.now):
            self.disposition = LAPSED
            return self.show_menu("lapsed")
        return self.show_menu("resume") if _consented(self.wave, self.before) else self.go_to(self.item)

    def enter(self) -> Screen:
        """What a new interview shows once its language is known."""
        if self.disposition != RESULTS_ONLY:
            return self.go_to(self.item)
        return self.show_menu("visitor") if self.wave.closed else self.see_results()

    def invalid(self, several: bool = False) -> Screen:
        """The same screen under a line that says what to press; other ways out after three in a row."""
        self.several = several
        self.tries += 1
        self.wrong += 1
        self.effects.append(InvalidReply(self.at, self.tries))
        if self.stage == "item":
            if self.tries >= _PATIENCE:
                return self.show_menu("stuck")
            self.page = 0
            return self.show_item()
        if self.tries >= _PATIENCE:
            return self.stop()
        if self.stage == "results":  # a full screen, whose last line says what to press
            return self.show_results(again=True)
        if self.stage == "which_region":
            return self.show_regions()
        try:
            return self.show_menu(self.stage, prompt(self.wave, self.language, "invalid_choice"))
        except LayoutError:  # under a last word, on a narrow screen: the menu says what may be pressed
            return self.show_menu(self.stage)

    # ---- where to

    def drawn_items(self) -> str:
        """The attribute items in the order drawn, by id; "" when the questionnaire's order holds."""
        if not self.before.shuffled:
            return ""
        return " ".join(item.id for item in self._order.items if item.role == "attribute")

    def previous(self) -> Item | None:
        """The item answered before the current one, if one may go back to it."""
        return self._order.previous(self.at, self.answers)

    def record(self, item: Item, mark: str, option: str, code: int) -> Screen:
        """The answer and what follows from it."""
        changed = self.answers[item.index] not in (UNANSWERED, mark)
        seconds = round(max(0, self.now - self.shown_at) / 1000, 1)
        crossed = any(item.id in quota.items for quota in self.wave.quotas)
        cells = self.cells() if crossed else None
        self.answers = self.answers[: item.index] + mark + self.answers[item.index + 1 :]
        if crossed:
            given = code if mark == NUMBER_GIVEN else None
            self.numbers = with_number(self.wave, self.numbers, item, given)
        self.effects.append(ResponseGiven(item.id, option, code, seconds, self.wrong + 1))
        if item.role == "consent" and option not in item.ends:
            self.effects.append(Consented(self.wave.instrument.consent_version))
        if option and option == item.skips_block:
            self.effects.append(BlockSkipped(self.wave.instrument.blocks[item.block].id))
        if changed and item.routes:
            self.retract()
        if option in item.ends:
            self.disposition = item.ends[option]
            self.effects.append(Ended(self.disposition))
            return self.part()
        entered = self.cells() if crossed else None
        if entered is not None and entered != cells:
            self.effects.append(CellsEntered(entered))
            if self.full:
                self.disposition = QUOTA_FULL
                self.effects.append(Ended(QUOTA_FULL))
                return self.part()
        return self.advance(item)

    def cells(self) -> dict[str, str] | None:
        """The quota cells that the answers fall in; None until all that the quotas cross is asked."""
        quotas, instrument = self.wave.quotas, self.wave.instrument
        if not quotas or not all_asked(quotas, instrument, self.answers):
            return None
        return cells_of(quotas, instrument, self.answers, self.numbers)

    def withdraw(self) -> Screen:
        """The answers leave the interview for good; asked again, the same receipt."""
        if self.disposition != "withdrawn":
            self.receipt = receipt(self.before.seed, self.before.id)
            self.answers = UNANSWERED * len(self.answers)
            self.numbers = ""
            self.disposition = "withdrawn"
            self.effects.append(ErasureRequested(self.receipt))
        return self.part()

    def retract(self) -> None:
        """Answers to items that no longer apply go; forward only, so one pass settles it."""
        for item in self._order.items:
            if self.answers[item.index] != UNANSWERED and not item.applies(self.answers):
                self.answers = self.answers[: item.index] + UNANSWERED + self.answers[item.index + 1 :]
                self.effects.append(ResponseRetracted(item.id))

    def advance(self, item: Item) -> Screen:
        """To the next item, by way of the pause between two service blocks."""
        follows = self._order.following(self.answers)
        if follows is None:
            self.disposition = "complete"
            self.effects.append(Ended("complete"))
            asked = "results_by_sms" in self.wave.instrument.languages[self.language].prompts
            return self.show_menu("by_sms") if self.wave.sharing.by_sms and asked else self.part()
        blocks = self.wave.instrument.blocks
        if item.block != follows.block and blocks[item.block].drawn and blocks[follows.block].drawn:
            self.arrive(follows)
            return self.show_menu("pause") if self.before.mode != "sms" else self.show_item()
        return self.go_to(follows)


def skip_reasons(item: Item) -> tuple[str, ...]:
    """The reasons for skipping that an item allows, as offered: "I don't know" before "I'd rather not
    say", so that nobody refuses for want of an answer."""
    return tuple(n for n in ("dont_know", "refused", "not_applicable") if n in item.nonresponse)


# ---------------------------------------------------------------- dialling


def _dial(wave: Wave, interview: Interview | None, event: Dialled) -> Step:
    if interview is None or begins_anew(wave, interview, event.at):
        return _begin(wave, event)
    before = interview.mode
    interview = replace(interview, mode=event.mode, budget=event.budget)
    turn = _Turn(wave, interview, event.at, event.full)
    consent = wave.instrument.items[0]
    turn.tries, turn.wrong, turn.page, turn.several, turn.region = 0, 0, 0, False, ""
    if event.results and wave.results is not None:
        turn.effects.append(MenuChosen("dial", "results"))
        return turn.done(turn.see_results())
    if turn.disposition == "withdrawn":
        return turn.done(turn.part())
    if wave.closed and turn.disposition != "complete":
        turn.effects.append(MenuChosen("dial", "closed"))
        if heard_when_closed(wave, interview):
            return turn.done(turn.show_menu("closed"))
        anew = turn.disposition == RESULTS_ONLY and len(wave.languages) > 1
        return turn.done(turn.show_menu("language" if anew else "visitor"))
    if lapsed(wave, interview, event.at):
        turn.disposition = LAPSED
        turn.effects.append(MenuChosen("dial", "lapsed"))
        return turn.done(turn.show_menu("lapsed"))
    turn.effects.append(Resumed(turn.at))
    if turn.disposition == "complete":
        return turn.done(turn.show_menu("finished"))
    if event.mode != before:
        turn.effects.append(ModeChanged(event.mode))
    if turn.disposition == QUOTA_FULL and turn.full:
        return turn.done(turn.show_menu("finished"))
    if turn.disposition == QUOTA_FULL:  # there is room again: it goes on where it ended
        turn.disposition = ""
        turn.effects.append(CellsEntered(turn.cells() or {}))
        screen = turn.advance(turn.item)
        return turn.done(screen if screen.ends or event.mode == "sms" else turn.show_menu("resume"))
    if turn.disposition == RESULTS_ONLY:
        turn.disposition = ""
    if turn.disposition:  # refusal, ineligible: ask again, people mistype
        turn.disposition = ""
        turn.answers = turn.answers[: turn.item.index] + UNANSWERED + turn.answers[turn.item.index + 1 :]
        turn.effects.append(ResponseRetracted(turn.at))
        return turn.done(turn.go_to(turn.item))
    if turn.answers[consent.index] == UNANSWERED:
        if len(wave.languages) > 1:
            return turn.done(turn.show_menu("language"))
        return turn.done(turn.go_to(turn.item))
    if event.mode == "sms":
        return turn.done(turn.go_to(turn.item))
    return turn.done(turn.show_menu("resume"))


def begins_anew(wave: Wave, interview: Interview, now: int) -> bool:
    """Whether a dial begins a new interview at once: the old one is too old to go on with, and has no
    answers under a consent that its respondent might withdraw."""
    return lapsed(wave, interview, now) and not _consented(wave, interview)


def heard_when_closed(wave: Wave, interview: Interview | None) -> bool:
    """Whether a dial in a closed wave has a dialogue even without results: who has answers there that may
    be withdrawn, or has done so."""
    if interview is None or interview.disposition in ("refusal", "ineligible"):
        return False
    return interview.disposition == "withdrawn" or _consented(wave, interview)


def _consented(wave: Wave, interview: Interview) -> bool:
    consent = wave.instrument.items[0]
    options = consent.scale.options if consent.scale else ()
    given = interview.answers[consent.index]
    return any(o.mark == given and o.id not in consent.ends for o in options)


def lapsed(wave: Wave, interview: Interview, now: int) -> bool:
    """Unfinished for longer than the resume window. What is finished stays so."""
    if interview.disposition in ("complete", "withdrawn", QUOTA_FULL):
        return False
    return now - interview.last_at > wave.resume_hours * 3_600_000


def _begin(wave: Wave, event: Dialled) -> Step:
    order = draw(wave, event.seed)
    instrument = wave.instrument
    interview = Interview(
        id=event.id,
        instrument=instrument.reference,
        wave=wave.id,
        language=wave.languages[0],
        mode=event.mode,
        budget=event.budget,
        seed=event.seed,
        blocks="".join(f"{b:02x}" for b in order),
        answers=UNANSWERED * len(instrument.items),
        at=instrument.items[0].id,
        shown_at=event.at,
        last_at=event.at,
        shuffled=wave.shuffle_items,
    )
    turn = _Turn(wave, interview, event.at)
    turn.effects.append(
        Began(
            instrument.reference, wave.id, interview.language, event.mode, event.seed,
            " ".join(instrument.blocks[b].id for b in order), probabilities(wave), turn.drawn_items(),
        )
    )  # fmt: skip
    visiting = wave.results is not None and (event.results or wave.closed)
    if visiting:
        turn.disposition = RESULTS_ONLY
        turn.effects.append(Ended(RESULTS_ONLY))
    screen = turn.show_menu("language") if len(wave.languages) > 1 else turn.enter()
    for key in () if visiting else event.ahead:
        if turn.stage == "item" and turn.item.role == "consent":
            break  # consent is given on its own screen or not at all
        tries = turn.tries
        screen = _REPLY[turn.stage](turn, clean(key))
        if screen.ends or turn.tries > tries:
            break
    return turn.done(screen)


# ---------------------------------------------------------------- replies, by stage


def _reply_language(turn: _Turn, reply: str) -> Screen:
    languages = turn.wave.languages
    names = [turn.wave.instrument.languages[x].name for x in languages]
    chosen = match_option(reply, names)
    if chosen is None:
        turn.tries += 1
        turn.effects.append(InvalidReply("language", turn.tries))
        return turn.show_menu("language") if turn.tries < _PATIENCE else turn.stop()
    turn.language = languages[chosen]
    turn.effects.append(LanguageChosen(turn.language))
    return turn.enter()


def _reply_item(turn: _Turn, reply: str) -> Screen:
    item = turn.item
    if reply == BACK:
        if turn.page:
            turn.page -= 1
            turn.effects.append(PageTurned(item.id, turn.page))
            return turn.show_item()
        before = turn.previous()
        if before is None:
            return turn.invalid()
        turn.effects.append(WentBack(before.id))
        return turn.go_to(before)
    if item.nonresponse and reply == skip_key(item):
        return turn.show_menu("why")
    if item.scale is None:
        value = read_number(reply, item.least, item.most)
        if value is not None:
            return turn.record(item, NUMBER_GIVEN, "", value)
    else:
        chosen = match_option(reply, option_labels(turn.wave, turn.language, item.index))
        if chosen is not None:
            option = item.scale.options[chosen]
            return turn.record(item, option.mark, option.id, option.code)
    if reply == MORE:
        before_page, turn.page = turn.page, turn.page + 1
        screen = turn.show_item()
        if turn.page > before_page:
            turn.effects.append(PageTurned(item.id, turn.page))
            return screen
    labels = option_labels(turn.wave, turn.language, item.index)
    return turn.invalid(turn.before.mode == "sms" and several(reply, labels))


def _choice(turn: _Turn, reply: str) -> str | None:
    """The option of the current menu that a reply names, noted as an effect."""
    options = turn.menu().options
    prompts = turn.wave.instrument.languages[turn.language].prompts
    chosen = match_option(reply, [prompts[o] for o in options])
    if chosen is None:
        return None
    turn.effects.append(MenuChosen(turn.stage, options[chosen]))
    return options[chosen]


def _reply_why(turn: _Turn, reply: str) -> Screen:
    if reply == BACK:
        turn.effects.append(MenuChosen("why", "back"))
        turn.tries = 0
        return turn.show_item()
    item = turn.item
    tries, turn.tries = turn.tries, 0
    reason = _choice(turn, reply)
    if reason is None:
        turn.tries = tries
        return turn.invalid()
    return turn.record(item, NONRESPONSE_MARKS[reason], reason, turn.wave.instrument.codes[reason])


def _reply_stuck(turn: _Turn, reply: str) -> Screen:
    match _choice(turn, reply):
        case "try_again":
            turn.page, turn.tries = 0, 0
            return turn.show_item()
        case "skip_question":
            return turn.show_menu("why")
        case "stop":
            return turn.stop()
        case _:
            return turn.invalid()


def _reply_pause(turn: _Turn, reply: str) -> Screen:
    match _choice(turn, reply):
        case "go_on":
            return turn.go_to(turn.item)
        case "stop_for_now":
            return turn.stop()
        case _:
            return turn.invalid()


def _reply_resume(turn: _Turn, reply: str) -> Screen:
    match _choice(turn, reply):
        case "go_on":
            return turn.go_to(turn.item)
        case "see_results":
            return turn.see_results()
        case "withdraw":
            return turn.show_menu("withdraw")
        case _:
            return turn.invalid()


def _reply_lapsed(turn: _Turn, reply: str) -> Screen:
    match _choice(turn, reply):
        case "begin_again" if turn.wave.closed:  # since that menu was shown
            return turn.end("wave_closed")
        case "begin_again":
            before = turn.before
            dialled = Dialled(
                turn.now, f"{mix(int(before.id, 16), turn.now):016x}", before.seed, before.mode, before.budget
            )
            turn.successor = _begin(turn.wave.today or turn.wave, dialled)
            return turn.successor.screen
        case "withdraw":
            return turn.show_menu("withdraw")
        case _:
            return turn.invalid()


#: The menu that a change of mind about withdrawing leads back to, by disposition.
_BEFORE_WITHDRAWAL = {QUOTA_FULL: "finished", LAPSED: "lapsed"}


def _reply_withdraw(turn: _Turn, reply: str) -> Screen:
    match _choice(turn, reply):
        case "withdraw_yes":
            return turn.withdraw()
        case "withdraw_no":
            unfinished = "closed" if turn.wave.closed else _BEFORE_WITHDRAWAL.get(turn.disposition, "resume")
            return turn.show_menu("finished" if turn.disposition == "complete" else unfinished)
        case _:
            return turn.invalid()


def _reply_by_sms(turn: _Turn, reply: str) -> Screen:
    match _choice(turn, reply):
        case "by_sms_yes":
            turn.effects.append(ResultsWanted())
            return turn.part()
        case "by_sms_no":
            return turn.part()
        case _:
            return turn.invalid()


def _reply_results(turn: _Turn, reply: str) -> Screen:
    names = [name for name, _ in turn.results_pages()]
    if not names:
        return turn.end("results_unpublished")
    turn.page = min(turn.page, len(names) - 1)
    after = names[turn.page + 1 : turn.page + 2]
    tries, turn.tries = turn.tries, 0
    if reply == BACK:
        turn.page -= 1
        return turn.show_results() if turn.page >= 0 else turn.leave_results()
    if reply == MORE:
        unknown = REGION not in names and bool(turn.wave.results and turn.wave.results.regions)
        if unknown and names[turn.page] == NATIONAL and after != [NATIONAL]:
            turn.page = 0
            return turn.show_regions()
        if after:
            turn.page += 1
            return turn.show_results()
    turn.tries = tries
    return turn.invalid()


def _reply_which_region(turn: _Turn, reply: str) -> Screen:
    results = turn.wave.results
    if results is None:
        return turn.end("results_unpublished")
    tries, turn.tries, page = turn.tries, 0, turn.page
    if reply == BACK and page:
        turn.page = page - 1
        return turn.show_regions()
    if reply == BACK:
        names = [name for name, _ in turn.results_pages()]
        turn.page = names.count(NATIONAL) - 1
        return turn.show_results()
    if reply == MORE:
        turn.page = page + 1
        screen = turn.show_regions()
        if turn.page > page:
            return screen
    elif reply == SKIP and turn.results_pages()[-1][0] == DID:
        turn.page = [name for name, _ in turn.results_pages()].index(DID)
        return turn.show_results()
    else:
        chosen = match_option(reply, region_names(results, turn.language))
        if chosen is not None:
            turn.region = list(results.regions)[chosen]
            turn.page = [name for name, _ in turn.results_pages()].index(REGION)
            return turn.show_results()
    turn.tries = tries
    return turn.invalid()


def _reply_over(turn: _Turn, reply: str) -> Screen:
    """The session is over; the host repeats the last screen and does not come here."""
    return turn.end("session_over")


_REPLY: dict[str, Callable[[_Turn, str], Screen]] = {
    "language": _reply_language,
    "item": _reply_item,
    "why": _reply_why,
    "stuck": _reply_stuck,
    "pause": _reply_pause,
    "resume": _reply_resume,
    "finished": _reply_resume,
    "lapsed": _reply_lapsed,
    "closed": _reply_resume,
    "withdraw": _reply_withdraw,
    "parting": _reply_resume,
    "visitor": _reply_resume,
    "by_sms": _reply_by_sms,
    "results": _reply_results,
    "which_region": _reply_which_region,
    "over": _reply_over,
}
