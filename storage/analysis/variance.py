"""Standard errors of shares by Taylor linearisation, with the calibration's residuals after raking.

    z = y - p over the domain's weight (0 outside)         influence of a respondent on the share
    e = z - x'B,  B = (sum d x x')^-1 sum d x z            what the margins do not explain; d = base weight
    u = w e                                                w = final weight
    V = sum over strata of n/(n-1) sum (u - mean of u)^2   with replacement, a respondent is a cluster

Deville and Sarndal 1992 (JASA 87:376) for the residuals; equals R's survey, `calibrate(calfun="raking")`.
A domain is a subset of the design: outside it z is 0, but e is not, and the rows stay in strata and means.

Everything is held by cells (see `raking`): z differs inside a cell by answer only, so what varies comes as
lists of (group, cell, z, respondents), a group being one domain. A stratum with one respondent in the whole
file adds u^2, its distance from the file's mean instead of its own: the centre rule, on the safe side. That
mean is 0 for the influence on a ratio, and is taken as 0 after raking too, as R does (lonely.psu = "adjust").
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from storage.analysis.intervals import Floats, Ints


@dataclass(frozen=True)
class Design:
    """The file of respondents, by cells. Arrays of one length; every stratum's cells together, in order."""

    stratum: Ints  # 0, 1, ..; not descending
    base: Floats
    weight: Floats  # the base weight where nothing was raked
    counts: Ints  # respondents, 1 or more
    categories: tuple[Ints, ...] = ()  # per margin raked to: each cell's category (Raked.categories)

    def __post_init__(self) -> None:
        if np.any(np.diff(self.stratum) < 0):
            raise ValueError("cells must stand in the order of their strata")

    @cached_property
    def starts(self) -> Ints:
        """Where each stratum's cells begin."""
        return np.flatnonzero(np.diff(self.stratum, prepend=-1)).astype(np.int64)

    @cached_property
    def sizes(self) -> Ints:
        """Respondents of each stratum, in the whole file."""
        return np.add.reduceat(self.counts, self.starts) if len(self.counts) else self.counts

    @cached_property
    def places(self) -> list[Ints]:
        """Per margin: each cell's column of x, of which every cell has one a margin."""
        ends = np.cumsum([0, *(int(of.max()) + 1 for of in self.categories)])
        return [of + start for of, start in zip(self.categories, ends, strict=False)]

    @cached_property
    def _solve(self) -> Floats:
        # Each margin's indicators add up to one: singular. The fit is the same for every generalised inverse.
        x = np.zeros((len(self.base), 1 + max((int(p.max()) for p in self.places), default=-1)))
        for place in self.places:
            x[np.arange(len(x)), place] = 1.0
        products: Floats = x.T @ (x * (self.base * self.counts)[:, None])
        return np.asarray(np.linalg.pinv(products, 1e-12, hermitian=True), dtype=np.float64)

    def explained(self, z_sums: Floats) -> Floats:
        """x'B of groups x cells, from the sums of z in each cell."""
        fit = np.zeros_like(z_sums)
        if not self.categories:
            return fit
        wide = len(self._solve)
        rows = np.arange(len(z_sums))[:, None] * wide
        moments = np.zeros(len(z_sums) * wide)
        for place in self.places:  # sums and look-ups: x is too sparse to multiply by
            moments += np.bincount(
                (rows + place).ravel(), (z_sums * self.base).ravel(), minlength=len(moments)
            )
        slopes = moments.reshape(-1, wide) @ self._solve.T
        for place in self.places:
            fit += slopes[:, place]
        return fit

    def standard_errors(self, groups: int, group: Ints, cell: Ints, z: Floats, n: Ints) -> Floats:
        """se of each group. Entries: `n` respondents of `cell` in the domain `group`, each of influence z.

        Entries may repeat a (group, cell); whoever is in none has z = 0.
        """
        if not len(self.counts):
            return np.full(groups, np.nan)
        cells, strata = len(self.base), self.stratum[cell]
        at = group * cells + cell
        shape = (groups, cells)
        z_sums = np.bincount(at, n * z, minlength=groups * cells).astype(np.float64)
        fit = self.explained(z_sums.reshape(shape))
        outside = self.counts - np.bincount(at, n, minlength=groups * cells).reshape(shape)
        u_inside = self.weight[cell] * (z - fit[group, cell])
        u_outside = -self.weight * fit
        where = group * len(self.sizes) + strata
        wide = (groups, len(self.sizes))

        def sums(inside: Floats, out: Floats) -> Floats:
            found: Floats = np.add.reduceat(outside * out, self.starts, axis=1)
            return found + np.bincount(where, n * inside, minlength=wide[0] * wide[1]).reshape(wide)

        totals = sums(u_inside, u_outside)
        single = self.sizes == 1
        means = np.where(single, 0.0, totals / self.sizes)
        squares = sums((u_inside - means[group, strata]) ** 2, (u_outside - means[:, self.stratum]) ** 2)
        factor = np.where(single, 1.0, self.sizes / np.maximum(self.sizes - 1, 1))
        result: Floats = np.sqrt((squares * factor).sum(1))
        return result
