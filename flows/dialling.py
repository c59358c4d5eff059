"""A dial: a new interview with its draw and its language, or the menu that an older one finds.

Rules 1, 8, 9, 12 to 14 in engine.py.
"""

from dataclasses import replace

from flows.answering import advance, cells
from flows.draw import draw, mix, probabilities
from flows.events import (
    Began,
    CellsEntered,
    Dialled,
    Ended,
    InvalidReply,
    LanguageChosen,
    MenuChosen,
    ModeChanged,
    ResponseRetracted,
    Resumed,
)
from flows.instrument import UNANSWERED
from flows.interview import LAPSED, QUOTA_FULL, RESULTS_ONLY, Interview, heard_when_closed, lapsed
from flows.reading import match_option
from flows.results_dialogue import see_results
from flows.turn import PATIENCE, Screen, Step, Turn
from flows.wave import Wave

# ---------------------------------------------------------------- a new interview


def begin(wave: Wave, event: Dialled) -> tuple[Turn, Screen]:
    """A new interview, at its first screen."""
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
    turn = Turn(wave, interview, event.at)
    turn.effects.append(
        Began(
            instrument.reference, wave.id, interview.language, event.mode, event.seed,
            " ".join(instrument.blocks[b].id for b in order), probabilities(wave), _drawn_items(turn),
        )
    )  # fmt: skip
    visiting = wave.results is not None and (event.results or wave.closed)
    if visiting:
        turn.disposition = RESULTS_ONLY
        turn.effects.append(Ended(RESULTS_ONLY))
    screen = turn.show_menu("language") if len(wave.languages) > 1 else _enter(turn)
    return turn, screen


def _drawn_items(turn: Turn) -> str:
    """The attribute items in the order drawn, by id; "" when the questionnaire's order holds."""
    if not turn.before.shuffled:
        return ""
    return " ".join(item.id for item in turn.order.items if item.role == "attribute")


def reply_language(turn: Turn, reply: str) -> Screen:
    languages = turn.wave.languages
    names = [turn.wave.instrument.languages[x].name for x in languages]
    chosen = match_option(reply, names)
    if chosen is None:
        turn.tries += 1
        turn.effects.append(InvalidReply("language", turn.tries))
        return turn.show_menu("language") if turn.tries < PATIENCE else turn.stop()
    turn.language = languages[chosen]
    turn.effects.append(LanguageChosen(turn.language))
    return _enter(turn)


def _enter(turn: Turn) -> Screen:
    """What a new interview shows once its language is known."""
    if turn.disposition != RESULTS_ONLY:
        return turn.go_to(turn.item)
    return turn.show_menu("visitor") if turn.wave.closed else see_results(turn)


# ---------------------------------------------------------------- an interview is there


def dial_again(wave: Wave, interview: Interview, event: Dialled) -> Step:
    """A dial that finds an interview, and does not begin another."""
    before = interview.mode
    interview = replace(interview, mode=event.mode, budget=event.budget)
    turn = Turn(wave, interview, event.at, event.full)
    consent = wave.instrument.items[0]
    turn.tries, turn.wrong, turn.page, turn.several, turn.region = 0, 0, 0, False, ""
    if event.results and wave.results is not None:
        turn.effects.append(MenuChosen("dial", "results"))
        return turn.done(see_results(turn))
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
        turn.effects.append(CellsEntered(cells(turn) or {}))
        screen = advance(turn, turn.item)
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


def reply_menu(turn: Turn, reply: str) -> Screen:
    """Of every menu that offers some of: to go on, the results, to withdraw."""
    match turn.choice(reply):
        case "go_on":
            return turn.go_to(turn.item)
        case "see_results":
            return see_results(turn)
        case "withdraw":
            return turn.show_menu("withdraw")
        case _:
            return turn.invalid()


def reply_lapsed(turn: Turn, reply: str) -> Screen:
    match turn.choice(reply):
        case "begin_again" if turn.wave.closed:  # since that menu was shown
            return turn.end("wave_closed")
        case "begin_again":
            before = turn.before
            dialled = Dialled(
                turn.now, f"{mix(int(before.id, 16), turn.now):016x}", before.seed, before.mode, before.budget
            )
            new, screen = begin(turn.wave.today or turn.wave, dialled)
            turn.successor = new.done(screen)
            return screen
        case "withdraw":
            return turn.show_menu("withdraw")
        case _:
            return turn.invalid()
