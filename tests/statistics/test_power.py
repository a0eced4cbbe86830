"""Power and detectable differences, against simulations and the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.tables import within
from scipy import special, stats
from statsmodels.stats.power import TTestPower

from bench.statistics import detectable_difference, detection_power, seeds_needed, tie_power


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_detectable_difference_is_detected_so_often(n: int) -> None:
    random = np.random.default_rng(n)
    difference = detectable_difference(1.5, n)
    runs = 20_000
    values = random.normal(difference, 1.5, (runs, n))
    shares = (stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05).mean()
    assert abs(shares - 0.8) < within(0.8, runs)
    assert detection_power(difference, 1.5, n) == pytest.approx(0.8, abs=1e-9)
    with pytest.raises(ValueError, match="detects nothing"):
        detectable_difference(1.5, 1)


def test_the_power_where_scipy_has_no_number() -> None:
    """Against the definition, integrated over the s.d. that comes out."""
    middles = (np.arange(20_000) + 0.5) / 20_000
    missing = 0
    for n in (2, 3, 5, 1000):
        deviations = np.sqrt(stats.chi2.ppf(middles, n - 1) / (n - 1))
        limit = special.stdtrit(n - 1, 0.975)
        for shift in np.linspace(0, 100, 101):
            expected = 1 - np.mean(special.ndtr(limit * deviations - shift) - special.ndtr(-limit * deviations - shift))
            assert detection_power(shift / math.sqrt(n), 1.0, n) == pytest.approx(expected, abs=1e-4)
            missing += np.isnan(special.nctdtr(n - 1, shift, -limit))
    assert missing > 50


@pytest.mark.parametrize(("difference", "n"), [(0.0, 12), (0.4, 20), (-0.4, 20)])
def test_the_power_of_a_tie_is_a_near_lower_bound(difference: float, n: int) -> None:
    random = np.random.default_rng(n)
    runs = 20_000
    values = random.normal(difference, 1.0, (runs, n))
    half = special.stdtrit(n - 1, 0.975) * values.std(axis=1, ddof=1) / math.sqrt(n)
    share = (np.abs(values.mean(axis=1)) + half <= 1).mean()
    assert tie_power(difference, 1.0, n) <= share + within(share, runs)
    assert tie_power(difference, 1.0, n) == pytest.approx(share, abs=0.01 + within(share, runs))


def test_seeds_needed_is_the_first_number_that_is_enough() -> None:
    for difference, deviation, comparisons, margin in [(1, 1, 1, 0), (-2, 1, 10, 1), (0.2, 1, 1, 1), (0.9, 2, 3, 1)]:
        found = seeds_needed(difference, deviation, comparisons, margin)

        def power(n: int, setting: tuple = (difference, deviation, comparisons, margin)) -> float:
            difference, deviation, comparisons, margin = setting
            told = detection_power(difference, deviation, n, 1 - 0.05 / comparisons)
            return max(told, tie_power(difference, deviation, n, margin))

        assert found == next(n for n in range(3, 1000) if power(n) >= 0.8) > 3
    assert seeds_needed(0.001, 1, margin=0) is None
    assert seeds_needed(5.0, 0.1) == 3


def test_the_power_is_statsmodels_s_where_that_has_a_number() -> None:
    theirs = TTestPower()
    compared = 0
    for n in (3, 5, 30):
        for shift in np.linspace(0, 4, 9):
            expected = theirs.power(shift, n, 0.05)
            if not np.isnan(expected):
                compared += 1
                assert detection_power(shift, 1.0, n) == pytest.approx(expected, abs=1e-9)
    assert compared > 10
