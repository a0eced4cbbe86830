"""Verdicts against their rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.statistics import (
    Correction,
    SeedComparison,
    SeedEstimate,
    compare_family,
    detectable_difference,
    seeds_needed,
    standard_deviation,
)


def judged(family: list[list[float]], margin: float = 1.0, step: float = 0.0) -> list[SeedComparison]:
    return compare_family([SeedEstimate(tuple(values), step=step) for values in family], margin)


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
    (found,) = judged([values])
    assert (found.p, found.verdict) == (p, said)
    assert (found.interval.low, found.interval.high) == pytest.approx((values[0], values[0]), abs=1e-9)
    assert detectable_difference(standard_deviation(values), 3) == 0.0
    assert seeds_needed(values[0], standard_deviation(values)) == 3


def test_equal_differences_are_known_to_their_step() -> None:
    (found,) = judged([[-4.5, -4.5, -4.5]], step=0.25)
    half = stats.t.ppf(0.975, 2) * 0.25 / math.sqrt(12 * 3)
    assert (found.interval.low, found.interval.high) == pytest.approx((-4.5 - half, -4.5 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(4.5 / (0.25 / math.sqrt(12 * 3)), 2)) and found.verdict == "worse"
    # Unequal ones are further apart than that already.
    assert judged([[1.0, 1.25, 1.0]], step=0.25) == judged([[1.0, 1.25, 1.0]])


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
    assert judged([differences])[0].verdict == expected


def test_a_verdict_is_of_its_family() -> None:
    near = [2.0, 3.5, 2.6]  # p = 0.026 alone
    assert judged([near])[0].verdict == "better"
    among = judged([near, [2.0, -1.0, 3.0], [1.0]])
    assert [one.verdict for one in among] == ["unresolved", "unresolved", "these two runs"]
    assert among[0].p_adjusted == pytest.approx(2 * among[0].p)
    assert among[0].interval.low > 0  # the interval is not adjusted


def test_ties_are_adjusted_for_their_number() -> None:
    """That two methods are alike is a discovery as well: of many true differences of a margin some look like none."""
    near = [0.1, 0.2, 0.0]
    assert judged([near])[0].verdict == "tie"
    among = judged([near, *[[2.0, -1.0, 3.0]] * 20])[0]
    assert among.tie_p < 0.05 < among.tie_p_adjusted == pytest.approx(21 * among.tie_p)
    assert among.verdict == "unresolved"


def test_a_margin_of_none_leaves_no_ties() -> None:
    (found,) = judged([[0.1, 0.2, 0.0]], margin=0.0)
    assert found.tie_p is None and found.verdict == "unresolved"
    # What has no margin does not make the ties of others harder.
    family = [SeedEstimate((0.1, 0.2, 0.0)), SeedEstimate((2.0, -1.0, 3.0))]
    assert compare_family(family, [1.0, 0.0])[0].tie_p_adjusted == compare_family(family[:1])[0].tie_p


def test_exploring_is_adjusted_for_the_share_of_false_ones() -> None:
    family = [SeedEstimate(values) for values in ((3.0, 3.2, 3.1), (3.0, 3.3, 2.7), (0.0, 2.0, -1.0))]
    exploring = compare_family(family, correction="benjamini-hochberg")
    assert exploring[0].p_adjusted == pytest.approx(3 * exploring[0].p)
    assert exploring[1].p_adjusted == pytest.approx(1.5 * exploring[1].p)


@pytest.mark.parametrize("correction", ["holm", "benjamini-hochberg"])
def test_the_adjusted_interval_agrees_with_the_verdict(correction: Correction) -> None:
    """It leaves out zero where the verdict is better or worse, lies within the margin where it is a tie, and does
    neither where it is unresolved; an interval that is not adjusted does not."""
    random = np.random.default_rng(0)
    told, disagreeing = set(), 0
    for _ in range(60):
        means = random.normal(0, 1.5, 8)
        family = [SeedEstimate(tuple(random.normal(mean, random.uniform(0.1, 1.2), 4))) for mean in means]
        for comparison in compare_family(family, 1.0, correction):
            told.add(comparison.verdict)
            interval, unadjusted = comparison.adjusted, comparison.interval
            apart = not interval.low <= 0 <= interval.high
            assert apart or comparison.verdict not in ("better", "worse")
            assert not apart or comparison.verdict in ("better", "worse", "tie")
            within = interval.low >= -1 - 1e-9 and interval.high <= 1 + 1e-9
            assert within or comparison.verdict != "tie"
            assert not within or comparison.verdict != "unresolved"
            assert interval.high - interval.low >= unadjusted.high - unadjusted.low - 1e-9
            disagreeing += comparison.verdict == "unresolved" and not unadjusted.low <= 0 <= unadjusted.high
    assert told == {"better", "worse", "tie", "unresolved"} and disagreeing > 20


def test_the_adjusted_interval_of_one_comparison_is_its_interval() -> None:
    (comparison,) = compare_family([SeedEstimate((0.5, 1.5, 2.5))])
    assert comparison.adjusted == comparison.interval and comparison.verdict == "unresolved"
