"""The results in the dialogue: the ways to them, from one screen to the next, and back.

Rules 16 and 17 in engine.py. What the screens show: results_pages.py.
"""

from flows.events import ResultsSeen, ResultsWanted
from flows.interview import BACK_TO_QUESTION, LAPSED, QUOTA_FULL, RESULTS_ONLY, consented, lapsed
from flows.reading import match_option
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
from flows.screen import BACK, MORE, SKIP
from flows.turn import Screen, Turn


def see_results(turn: Turn) -> Screen:
    """The first of the results' screens; by SMS all in one text."""
    results = turn.wave.results
    if results is None:
        return turn.end("results_unpublished")
    turn.region = region_of(turn.wave.instrument, turn.answers)
    if turn.before.mode == "sms":
        turn.stage = "over"
        turn.effects.append(ResultsSeen(TEXT))
        return Screen(results_text(results, turn.language, turn.region), ends=True)
    turn.page, turn.tries = 0, 0
    return _show_results(turn)


def reply_results(turn: Turn, reply: str) -> Screen:
    names = [name for name, _ in _pages(turn)]
    if not names:
        return turn.end("results_unpublished")
    turn.page = min(turn.page, len(names) - 1)
    after = names[turn.page + 1 : turn.page + 2]
    tries, turn.tries = turn.tries, 0
    if reply == BACK:
        turn.page -= 1
        return _show_results(turn) if turn.page >= 0 else _leave(turn)
    if reply == MORE:
        unknown = REGION not in names and bool(turn.wave.results and turn.wave.results.regions)
        if unknown and names[turn.page] == NATIONAL and after != [NATIONAL]:
            turn.page = 0
            return _show_regions(turn)
        if after:
            turn.page += 1
            return _show_results(turn)
    turn.tries = tries
    return turn.invalid(anew=_the_same_results)


def reply_which_region(turn: Turn, reply: str) -> Screen:
    results = turn.wave.results
    if results is None:
        return turn.end("results_unpublished")
    tries, turn.tries, page = turn.tries, 0, turn.page
    if reply == BACK and page:
        turn.page = page - 1
        return _show_regions(turn)
    if reply == BACK:
        names = [name for name, _ in _pages(turn)]
        turn.page = names.count(NATIONAL) - 1
        return _show_results(turn)
    if reply == MORE:
        turn.page = page + 1
        screen = _show_regions(turn)
        if turn.page > page:
            return screen
    elif reply == SKIP and _pages(turn)[-1][0] == DID:
        turn.page = [name for name, _ in _pages(turn)].index(DID)
        return _show_results(turn)
    else:
        chosen = match_option(reply, region_names(results, turn.language))
        if chosen is not None:
            turn.region = list(results.regions)[chosen]
            turn.page = [name for name, _ in _pages(turn)].index(REGION)
            return _show_results(turn)
    turn.tries = tries
    return turn.invalid(anew=_show_regions)


def _pages(turn: Turn) -> tuple[Page, ...]:
    """Today's pages for this respondent; empty where there are no results any more."""
    results = turn.wave.results
    if results is None:
        return ()
    return results_pages(results, turn.language, turn.region, turn.before.budget)


def _show_results(turn: Turn, again: bool = False) -> Screen:
    """The results' screen that `page` names: of today's results, whatever they were a hop ago."""
    pages = _pages(turn)
    if not pages:
        return turn.end("results_unpublished")
    turn.stage = "results"
    turn.page = min(turn.page, len(pages) - 1)
    name, text = pages[turn.page]
    if not again:
        turn.effects.append(ResultsSeen(name))
    return Screen(text)


def _the_same_results(turn: Turn) -> Screen:
    return _show_results(turn, again=True)


def _show_regions(turn: Turn) -> Screen:
    """The choice of a region, at `page`."""
    if turn.wave.results is None:
        return turn.end("results_unpublished")
    turn.stage = "which_region"
    pages = region_choice(turn.wave.results, turn.language, turn.before.budget)
    turn.page = min(turn.page, len(pages) - 1)
    return Screen(pages[turn.page])


def _leave(turn: Turn) -> Screen:
    """Back to the menu from which this interview reaches its results."""
    turn.page, turn.region = 0, ""
    if turn.disposition == RESULTS_ONLY and not turn.wave.closed:
        turn.disposition = ""  # by way of the question whether to take part
        turn.effects.append(BACK_TO_QUESTION)
        return turn.go_to(turn.item)
    if turn.disposition == "withdrawn":
        return turn.part()
    if turn.disposition in ("refusal", "ineligible"):
        return turn.show_menu("visitor") if turn.wave.closed else turn.part()
    if turn.disposition in ("complete", QUOTA_FULL):
        return turn.show_menu("finished")
    if turn.wave.closed:
        return turn.show_menu("closed" if consented(turn.wave, turn.before) else "visitor")
    if lapsed(turn.wave, turn.before, turn.now):
        turn.disposition = LAPSED
        return turn.show_menu("lapsed")
    return turn.show_menu("resume") if consented(turn.wave, turn.before) else turn.go_to(turn.item)


def reply_by_sms(turn: Turn, reply: str) -> Screen:
    match turn.choice(reply):
        case "by_sms_yes":
            turn.effects.append(ResultsWanted())
            return turn.part()
        case "by_sms_no":
            return turn.part()
        case _:
            return turn.invalid()
