"""A release: the figures of one wave as they were published, in one version, for good.

    <out>/<wave>/<version>/release.json    what this module reads; docs/releases.md lists the other files

`make` turns exact estimates into what may be read outside: disclosure control, display standard, blanking,
rounding. Nothing that leaves the house is made from anything but its result. `publishing` writes the folder.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from flows.wave import WAVE_ID
from storage.analysis.disclosure import (
    DisclosureRules,
    answer_key,
    key,
    protect,
    protect_answers,
    rounded,
)
from storage.analysis.display import DisplayRules, decimals, display, display_answers
from storage.analysis.estimates import Answer, Estimate

FORMAT = 1  # of release.json
FILE = "release.json"
DEMONSTRATION = "Demonstration: made-up answers."
DESIGN_ONLY = "Weighted by the sample's design only, not to the population."
_VERSION = re.compile(r"[1-9][0-9]{0,4}\Z")


class ReleaseError(ValueError):
    """A release cannot be made or read: the message names the folder or figure, and what to do."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a release is made by."""

    disclosure: DisclosureRules = field(default_factory=DisclosureRules)
    display: DisplayRules = field(default_factory=DisplayRules)


@dataclass(frozen=True, slots=True)
class Margin:
    """A population table that the weights agree with."""

    name: str
    source: str
    date: str  # ISO


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a wave's figures. All texts are as they were when it was issued."""

    wave: str
    version: int  # 1, 2, ..
    issued: str  # ISO date
    reason: str  # why this version: a line of the change log
    instrument: str  # id@version
    owner: str  # who publishes
    contact: str
    licence: str  # its address
    weighted: bool  # to the population: raked to the margins
    margins: tuple[Margin, ...]
    probability_sample: bool  # False: intervals are "modelled as if"
    interviews: int  # that the figures rest on
    material: str  # digest of these interviews: two versions with the same one can be told apart by no person
    software: str  # version, with the commit where it is known
    rules: Rules
    estimates: tuple[Estimate, ...]
    simulated: int = 0  # of the interviews, made up: a demonstration
    title: str = "SDG indicator 16.6.2: satisfaction with the last experience of public services"
    answers: tuple[Answer, ...] = ()  # in the instrument's order; none in files of older software
    design_weighted: bool = False  # by the probabilities of the sample's draw, raked or not
    caps: tuple[float, float] | None = None  # of weights, times their mean; None: none, or not said
    fewest: int = 0  # respondents that a margin's category needed; 0: not said, in files of older software

    @property
    def questionnaires(self) -> frozenset[str]:
        """Ids of the instruments, in whatever version: figures of others are of other questions."""
        return frozenset(reference.partition("@")[0] for reference in self.instrument.split())

    @property
    def caution(self) -> str:
        """What has to stand beside every figure."""
        said = [DEMONSTRATION] if self.simulated else []
        if not self.weighted:
            said.append(DESIGN_ONLY if self.design_weighted else "Unweighted: describes those who answered.")
        if not self.probability_sample:
            said.append(
                "Not a probability sample: respondents chose to take part. Intervals are modelled as if they "
                "had been drawn at random."
            )
        return " ".join(said)


def cautions(release: Release, others: Sequence[Release]) -> str:
    """What has to stand beside a series out of several releases: one text, or where they differ each with
    its years."""
    years: dict[str, set[str]] = {}
    for r in (release, *others):
        years.setdefault(r.caution, set()).update(e.period for e in r.estimates)
    if len(years) == 1:
        return release.caution
    return " ".join(f"{', '.join(sorted(of))}: {caution}" for caution, of in years.items() if caution)


def marked(
    estimates: Sequence[Estimate],
    rules: Rules,
    earlier: Sequence[Release] = (),
    material: str = "",
    known: Sequence[Estimate] = (),
) -> list[Estimate]:
    """Exact estimates with what the rules say of each: mark, and the reason as its last note.

    earlier: the wave's versions that are out. What one of them hides stays hidden; what one that rests on
    the same interviews shows cannot be hidden any more, so nothing new leans on it. known: exact, what these
    have of tables that are not among `estimates`: protected together with them, and not given back. Raises
    ValueError where something hidden could be reckoned whatever else is hidden.
    """
    hidden = {key(e) for r in earlier for e in r.estimates if e.mark == "c"}
    public = {key(e) for r in earlier if material and r.material == material for e in r.estimates} - hidden
    together = protect([*estimates, *known], rules.disclosure, hidden, public)
    return display(together[: len(estimates)], rules.display)


