"""What goes into the dialogue and what comes out: events (what happened), effects (what the host is to
record). A closed union of frozen dataclasses, each JSON-able."""

from dataclasses import dataclass, fields
from typing import Any

# ---------------------------------------------------------------- events: what happened


@dataclass(frozen=True, slots=True)
class Dialled:
    """The respondent dialled, or texted (`mode` "sms"). `id` and `seed` serve only if an interview
    begins with this."""

    at: int  # ms since the epoch, UTC
    id: str
    seed: int  # 32 bits, the same for a respondent and wave every time
    mode: str = "ussd"
    budget: int = 160  # septets a screen
    ahead: tuple[str, ...] = ()  # keys dialled with the code
    full: bool = False  # a quota cell that the step without this entered wants no more completes
    results: bool = False  # with the keys that lead to the results


@dataclass(frozen=True, slots=True)
class Replied:
    at: int
    text: str
    full: bool = False  # as of Dialled


@dataclass(frozen=True, slots=True)
class WithdrawalAsked:
    """The respondent asked the office to be withdrawn, in another way than by dialling."""

    at: int


Event = Dialled | Replied | WithdrawalAsked

# ---------------------------------------------------------------- effects: what the host records


@dataclass(frozen=True, slots=True)
class Began:
    instrument: str  # id@version
    wave: str
    language: str
    mode: str
    seed: int
    blocks: str  # drawn order, space-separated block ids
    probabilities: dict[str, float]  # of each drawn block having been selected
    items: str  # ids of the attribute items in the order drawn, space-separated; "" = as they stand


@dataclass(frozen=True, slots=True)
class LanguageChosen:
    language: str


@dataclass(frozen=True, slots=True)
class Consented:
    version: str


@dataclass(frozen=True, slots=True)
class ResponseGiven:
    """`option` is an option id, a nonresponse name, or "" for a number; `code` what analysts see."""

    item: str
    option: str
    code: int
    seconds: float  # since the item was first shown in this session
    tries: int  # replies it took, the valid one included


@dataclass(frozen=True, slots=True)
class ResponseRetracted:
    """A changed earlier answer made this one inapplicable."""

    item: str


@dataclass(frozen=True, slots=True)
class InvalidReply:
    """A reply that no rule accepts; its content is not kept."""

    item: str
    tries: int


@dataclass(frozen=True, slots=True)
class PageTurned:
    item: str
    page: int


@dataclass(frozen=True, slots=True)
class WentBack:
    item: str  # where to


@dataclass(frozen=True, slots=True)
class BlockSkipped:
    block: str


@dataclass(frozen=True, slots=True)
class Resumed:
    item: str


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """An unfinished interview goes on in another mode."""

    mode: str  # the new one


@dataclass(frozen=True, slots=True)
class MenuChosen:
    """A choice that is not an answer: menu (stage) and option."""

    menu: str
    option: str


@dataclass(frozen=True, slots=True)
class CellsEntered:
    """All that the wave's quotas cross is answered, or answered otherwise: quota -> cell. A quota of which
    no cell fits is absent."""

    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Ended:
    disposition: str  # complete | refusal | ineligible | quota_full | results_only


@dataclass(frozen=True, slots=True)
class ResultsSeen:
    """Results were shown: paradata. Which region's is not said, for it may be one that was not answered."""

    screen: str  # national | region | did; text: all in one SMS


@dataclass(frozen=True, slots=True)
class ResultsWanted:
    """Agreed to one text with the results once they are out."""


@dataclass(frozen=True, slots=True)
class ErasureRequested:
    receipt: str


Effect = (
    Began | LanguageChosen | Consented | ResponseGiven | ResponseRetracted | InvalidReply
    | PageTurned | WentBack | BlockSkipped | Resumed | ModeChanged | MenuChosen | CellsEntered | Ended
    | ErasureRequested | ResultsSeen | ResultsWanted
)  # fmt: skip

EFFECTS: dict[str, type[Effect]] = {
    kind.__name__: kind
    for kind in (
        Began, LanguageChosen, Consented, ResponseGiven, ResponseRetracted, InvalidReply,
        PageTurned, WentBack, BlockSkipped, Resumed, ModeChanged, MenuChosen, CellsEntered, Ended,
        ErasureRequested, ResultsSeen, ResultsWanted,
    )
}  # fmt: skip
_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in EFFECTS.values()}


def dump_effect(effect: Effect) -> dict[str, Any]:
    """JSON-able form: {"kind": "ResponseGiven", "item": ..., ...}."""
    kind = type(effect)
    out: dict[str, Any] = {"kind": kind.__name__}
    for name in _FIELDS[kind]:
        out[name] = getattr(effect, name)
    return out


def load_effect(data: dict[str, Any]) -> Effect:
    """The effect that `dump_effect` wrote. Raises KeyError or TypeError on anything else."""
    return EFFECTS[data["kind"]](**{k: v for k, v in data.items() if k != "kind"})
