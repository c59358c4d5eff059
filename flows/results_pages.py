"""The screens and the text that show a wave's results, each within its budget.

    national ── region ── what was done with it        98 leads on, 0 back; by SMS all in one text

The region is the one that was answered; who has not answered chooses one, which is kept for these screens
only. A figure that may not be shown is named as such. Screens are laid out once and then looked up.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import combinations

from flows.gsm import SMS_PART_SEPTETS, fold, septets, unencodable
from flows.questionnaire import Fault
from flows.results import Figure, Results, Words, region_item, services_of, words_of
from flows.screen import BACK, MORE, SKIP, LayoutError, lay_out
from flows.wave import Wave

NATIONAL, REGION, DID, TEXT = "national", "region", "did", "text"
_SMS_PARTS = 2
SMS_SEPTETS = _SMS_PARTS * SMS_PART_SEPTETS
_SCREENS = 3  # at most, of a network that shows `_USUAL_BUDGET`; narrower ones break them
_USUAL_BUDGET = 160
_MOST_SCREENS = 9  # on the narrowest

#: A page: which of the three it belongs to, and its text.
Page = tuple[str, str]


@lru_cache(maxsize=4096)
def results_pages(results: Results, language: str, region: str, budget: int) -> tuple[Page, ...]:
    """All screens in order. `region`: an option id, "" for none. Raises LayoutError."""
    words = results.words_in(language)
    blocks = [(NATIONAL, national_block(results, words))]
    if region in results.regions:
        blocks.append((REGION, region_block(results, words, region)))
    if words.did:
        blocks.append((DID, (_said(words, "results_did", text=words.did), ())))
    more, back = _footer(words)
    choosing = (
        bool(results.regions) and region not in results.regions
    )  # from the country one chooses a region
    pages: list[Page] = []
    for number, (name, (head, lines)) in enumerate(blocks, 1):
        last = number == len(blocks) and not (choosing and name == NATIONAL)
        # Room for "98 More" on every page but the very last, whatever follows it.
        laid = lay_out(head, lines, budget=budget - (0 if last else septets(more) + 1), more=more, back=back,
                       first_back=True)  # fmt: skip
        pages += [(name, page if last else _leading_on(page, more, back)) for page in laid]
    return tuple(pages)


def _leading_on(page: str, more: str, back: str) -> str:
    body, _, footer = page.rpartition("\n")
    return f"{body}\n{footer if footer.startswith(more) else f'{more} {back}'}"


@lru_cache(maxsize=4096)
def region_choice(results: Results, language: str, budget: int) -> tuple[str, ...]:
    """The screens on which who has not answered chooses a region. Raises LayoutError."""
    words = results.words_in(language)
    more, back = _footer(words)
    lines = [f"{key} {name}" for key, name in enumerate(region_names(results, language), 1)]
    skip = f"{SKIP} {_said(words, 'skip')}" if words.did else ""
    return lay_out(_said(words, "results_which_region"), lines, budget=budget, more=more, back=back,
                   first_back=True, skip=skip)  # fmt: skip


@lru_cache(maxsize=256)
def region_names(results: Results, language: str) -> tuple[str, ...]:
    """The regions to choose from, in the order of their keys."""
    names = results.words_in(language).regions
    return tuple(fold(names.get(region, region)) for region in results.regions)


@lru_cache(maxsize=1024)
def results_text(results: Results, language: str, region: str) -> str:
    """All in one text: the region's figures where it is known and has any, else the national ones.

    A text stands alone, so it names the office and says what the brackets hold: in the one part of the
    figures, where the name is no longer than "Ghana Statistical Service"; a longer one may cost a second
    part, and one too long for two is left out. Figures that are made up are no office's.
    """
    words = results.words_in(language)
    known = any(figure.shown for figure in results.regions.get(region, {}).values())
    head, lines = region_block(results, words, region) if known else national_block(results, words)
    rest = [*lines, _said(words, "results_did", text=words.did)] if words.did else lines
    plain = "\n".join((head, *rest))
    if results.made_up or not results.owner:
        return plain
    when = f"{words.regions.get(region, region)} {results.period}" if known else results.period
    head = _said(words, _by_weight("results_text", results), owner=results.owner, when=when)
    named = "\n".join((head, *rest))
    return named if septets(named) <= SMS_SEPTETS else plain


# ---------------------------------------------------------------- blocks


def national_block(results: Results, words: Words) -> tuple[str, tuple[str, ...]]:
    """Head and lines."""
    name = "results_made_up" if results.made_up else _by_weight("results_national", results)
    return _said(words, name, period=results.period), _lines(results.national, words)


def region_block(results: Results, words: Words, region: str) -> tuple[str, tuple[str, ...]]:
    name = words.regions.get(region, region)
    head = _said(words, _by_weight("results_region", results), region=name, period=results.period)
    if results.made_up:
        head = f"{fold(name)}: {_said(words, 'results_made_up', period=results.period)}"
    return head, _lines(results.regions[region], words)


def _lines(figures: Mapping[str, Figure], words: Words) -> tuple[str, ...]:
    """A line for each figure shown; one for all that may not be."""
    lines, hidden = [], []
    for service, figure in figures.items():
        name = words.services.get(service, service)
        if figure.shown:
            share = figure.share.replace(".", words.decimal)
            lines.append(_said(words, "results_figure", service=name, share=share, answers=figure.answers))
        else:
            hidden.append(name)
    if hidden:
        lines.append(_said(words, "results_hidden", services=", ".join(hidden)))
    return tuple(lines)


def _by_weight(name: str, results: Results) -> str:
    """The prompt for such figures: weighted ones are told as estimates."""
    return f"{name}_weighted" if results.weighted else name


def _said(words: Words, name: str, **values: str) -> str:
    return fold(words.prompts[name].format(**values))


def _footer(words: Words) -> tuple[str, str]:
    return f"{MORE} {_said(words, 'more')}", f"{BACK} {_said(words, 'back')}"


# ---------------------------------------------------------------- checks


def results_faults(
    results: Results, languages: Iterable[str], budgets: Iterable[int], file: str
) -> Iterator[Fault]:
    """What of these results does not fit a screen of these budgets or a text of two parts."""
    for language in languages:
        strange = unencodable(fold(results.words_in(language).did))
        for c in strange:
            yield Fault(file, language, f"{c!r} (U+{ord(c):04X}) is not in GSM 03.38 and does not fold")
        if strange:
            continue
        for budget in budgets:
            yield from _screen_faults(results, language, budget, file)
        for region in ("", *results.regions):
            width = septets(results_text(results, language, region))
            if width > SMS_SEPTETS:
                yield Fault(
                    file, language,
                    f"the text for {region or 'the country'} takes {width} septets, at most {SMS_SEPTETS}"
                    f" ({_SMS_PARTS} SMS parts): shorten the line on what was done",
                )  # fmt: skip


def _screen_faults(results: Results, language: str, budget: int, file: str) -> Iterator[Fault]:
    most = _SCREENS if budget >= _USUAL_BUDGET else _MOST_SCREENS
    for region in ("", *results.regions):
        where = f"on screens of {budget} septets the results of {region or 'the country'}"
        try:
            if (count := len(results_pages(results, language, region, budget))) > most:
                how = "shorten the line on what was done, or the prompts results_*"
                yield Fault(file, language, f"{where} take {count}, at most {most}: {how}")
        except LayoutError as error:
            yield Fault(file, language, f"{where}: {error}")
    try:
        region_choice(results, language, budget)
    except LayoutError as error:
        yield Fault(file, language, f"the choice of region {error}")


def specimens(wave: Wave, languages: Iterable[str]) -> Iterator[Results]:
    """Results as wide as they come, to prove the prompts with before there are any: all shown, then any of
    them hidden, weighted or not, and made up."""
    services = services_of(wave.instrument)
    item = region_item(wave.instrument)
    regions = [o.id for o in item.scale.options] if item and item.scale else []
    country, place, none = Figure("88.8", "88885"), Figure("88.8", "8885"), Figure("", "")
    words = {x: replace(words_of(wave.instrument, x), did="mmmmm " * 20 + "m") for x in languages}
    for hidden in (h for count in range(len(services) + 1) for h in combinations(services, count)):
        shown = set(services) - set(hidden)
        national = {s: country if s in shown else none for s in services}
        local = {s: place if s in shown else none for s in services}
        for made_up, weighted in ((False, False), (True, False), (False, True)):
            yield Results(
                wave.id, 1, "2026", national, dict.fromkeys(regions, local), words, made_up, weighted,
                wave.owner,
            )  # fmt: skip
