"""What judgments add up to, against scikit-learn and against written-out sums."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bench.judging.measures import (
    ELO,
    Match,
    bradley_terry,
    interval_over_questions,
    judgment_noise,
    noise_of_mean,
    separation,
    standings,
)


def test_separation_is_the_area_under_the_curve() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(1)
    gold = {q: list(random.integers(5, 11, 2)) for q in range(40)}
    others = {q: list(random.integers(1, 8, 2)) for q in range(40)}
    found = separation(gold, others)
    values = [*itertools.chain(*gold.values()), *itertools.chain(*others.values())]
    assert found.auc == pytest.approx(roc_auc_score([1] * 80 + [0] * 80, values))
    assert found.interval.low < found.auc < found.interval.high and not found.insufficient
    assert separation(gold, {}) is None


def test_a_judge_that_guesses_is_useless() -> None:
    random = np.random.default_rng(2)
    gold, others = ({q: list(random.integers(1, 11, 1)) for q in range(60)} for _ in range(2))
    found = separation(gold, others)
    assert found.insufficient and found.interval.low < 0.5 < found.interval.high


def test_turns_of_a_question_are_one_cluster() -> None:
    """Two turns that agree say no more than one: the interval is that of the questions."""
    random = np.random.default_rng(3)
    values = random.normal(5, 2, 80)
    one = interval_over_questions("x", values, range(80))
    two = interval_over_questions("x", np.repeat(values, 2), np.repeat(np.arange(80), 2))
    alone = interval_over_questions("x", np.repeat(values, 2), range(160))
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.1)
    assert alone.high - alone.low == pytest.approx((one.high - one.low) / math.sqrt(2), rel=0.1)
    expected = 1.96 * values.std() / math.sqrt(80)
    assert (one.high - one.low) / 2 == pytest.approx(expected, rel=0.1)
    assert interval_over_questions("x", [1.0, 2.0], [7, 7]) is None


def test_noise_is_that_of_one_judgment() -> None:
    random = np.random.default_rng(4)
    truth = random.uniform(1, 10, 4000)
    first, second = (truth + random.normal(0, 0.8, 4000) for _ in range(2))
    assert judgment_noise(first, second) == pytest.approx(0.8, rel=0.05)
    assert noise_of_mean(0.8, 160) == pytest.approx(1.96 * 0.8 / math.sqrt(160), rel=1e-3)
    assert judgment_noise([1, 2], [1, 2]) == 0


def games(strengths: dict[str, float], n: int) -> list[Match]:
    random = np.random.default_rng(5)
    found = []
    for (a, x), (b, y) in itertools.combinations(strengths.items(), 2):
        won = random.random(n) < 1 / (1 + math.exp(y - x))
        found += [Match(a, b, question, float(one)) for question, one in enumerate(won)]
    return found


def test_bradley_terry_is_a_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    names = ["base", "lora", "dora", "vera"]
    matches = games(dict(zip(names, (0.0, 1.0, 1.5, 0.4), strict=True)), 400)
    found = bradley_terry(names, matches, "base")
    design = np.zeros((len(matches), 4))
    for row, one in zip(design, matches, strict=True):
        row[names.index(one.first)], row[names.index(one.second)] = 1, -1
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    theirs = model.fit(design, [one.won for one in matches]).coef_[0]
    assert found == pytest.approx(theirs - theirs[0], abs=2e-3)
    assert found[0] == 0


def test_ties_are_half_a_win_each_and_a_clean_sweep_is_finite() -> None:
    tied = [Match("a", "b", q, 0.5) for q in range(10)]
    assert bradley_terry(["a", "b"], tied, "a") == pytest.approx([0, 0], abs=1e-6)
    swept = standings(["a", "b"], [Match("a", "b", q, 1.0) for q in range(10)], "b")
    assert [one.player for one in swept] == ["a", "b"]
    assert swept[0].win_rate == 1 and 0 < swept[0].elo < 10 * ELO
    mixed = [Match("a", "b", q, won) for q, won in enumerate((1.0, 0.5, 0.0, 1.0))]
    (first, second) = standings(["a", "b"], mixed, "b")
    assert (first.wins, first.ties, first.losses, first.win_rate) == (2, 1, 1, 0.625)
    assert second.win_rate == 0.375 and second.elo == 0
    assert first.interval.low <= first.elo <= first.interval.high
