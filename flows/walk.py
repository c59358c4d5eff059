"""One language, mode and budget being walked: what is seen there, and every key that is no answer.

Paging, back, wrong keys, the reasons for skipping, hanging up and dialling again; the choice of language;
the results. Each must lead somewhere, and show a screen that keeps to its budget and alphabet. The
answers, and where they lead: routes.py.
"""

from dataclasses import dataclass, field, replace

from flows.engine import (
    QUOTA_FULL,
    RESULTS_ONLY,
    Dialled,
    Interview,
    InvalidReply,
    Replied,
    Screen,
    Step,
    heard_when_closed,
    skip_reasons,
    step,
)
from flows.gsm import septets, unencodable
from flows.instrument import Fault, Item
from flows.interview import order_of
from flows.questionnaire import UNANSWERED
from flows.reading import clean
from flows.results_pages import results_faults, specimens
from flows.screen import BACK, MORE, SKIP, choices, item_pages, option_labels, skip_key, sms_budget
from flows.wave import Wave

_REPLY_MS = 1000
_AROUND_RESULTS = ("results", "which_region", "parting", "visitor", "finished", "closed", "resume")
_MOST_WRONG_KEYS = 10  # after which a menu without any other way out should have ended


@dataclass
class Walk:
    wave: Wave
    language: str
    mode: str
    budget: int
    faults: dict[Fault, None] = field(default_factory=dict)
    screens: set[str] = field(default_factory=set)
    keys: int = 0

    def __post_init__(self) -> None:
        self.closed = replace(self.wave, closed=True)

    def fault(self, key: str, message: str, file: str = "") -> None:
        self.faults[Fault(file or f"{self.language}.toml", key, message)] = None

    def see(self, key: str, screen: Screen) -> None:
        """Checks a screen that a respondent may meet."""
        if screen.text in self.screens:
            return
        self.screens.add(screen.text)
        if strange := unencodable(screen.text):
            self.fault(key, f"shows {strange}, which GSM 03.38 lacks")
        elif (width := septets(screen.text)) > self.most_septets:
            self.fault(key, f"a screen of {width} septets; at most {self.most_septets} ({self.mode})")

    @property
    def most_septets(self) -> int:
        return self.budget if self.mode == "ussd" else sms_budget(self.wave)

    def take(self, interview: Interview, key: str) -> Step:
        self.keys += 1
        return step(self.wave, interview, Replied(interview.last_at + _REPLY_MS, key))


def expect_valid(walk: Walk, item: Item, key: str, taken: Step) -> None:
    if any(isinstance(e, InvalidReply) for e in taken.effects):
        walk.fault(f"items.{item.id}", f"key {key!r} is shown but leads nowhere")


# ---------------------------------------------------------------- at an item


def pages_of(walk: Walk, interview: Interview, item: Item) -> tuple[str, ...]:
    back = order_of(walk.wave.instrument, interview).previous(item.id, interview.answers) is not None
    return item_pages(walk.wave, walk.language, item.index, walk.mode, walk.budget, back, "")


def try_other_keys(walk: Walk, interview: Interview, item: Item) -> None:
    """Every key that is no answer: paging there and back, back, wrong keys, dialling again."""
    key = f"items.{item.id}"
    pages = pages_of(walk, interview, item)
    here = interview
    for number, page in enumerate(pages):
        walk.see(key, Screen(page))
        if number + 1 < len(pages):
            turned = walk.take(here, MORE)
            expect_valid(walk, item, MORE, turned)
            here = turned.interview
    for _ in pages[1:]:
        turned = walk.take(here, BACK)
        expect_valid(walk, item, BACK, turned)
        here = turned.interview
    if f" {BACK} " in " " + pages[0].rpartition("\n")[2]:  # not the 0 of "00 Skip"
        back = walk.take(interview, BACK)
        walk.see(f"items.{back.interview.at}", back.screen)
        expect_valid(walk, item, BACK, back)
    wrong_keys(walk, item, interview)
    if item.nonresponse:
        wrong_keys(walk, item, walk.take(interview, skip_key(item)).interview)
    _dial_again(walk, interview)


