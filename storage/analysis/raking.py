"""Raking: weights under which the respondents agree with known population totals, table by table.

Deming and Stephan's iterative proportional fitting. Works on cells: respondents alike in stratum, base
weight and all margins share one weight, so a cell holds how many they are, and a million respondents
are a few thousand cells. What does not fit stops it with a `RakingError` that names table, category,
difference and what to do; whatever it did of itself (categories joined, missing ones given their share,
weights capped) stands in the report.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from storage.analysis.intervals import Floats, Ints, kish

#: A full sweep that moves no category by more than this has arrived.
_ARRIVED, _MOST_SWEEPS = 1e-12, 2000
_CAP_ROUNDS = 50
#: Census tables may be rounded: totals of one population may differ by this part of it, no more.
_SAME_TOTAL = 1e-6
_MISSING = -1


class RakingError(ValueError):
    """Margins and respondents do not fit. `faults`: each names table, category, difference, remedy."""

    def __init__(self, faults: Iterable[str]):
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True, slots=True)
class Target:
    """One margin for these cells: `of` is each cell's place in `categories`, -1 = not known."""

    name: str
    categories: tuple[str, ...]
    totals: Floats
    of: Ints
    #: Category -> the one that it joins when fewer than `fewest` respondents are in it; none: refuse.
    joins: Mapping[str, str] = field(default_factory=dict)
    fewest: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """The office's bounds on a final weight, as multiples of the mean weight."""

    least: float
    most: float

    def __post_init__(self) -> None:
        if not 0 <= self.least < 1 < self.most:
            raise ValueError(
                f"caps {self.least} and {self.most}: give one below 1 and one above, times the mean weight"
            )


@dataclass(frozen=True, slots=True)
class Joined:
    """A category that had too few respondents, and where it went."""

    table: str
    category: str
    into: str
    respondents: int


@dataclass(frozen=True, slots=True)
class RakingReport:
    """What raking did. Weights are per respondent."""

    respondents: int
    population: float
    sweeps: int
    deff_before: float  # Kish, of the base weights
    deff_after: float
    n_eff: float
    least_weight: float
    most_weight: float
    mean_weight: float
    joined: tuple[Joined, ...]
    missing: tuple[
        tuple[str, int, float], ...
    ]  # table, respondents without the item, their base-weighted share
    at_cap: int  # respondents whose weight lies at or beyond a cap in the end; 0 without caps
    margin_error: float  # the largest, as a part of its total


@dataclass(frozen=True, slots=True)
class Raked:
    """Final weight of a respondent in each cell, and the categories raked to, for the residuals."""

    weights: Floats
    categories: tuple[Ints, ...]  # one array a margin: the cell's category, 0, 1, ..; missing is the last
    report: RakingReport


def rake(base: Floats, counts: Ints, targets: Sequence[Target], limits: Limits | None = None) -> Raked:
    """Rake cells of `counts` respondents each, from base weight `base`, to every target.

    Whoever lacks the item of a margin keeps the base-weighted share of those who lack it, and the known
    categories share the rest; nobody is dropped. Ends on a sweep, so totals hold and caps may not:
    `at_cap` and `margin_error` tell. Raises RakingError.
    """
    f = counts.astype(np.float64)
    _refuse_misfits(targets, counts)
    joined: list[Joined] = []
    missing: list[tuple[str, int, float]] = []
    fitted: list[tuple[Ints, Floats, tuple[str, ...]]] = []
    faults: list[str] = []
    for target in targets:
        of, totals, names = _join(target, counts, joined, faults)
        lacking = of == _MISSING
        if lacking.any():
            share = float((f * base)[lacking].sum() / (f * base).sum())
            missing.append((target.name, int(counts[lacking].sum()), share))
            population = totals.sum()
            totals = np.append(totals * (1 - share), population * share)
            of, names = np.where(lacking, len(names), of), (*names, "missing")
            if share > 1 - _ARRIVED:
                faults.append(
                    f"table {target.name}: no respondent has answered its items; leave the table out"
                )
        fitted.append((of, totals, names))
    if faults:
        raise RakingError(faults)
    tables = [target.name for target in targets]
    weights, sweeps = _sweep(base, f, fitted, tables)
    if limits is not None:
        weights, more = _cap(weights, f, fitted, tables, limits)
        sweeps += more
    before, (n_eff, after) = kish(base, counts)[1], kish(weights, counts)
    mean = float((f * weights).sum() / f.sum())
    held = f > 0
    report = RakingReport(
        respondents=int(counts.sum()), population=float((f * weights).sum()), sweeps=sweeps,
        deff_before=before, deff_after=after, n_eff=n_eff,
        least_weight=float(weights[held].min()), most_weight=float(weights[held].max()), mean_weight=mean,
        joined=tuple(joined), missing=tuple(missing),
        at_cap=0 if limits is None else _at_cap(weights, counts, mean, limits),
        margin_error=_margin_error(weights, f, fitted),
    )  # fmt: skip
    return Raked(weights, tuple(of for of, _, _ in fitted), report)


