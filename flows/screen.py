"""What one screen shows: numbering, paging, alphabet, budgets.

A screen is text in GSM 03.38 within a budget of septets (TS 23.038). Longer content is paged:
`98 More` leads on, `0 Back` leads back, and an option is never cut. Keys count on over the pages,
and every key of the item works on each of its pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from flows.gsm import SMS_PART_SEPTETS, SMS_SEPTETS, fold, septets
from flows.instrument import PROMPTS, Item
from flows.wave import Wave

BACK = "0"
MORE = "98"
SKIP = "99"
#: Where 98 and 99 may be answers, the skip key is one that no number reads as.
SKIP_NUMBER = "00"


class LayoutError(ValueError):
    """A word or an option does not fit on a screen by itself. The text must be made shorter."""


def skip_key(item: Item) -> str:
    """The key that leads to the reasons for skipping `item`."""
    return SKIP_NUMBER if item.kind == "number" and item.most >= int(MORE) else SKIP


def skip_reasons(item: Item) -> tuple[str, ...]:
    """The reasons for skipping that an item allows, as offered: "I don't know" before "I'd rather not
    say", so that nobody refuses for want of an answer."""
    return tuple(n for n in ("dont_know", "refused", "not_applicable") if n in item.nonresponse)


@dataclass(frozen=True, slots=True)
class Menu:
    """A choice that the dialogue itself offers: prompt names for the head and the options."""

    head: str
    options: tuple[str, ...]
    back: bool = False


# ---------------------------------------------------------------- layout


def lay_out(
    head: str,
    lines: Sequence[str],
    *,
    budget: int,
    more: str = "",
    back: str = "",
    first_back: bool = False,
    skip: str = "",
    detail: str = "",
) -> tuple[str, ...]:
    """Pages of at most `budget` septets: `head` broken at words, each of `lines` whole, `detail` after.

    more, back, skip: the hints of the footer ("98 More"), "" = none. `first_back`: whether the first
    page offers the way back too. Raises LayoutError where something cannot fit.
    """
    units = _units(head) + [("\n", line) for line in lines]
    pages: list[str] = []

    def footer(goes_on: bool) -> str:
        hints = (more if goes_on else "", skip, back if pages or first_back else "")
        return " ".join(h for h in hints if h)

    def fill(units: list[tuple[str, str]], follows: bool) -> None:
        while units:
            room = budget - _below(footer(follows))
            if _cost(units) <= room:
                pages.append(_join(units, footer(follows)))
                return
            room = budget - _below(footer(True))
            count = 0
            while count < len(units) and _cost(units[: count + 1]) <= room:
                count += 1
            if count == 0:
                raise LayoutError(f"does not fit on a screen of {budget} septets: {units[0][1][:40]!r}")
            pages.append(_join(units[:count], footer(True)))
            units = units[count:]

    fill(units, bool(detail))
    fill(_units(detail), False)
    return tuple(pages)


def _units(text: str) -> list[tuple[str, str]]:
    """(separator before, word) of a text; line breaks are kept as separators."""
    return [
        ("\n" if first and number else " ", word)
        for number, line in enumerate(text.split("\n"))
        for first, word in ((n == 0, w) for n, w in enumerate(line.split()))
    ]


def _cost(units: Sequence[tuple[str, str]]) -> int:
    return sum(1 + septets(word) for _, word in units) - 1


def _below(footer: str) -> int:
    return 1 + septets(footer) if footer else 0


def _join(units: Sequence[tuple[str, str]], footer: str) -> str:
    body = "".join(sep + word for sep, word in units)[1:]
    return f"{body}\n{footer}" if footer else body


