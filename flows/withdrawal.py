"""Withdrawal: confirmed once, then the answers leave the interview. Rule 10 in engine.py."""

from flows.draw import receipt
from flows.events import ErasureRequested
from flows.instrument import UNANSWERED
from flows.interview import LAPSED, QUOTA_FULL
from flows.turn import Screen, Turn

#: The menu that a change of mind about withdrawing leads back to, by disposition.
_BEFORE_WITHDRAWAL = {QUOTA_FULL: "finished", LAPSED: "lapsed"}


def reply_withdraw(turn: Turn, reply: str) -> Screen:
    match turn.choice(reply):
        case "withdraw_yes":
            return withdraw(turn)
        case "withdraw_no":
            unfinished = "closed" if turn.wave.closed else _BEFORE_WITHDRAWAL.get(turn.disposition, "resume")
            return turn.show_menu("finished" if turn.disposition == "complete" else unfinished)
        case _:
            return turn.invalid()


def withdraw(turn: Turn) -> Screen:
    """The answers leave the interview for good; asked again, the same receipt."""
    if turn.disposition != "withdrawn":
        turn.receipt = receipt(turn.before.seed, turn.before.id)
        turn.answers = UNANSWERED * len(turn.answers)
        turn.numbers = ""
        turn.disposition = "withdrawn"
        turn.effects.append(ErasureRequested(turn.receipt))
    return turn.part()