def _refuse_misfits(targets: Sequence[Target], counts: Ints) -> None:
    """All that can be told before anything is joined."""
    faults = []
    if not targets:
        faults.append("no margin to rake to: leave raking out, or give the margins file a table")
    if not counts.sum():
        faults.append("no respondent to rake: wait for interviews, or choose another wave")
    for target in targets:
        for category, total in zip(target.categories, target.totals, strict=True):
            if not np.isfinite(total) or total < 0:
                faults.append(f"table {target.name}, {category}: total {total}; give a number of 0 or more")
    if faults:
        raise RakingError(faults)
    first = targets[0]
    for target in targets[1:]:
        difference = float(target.totals.sum() - first.totals.sum())
        if abs(difference) > _SAME_TOTAL * first.totals.sum():
            faults.append(
                f"table {target.name} adds up to {target.totals.sum():,.0f} and table {first.name} to"
                f" {first.totals.sum():,.0f}, a difference of {difference:+,.0f}: take both from one"
                " population (same date, same ages), or scale one to the other's total"
            )
    for target in targets:
        held = np.bincount(target.of + 1, counts, minlength=len(target.categories) + 1)[1:]
        for category, total, n in zip(target.categories, target.totals, held, strict=True):
            if n and not total:
                faults.append(
                    f"table {target.name}, {category}: {n:.0f} respondents, but a total of 0 or none:"
                    " give its total"
                )
    if faults:
        raise RakingError(faults)


def _join(
    target: Target, counts: Ints, joined: list[Joined], faults: list[str]
) -> tuple[Ints, Floats, tuple[str, ...]]:
    """Each cell's category, totals and names once small categories are joined; those of total 0 are gone."""
    held = np.bincount(target.of + 1, counts, minlength=len(target.categories) + 1)[1:]
    respondents = dict(zip(target.categories, held.tolist(), strict=True))
    wanted = dict(zip(target.categories, target.totals.tolist(), strict=True))
    small = {c for c in target.categories if wanted[c] and respondents[c] < target.fewest}
    goes = {c: target.joins[c] for c in target.categories if c in small and c in target.joins}
    ends: dict[str, str] = {}
    for category in target.categories:
        end, steps = category, 0
        while (onward := goes.get(end)) in wanted and steps < len(wanted):
            end, steps = str(onward), steps + 1
        ends[category] = end
        if steps == len(wanted):
            faults.append(f"table {target.name}, {category}: its joins lead in a circle; mend them")
            ends[category] = category
        elif end != category:
            joined.append(Joined(target.name, category, end, int(respondents[category])))
    totals = {c: sum(wanted[k] for k, end in ends.items() if end == c) for c in target.categories}
    names = tuple(c for c, total in totals.items() if total)
    for name in names:
        if not sum(respondents[c] for c, end in ends.items() if end == name):
            faults.append(
                f"table {target.name}, {name}: a total of {totals[name]:,.0f}, but no respondent: join it"
                " with a category that has some (`joins` in the margins file) or leave the table out"
            )
    place = {name: n for n, name in enumerate(names)}
    new = np.array([_MISSING, *(place.get(ends[c], _MISSING) for c in target.categories)], dtype=np.int64)
    return new[target.of + 1], np.array([totals[name] for name in names]), names


_Fitted = Sequence[tuple[Ints, Floats, tuple[str, ...]]]


def _sweep(start: Floats, f: Floats, fitted: _Fitted, tables: Sequence[str]) -> tuple[Floats, int]:
    weights = start.copy()
    furthest = (0.0, "", "")
    for sweeps in range(1, _MOST_SWEEPS + 1):
        furthest = (0.0, "", "")
        for (of, totals, names), table in zip(fitted, tables, strict=True):
            factor = totals / np.bincount(of, f * weights, minlength=len(totals))
            weights *= factor[of]
            off = np.abs(factor - 1)
            worst = int(off.argmax())
            furthest = max(furthest, (float(off[worst]), table, names[worst]))
        if furthest[0] < _ARRIVED:
            return weights, sweeps
    raise RakingError(
        [
            f"table {furthest[1]}, {furthest[2]}: still {furthest[0]:.2g} off its total after {_MOST_SWEEPS}"
            " sweeps: the tables cannot all hold for these respondents; join small categories or leave a"
            " table out"
        ]
    )


def _cap(
    weights: Floats, f: Floats, fitted: _Fitted, tables: Sequence[str], limits: Limits
) -> tuple[Floats, int]:
    """Clip and rake in turn until both hold, or as near as they come in some rounds."""
    sweeps = 0
    for _ in range(_CAP_ROUNDS):
        mean = (f * weights).sum() / f.sum()
        clipped = np.clip(weights, limits.least * mean, limits.most * mean)
        if np.abs(clipped / weights - 1).max() < _ARRIVED:
            break
        weights, more = _sweep(clipped, f, fitted, tables)
        sweeps += more
    return weights, sweeps


def _at_cap(weights: Floats, counts: Ints, mean: float, limits: Limits) -> int:
    low, high = limits.least * mean, limits.most * mean
    return int(counts[(weights <= low * (1 + 1e-9)) | (weights >= high * (1 - 1e-9))].sum())


def _margin_error(weights: Floats, f: Floats, fitted: _Fitted) -> float:
    return max(
        float(np.abs(np.bincount(of, f * weights, minlength=len(t)) / t - 1).max()) for of, t, _ in fitted
    )
