"""Replicate check: the errors of the national figures by other means, the delete-a-group jackknife.

    se of the release     linearised: formulas, with the calibration's residuals (`variance`)
    se here               what the figures do when a part of the respondents is left out and the rest is
                          weighted and raked anew, part after part

    V = sum over strata of (g-1)/g sum over groups of (p without the group - p)^2

The stratified jackknife (JKn; Wolter 2007, Introduction to Variance Estimation, chapter 4), about p of all
respondents, as R's `as.svrepdesign(type = "JKn", mse = TRUE)` has it. A stratum's respondents are put into
g groups at random, of equal size or one apart; where they are no more than the groups wanted, each is one.
The others of the stratum take over the weight of a group left out: base weights times g/(g-1) there (Rust
1985, Journal of Official Statistics 1:381). Then missing demographics get their share and all margins are
raked to anew, so that what raking does to the errors is in the replicates by itself. A stratum of one
respondent has no replicate and adds nothing here, while the linearised error counts it on the safe side.

The jackknife varies by chance too: as chi-square with so many degrees of freedom as there are groups less
strata, so its error is known to about 1/sqrt(2 df) of itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Engine

from flows.instrument import Instrument
from storage.analysis.blocks import service_blocks
from storage.analysis.domains import Bools, Wealth, variables
from storage.analysis.estimates import ATTRIBUTES, OVERALL
from storage.analysis.intervals import Floats, Ints
from storage.analysis.margins import Margins
from storage.analysis.raking import Limits, RakingError, Target, rake
from storage.analysis.shares import NEGATIVE, POSITIVE_STATE, item_states
from storage.analysis.sheets import Progress
from storage.analysis.table import Draw, File, block_files, service_figures
from storage.analysis.variance import Design

GROUPS = 100
_SEED = 16  # the same groups each time
_NEVER = 0  # group of respondents that no replicate leaves out


@dataclass(frozen=True, slots=True)
class Checked:
    """One national figure, with its error by both ways; None where it is undefined."""

    service: str
    measure: str
    share: float | None
    se: float | None
    jackknife: float | None
    groups: int
    df: int  # groups less strata

    @property
    def ratio(self) -> float | None:
        return self.jackknife / self.se if self.se and self.jackknife is not None else None


def replicate_check(
    engine: Engine,
    instrument: Instrument,
    wave: str,
    *,
    margins: Margins | None = None,
    wealth: Wealth | None = None,
    limits: Limits | None = None,
    fewest: int = 1,
    draw: Draw | None = None,
    simulated: bool = True,
    groups: int = GROUPS,
    told: Progress | None = None,
) -> list[Checked]:
    """The national figures of `table_16_6_2` with the same arguments, each with both errors.

    groups: about how many replicates; more strata than half of it get two each. Raises ValueError below 2,
    and RakingError where a replicate cannot be raked, NoMarks.
    """
    if groups < 2:
        raise ValueError(f"{groups} groups: give 2 or more")
    known = variables(instrument, wealth)
    _, sheets, files = block_files(
        engine, instrument, wave, margins=margins, wealth=wealth, limits=limits, fewest=fewest, draw=draw,
        simulated=simulated, told=told,
    )  # fmt: skip
    replicated: dict[int, _Replicates] = {}
    found = []
    for service, block in service_blocks(instrument).items():
        file = files[block]
        if not len(file.design.counts):
            continue
        if id(file) not in replicated:
            targets = () if margins is None else targets_again(file, margins)
            replicated[id(file)] = _replicate(file, targets, limits, groups, block, told)
        ours = replicated[id(file)]
        states = item_states(instrument, service, [(s.group.instrument, s.marks) for s in sheets])
        shares = {}
        for item in states.of:
            side = states.sides(item)
            shares[item] = ours.shares(ours.held(side == POSITIVE_STATE), ours.held(side == NEGATIVE))
        if states.attributes:
            shares[ATTRIBUTES] = np.mean([shares[item] for item in states.attributes], axis=0)
        shares[OVERALL] = shares[states.overall]
        (figures,) = service_figures(file, states, [()], known)
        for e in figures:
            jackknife = None if e.share is None else ours.error(shares[e.measure])
            found.append(Checked(service, e.measure, e.share, e.se, jackknife, ours.count, ours.df))
    return found


@dataclass(frozen=True)
class _Replicates:
    """A file's groups, and the weights of its design's cells without each; row 0 without none."""

    place: Ints  # of each row of the sheets: group * cells + cell; -1: not in the file
    weights: Floats  # 1 + groups x cells
    factor: Floats  # 1 + groups: (g-1)/g of its stratum
    df: int

    @property
    def count(self) -> int:
        return len(self.weights) - 1

    def held(self, which: Bools) -> Ints:
        """Respondents by group and cell, of these rows of the sheets."""
        counts = np.bincount(self.place[which & (self.place >= 0)], minlength=self.weights.size)
        return counts.reshape(self.weights.shape)

    def shares(self, positive: Ints, negative: Ints) -> Floats:
        """The share without each group, from respondents by group and cell; nan without a base."""

        def weighted(held: Ints) -> Floats:
            left = held.sum(0) - held
            left[_NEVER] = held.sum(0)
            total: Floats = (self.weights * left).sum(1)
            return total

        up, down = weighted(positive), weighted(negative)
        with np.errstate(divide="ignore", invalid="ignore"):
            share: Floats = up / (up + down)
        return share

    def error(self, shares: Floats) -> float | None:
        """The jackknife's se; None where a replicate has no share."""
        variance = float((self.factor[1:] * (shares[1:] - shares[0]) ** 2).sum())
        return float(np.sqrt(variance)) if np.isfinite(variance) else None


