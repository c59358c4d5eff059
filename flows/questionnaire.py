"""The nouns of a questionnaire: items, scales, blocks, languages, and the instrument that holds them.

Nothing downstream keys on wording: an item carries its question number, service, attribute and
role as data. Three things stay apart: the *key* pressed (a position on a screen), the *option*
(a stable id) and the *code* (what analysts see).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: The fixed phrases every language must have, each with the values that it may insert.
PROMPTS: dict[str, frozenset[str]] = {
    name: frozenset(values.split())
    for name, values in {
        "more": "", "back": "", "skip": "",
        "invalid_choice": "", "invalid_number": "min max",
        "why": "", "dont_know": "", "refused": "", "not_applicable": "",
        "stuck": "", "try_again": "", "skip_question": "", "stop": "",
        "pause": "part parts", "go_on": "", "stop_for_now": "",
        "welcome_back": "answered", "lapsed": "", "begin_again": "", "see_results": "", "withdraw": "",
        "finished": "", "results_unpublished": "code",
        "withdraw_confirm": "", "withdraw_yes": "", "withdraw_no": "", "withdrawn": "receipt",
        "thanks": "code", "stopped": "code hours", "refusal": "code", "ineligible": "",
        "session_over": "code", "unavailable": "code", "not_covered": "", "wave_closed": "",
        "one_answer": "", "help": "owner contact code", "opted_out": "code keyword", "quota_full": "code",
        "invitation": "owner contact code keyword", "reminder": "owner contact code keyword",
        "reminder_break_off": "owner contact code keyword left",
        "results_national": "period", "results_region": "region period",
        "results_national_weighted": "period", "results_region_weighted": "region period",
        "results_text": "owner when", "results_text_weighted": "owner when",
        "results_figure": "service share answers", "results_hidden": "services", "results_did": "text",
        "results_which_region": "", "results_made_up": "period",
        "results_by_sms": "", "by_sms_yes": "", "by_sms_no": "",
    }.items()
}  # fmt: skip
#: Those of text messages alone.
PROMPTS_OF_TEXTING = frozenset(
    {"one_answer", "help", "opted_out", "invitation", "reminder", "reminder_break_off"}
)
#: Those that instruments fielded earlier may lack.
PROMPTS_ADDED = PROMPTS_OF_TEXTING | {
    "quota_full", "results_national", "results_region", "results_figure", "results_hidden", "results_did",
    "results_which_region", "results_made_up", "results_by_sms", "by_sms_yes", "by_sms_no",
    "results_national_weighted", "results_region_weighted", "results_text", "results_text_weighted",
}  # fmt: skip
#: What a text message says whole, by itself: one part each.
ONE_PART_PROMPTS = ("help", "opted_out", "invitation", "reminder", "reminder_break_off")

#: What a text message may say in every language: the whole of it, in any case.
FIXED_WORDS: dict[str, tuple[str, ...]] = {
    "stop": ("STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "QUIT", "END"),
    "help": ("HELP", "INFO"),
    "results": ("RESULTS", "RESULT"),
}

#: What an item's text may insert: all from the wave file.
ITEM_VALUES = frozenset({"owner", "contact", "code"})

#: Item nonresponse, by name; the codes are the instrument's (97, 98, 99 in the source).
NONRESPONSE = ("not_applicable", "dont_know", "refused")

ROLES = frozenset(
    "consent adult sex age region residence block_gate disability gate unmet reason level"
    " document online attribute overall wealth".split()
)
DISPOSITIONS_BY_ANSWER = frozenset({"refusal", "ineligible"})


#: One character an option in `Interview.answers`: its position on the scale.
POSITIONS = "123456789abcdefghijklmnopqrstuvwxyz"
UNANSWERED = "."
NUMBER_GIVEN = "#"
NONRESPONSE_MARKS = {"not_applicable": "N", "dont_know": "D", "refused": "R"}
MARK_NONRESPONSE = {mark: name for name, mark in NONRESPONSE_MARKS.items()}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with our data: where, and what to do about it."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.message}"


class InstrumentError(Exception):
    """The data of an instrument or wave is wrong. `faults` lists every one; mend them all, then start."""

    def __init__(self, faults: Iterable[Fault]):
        self.faults = tuple(faults)
        super().__init__("\n".join(str(f) for f in self.faults))


@dataclass(frozen=True, slots=True)
class Option:
    id: str
    code: int
    mark: str  # its character in Interview.answers
    iso: str = ""  # the same in ISO 3166-2, of a place: "GH-AA"


@dataclass(frozen=True, slots=True)
class Scale:
    """An answer set. Options stand in the order shown: the key is the position, 1-based."""

    id: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A band of a numeric item for analysts, e.g. age 25-34. Bounds inclusive, `most` None = open."""

    id: str
    least: int
    most: int | None


