"""From the answers of a wave to its release: table, rules, folder. What `main.py release make` does.

    database -> table_16_6_2 -> marked (the rules, with their reasons) -> publish (the folder, whole)

What the office decides stands in its files: margins (`margins`), wealth score (`domains`), and a file of
release rules, `deploy/release.toml`: which two-way tables, caps of weights, and thresholds where they are
to differ from the published defaults. `draft` goes as far as the rules and writes nothing.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from flows.instrument import Fault, Instrument
from storage.analysis import margins as office_margins
from storage.analysis import release as released
from storage.analysis.counted import counted
from storage.analysis.disclosure import DisclosureRules
from storage.analysis.display import DisplayRules
from storage.analysis.domains import OfficeFileError, Wealth, variables
from storage.analysis.estimates import Estimate
from storage.analysis.labels import labels_of
from storage.analysis.publishing import LICENCE, About, Sdmx, publish
from storage.analysis.raking import Limits
from storage.analysis.release import ReleaseError, Rules
from storage.analysis.sheets import Progress
from storage.analysis.table import Table, table_16_6_2
from storage.database import reading
from storage.models import Interview, table_of

_TRIES = 3  # at a table under which no interview changes


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """What the office decided about its releases."""

    rules: Rules = field(default_factory=Rules)
    crosses: tuple[tuple[str, str], ...] = ()  # variables of the two-way tables, in order
    limits: Limits | None = None  # caps of weights
    fewest: int = 1  # respondents that a margin's category needs, else it joins another
    probability_sample: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A table under its rules, not rounded or blanked: for whoever decides, not for readers.

    What the rules hide is marked, with the reason as its last note.
    """

    table: Table
    marked: tuple[Estimate, ...]
    material: str

    @property
    def hidden(self) -> tuple[Estimate, ...]:
        return tuple(e for e in self.marked if e.mark in ("c", "u"))


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes, and what with."""

    owner: str
    contact: str
    software: str
    licence: str = LICENCE
    address: str = ""  # of the releases' folder on the web
    sdmx: Sdmx | None = None


def draft(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    out: Path,
    plan: ReleasePlan,
    *,
    margins: office_margins.Margins | None = None,
    wealth: Wealth | None = None,
    told: Progress | None = None,
) -> Draft:
    """The wave's figures as the rules would let them out, beside the versions that are out already.

    Raises ReleaseError where there is nothing to publish or nothing that could be hidden safely, RakingError
    where margins and respondents do not fit, NoMarks.
    """
    earlier = released.all_versions(out, wave)
    for _ in range(_TRIES):
        material = material_of(engine, instrument, wave)
        table = table_16_6_2(
            engine, instrument, wave, margins=margins, wealth=wealth, crosses=plan.crosses,
            limits=plan.limits, fewest=plan.fewest, probability_sample=plan.probability_sample, told=told,
        )  # fmt: skip
        if material == material_of(engine, instrument, wave):
            break
    else:
        raise ReleaseError(
            f"wave {wave}: answers keep arriving while the table is computed; try again in a quiet hour"
        )
    if not table.basis.respondents:
        known = f"{table.basis.interviews} interviews, but none that answered a question about a service"
        raise ReleaseError(f"wave {wave}: {known}; check the wave's id (main.py release list), or wait")
    if told is not None:
        told("applying the rules", 0, 1)
    try:
        marked = released.marked(table.estimates, plan.rules, earlier, material)
    except ValueError as error:
        raise ReleaseError(f"wave {wave}: {error}") from None
    if told is not None:
        told("applying the rules", 1, 1)
    return Draft(table, tuple(marked), material)


def make_release(
    made: Draft,
    instrument: Instrument,
    out: Path,
    plan: ReleasePlan,
    publisher: Publisher,
    *,
    issued: date,
    reason: str = "",
    simulated: bool = False,
) -> Path:
    """Publish a draft as the wave's next version; its folder. Nothing is left behind where that fails.

    simulated: with interviews that were made up here; without it they are refused, and with it every page
    and file says so. Raises ReleaseError, and the SDMX files' errors.
    """
    basis, margins = made.table.basis, made.table.margins
    if basis.simulated and not simulated:
        raise ReleaseError(
            f"wave {basis.wave}: {basis.simulated:,} of {basis.interviews:,} interviews came through the"
            " simulator: nobody dialled for them; publish another wave, or give --simulated"
        )
    about = About(
        wave=basis.wave,
        instrument=" ".join(basis.instruments) or instrument.reference,
        owner=publisher.owner,
        contact=publisher.contact,
        interviews=basis.respondents,
        software=publisher.software,
        material=made.material,
        weighted=margins is not None,
        margins=tuple(
            released.Margin(m.name, m.source, m.issued.isoformat())
            for m in (margins.tables if margins else ())
        ),
        probability_sample=plan.probability_sample,
        simulated=basis.simulated,
        licence=publisher.licence,
        address=publisher.address,
    )
    return publish(
        made.table.estimates, out, about, labels_of(instrument), issued=issued, rules=plan.rules,
        reason=reason, sdmx=publisher.sdmx,
    )  # fmt: skip


def material_of(engine: Engine, instrument: Instrument, wave: str) -> str:
    """Digest of the interviews that the wave's figures rest on, each with its version.

    Two tables with the same one rest on the same answers of the same people.
    """
    c = table_of(Interview).c
    seen = sha256()
    query = select(c.id, c.version).where(*counted(instrument, wave)).order_by(c.id)
    with reading(engine) as db:
        for rows in db.execute(query, execution_options={"yield_per": 20_000}).partitions():
            seen.update("".join(f"{row.id} {row.version}\n" for row in rows).encode())
    return seen.hexdigest()


# ---------------------------------------------------------------- the office's file

_SECTIONS = ("disclosure", "display", "weights")


def load_plan(path: Path, instrument: Instrument, wealth: Wealth | None = None) -> ReleasePlan:
    """The release rules in `path` (deploy/release.toml shows the form). Raises OfficeFileError."""
    name = str(path)
    faults: list[Fault] = []
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OfficeFileError([Fault(name, "-", f"cannot be read: {error}")]) from None
    known = ("crosses", "probability_sample", *_SECTIONS)
    for key in sorted(data.keys() - set(known)):
        faults.append(Fault(name, key, f"unknown; known: {', '.join(known)}"))
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
        pairs = tuple(checked_cross(c, instrument, wealth) for c in crosses)
        if len({frozenset(p) for p in pairs}) < len(pairs):
            faults.append(Fault(name, "crosses", "the same two variables stand twice; keep one"))
    except (TypeError, ValueError) as error:
        pairs = ()
        faults.append(Fault(name, "crosses", f'{error}; write [["region", "sex"], ["sex", "age"]]'))
    if faults:
        raise OfficeFileError(faults)
    return ReleasePlan(Rules(disclosure, display), pairs, limits, fewest, bool(probability))


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
        elif isinstance(value, bool) or not isinstance(value, int if types[key] is int else (int, float)):
            faults.append(Fault(name, at, f"must be a {'whole number' if types[key] is int else 'number'}"))
        else:
            good[key] = types[key](value)
    try:
        return kind(**good)
    except ValueError as error:
        faults.append(Fault(name, section, str(error)))
        return defaults


def _weights(given: Mapping[str, Any], name: str, faults: list[Fault]) -> tuple[Limits | None, int]:
    numbers = {}
    for key, value in given.items():
        if key not in ("least", "most", "fewest"):
            faults.append(Fault(name, f"weights.{key}", "unknown; known: least, most, fewest"))
        elif isinstance(value, bool) or not isinstance(value, int | float):
            faults.append(Fault(name, f"weights.{key}", "must be a number"))
        else:
            numbers[key] = float(value)
    fewest = int(numbers.pop("fewest", 1))
    if fewest < 1:
        faults.append(Fault(name, "weights.fewest", "must be 1 or more"))
    if len(numbers) == 1:
        faults.append(Fault(name, "weights", "give least and most, or neither"))
    if len(numbers) < 2:
        return None, fewest
    try:
        return Limits(numbers["least"], numbers["most"]), fewest
    except ValueError as error:
        faults.append(Fault(name, "weights", str(error)))
        return None, fewest