def wrong_keys(walk: Walk, item: Item, interview: Interview) -> None:
    """Wrong keys three times over, then every way out that is offered."""
    here = interview
    for _ in range(3):
        wrong = walk.take(here, "?")
        walk.see(f"items.{item.id}", wrong.screen)
        here = wrong.interview
        if wrong.screen.ends:
            return
        if here.stage == "item":
            _page_on(walk, item, wrong)
    if here.stage != "stuck":
        walk.fault(f"items.{item.id}", "three wrong keys lead to no other way out")
        return
    for way in ("1", "2", "3") if item.nonresponse else ("1", "2"):
        out = walk.take(here, way)
        walk.see(f"items.{item.id}", out.screen)
        expect_valid(walk, item, way, out)
    _wrong_keys_end(walk, item, here)


def _page_on(walk: Walk, item: Item, wrong: Step) -> None:
    """Under the line that a wrong key brings, every option must still be paged to."""
    here, rows = wrong, wrong.screen.text.split("\n")
    while f" {MORE} " in " " + rows[-1]:
        here = walk.take(here.interview, MORE)
        walk.see(f"items.{item.id}", here.screen)
        expect_valid(walk, item, MORE, here)
        if here.effects and isinstance(here.effects[0], InvalidReply):
            return
        rows += here.screen.text.split("\n")
    for number, label in enumerate(option_labels(walk.wave, walk.language, item.index), 1):
        if f"{number} {label}" not in rows:
            walk.fault(f"items.{item.id}", f"option {number} is not shown after a wrong key")


def _wrong_keys_end(walk: Walk, item: Item, stuck: Interview) -> None:
    here = stuck
    for _ in range(3):
        wrong = walk.take(here, "?")
        walk.see("prompts.stuck", wrong.screen)
        here = wrong.interview
    if not wrong.screen.ends:
        walk.fault(f"items.{item.id}", "wrong keys can go on for ever")


def _dial_again(walk: Walk, interview: Interview) -> None:
    if heard_when_closed(walk.closed, interview):
        dialled = Dialled(_REPLY_MS, "0" * 16, 0, walk.mode, walk.budget)
        _menu_again(walk, "wave_closed", step(walk.closed, interview, dialled))
    again = step(walk.wave, interview, Dialled(_REPLY_MS, "0" * 16, 0, walk.mode, walk.budget))
    if again.interview.stage == "resume":
        _menu_again(walk, "welcome_back", again)
    else:
        walk.see("prompts.welcome_back", again.screen)


def _menu_again(walk: Walk, name: str, again: Step) -> None:
    """Every way out of the menu that a dial shows."""
    walk.see(f"prompts.{name}", again.screen)
    for way in range(1, again.screen.text.count("\n") + 1):
        taken = walk.take(again.interview, str(way))
        walk.see(f"prompts.{name}", taken.screen)
        if taken.interview.stage == "withdraw":
            for choice in ("1", "2"):
                walk.see("prompts.withdraw_confirm", walk.take(taken.interview, choice).screen)


def turn_away(walk: Walk, interview: Interview, item: Item, key: str, let_in: Step) -> None:
    """The same answer where a quota cell is full: it ends the interview; a dial is one after the end, or
    goes on where `let_in` does once there is room."""
    here = interview
    key, joint, reason = key.partition("*")
    if joint:
        here = walk.take(interview, key).interview
        key = str(skip_reasons(item).index(reason) + 1)
    walk.keys += 1
    away = step(walk.wave, here, Replied(here.last_at + _REPLY_MS, key, full=True))
    walk.see("prompts.quota_full", away.screen)
    if not away.screen.ends or away.interview.disposition != QUOTA_FULL:
        walk.fault(f"items.{item.id}", "a full quota cell does not end the interview")
        return
    dialled = Dialled(_REPLY_MS, "0" * 16, 0, walk.mode, walk.budget, full=True)
    _menu_again(walk, "finished", step(walk.wave, away.interview, dialled))
    let_in_now = step(walk.wave, away.interview, replace(dialled, full=False))
    walk.see("prompts.welcome_back", let_in_now.screen)
    if let_in_now.interview.at != let_in.interview.at:
        walk.fault(f"items.{item.id}", "once its quota cell has room, the interview does not go on after it")


# ---------------------------------------------------------------- the choice of language


