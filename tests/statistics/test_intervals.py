"""Intervals of one score, against scipy and hand-written formulas."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from bench.statistics import mean_interval, noise_floor, question_half_width, wilson


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (1, 7), (5, 10), (288, 500), (500, 500), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipy_s(correct: int, n: int, level: float) -> None:
    theirs = stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    ours = wilson(correct, n, level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_counts_that_are_none(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="right answers of"):
        wilson(correct, n)


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [0.3, -0.2, 0.1, 0.9, 0.4]])
def test_mean_interval_is_the_one_sample_t(values: list[float]) -> None:
    theirs = stats.ttest_1samp(values, 0)
    interval, ours = theirs.confidence_interval(0.95), mean_interval(values)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert mean_interval(values[:2]) is None


def test_question_noise_of_an_average_over_tasks() -> None:
    tasks = [(0.5, 100), (0.25, 400)]
    variance = sum(stats.binom.var(n, p) / n**2 for p, n in tasks) / 4
    assert question_half_width(tasks) == pytest.approx(1.959963984540054 * math.sqrt(variance))


def test_the_noise_floor_pools_series() -> None:
    series = [[50.0, 51.0, 53.0], [40.0], [60.0, 62.0]]
    squares = sum((value - sum(one) / len(one)) ** 2 for one in series for value in one)
    found = noise_floor(series)
    assert (found.deviation, found.degrees) == (pytest.approx(math.sqrt(squares / 3)), 3)
    assert found.difference == pytest.approx(stats.t.ppf(0.975, 3) * math.sqrt(2 * squares / 3))
    assert noise_floor([[50.0], [40.0]]) is None
