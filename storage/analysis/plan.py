"""What the office decided about its releases: one file, `deploy/release.toml`, and the files that it names.

margins, wealth     files beside it: population totals (`margins`), wealth score (`domains`)
crosses             which two-way tables
[weights]           caps, and when a margin's category joins another
[disclosure], [display]   thresholds where they are to differ from the published defaults
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from flows.instrument import Fault, Instrument
from storage.analysis.disclosure import DisclosureRules
from storage.analysis.display import DisplayRules
from storage.analysis.domains import OfficeFileError, Wealth, load_wealth, variables
from storage.analysis.margins import Margins, load_margins
from storage.analysis.raking import Limits
from storage.analysis.release import Margin, Release, Rules

_SECTIONS = ("disclosure", "display", "weights")
_KINDS = {int: "a whole number", float: "a number, not inf or nan"}
_MOST = 1e15  # of a threshold, and far above any use


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """What the office decided about its releases."""

    rules: Rules = field(default_factory=Rules)
    crosses: tuple[tuple[str, str], ...] = ()  # variables of the two-way tables, in order
    limits: Limits | None = None  # caps of weights
    fewest: int = 1  # respondents that a margin's category needs, else it joins another
    margins: Margins | None = None  # None: not raked
    wealth: Wealth | None = None
    probability_sample: bool = False

    @property
    def named_margins(self) -> tuple[Margin, ...]:
        """The margins as a release names them."""
        tables = self.margins.tables if self.margins else ()
        return tuple(Margin(m.name, m.source, m.issued.isoformat()) for m in tables)

    @property
    def caps(self) -> tuple[float, float] | None:
        """The caps as a release names them."""
        return (self.limits.least, self.limits.most) if self.limits else None

    def unlike(self, released: Release) -> str:
        """What `released` was weighted with, and this plan would not; "" where the weights are the same.

        A release of older software does not say its caps and joins: those are then taken to be the same.
        """
        if self.named_margins != released.margins:
            return "; ".join(f"{m.name}, {m.source}, {m.date}" for m in released.margins) or "no margins"
        if self.probability_sample != released.probability_sample:
            return f"probability_sample = {str(released.probability_sample).lower()}"
        if (
            released.weighted
            and released.fewest
            and (self.caps, self.fewest) != (released.caps, released.fewest)
        ):
            caps = "no least and most, "
            if released.caps:
                caps = f"least = {released.caps[0]:g}, most = {released.caps[1]:g}, "
            return f"{caps}fewest = {released.fewest} under [weights]"
        return ""


def load_plan(
    path: Path, instrument: Instrument, *, margins: Path | None = None, wealth: Path | None = None
) -> ReleasePlan:
    """The release rules in `path`, with the files that it names or those given instead of them.

    Raises OfficeFileError listing the faults of the first file that has any.
    """
    name = str(path)
    faults: list[Fault] = []
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OfficeFileError([Fault(name, "-", f"cannot be read: {error}")]) from None
    known = ("margins", "wealth", "crosses", "probability_sample", *_SECTIONS)
    for key in sorted(data.keys() - set(known)):
        faults.append(Fault(name, key, f"unknown; known: {', '.join(known)}"))
    for key in ("margins", "wealth"):
        if not isinstance(data.get(key, ""), str):
            faults.append(Fault(name, key, 'must be the name of a file beside this one: "margins.csv"'))
            data[key] = ""
    if wealth is None and data.get("wealth"):
        wealth = path.parent / data["wealth"]
    if margins is None and data.get("margins"):
        margins = path.parent / data["margins"]
    points = load_wealth(wealth, instrument) if wealth else None
    sections = {key: data.get(key, {}) for key in _SECTIONS}
    for key, section in sections.items():
        if not isinstance(section, dict):
            faults.append(Fault(name, key, "must be a table: [" + key + "]"))
            sections[key] = {}
    disclosure = _thresholds(DisclosureRules, sections["disclosure"], "disclosure", name, faults)
    display = _thresholds(DisplayRules, sections["display"], "display", name, faults)
    limits, fewest = _weights(sections["weights"], name, faults)
    probability = data.get("probability_sample", False)
    if not isinstance(probability, bool):
        faults.append(Fault(name, "probability_sample", "must be true or false"))
    crosses = data.get("crosses", [])
    try:
        pairs = tuple(checked_cross(c, instrument, points) for c in crosses)
        if len({frozenset(p) for p in pairs}) < len(pairs):
            faults.append(Fault(name, "crosses", "the same two variables stand twice; keep one"))
    except (TypeError, ValueError) as error:
        pairs = ()
        faults.append(Fault(name, "crosses", f'{error}; write [["region", "sex"], ["sex", "age"]]'))
    if faults:
        raise OfficeFileError(faults)
    return ReleasePlan(
        rules=Rules(disclosure, display),
        crosses=pairs,
        limits=limits,
        fewest=fewest,
        margins=load_margins(margins, instrument, points) if margins else None,
        wealth=points,
        probability_sample=bool(probability),
    )


def checked_cross(
    cross: Sequence[str], instrument: Instrument, wealth: Wealth | None = None
) -> tuple[str, str]:
    """Two variables of the instrument. Raises ValueError saying which there are."""
    known = [v.id for v in variables(instrument, wealth)]
    if isinstance(cross, str) or len(cross) != 2 or cross[0] == cross[1] or not set(cross) <= set(known):
        said = cross if isinstance(cross, str) else " by ".join(map(str, cross))
        raise ValueError(f"cross {said!r}: name two different variables out of {', '.join(known)}")
    return cross[0], cross[1]


def _thresholds(
    kind: type[Any], given: Mapping[str, Any], section: str, name: str, faults: list[Fault]
) -> Any:
    """The rules with what the file gives in place of the defaults."""
    defaults = kind()
    types = {f.name: type(getattr(defaults, f.name)) for f in fields(kind)}
    good = {}
    for key, value in given.items():
        at = f"{section}.{key}"
        if key not in types:
            faults.append(Fault(name, at, f"unknown; known: {', '.join(types)}"))
        elif not _is(value, types[key]):
            faults.append(Fault(name, at, f"must be {_KINDS[types[key]]}"))
        else:
            good[key] = types[key](value)
    try:
        return kind(**good)
    except ValueError as error:
        faults.append(Fault(name, section, str(error)))
        return defaults


def _is(value: object, kind: type) -> bool:
    """A finite number, whole where `kind` is int. TOML has inf and nan, and whole numbers without end."""
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    return abs(value) < _MOST  # not of nan


def _weights(given: Mapping[str, Any], name: str, faults: list[Fault]) -> tuple[Limits | None, int]:
    types: dict[str, type[int] | type[float]] = {"least": float, "most": float, "fewest": int}
    numbers = {}
    for key, value in given.items():
        if key not in types:
            faults.append(Fault(name, f"weights.{key}", f"unknown; known: {', '.join(types)}"))
        elif not _is(value, types[key]):
            faults.append(Fault(name, f"weights.{key}", f"must be {_KINDS[types[key]]}"))
        else:
            numbers[key] = value
    fewest = numbers.pop("fewest", 1)
    if fewest < 1:
        faults.append(Fault(name, "weights.fewest", "must be 1 or more"))
    if ("least" in given) != ("most" in given):
        faults.append(Fault(name, "weights", "give least and most, or neither"))
    if len(numbers) < 2:
        return None, fewest
    try:
        return Limits(float(numbers["least"]), float(numbers["most"])), fewest
    except ValueError as error:
        faults.append(Fault(name, "weights", str(error)))
        return None, fewest
