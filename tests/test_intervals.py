"""Intervals and effective sizes: closed forms, the worked example, and what must hold of any."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.analysis.intervals import (
    effective_n,
    kish,
    korn_graubard,
    logit_interval,
    quantile_t,
    reach,
)

#: Strata A, A, A, B, B, B; w = 1, 1, 2, 3, 3, 2; y = 1, 0, 1, 1, 0, 1 (test_estimation has it from the rows).
P, SE, N, DF = 8 / 12, 0.25760146, 6, 4


def test_the_worked_example() -> None:
    assert float(quantile_t(4)) == pytest.approx(2.776445, abs=1e-6)
    assert [float(x) for x in logit_interval(P, SE, DF)] == pytest.approx([0.074102, 0.980384], abs=1e-5)
    assert [float(x) for x in korn_graubard(P, SE, N, DF)] == pytest.approx([0.087296, 0.992765], abs=1e-5)
    size, deff = kish(np.array([1, 1, 2, 3, 3, 2.0]))
    assert (size, deff) == pytest.approx((5.142857, 1.166667), abs=1e-6)


@pytest.mark.parametrize(("n", "high"), [(30, 0.1157), (100, 0.0362)])
def test_nobody_positive_has_a_closed_form(n: int, high: float) -> None:
    """hi = 1 - .025^(1/n); all positive mirrors it."""
    none, every = korn_graubard(0.0, 0.0, n, n - 1), korn_graubard(1.0, 0.0, n, n - 1)
    assert float(none[0]) == 0.0 and float(every[1]) == 1.0
    assert float(none[1]) == pytest.approx(1 - 0.025 ** (1 / n), abs=1e-12) == pytest.approx(high, abs=5e-5)
    assert float(every[0]) == pytest.approx(0.025 ** (1 / n), abs=1e-12)


def test_at_0_and_1_the_interval_is_korn_graubard_s_and_never_plus_minus_0() -> None:
    found = reach([0.0, 1.0, 0.4], [0.0, 0.0, 0.0], [30, 30, 30], [29, 29, 29])
    assert list(found.n_eff) == [30, 30, 30]
    assert all(high - low > 0.1 for low, high in zip(found.low, found.high, strict=True))
    assert np.isnan(found.deff).all()


@pytest.mark.parametrize(("n", "df"), [(0, 0), (1, 0), (3, 0), (2, -1)])
def test_without_degrees_of_freedom_there_is_no_interval(n: int, df: int) -> None:
    found = reach(0.5, 0.2, n, df)
    assert math.isnan(float(found.low)) and math.isnan(float(found.width))


def test_weights_of_nobody_have_no_effective_number() -> None:
    with pytest.raises(ValueError, match="no respondent"):
        kish(np.zeros(0))


@given(
    p=st.floats(1e-4, 1 - 1e-4),
    n=st.integers(2, 100_000),
    deff=st.floats(0.2, 50.0),
    strata=st.integers(1, 5),
)
def test_of_any_share_the_interval_holds_it_and_stays_in_0_to_1(
    p: float, n: int, deff: float, strata: int
) -> None:
    se, df = math.sqrt(deff * p * (1 - p) / n), max(n - strata, 1)
    for low, high in (logit_interval(p, se, df), korn_graubard(p, se, n, df)):
        assert 0 <= float(low) <= p <= float(high) <= 1
    assert 0 < float(effective_n(p, se, n)) <= n * (1 + 1e-9)
    mirrored = logit_interval(1 - p, se, df)
    assert 1 - float(mirrored[1]) == pytest.approx(float(logit_interval(p, se, df)[0]), abs=1e-9)


@given(weights=st.lists(st.floats(0.01, 1000), min_size=1, max_size=50), factor=st.floats(0.001, 1000))
def test_kish_does_not_mind_the_scale_and_lies_between_1_and_n(weights: list[float], factor: float) -> None:
    w = np.array(weights)
    size, deff = kish(w)
    assert 1 - 1e-9 <= size <= len(w) + 1e-9 and deff >= 1 - 1e-9
    assert kish(w * factor) == pytest.approx((size, deff))
    twice, _ = kish(w, np.full(len(w), 2))
    assert twice == pytest.approx(2 * size)
