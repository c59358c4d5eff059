"""The results of a wave as its respondents are shown them: figures that are out, and the words around them.

Data only. `gateway/giving_back.py` makes it from a release, `results_pages.py` lays it out, and the wave
carries it (`Wave.results`). The words are those of the instrument of today, so that an interview on an
older version, which lacks them, shows the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flows.questionnaire import Instrument, Item

#: What every language says around the figures.
WORDS = (
    "more", "back", "skip", "results_national", "results_region", "results_national_weighted",
    "results_region_weighted", "results_text", "results_text_weighted", "results_figure", "results_hidden",
    "results_did", "results_which_region", "results_made_up",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """A published share as it was rounded, both "" where it may not be shown."""

    share: str  # per cent: "61.5"
    answers: str  # how many respondents it rests on: "410"

    @property
    def shown(self) -> bool:
        return bool(self.share)


@dataclass(frozen=True, slots=True)
class Words:
    """What one language calls things."""

    prompts: Mapping[str, str]  # of WORDS
    services: Mapping[str, str]
    regions: Mapping[str, str]  # option id -> name
    did: str = ""  # what the office has done with the results, in its own line; "" = nothing said yet
    decimal: str = "."  # mark in a share


@dataclass(frozen=True, slots=True, eq=False)  # by identity: layouts are cached by it
class Results:
    """One release. `national` and each of `regions`: service -> figure, in the questionnaire's order."""

    wave: str  # it is of
    version: int
    period: str
    national: Mapping[str, Figure]
    regions: Mapping[str, Mapping[str, Figure]]  # option id -> ..; in the order of the region item's keys
    words: Mapping[str, Words]  # by language; the first is spoken where one is lacking
    made_up: bool = False  # a demonstration: some of its interviews were
    weighted: bool = False  # estimates for all users of a service, no shares of those who answered
    owner: str = ""  # who publishes them, as respondents know it

    def words_in(self, language: str) -> Words:
        return self.words.get(language) or next(iter(self.words.values()))


def services_of(instrument: Instrument) -> tuple[str, ...]:
    """The services with a result, in the questionnaire's order."""
    return tuple(dict.fromkeys(i.service for i in instrument.items if i.role == "overall"))


def region_item(instrument: Instrument) -> Item | None:
    """The item that asks for the region, if there is one to choose from."""
    return next((i for i in instrument.items if i.role == "region" and i.scale), None)


def region_of(instrument: Instrument, answers: str) -> str:
    """The option id of the region answered; "" if none was."""
    item = region_item(instrument)
    if item is None or item.scale is None:
        return ""
    mark = answers[item.index]
    return next((o.id for o in item.scale.options if o.mark == mark), "")


def words_of(instrument: Instrument, language: str, did: str = "") -> Words:
    """What `language` of the instrument calls things, and the office's line in it."""
    texts = instrument.languages[language]
    item = region_item(instrument)
    regions = texts.options[item.scale.id] if item and item.scale else {}
    prompts = {name: texts.prompts[name] for name in WORDS}
    return Words(prompts, texts.services, regions, did, texts.decimal)