def walk_languages(wave: Wave, mode: str, budget: int) -> dict[Fault, None]:
    """Every key of the choice of language, at once and after wrong keys; then dialling again."""
    walk = Walk(wave, wave.languages[0], mode, budget)
    names = [clean(wave.instrument.languages[x].name) for x in wave.languages]
    if len(set(names)) != len(names):
        walk.fault("languages", "two names read alike once folded to the phone's alphabet", "wave")
    here = step(wave, None, Dialled(0, "0" * 16, 0, mode, budget))
    if len(wave.languages) == 1:
        return walk.faults
    for _ in range(_MOST_WRONG_KEYS):
        walk.see("languages", here.screen)
        for key, language in enumerate(wave.languages, 1):
            chosen = walk.take(here.interview, str(key))
            if (chosen.interview.language, chosen.interview.stage) != (language, "item"):
                walk.fault("languages", f"key {key} does not lead on in {language!r}", "wave")
                continue
            walk.see("consent", chosen.screen)
            again = step(wave, chosen.interview, Dialled(_REPLY_MS, "0" * 16, 0, mode, budget))
            if again.interview.stage != "language":
                walk.fault("languages", f"who dials again cannot choose another than {language!r}", "wave")
        here = walk.take(here.interview, "?")
        if here.screen.ends:
            walk.see("prompts.refusal", here.screen)
            return walk.faults
    walk.fault("languages", "wrong keys can go on for ever", "wave")
    return walk.faults


# ---------------------------------------------------------------- the results


def walk_results(walk: Walk) -> None:
    """The results' screens and texts, as wide as they may come, from every place that leads to them."""
    for number, results in enumerate(specimens(walk.wave, (walk.language,))):
        for fault in results_faults(results, (walk.language,), (walk.budget,), f"{walk.language}.toml"):
            walk.fault("prompts.results_*", fault.message)
        if walk.faults:
            return
        if number:  # the ways there and back are the same
            continue
        out = replace(walk.wave, results=results)
        closed = replace(out, closed=True)
        dialled = Dialled(_REPLY_MS, "0" * 16, 0, walk.mode, walk.budget)
        item = walk.wave.instrument.items[0]
        began = step(out, None, dialled).interview
        agreed = replace(began, answers=_first_answer(item, agrees=True) + began.answers[1:])
        here = [step(out, None, replace(dialled, results=True)), step(closed, None, dialled)]
        for disposition in ("complete", QUOTA_FULL, "refusal", "ineligible", "withdrawn"):
            ended = replace(agreed, disposition=disposition, receipt="MMMMMM")
            here += [step(where, ended, dialled) for where in (out, closed)]
            here.append(step(out, ended, replace(dialled, results=True)))
        here += [step(where, agreed, dialled) for where in (out, closed)]
        if walk.mode == "ussd":
            here += _from_the_consent(replace(walk, wave=out), began)
        for first in here:
            _look_round(walk, out, first)


def _from_the_consent(walk: Walk, began: Interview) -> list[Step]:
    """The way there that stands under the answers to the consent; and every other key of that screen."""
    item = walk.wave.instrument.items[0]
    try_other_keys(walk, began, item)
    *_, last = choices(walk.wave, walk.language, item.index, walk.mode)
    key = str(len(option_labels(walk.wave, walk.language, item.index)) + 1)
    if not any(f"{key} {last}" in page.split("\n") for page in pages_of(walk, began, item)):
        walk.fault(f"items.{item.id}", f"option {key}, the results, is cut; it stands whole on no page")
    seen = walk.take(began, key)
    expect_valid(walk, item, key, seen)
    if seen.interview.disposition != RESULTS_ONLY:
        walk.fault(f"items.{item.id}", f"key {key}, the results, is taken as an answer")
    return [seen]


def _first_answer(item: Item, agrees: bool) -> str:
    """The mark of the consent item's first option that ends the interview, or does not."""
    options = item.scale.options if item.scale else ()
    return next((o.mark for o in options if (o.id in item.ends) != agrees), UNANSWERED)


def _look_round(walk: Walk, wave: Wave, first: Step) -> None:
    """Every key of the results' screens that `first` leads to, each screen once."""
    seen: set[tuple[str, int, str]] = set()
    waiting = [first]
    while waiting:
        taken = waiting.pop()
        walk.see("prompts.results_*", taken.screen)
        here = taken.interview
        at = (here.stage, here.page, here.region)
        if taken.screen.ends or at in seen or here.stage not in _AROUND_RESULTS:
            continue
        seen.add(at)
        for key in ("1", "2", "16", BACK, MORE, SKIP, "?"):
            walk.keys += 1
            following = step(wave, here, Replied(here.last_at + _REPLY_MS, key))
            waiting.append(following)
            if following.interview.answers != here.answers and following.interview.stage != "over":
                walk.fault("prompts.results_*", f"key {key!r} on a screen of results changes an answer")
