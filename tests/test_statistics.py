"""Formulas against scipy and naive definitions; verdicts against their rule."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from bench.statistics import mean_interval, question_noise, verdict


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [0.3, -0.2, 0.1, 0.9, 0.4]])
def test_mean_interval_is_the_one_sample_t(values: list[float]) -> None:
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = mean_interval(values)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert mean_interval(values[:2]) is None


def test_question_noise_of_an_average_over_tasks() -> None:
    tasks = [(0.5, 100), (0.25, 400)]
    variance = sum(stats.binom.var(n, p) / n**2 for p, n in tasks) / 4
    assert question_noise(tasks) == pytest.approx(1.959963984540054 * math.sqrt(variance))


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
    assert verdict(differences) == expected
