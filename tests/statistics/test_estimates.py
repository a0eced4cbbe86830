"""Estimates of one number per seed: the interval that holds for the tasks, its p values and its floors."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from bench.statistics import AnswerSpread, SeedEstimate

VALUES = (0.4, 1.1, 0.3)


def test_without_answers_it_is_the_one_sample_t() -> None:
    theirs = stats.ttest_1samp(VALUES, 0)
    ends = theirs.confidence_interval(0.95)
    ours = SeedEstimate(VALUES)
    assert (ours.interval().low, ours.interval().high) == pytest.approx((ends.low, ends.high))
    assert ours.p() == pytest.approx(theirs.pvalue)
    assert SeedEstimate(VALUES[:2]).interval() is None and SeedEstimate(VALUES[:2]).p() is None


def test_the_half_width_has_a_part_of_the_seeds_and_one_of_the_questions() -> None:
    found = SeedEstimate(VALUES, AnswerSpread(0.25, 0.1))
    over_seeds = stats.t.ppf(0.975, 2) * stats.tstd(VALUES) / math.sqrt(3)
    assert found.seed_half_width() == pytest.approx(over_seeds)
    assert found.question_half_width() == pytest.approx(stats.norm.ppf(0.975) * 0.5)
    assert found.half_width() == pytest.approx(math.sqrt(over_seeds**2 + (1.959964 * 0.5) ** 2))
    assert found.half_width(critical=4.32) == pytest.approx(
        math.hypot(4.32 * stats.tstd(VALUES) / math.sqrt(3), 0.979982)
    )


@pytest.mark.parametrize("spread", [None, AnswerSpread(0.0, 0.0), AnswerSpread(0.04, 0.3), AnswerSpread(4.0, 5.0)])
@pytest.mark.parametrize("places", [1, 5])
def test_p_values_are_where_the_interval_reaches_its_hypothesis(spread: AnswerSpread | None, places: int) -> None:
    found = SeedEstimate(VALUES, spread, places=places)
    assert found.half_width(1 - found.p()) == pytest.approx(abs(found.mean), rel=1e-6)
    assert found.half_width(1 - found.tie_p(3.0)) == pytest.approx(3.0 - abs(found.mean), rel=1e-6)
    assert found.tie_p(0.5) == 1.0  # the mean lies outside
    interval = found.interval()
    assert (found.p() < 0.05) == (interval.low > 0)


def test_a_tie_is_two_one_sided_tests() -> None:
    found = SeedEstimate((0.1, 0.2, 0.0, 0.3))
    lower = stats.ttest_1samp(found.values, -1, alternative="greater").pvalue
    upper = stats.ttest_1samp(found.values, 1, alternative="less").pvalue
    assert found.tie_p(1.0) == pytest.approx(2 * max(lower, upper))


def test_the_spread_of_a_row_is_not_below_the_churn_of_its_answers() -> None:
    """Three equal differences of -4.5, whose answers change by 2.2 points from seed to seed."""
    found = SeedEstimate((-4.5, -4.5, -4.5), AnswerSpread(0.0, 2.2), step=0.25)
    assert found.p() == pytest.approx(2 * stats.t.sf(4.5 / 2.2 * math.sqrt(3), 2), rel=1e-6)
    assert SeedEstimate((-4.5, -4.5, -4.5), step=0.25).p() < 0.001


def test_the_interval_of_an_average_over_settings_is_not_narrower_than_its_churn() -> None:
    values = (-0.05, -0.12, -0.28)
    found = SeedEstimate(values, AnswerSpread(0.0, 0.5), places=4)
    assert found.half_width() == pytest.approx(1.959964 * 0.5 / math.sqrt(3))
    calm = SeedEstimate(values, AnswerSpread(0.0, 0.01), places=4)
    assert calm.half_width() == pytest.approx(SeedEstimate(values).half_width())


def test_a_spread_of_nothing_tells_everything() -> None:
    assert SeedEstimate((2.0, 2.0, 2.0)).p() == 0.0 and SeedEstimate((0.0, 0.0, 0.0)).p() == 1.0
    assert SeedEstimate((2.0, 2.0, 2.0), AnswerSpread(0.0, 0.0)).p() == 0.0