def random_groups(stratum: Ints, groups: int) -> tuple[Ints, Ints]:
    """Each respondent's group, from 1; and each group's stratum, by its number (that of 0 is -1).

    stratum: of each respondent, 0, 1, .. A stratum gets its part of `groups`, at least two and at most one a
    respondent; of a single respondent the group is 0. The same strata in the same order get the same groups.
    """
    chance = np.random.default_rng(_SEED)
    of, strata = np.zeros(len(stratum), dtype=np.int64), [-1]
    for h in range(int(stratum.max()) + 1 if len(stratum) else 0):
        members = np.flatnonzero(stratum == h)
        if len(members) < 2:
            continue
        wanted = min(max(2, round(groups * len(members) / len(stratum))), len(members))
        of[chance.permutation(members)] = len(strata) + np.arange(len(members)) % wanted
        strata += [h] * wanted
    return of, np.array(strata, dtype=np.int64)


def replicate_weights(
    design: Design, held: Ints, strata: Ints, targets: Sequence[Target], limits: Limits | None, at: Progress
) -> Floats:
    """Weights of the design's cells without each group; row 0: of all. held: respondents, groups x cells.

    strata: each group's. Raises RakingError naming the group that cannot be left out.
    """
    number = np.bincount(strata[1:], minlength=int(design.stratum.max()) + 1)
    weights = np.empty(held.shape)
    for group, h in enumerate(strata.tolist()):
        counts, base = design.counts, design.base
        if group != _NEVER:
            counts = counts - held[group]
            base = np.where(design.stratum == h, base * number[h] / (number[h] - 1), base)
        try:
            weights[group] = rake(base, counts, targets, limits).weights if targets else base
        except RakingError as error:
            raise RakingError(
                f"without group {group} of {len(strata) - 1}: {fault}; more groups leave out fewer at once,"
                " and a category with few respondents may join another (`fewest` in the release file)"
                for fault in error.faults
            ) from None
        at("raking replicates", group, len(strata) - 1)
    return weights


def _replicate(
    file: File, targets: Sequence[Target], limits: Limits | None, groups: int, block: str,
    told: Progress | None,
) -> _Replicates:  # fmt: skip
    design, cells = file.design, len(file.design.counts)
    inside = file.cell >= 0
    cell = file.design_cell[file.cell[inside]]
    of, strata = random_groups(design.stratum[cell], groups)
    place = np.full(len(file.cell), -1, dtype=np.int64)
    place[inside] = of * cells + cell
    held = np.bincount(place[inside], minlength=len(strata) * cells).reshape(-1, cells)

    def at(what: str, done: int, total: int) -> None:
        if told is not None:
            told(f"{what} ({block})", done, total)

    weights = replicate_weights(design, held, strata, targets, limits, at)
    number = np.bincount(strata[1:], minlength=int(design.stratum.max()) + 1)
    factor = np.where(strata < 0, 0.0, 1 - 1 / np.maximum(number[strata], 1))
    return _Replicates(place, weights, factor, len(strata) - 1 - int((number > 0).sum()))


def targets_again(file: File, margins: Margins) -> tuple[Target, ...]:
    """What the file was raked to, its joined categories as they were joined; missing ones are so again."""
    assert file.report is not None
    missing = {table: share for table, _, share in file.report.missing}
    held = file.design.counts * file.design.weight  # agrees with all totals
    targets = []
    for table, of in zip(margins.tables, file.design.categories, strict=True):
        totals: Floats = np.bincount(of, held).astype(np.float64)
        share = missing.get(table.name, 0.0)
        if share:  # the last category, which takes its part of every other
            totals, of = totals[:-1] / (1 - share), np.where(of == len(totals) - 1, -1, of)
        gone = {j.category for j in file.report.joined if j.table == table.name}
        into = {j.into for j in file.report.joined if j.table == table.name}
        names = tuple(c for c, total in table.totals.items() if c not in gone and (total or c in into))
        targets.append(Target(table.name, names, totals, of))
    return tuple(targets)