def make(
    estimates: Sequence[Estimate],
    rules: Rules,
    earlier: Sequence[Release] = (),
    material: str = "",
    known: Sequence[Estimate] = (),
) -> tuple[Estimate, ...]:
    """The same as they may leave: blanked and rounded. Raises ValueError."""
    return tuple(
        rounded(e, decimals(e, rules.display), rules.disclosure)
        for e in marked(estimates, rules, earlier, material, known)
    )


def marked_answers(
    answers: Sequence[Answer], marked: Sequence[Estimate], rules: Rules, earlier: Sequence[Release] = ()
) -> list[Answer]:
    """Exact answers with what the rules say of each, as `marked` does; `marked`: its figures, or `make`'s.

    What an earlier version hides stays hidden.
    """
    hidden_before = {answer_key(a) for r in earlier for a in r.answers if a.figure.mark == "c"}
    hidden_items = {key(e) for e in marked if e.mark == "c"}
    return display_answers(
        protect_answers(answers, hidden_items, rules.disclosure, hidden_before), rules.display
    )


def leaving(answers: Sequence[Answer], rules: Rules) -> tuple[Answer, ...]:
    """Marked answers as they may leave: blanked and rounded."""
    return tuple(
        replace(a, figure=rounded(a.figure, decimals(a.figure, rules.display), rules.disclosure))
        for a in answers
    )


def percent(share: float | None) -> str:
    """A rounded share as a percentage, without an exponent or idle zeros; "" for none."""
    if share is None:
        return ""
    text = f"{100 * share:.3f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def load_release(folder: Path) -> Release:
    """The release in `folder`. Raises ReleaseError naming the file and what is wrong with it."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ReleaseError(f"{path}: not found; {folder} is no release") from None
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path}: cannot be read: {error}; restore it from a copy") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReleaseError(
            f"{path}: not a release of format {FORMAT}; read it with the software that wrote it"
        )
    try:
        return _release(data)
    except (KeyError, TypeError, ValueError) as error:
        raise ReleaseError(f"{path}: incomplete: {error!r}; restore it from a copy") from None


def release_of(data: Mapping[str, Any]) -> Release:
    """A release out of what `as_json` wrote, parsed. Raises KeyError, TypeError, ValueError."""
    return _release(data)


def estimate_of(e: Mapping[str, Any]) -> Estimate:
    """One figure of it."""
    domain = tuple((str(v), str(o)) for v, o in e["domain"])
    return Estimate(**{**e, "domain": domain, "notes": tuple(e["notes"])})


def as_json(release: Release) -> str:
    """The text of release.json."""
    return json.dumps({"format": FORMAT, **asdict(release)}, ensure_ascii=False, indent=1) + "\n"


def _release(data: Mapping[str, Any]) -> Release:
    # A field that an older file lacks takes its default.
    known = {f.name: data[f.name] for f in fields(Release) if f.name in data or f.default is MISSING}
    rules = data["rules"]
    return replace(
        Release(**known),
        margins=tuple(Margin(**m) for m in data["margins"]),
        caps=None if data.get("caps") is None else (float(data["caps"][0]), float(data["caps"][1])),
        rules=Rules(DisclosureRules(**rules["disclosure"]), DisplayRules(**rules["display"])),
        estimates=tuple(estimate_of(e) for e in data["estimates"]),
        answers=tuple(
            Answer(a["option"], a["code"], estimate_of(a["figure"])) for a in data.get("answers", ())
        ),
    )


def wave_folder(out: Path, wave: str) -> Path:
    """Where the versions of a wave are. Raises ReleaseError for a wave id that cannot name a folder."""
    if not WAVE_ID.match(wave):
        raise ReleaseError(f"wave {wave!r}: cannot name a folder; use letters, digits, . _ -")
    return out / wave


def versions(out: Path, wave: str) -> list[int]:
    """The versions of a wave that are out, ascending."""
    folder = wave_folder(out, wave)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(f.name) for f in found if f.is_dir() and _VERSION.match(f.name))


def all_versions(out: Path, wave: str) -> list[Release]:
    """Every version of a wave that is out, ascending. Raises ReleaseError."""
    return [load_release(wave_folder(out, wave) / str(v)) for v in versions(out, wave)]


def latest(out: Path, wave: str) -> Release | None:
    """The newest version of a wave, or None before the first."""
    known = versions(out, wave)
    return load_release(wave_folder(out, wave) / str(known[-1])) if known else None


def waves(out: Path) -> list[str]:
    """The waves that have a release."""
    found = sorted(f.name for f in out.iterdir()) if out.is_dir() else []
    return [name for name in found if WAVE_ID.match(name) and versions(out, name)]
