"""An item and its reply: an answer and what follows from it, a page, the way back, skipping, the pause.

Rules 2 to 7, 15 and 16 in engine.py.
"""

from flows.events import (
    BlockSkipped,
    CellsEntered,
    Consented,
    Ended,
    MenuChosen,
    PageTurned,
    ResponseGiven,
    ResponseRetracted,
    WentBack,
)
from flows.instrument import NONRESPONSE_MARKS, NUMBER_GIVEN, UNANSWERED, Item
from flows.interview import QUOTA_FULL, RESULTS_ONLY, with_number
from flows.quotas import all_asked, cells_of
from flows.reading import match_option, read_number, several
from flows.results_dialogue import see_results
from flows.screen import BACK, MORE, choices, option_labels, skip_key
from flows.turn import Screen, Turn

# ---------------------------------------------------------------- replies, by stage


def reply_item(turn: Turn, reply: str) -> Screen:
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
            return _record(turn, item, NUMBER_GIVEN, "", value)
    else:
        offered = choices(turn.wave, turn.language, item.index, turn.before.mode)
        chosen = match_option(reply, offered)
        if chosen == len(item.scale.options):
            return _results_instead(turn)
        if chosen is not None:
            option = item.scale.options[chosen]
            return _record(turn, item, option.mark, option.id, option.code)
    if reply == MORE:
        before_page, turn.page = turn.page, turn.page + 1
        screen = turn.show_item()
        if turn.page > before_page:
            turn.effects.append(PageTurned(item.id, turn.page))
            return screen
    labels = option_labels(turn.wave, turn.language, item.index)
    return turn.invalid(turn.before.mode == "sms" and several(reply, labels))


def _results_instead(turn: Turn) -> Screen:
    """The results, from the question whether to take part: no answer to it. The way back asks it again."""
    turn.effects.append(MenuChosen(turn.stage, "see_results"))
    turn.disposition = RESULTS_ONLY
    turn.effects.append(Ended(RESULTS_ONLY))
    return see_results(turn)


def reply_why(turn: Turn, reply: str) -> Screen:
    if reply == BACK:
        turn.effects.append(MenuChosen("why", "back"))
        turn.tries = 0
        return turn.show_item()
    item = turn.item
    tries, turn.tries = turn.tries, 0
    reason = turn.choice(reply)
    if reason is None:
        turn.tries = tries
        return turn.invalid()
    return _record(turn, item, NONRESPONSE_MARKS[reason], reason, turn.wave.instrument.codes[reason])


def reply_stuck(turn: Turn, reply: str) -> Screen:
    match turn.choice(reply):
        case "try_again":
            turn.page, turn.tries = 0, 0
            return turn.show_item()
        case "skip_question":
            return turn.show_menu("why")
        case "stop":
            return turn.stop()
        case _:
            return turn.invalid()


def reply_pause(turn: Turn, reply: str) -> Screen:
    match turn.choice(reply):
        case "go_on":
            return turn.go_to(turn.item)
        case "stop_for_now":
            return turn.stop()
        case _:
            return turn.invalid()


# ---------------------------------------------------------------- an answer, and what follows


def _record(turn: Turn, item: Item, mark: str, option: str, code: int) -> Screen:
    """The answer and what follows from it."""
    changed = turn.answers[item.index] not in (UNANSWERED, mark)
    seconds = round(max(0, turn.now - turn.shown_at) / 1000, 1)
    crossed = any(item.id in quota.items for quota in turn.wave.quotas)
    before = cells(turn) if crossed else None
    turn.answers = turn.answers[: item.index] + mark + turn.answers[item.index + 1 :]
    if crossed:
        given = code if mark == NUMBER_GIVEN else None
        turn.numbers = with_number(turn.wave, turn.numbers, item, given)
    turn.effects.append(ResponseGiven(item.id, option, code, seconds, turn.wrong + 1))
    if item.role == "consent" and option not in item.ends:
        turn.effects.append(Consented(turn.wave.instrument.consent_version))
    if option and option == item.skips_block:
        turn.effects.append(BlockSkipped(turn.wave.instrument.blocks[item.block].id))
    if changed and item.routes:
        _retract(turn)
    if option in item.ends:
        turn.disposition = item.ends[option]
        turn.effects.append(Ended(turn.disposition))
        return turn.part()
    entered = cells(turn) if crossed else None
    if entered is not None and entered != before:
        turn.effects.append(CellsEntered(entered))
        if turn.full:
            turn.disposition = QUOTA_FULL
            turn.effects.append(Ended(QUOTA_FULL))
            return turn.part()
    return advance(turn, item)


def cells(turn: Turn) -> dict[str, str] | None:
    """The quota cells that the answers fall in; None until all that the quotas cross is asked."""
    quotas, instrument = turn.wave.quotas, turn.wave.instrument
    if not quotas or not all_asked(quotas, instrument, turn.answers):
        return None
    return cells_of(quotas, instrument, turn.answers, turn.numbers)


def _retract(turn: Turn) -> None:
    """Answers to items that no longer apply go; forward only, so one pass settles it."""
    for item in turn.order.items:
        if turn.answers[item.index] != UNANSWERED and not item.applies(turn.answers):
            turn.answers = turn.answers[: item.index] + UNANSWERED + turn.answers[item.index + 1 :]
            turn.effects.append(ResponseRetracted(item.id))


def advance(turn: Turn, item: Item) -> Screen:
    """To the next item, by way of the pause between two service blocks."""
    follows = turn.order.following(turn.answers)
    if follows is None:
        turn.disposition = "complete"
        turn.effects.append(Ended("complete"))
        asked = "results_by_sms" in turn.wave.instrument.languages[turn.language].prompts
        return turn.show_menu("by_sms") if turn.wave.sharing.by_sms and asked else turn.part()
    blocks = turn.wave.instrument.blocks
    if item.block != follows.block and blocks[item.block].drawn and blocks[follows.block].drawn:
        turn.arrive(follows)
        return turn.show_menu("pause") if turn.before.mode != "sms" else turn.show_item()
    return turn.go_to(follows)
