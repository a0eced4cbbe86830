"""Verdicts against their rule."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from bench.statistics import compare_family, detectable_difference, seeds_needed, standard_deviation


@pytest.mark.parametrize(
    ("values", "p", "said"),
    [
        ([0.0, 0.0, 0.0], 1.0, "tie"),
        ([1e-14, -1e-14, 3e-14], 1.0, "tie"),  # sums of the same accuracies in another order
        ([2.5, 2.5, 2.5], 0.0, "better"),
        ([-0.1 - 0.2, -0.3, -0.3], 0.0, "tie"),
        ([-2.5, -2.5, -2.5], 0.0, "worse"),
    ],
)
def test_differences_without_a_spread(values: list[float], p: float, said: str) -> None:
    (found,) = compare_family([values])
    assert (found.p, found.verdict) == (p, said)
    assert (found.interval.low, found.interval.high) == pytest.approx((values[0], values[0]), abs=1e-9)
    assert detectable_difference(standard_deviation(values), 3) == 0.0
    assert seeds_needed(values[0], standard_deviation(values)) == 3


def test_equal_differences_are_known_to_their_step() -> None:
    (found,) = compare_family([[-4.5, -4.5, -4.5]], steps=[0.25])
    half = stats.t.ppf(0.975, 2) * 0.25 / math.sqrt(12 * 3)
    assert (found.interval.low, found.interval.high) == pytest.approx((-4.5 - half, -4.5 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(4.5 / (0.25 / math.sqrt(12 * 3)), 2)) and found.verdict == "worse"
    # Unequal ones are further apart than that already.
    assert compare_family([[1.0, 1.25, 1.0]], steps=[0.25]) == compare_family([[1.0, 1.25, 1.0]])


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([3.0, 3.2, 3.1], "better"),
        ([-3.0, -3.2, -3.1], "worse"),
        ([0.1, 0.2, 0.0], "tie"),
        ([2.0, -1.0, 3.0], "unresolved"),
        ([5.0], "these two runs"),
        ([5.0, 5.1], "these two runs"),
        ([0.3, 0.31, 0.29], "tie"),  # above zero, but no difference that matters
    ],
)
def test_verdicts(differences: list[float], expected: str) -> None:
    assert compare_family([differences])[0].verdict == expected


def test_a_verdict_is_of_its_family() -> None:
    near = [2.0, 3.5, 2.6]  # p = 0.026 alone
    assert compare_family([near])[0].verdict == "better"
    among = compare_family([near, [2.0, -1.0, 3.0], [1.0]])
    assert [one.verdict for one in among] == ["unresolved", "unresolved", "these two runs"]
    assert among[0].p_adjusted == pytest.approx(2 * among[0].p)
    assert among[0].interval.low > 0  # the interval is not adjusted
    assert compare_family([[0.1, 0.2, 0.0], *[[2.0, -1.0, 3.0]] * 20])[0].verdict == "tie"