@lru_cache(maxsize=65_536)
def item_pages(
    wave: Wave, language: str, index: int, mode: str, budget: int, back: bool, notice: str
) -> tuple[str, ...]:
    """All pages of an item. `notice`: a line in front, after a wrong key."""
    item = wave.instrument.items[index]
    words = wave.instrument.languages[language]
    prompts = words.prompts
    text = words.items[item.id]
    sms = mode == "sms"
    own = text.sms if sms else text.ussd
    lines = [f"{key} {label}" for key, label in enumerate(choices(wave, language, index, mode), 1)]
    question, detail = _insert(wave, own or text.text), _insert(wave, text.detail)

    def pages(head: str, detail: str) -> tuple[str, ...]:
        return lay_out(
            head,
            lines,
            budget=sms_budget(wave) if sms else budget,
            more=f"{MORE} {fold(prompts['more'])}",
            back=f"{BACK} {fold(prompts['back'])}",
            first_back=back and not sms,
            skip=f"{skip_key(item)} {fold(prompts['skip'])}" if item.nonresponse else "",
            detail=detail,
        )

    if not notice:
        return pages(question, detail)
    together = pages(f"{notice}\n{question}", "")
    if len(together) == 1:
        return together if not detail else pages(f"{notice}\n{question}", detail)
    # The question was read on the screen before: under the notice stand what may be pressed, all of it
    # or as much as fits, and the question after it.
    return pages(notice, "\n".join(filter(None, (question, detail))))


@lru_cache(maxsize=4096)
def option_labels(wave: Wave, language: str, index: int) -> tuple[str, ...]:
    """The options of an item as shown, in the order of their keys."""
    scale = wave.instrument.items[index].scale
    if scale is None:
        return ()
    texts = wave.instrument.languages[language].options[scale.id]
    return tuple(fold(texts[o.id]) for o in scale.options)


def choices(wave: Wave, language: str, index: int, mode: str) -> tuple[str, ...]:
    """What an item offers, in the order of its keys: its options, and after those of the consent the way to
    the results once they are out, which is no answer. A text has the word RESULTS for that."""
    labels = option_labels(wave, language, index)
    if wave.results is None or mode == "sms" or wave.instrument.items[index].role != "consent":
        return labels
    return (*labels, fold(wave.instrument.languages[language].prompts["see_results"]))


@lru_cache(maxsize=16_384)
def menu_screen(
    wave: Wave,
    language: str,
    menu: Menu,
    mode: str,
    budget: int,
    notice: str,
    inserted: tuple[tuple[str, str], ...],
) -> str:
    """The one screen of a menu. Raises LayoutError where it does not fit one."""
    prompts = wave.instrument.languages[language].prompts
    head = fold(prompts[menu.head].format(**dict(inserted)))
    lines = [f"{key} {fold(prompts[o])}" for key, o in enumerate(menu.options, 1)]
    pages = lay_out(
        "\n".join(filter(None, (notice, head))),
        lines,
        budget=sms_budget(wave) if mode == "sms" else budget,
        back=f"{BACK} {fold(prompts['back'])}" if menu.back else "",
        first_back=menu.back,
    )
    if len(pages) != 1:
        raise LayoutError(f"menu {menu.head} takes {len(pages)} screens; shorten its prompts")
    return pages[0]


def language_screen(wave: Wave, budget: int) -> str:
    """The choice of language: who asks, then each language by its own name."""
    names = [fold(wave.instrument.languages[x].name) for x in wave.languages]
    pages = lay_out(fold(wave.owner), [f"{k} {n}" for k, n in enumerate(names, 1)], budget=budget)
    if len(pages) != 1:
        raise LayoutError("the choice of language takes more than one screen; offer fewer languages")
    return pages[0]


@lru_cache(maxsize=4096)
def prompt(wave: Wave, language: str, name: str, inserted: tuple[tuple[str, str], ...] = ()) -> str:
    """A fixed phrase, with its values inserted and folded to the alphabet."""
    return fold(wave.instrument.languages[language].prompts[name].format(**dict(inserted)))


def fixed_text(wave: Wave, language: str, name: str, left: int = 0) -> str:
    """A phrase that is said outside any interview: all it inserts is the wave's, and how many questions
    are `left` to a break-off."""
    values = {
        "code": wave.code, "owner": wave.owner, "contact": wave.contact, "keyword": wave.keywords[0],
        "left": str(left),
    }  # fmt: skip
    inserted = tuple((v, values[v]) for v in sorted(PROMPTS[name]))
    return prompt(wave, language, name, inserted)


def _insert(wave: Wave, text: str) -> str:
    return fold(text.format(owner=wave.owner, contact=wave.contact, code=wave.code))


def sms_budget(wave: Wave) -> int:
    """Septets that an SMS of this wave may take: all of its one part, or less of each of several."""
    return SMS_SEPTETS if wave.sms_parts == 1 else wave.sms_parts * SMS_PART_SEPTETS
