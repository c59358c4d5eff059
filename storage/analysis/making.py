"""From the answers of a wave to its release: table, rules, folder. What `main.py release make` does.

    database -> table_16_6_2 -> marked (the rules, with their reasons) -> publish (the folder, whole)

What the office decided stands in its files: see `plan`. `draft` goes as far as the rules and writes nothing.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from sqlalchemy import Engine

from flows.instrument import Instrument
from storage.analysis import release as released
from storage.analysis.differencing import laid_alike, publishing_faults, tables_out
from storage.analysis.disclosure import key, rounded
from storage.analysis.display import decimals
from storage.analysis.estimates import Answer, Estimate
from storage.analysis.labels import labels_of
from storage.analysis.material import as_today, material_before, material_of
from storage.analysis.plan import ReleasePlan
from storage.analysis.publishing import LICENCE, About, Sdmx, publish
from storage.analysis.release import Release, ReleaseError
from storage.analysis.released import check_kept, keep_release
from storage.analysis.served import Served, served_ids, tables_served, turn
from storage.analysis.sheets import Progress
from storage.analysis.table import Draw, Table, table_16_6_2
from storage.database import reading
from storage.sample import drawn

_TRIES = 3  # at a table under which no interview changes


@dataclass(frozen=True, slots=True)
class Draft:
    """A table under its rules, not rounded or blanked: for whoever decides, not for readers.

    What the rules hide is marked, with the reason as its last note.
    """

    table: Table
    marked: tuple[Estimate, ...]
    material: str
    draw: Draw | None = None  # what gave strata and base weights; None: all alike
    answers: tuple[Answer, ...] = ()  # under the rules too
    served: Served = field(default_factory=Served)  # queries answered so far
    faults: tuple[str, ...] = ()  # why publishing would refuse it, beside what is out: `publishing_faults`

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
    told: Progress | None = None,
    simulated: bool = False,
) -> Draft:
    """The wave's figures as the rules would let them out, beside the versions that are out already.

    simulated: with interviews that nobody dialled for; else they are left out, as if never held.
    Raises ReleaseError where there is nothing to publish or nothing that could be hidden safely, the plan's
    draw is missing, or `out` lacks versions that the database has; RakingError where margins and respondents
    do not fit; NoMarks.
    """
    with reading(engine) as db:
        check_kept(db, out, wave)
    seen, earlier = served_ids(engine, wave), released.all_versions(out, wave)
    given = tables_served(engine, seen, earlier)
    before = laid_alike([*earlier, *given], plan.crosses)
    draw = planned_draw(engine, wave, plan)
    for _ in range(_TRIES):
        material = material_of(engine, instrument, wave, plan.wealth, draw, simulated)
        was = ""
        if any(r.material not in ("", material) for r in before):
            was = material_before(engine, instrument, wave, plan.wealth, draw, simulated)
            before = as_today(before, material, was)
        there = tables_out(before, material)  # also what this version leaves out can be subtracted from it
        more = sorted({(a, b) for *_, ((a, _), (b, _)) in there} - set(plan.crosses))
        table = table_16_6_2(
            engine, instrument, wave, margins=plan.margins, wealth=plan.wealth,
            crosses=[*plan.crosses, *more], limits=plan.limits, fewest=plan.fewest,
            probability_sample=plan.probability_sample,
            draw=draw, simulated=simulated, told=told,
        )  # fmt: skip
        if material == material_of(engine, instrument, wave, plan.wealth, draw, simulated):
            break
    else:
        raise ReleaseError(
            f"wave {wave}: answers keep arriving while the table is computed; try again in a quiet hour"
        )
    if not table.basis.respondents:
        known = f"{table.basis.interviews} interviews, but none that answered a question about a service"
        fix = "check the wave's id (main.py wave list), or wait"
        if not simulated:
            fix += "; made-up interviews only count with --simulated"
        raise ReleaseError(f"wave {wave}: {known}; {fix}")
    if told is not None:
        told("applying the rules", 0, 1)
    out_too = tuple(e for e in table.estimates if key(e) in there and tuple(v for v, _ in e.domain) in more)
    ours = tuple(e for e in table.estimates if tuple(v for v, _ in e.domain) not in more)
    table = replace(table, estimates=ours)
    try:
        marked = released.marked(ours, plan.rules, before, material, out_too)
    except ValueError as error:
        raise ReleaseError(f"wave {wave}: {error}") from None
    if told is not None:
        told("applying the rules", 1, 1)
    answers = released.marked_answers(table.answers, marked, plan.rules, before)
    served = Served(tuple(given), out_too, lambda release: _next(engine, out, release, seen), was)
    leaving = [rounded(e, decimals(e, plan.rules.display), plan.rules.disclosure) for e in marked]
    options = released.leaving(answers, plan.rules)
    faults = publishing_faults(leaving, options, material, before)
    return Draft(table, tuple(marked), material, draw, tuple(answers), served, tuple(faults))


@contextmanager
def _next(engine: Engine, out: Path, release: Release, seen: Collection[str]) -> Iterator[None]:
    """The wave's turn, in which its next version is put in its place: it has that number in the database
    too, also where somebody publishes into another folder meanwhile.

    The rows go first: what the database refuses never comes out."""
    with turn(engine, release.wave, seen) as db:
        check_kept(db, out, release.wave)
        keep_release(db, release)
        yield


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
    beside: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> Path:
    """Publish a draft as the wave's next version; its folder. Where that fails nothing is left behind, except
    as in `publish`.

    beside: more files of the release, by name: the quality report. dry_run: as in `publish`.
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
        design_weighted=made.draw is not None,
        margins=plan.named_margins,
        caps=plan.caps,
        fewest=plan.fewest,
        probability_sample=plan.probability_sample,
        simulated=basis.simulated,
        licence=publisher.licence,
        address=publisher.address,
    )
    return publish(
        made.table.estimates, out, about, labels_of(instrument), issued=issued, rules=plan.rules,
        reason=reason, sdmx=publisher.sdmx, beside=beside, answers=made.table.answers, served=made.served,
        dry_run=dry_run,
    )  # fmt: skip


def draw_of(engine: Engine, wave: str) -> dict[str, tuple[str, float]] | None:
    """The wave's sample as drawn: respondent -> (stratum, base weight 1/probability). None: there is none.

    Numbers without a probability, and replicates that were not released, are not in it. Whoever was drawn
    and then left alone is: see `sample.drawn`.
    """
    with reading(engine) as db:
        rows = db.execute(drawn(wave))
        return {r.respondent: (r.stratum or "", 1 / r.probability) for r in rows} or None


def planned_draw(engine: Engine, wave: str, plan: ReleasePlan) -> Draw | None:
    """The draw that the plan weights with; None if it calls the wave no probability sample.

    Raises ReleaseError where it does and the wave has no sample with probabilities.
    """
    if not plan.probability_sample:
        return None
    draw = draw_of(engine, wave)
    if draw is None:
        raise ReleaseError(
            f"wave {wave}: probability_sample = true, but its sample has no probabilities; load the sample"
            " with them (main.py campaign load), or set probability_sample = false in the release file"
        )
    return draw
