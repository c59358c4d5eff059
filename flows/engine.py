"""The dialogue: `step(wave, interview, event) -> Step(interview, screen, effects)`, its rules and stages.

Pure: it reads no clock, no randomness and no environment, and never awaits. Time is a field of the
event, every random choice comes from `Interview.seed`, so a dialogue can be replayed exactly.

The rules are here; what carries them out has a file a subject: dialling.py (a first dial, a later one),
answering.py (items), results_dialogue.py, withdrawal.py, and turn.py for what all of them show.

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
16. Results, once the wave has any, are there for everybody: under the answers to the consent item (who
    chooses them has not refused, and is asked again on the way back), on the menus after a dial, after
    every last word (thanks, refusal, under age, receipt), in a closed wave, and at once for who dials with
    the keys for them. Three screens: the country, the respondent's region, what was done. Whose region is not
    known chooses one, which is no answer. Nothing there changes an answer, and looking is no activity
    that keeps an interview from lapsing. If the wave closes while they are looked at instead of an answer
    to the consent item, the way back does not ask it again, rule 14 notwithstanding. By SMS: one text.
17. Who completes may be asked whether to text them the results (`Wave.sharing`); `ResultsWanted` says yes.

Stages
------
              language ── item ──┬── why (which reason for skipping) ── item
                           │     ├── stuck (three wrong keys)        ── item | why | over
                           │     ├── pause (between service blocks)  ── item | over
                           │     └── results (from the consent)      ── item
   dial again: resume ─────┤
               finished ───┴── results ── over,   withdraw ── resume | finished | lapsed | over
               lapsed ── a new interview | withdraw
               closed ── results ── over,   withdraw ── closed | over
   the end: by_sms ── parting ── results,    a closed wave's stranger: visitor ── results
               results ── which_region ── results;   0 Back: to the menu it was reached from
"""

from collections.abc import Callable
from typing import assert_never

from flows.answering import reply_item, reply_pause, reply_stuck, reply_why
from flows.dialling import begin, dial_again, reply_language, reply_lapsed, reply_menu
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
from flows.interview import (
    LAPSED,
    QUOTA_FULL,
    RESULTS_ONLY,
    Interview,
    answered_marks,
    asked_again,
    begins_anew,
    dump_interview,
    heard_when_closed,
    lapsed,
    load_interview,
    restore,
)
from flows.reading import clean, clean_text
from flows.results_dialogue import reply_by_sms, reply_results, reply_which_region
from flows.screen import skip_reasons
from flows.turn import Screen, Step, Turn
from flows.wave import Wave
from flows.withdrawal import reply_withdraw, withdraw

__all__ = [
    "EFFECTS", "LAPSED", "QUOTA_FULL", "RESULTS_ONLY", "Began", "BlockSkipped", "CellsEntered", "Consented",
    "Dialled", "Effect", "Ended", "ErasureRequested", "Event", "Interview", "InvalidReply", "LanguageChosen",
    "MenuChosen", "ModeChanged", "PageTurned", "Replied", "ResponseGiven", "ResponseRetracted",
    "ResultsSeen", "ResultsWanted", "Resumed", "Screen", "Step", "WentBack", "WithdrawalAsked",
    "answered_marks", "asked_again", "begins_anew", "dump_effect", "dump_interview", "heard_when_closed",
    "lapsed", "load_effect", "load_interview", "restore", "skip_reasons", "step",
]  # fmt: skip


def step(wave: Wave, interview: Interview | None, event: Event) -> Step:
    """One turn of the dialogue. `wave.instrument` must be the version that the interview began with.

    `interview` None is right only for a first dial. The result's interview is to be stored and its
    effects recorded together, before its screen is shown.
    """
    match event:
        case Dialled():
            if interview is not None and not begins_anew(wave, interview, event.at):
                return dial_again(wave, interview, event)
            turn, screen = begin(wave, event)
            return turn.done(_take_ahead(turn, screen, event.ahead))
        case Replied():
            if interview is None:
                raise ValueError("a reply needs the interview it belongs to")
            turn = Turn(wave, interview, event.at, event.full)
            reply = clean_text(event.text) if interview.mode == "sms" else clean(event.text)
            screen = _REPLY[turn.stage](turn, reply)
            return turn.successor or turn.done(screen)
        case WithdrawalAsked():
            if interview is None:
                raise ValueError("a withdrawal needs the interview it belongs to")
            turn = Turn(wave, interview, event.at)
            return turn.done(withdraw(turn))
        case _:
            assert_never(event)


def _take_ahead(turn: Turn, screen: Screen, keys: tuple[str, ...]) -> Screen:
    """The screen after the keys dialled with the code; nothing of them is taken where results are seen."""
    for key in () if turn.disposition == RESULTS_ONLY else keys:
        if turn.stage == "item" and turn.item.role == "consent":
            break  # consent is given on its own screen or not at all
        tries = turn.tries
        screen = _REPLY[turn.stage](turn, clean(key))
        if screen.ends or turn.tries > tries:
            break
    return screen


def _reply_over(turn: Turn, reply: str) -> Screen:
    """The session is over; the host repeats the last screen and does not come here."""
    return turn.end("session_over")


_REPLY: dict[str, Callable[[Turn, str], Screen]] = {
    "language": reply_language,
    "item": reply_item,
    "why": reply_why,
    "stuck": reply_stuck,
    "pause": reply_pause,
    "resume": reply_menu,
    "finished": reply_menu,
    "lapsed": reply_lapsed,
    "closed": reply_menu,
    "withdraw": reply_withdraw,
    "parting": reply_menu,
    "visitor": reply_menu,
    "by_sms": reply_by_sms,
    "results": reply_results,
    "which_region": reply_which_region,
    "over": _reply_over,
}
