"""A turn of the dialogue: what it may change of an interview, and the screens that every subject shows.

An item, a menu, a last word; and the same again under a line that says what to press, for a reply that no
rule accepts. What a reply means and what follows from it: one file a subject, see engine.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flows.events import Effect, InvalidReply, MenuChosen
from flows.instrument import PROMPTS, UNANSWERED, Item
from flows.interview import LAPSED, QUOTA_FULL, Interview, order_of
from flows.reading import match_option
from flows.screen import (
    LayoutError,
    Menu,
    item_pages,
    language_screen,
    menu_screen,
    prompt,
    skip_reasons,
)
from flows.wave import Wave

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
PATIENCE = 3  # wrong keys in a row before other ways are offered


@dataclass(frozen=True, slots=True)
class Screen:
    text: str
    ends: bool = False  # the session is over once it is shown


@dataclass(frozen=True, slots=True)
class Step:
    interview: Interview
    screen: Screen
    effects: tuple[Effect, ...]


class Turn:
    """The parts of an interview that a turn may change, and the effects so far."""

    __slots__ = (
        "answers",
        "at",
        "before",
        "disposition",
        "effects",
        "full",
        "language",
        "now",
        "numbers",
        "order",
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
        self.order = order_of(wave.instrument, interview)

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

    def previous(self) -> Item | None:
        """The item answered before the current one, if one may go back to it."""
        return self.order.previous(self.at, self.answers)

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
            drawn = [i.block for i in self.order.items if self.wave.instrument.blocks[i.block].drawn]
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

    # ---- replies

    def choice(self, reply: str) -> str | None:
        """The option of the current menu that a reply names, noted as an effect."""
        options = self.menu().options
        prompts = self.wave.instrument.languages[self.language].prompts
        chosen = match_option(reply, [prompts[o] for o in options])
        if chosen is None:
            return None
        self.effects.append(MenuChosen(self.stage, options[chosen]))
        return options[chosen]

    def invalid(self, several: bool = False, anew: "Callable[[Turn], Screen] | None" = None) -> Screen:
        """The same screen under a line that says what to press; other ways out after three in a row.

        `anew` shows a screen that is neither an item nor a menu. It is full: its own last line says that."""
        self.several = several
        self.tries += 1
        self.wrong += 1
        self.effects.append(InvalidReply(self.at, self.tries))
        if self.stage == "item":
            if self.tries >= PATIENCE:
                return self.show_menu("stuck")
            self.page = 0
            return self.show_item()
        if self.tries >= PATIENCE:
            return self.stop()
        if anew is not None:
            return anew(self)
        try:
            return self.show_menu(self.stage, prompt(self.wave, self.language, "invalid_choice"))
        except LayoutError:  # under a last word, on a narrow screen: the menu says what may be pressed
            return self.show_menu(self.stage)