#: One alternative of an item's `ask_if`: every (item index, marks that satisfy it) must hold.
Condition = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `index` is its place in the questionnaire and in `Interview.answers`."""

    index: int
    id: str
    block: int
    kind: str  # choice | number
    role: str
    label: str  # for analysts
    scale: Scale | None = None
    least: int = 0  # number items: smallest and largest accepted
    most: int = 0
    groups: tuple[Group, ...] = ()
    number: str = ""  # official question number
    service: str = ""
    attribute: str = ""
    nonresponse: tuple[str, ...] = ()
    ask_if: tuple[Condition, ...] = ()  # any alternative; none = always
    ends: Mapping[str, str] = field(default_factory=dict)  # option id -> disposition
    skips_block: str = ""  # option id with which the respondent skips the block
    routes: bool = False  # a later item's condition names this one
    sensitive: bool = False

    @property
    def column(self) -> str:
        """Its name as a column: health.access -> health_access."""
        return self.id.replace(".", "_")

    def applies(self, answers: str) -> bool:
        """Whether the answers so far lead to this item."""
        if not self.ask_if:
            return True
        for every in self.ask_if:  # plain loops: this is asked of many items on every hop
            for index, marks in every:
                if answers[index] not in marks:
                    break
            else:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Block:
    """Ordered items of one service or subject. Blocks that are `drawn` change places by respondent."""

    index: int
    id: str
    items: tuple[int, ...]
    drawn: bool


@dataclass(frozen=True, slots=True)
class ItemText:
    text: str
    detail: str = ""  # shown on the pages after the question: definitions, examples
    ussd: str = ""  # an author's own form for screens, in place of folding
    sms: str = ""


@dataclass(frozen=True, slots=True)
class Language:
    id: str
    name: str
    iso639_3: str
    status: str  # draft | reviewed
    prompts: Mapping[str, str]
    items: Mapping[str, ItemText]
    options: Mapping[str, Mapping[str, str]]  # scale id -> option id -> text
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # command -> what may be texted
    services: Mapping[str, str] = field(default_factory=dict)  # those with a result -> short name
    decimal: str = "."  # mark in a figure: "61.5" or "61,5"


@dataclass(frozen=True, slots=True, eq=False)  # compared and hashed by identity: layouts are cached by it
class Instrument:
    id: str
    version: str
    title: str
    source: str
    consent_version: str
    reference_months: int
    default_language: str
    codes: Mapping[str, int]  # nonresponse name -> code
    scales: Mapping[str, Scale]
    blocks: tuple[Block, ...]
    items: tuple[Item, ...]
    by_id: Mapping[str, Item]
    languages: Mapping[str, Language]
    sources: Mapping[str, str]  # file name -> text, as read
    digest: str  # of the sources: the same version must always be the same data
    deviations: str = ""  # the README beside: what differs from the official questionnaire, and why

    @property
    def reference(self) -> str:
        """`id@version`, as kept with every interview."""
        return f"{self.id}@{self.version}"
