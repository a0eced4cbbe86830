"""Comparisons with the best: the truly best setting is seldom called worse, and no worse one not worse."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from helpers.tables import within
from scipy import stats

from bench.statistics import AgainstBest, SeedEstimate, compare_with_best

RUNS = 2000


def compared_with_best(scores: np.ndarray, margin: float) -> list[AgainstBest]:
    """Of settings (K, S) paired by seed."""
    pairs = {(i, j): SeedEstimate(tuple(scores[j] - scores[i])) for i, j in combinations(range(len(scores)), 2)}
    return compare_with_best(pairs, len(scores), margin)


def test_the_best_is_called_worse_and_a_worse_one_not_worse_in_at_most_one_of_twenty_sweeps() -> None:
    """All equal is the worst case of the first, all others exactly a margin below the best that of the second."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 1, (RUNS, 6, 5))
    called_worse = sum(compared_with_best(scores, 1.0)[0].worse for scores in noise) / RUNS
    assert called_worse <= 0.05 + within(0.05, RUNS)
    below = np.array([0.0, *[-1.0] * 5])[:, None]
    named = sum(
        any(of.not_worse_p <= 0.05 for of in compared_with_best(0.5 * scores + below, 1.0)[1:]) for scores in noise
    )
    assert named / RUNS <= 0.05 + within(0.05, RUNS)
    print(f"the best called worse {called_worse:.1%}, a worse one not worse {named / RUNS:.1%}")


def test_equal_settings_are_found_not_worse_and_a_clear_best_is_found() -> None:
    random = np.random.default_rng(1)
    equal = [compared_with_best(scores, 1.0) for scores in random.normal(0, 0.2, (200, 5, 5))]
    assert np.mean([all(of.not_worse_p <= 0.05 for of in sweep) for sweep in equal]) > 0.9
    ahead = np.array([3.0, 0.0, 0.0, 0.0, 0.0])[:, None]
    clear = [compared_with_best(scores + ahead, 1.0) for scores in random.normal(0, 0.3, (200, 5, 5))]
    assert np.mean([[of.worse for of in sweep] == [False, *[True] * 4] for sweep in clear]) > 0.9


def test_two_settings_are_a_t_test_of_one_side() -> None:
    scores = np.array([[50.0, 51.0, 52.5, 50.2], [50.4, 51.9, 52.6, 50.9]])
    first, second = compared_with_best(scores, 1.5)
    difference = scores[1] - scores[0]
    p = 2 * stats.ttest_1samp(difference, 1.5, alternative="less").pvalue
    assert second.not_worse_p == pytest.approx(
        2 * (2 * stats.ttest_1samp(-difference, 1.5, alternative="less").pvalue), rel=1e-6
    )
    assert first.not_worse_p == pytest.approx(max(p, second.not_worse_p), rel=1e-6)
    assert first.worse == (2 * stats.ttest_1samp(difference, 0, alternative="greater").pvalue < 0.05)
    assert first.bound == pytest.approx(
        difference.mean() + stats.t.ppf(0.975, 3) * difference.std(ddof=1) / 2, rel=1e-9
    )


def test_what_was_not_compared_with_all_is_neither() -> None:
    (first, second, third) = compare_with_best({(0, 1): SeedEstimate((0.1, 0.0, -0.1))}, 3, 1.0)
    assert first.not_worse_p is None and second.not_worse_p is None and third.not_worse_p is None
    assert not first.worse and third.bound == float("inf")
    assert compare_with_best({}, 1, 1.0)[0].bound == 0.0
