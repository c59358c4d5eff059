"""Intervals for a share, effective sizes, and what the display standard asks of them: closed forms.

Arrays in, arrays out, one entry a share; a plain number does as well. Everything is 95 %, two-sided.

    logit          for 0 < p < 1: of ln(p/(1-p)), turned back. Never leaves 0..1 (R: svyciprop "xlogit")
    Korn-Graubard  exact binomial limits at the effective n; at p = 0 or 1, and for the display standard
                   (Korn and Graubard 1998, Survey Methodology 24:193; NCHS, Vital and Health
                   Statistics 2(175), 2017; R: svyciprop "beta", but capped at n as NCHS caps it)

Where no interval exists (no base, no degrees of freedom) there is nan.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, expit, logit, stdtrit  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_TAIL = 0.025
#: A standard error below this is rounding dust of a share that the calibration explains whole: none.
DUST = 1e-9


@dataclass(frozen=True, slots=True)
class Reach:
    """How far shares reach: the published interval and what the display standard tests. Arrays alike."""

    low: Floats
    high: Floats
    n_eff: Floats  # without the t-ratio: what both NCHS programs hold against 30
    deff: Floats  # of the share, over a simple random sample of n; nan at p = 0 or 1
    width: Floats  # of the Korn-Graubard interval


def quantile_t(df: Any) -> Floats:
    """The 97.5 % point of Student's t; nan where df <= 0."""
    df = np.asarray(df, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(df > 0, stdtrit(np.where(df > 0, df, 1.0), 1 - _TAIL), np.nan)
    return found


def logit_interval(p: Any, se: Any, df: Any) -> tuple[Floats, Floats]:
    """expit(L -+ t s) with L = ln(p/(1-p)), s = se/(p(1-p)). nan unless 0 < p < 1 and df > 0."""
    p, se = np.asarray(p, dtype=np.float64), np.asarray(se, dtype=np.float64)
    inside = (p > 0) & (p < 1)
    safe = np.where(inside, p, 0.5)
    middle = logit(safe)
    reach = quantile_t(df) * se / (safe * (1 - safe))
    low, high = expit(middle - reach), expit(middle + reach)
    return np.where(inside, low, np.nan), np.where(inside, high, np.nan)


def effective_n(p: Any, se: Any, n: Any) -> Floats:
    """min(n, p(1-p)/se^2); n where p is 0 or 1 or where se is 0 (NCHS programs, step 1)."""
    p, se, n = (np.asarray(x, dtype=np.float64) for x in (p, se, n))
    known = (p > 0) & (p < 1) & (se > DUST)
    at_most: Floats = np.minimum(n, p * (1 - p) / np.where(known, se, 1.0) ** 2)
    return np.where(known, at_most, n)


def korn_graubard(p: Any, se: Any, n: Any, df: Any) -> tuple[Floats, Floats]:
    """The capped, df-adjusted interval. nan where n is 0 or df <= 0.

    n* = min(n, p(1-p)/se^2 (t[n-1]/t[df])^2), n at p = 0 or 1; limits by the beta quantile.
    """
    p, se, n, df = (np.asarray(x, dtype=np.float64) for x in (p, se, n, df))
    usable = (n > 0) & (df > 0)
    known = usable & (p > 0) & (p < 1) & (se > DUST)
    ratio = np.where(known & (n > 1), quantile_t(n - 1) / quantile_t(df), 1.0)
    size = np.where(known, np.minimum(n, p * (1 - p) / np.where(known, se, 1.0) ** 2 * ratio**2), n)
    size = np.where(usable, size, 1.0)
    p = np.where(usable, p, 0.5)
    low = np.where(p > 0, betaincinv(np.where(p > 0, size * p, 1.0), size * (1 - p) + 1, _TAIL), 0.0)
    high = np.where(p < 1, betaincinv(size * p + 1, np.where(p < 1, size * (1 - p), 1.0), 1 - _TAIL), 1.0)
    return np.where(usable, low, np.nan), np.where(usable, high, np.nan)


def reach(p: Any, se: Any, n: Any, df: Any) -> Reach:
    """Interval, effective n, design effect and width of each share.

    Give p as exactly 0 or 1 where the *counts* say so, never as floating dust beside it. The interval
    is logit; Korn-Graubard where p is 0 or 1, and where se is 0, which would print as "+-0".
    """
    p, se, n, df = (np.asarray(x, dtype=np.float64) for x in (p, se, n, df))
    low, high = logit_interval(p, se, df)
    kg_low, kg_high = korn_graubard(p, se, n, df)
    plain = (p > 0) & (p < 1) & (se > DUST)
    with np.errstate(invalid="ignore", divide="ignore"):
        deff = np.where(plain, se**2 / (p * (1 - p) / n), np.nan)
    return Reach(
        low=np.where(plain, low, kg_low), high=np.where(plain, high, kg_high),
        n_eff=effective_n(p, se, n), deff=deff, width=kg_high - kg_low,
    )  # fmt: skip


def kish(weights: Floats, counts: Ints | None = None) -> tuple[float, float]:
    """Kish's effective n, (sum w)^2 / sum w^2, and design effect of weighting, n sum w^2 / (sum w)^2.

    `counts`: how many respondents have each weight. Raises ValueError without a respondent.
    """
    f = np.ones_like(weights) if counts is None else counts.astype(np.float64)
    n, total, squares = f.sum(), (f * weights).sum(), (f * weights**2).sum()
    if not n or not squares:
        raise ValueError("no respondent with a weight above 0: there is no effective number of them")
    return float(total**2 / squares), float(n * squares / total**2)
