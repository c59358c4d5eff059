"""What the doubtful interviews do to the figures: the national table with them and without, and who came.

Without them the rest is raked anew to the same margins, as it would be if they had not been there. The rest
of this module is what else the respondents' file tells: its composition beside the population's, and what
weighting costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flows.instrument import Instrument
from storage.analysis.blocks import drawn_blocks, service_blocks
from storage.analysis.domains import NOT_KNOWN, Bools, Variable, Wealth, variables
from storage.analysis.estimates import MODELLED, UNWEIGHTED, Domain, Estimate
from storage.analysis.intervals import Ints, kish
from storage.analysis.margins import Margins
from storage.analysis.papers import rows_of
from storage.analysis.raking import Limits, RakingError
from storage.analysis.shares import item_states
from storage.analysis.sheets import Sheet
from storage.analysis.table import Draw, File, files_of, service_figures

#: Of an estimate without the doubtful interviews, and of those alone: how `disclosure` sees them.
REST: Domain = (("doubtful", "no"),)
DOUBTFUL: Domain = (("doubtful", "yes"),)


@dataclass(frozen=True, slots=True)
class Pair:
    """One national figure, from all interviews and without the doubtful ones."""

    every: Estimate
    rest: Estimate


@dataclass(frozen=True, slots=True)
class Category:
    """How many respondents are in a category, beside its part of the population."""

    category: str
    n: int | None
    share: float | None  # of those in any category of the table
    population: float | None  # None: the office gave no total
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Respondents by one variable or cross; `source` "" where there is nothing to compare with."""

    table: str
    variables: tuple[str, ...]
    source: str
    issued: str
    categories: tuple[Category, ...]
    not_known: int | None


@dataclass(frozen=True, slots=True)
class Weighting:
    """What weights cost one block's services. Kish's design effect: n sum w^2 / (sum w)^2."""

    block: str
    respondents: int
    n_eff: float
    deff_before: float  # of the base weights
    deff: float
    least: float | None  # weights, as multiples of their mean
    most: float | None
    raked: bool
    at_cap: int | None  # respondents whose weight is at a cap
    joined: int  # categories of margins that had to join another


def without(sheets: Sequence[Sheet], doubtful: Sequence[Bools]) -> list[Sheet]:
    """The sheets less these rows of each."""
    return [rows_of(sheet, ~rows) for sheet, rows in zip(sheets, doubtful, strict=True)]


class National:
    """The national figures of a file of respondents, and its weights."""

    def __init__(
        self,
        instrument: Instrument,
        wave: str,
        period: str,
        *,
        margins: Margins | None = None,
        wealth: Wealth | None = None,
        limits: Limits | None = None,
        fewest: int = 1,
        probability_sample: bool = False,
        draw: Draw | None = None,
    ):
        self.instrument, self.wave, self.period = instrument, wave, period
        self.margins, self.limits, self.fewest, self.draw = margins, limits, fewest, draw
        self.known = variables(instrument, wealth)
        unweighted = () if margins or draw is not None else (UNWEIGHTED,)
        self.notes = (*unweighted, *(() if probability_sample else (MODELLED,)))

    def figures(self, sheets: Sequence[Sheet]) -> tuple[list[Estimate], list[Weighting]]:
        """As `table_16_6_2` computes them, of sheets with nobody outside the draw. Raises RakingError."""
        estimates: list[Estimate] = []
        weightings: list[Weighting] = []
        files = files_of(
            self.instrument, self.wave, sheets, self.known, self.margins, self.limits, self.fewest, self.draw
        )
        drawn = drawn_blocks(self.instrument, sheets)
        told = set()
        for service, block in service_blocks(self.instrument).items():
            file = files[block]
            if id(file) not in told:
                told.add(id(file))
                weightings += _weighting(block if block in drawn else "", file)
            states = item_states(self.instrument, service, [(s.group.instrument, s.marks) for s in sheets])
            for found in service_figures(file, states, [()], self.known):
                estimates += (
                    replace(e, wave=self.wave, period=self.period, service=service, notes=self.notes)
                    for e in found
                )
        return estimates, weightings

    def compare(
        self, sheets: Sequence[Sheet], doubtful: Sequence[Bools]
    ) -> tuple[tuple[Pair, ...], tuple[Weighting, ...], str]:
        """Every figure with and without these rows of each sheet; the weights with them; why there is no
        comparison, "" if there is one: without them the rest may not fit the margins any more.
        """
        every, weightings = self.figures(sheets)
        try:
            some = any(rows.any() for rows in doubtful)
            rest, _ = self.figures(without(sheets, doubtful)) if some else (every, [])
        except RakingError as error:
            return (), tuple(weightings), str(error)
        pairs = tuple(Pair(e, replace(r, domain=REST)) for e, r in zip(every, rest, strict=True))
        return pairs, tuple(weightings), ""


def _weighting(block: str, file: File) -> list[Weighting]:
    design, report = file.design, file.report
    n = int(design.counts.sum())
    if not n:
        return []
    mean = float((design.weight * design.counts).sum() / n)
    n_eff, deff = kish(design.weight, design.counts)
    return [
        Weighting(
            block, n, n_eff, kish(design.base, design.counts)[1], deff,
            float(design.weight.min() / mean), float(design.weight.max() / mean), report is not None,
            report.at_cap if report else 0, len(report.joined) if report else 0,
        )
    ]  # fmt: skip


def coverage(
    sheets: Sequence[Sheet], known: Sequence[Variable], margins: Margins | None
) -> tuple[Coverage, ...]:
    """Respondents by each of the office's tables; then by each variable that none of them is about."""
    codes: dict[str, Ints] = {
        v.id: np.concatenate(
            [np.zeros(0, dtype=np.int64), *(v.of(s.group.instrument, s.marks) for s in sheets)]
        )
        for v in known
    }
    found = []
    tables = margins.tables if margins else ()
    targets = margins.targets(known, codes) if margins else []
    for table, target in zip(tables, targets, strict=True):
        population = float(target.totals.sum())
        shares = [float(t) / population if population else None for t in target.totals]
        found.append(
            _covered(
                table.name, table.variables, table.source, table.issued.isoformat(), target.categories,
                target.of, shares,
            )
        )  # fmt: skip
    told = {table.variables for table in tables}
    for v in known:
        if (v.id,) not in told:
            found.append(
                _covered(v.id, (v.id,), "", "", v.categories, codes[v.id], [None] * len(v.categories))
            )
    return tuple(found)


def _covered(
    name: str,
    variables_: tuple[str, ...],
    source: str,
    issued: str,
    categories: Sequence[str],
    of: Ints,
    population: Sequence[float | None],
) -> Coverage:
    inside = of[of != NOT_KNOWN]
    counts = np.bincount(inside, minlength=len(categories)).tolist()
    return Coverage(
        name, variables_, source, issued,
        tuple(
            Category(c, n, n / len(inside) if len(inside) else None, p)
            for c, n, p in zip(categories, counts, population, strict=True)
        ),
        len(of) - len(inside),
    )  # fmt: skip
