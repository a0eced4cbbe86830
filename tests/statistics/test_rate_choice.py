"""The choice of a learning rate by development scores, and the noise that it adds to a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from simulations.tuning import Components, error_rate

from bench.statistics import SEEDS, AnswerSpread, SeedEstimate, best_rate, changes_of_choice


def best_by_loops(scores: np.ndarray, losses: np.ndarray, judges: Sequence[int]) -> int:
    """`best_rate` of one draw, in plain loops."""
    best: tuple[int, float, float] | None = None
    place = -1
    for rate in range(len(scores)):
        ended = [seed for seed in judges if not math.isnan(scores[rate, seed])]
        if not ended:
            continue
        mean = round(sum(scores[rate, seed] for seed in ended) / len(ended), 9)
        key = len(ended), mean, -sum(losses[rate, seed] for seed in ended) / len(ended)
        if best is None or key > best:
            best, place = key, rate
    return place


def test_the_best_rate_is_that_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    ties = 0
    for _ in range(200):
        scores = rng.integers(0, 3, (4, 3)) / 3
        losses = rng.random((4, 3))
        missing = rng.random((4, 3)) < 0.2
        scores[missing] = losses[missing] = np.nan
        judges = rng.random(3) < 0.7
        if np.isnan(scores[:, judges]).all():
            with pytest.raises(ValueError, match="no rate has a score"):
                best_rate(scores, losses, judges)
            continue
        assert best_rate(scores, losses, judges) == best_by_loops(scores, losses, np.flatnonzero(judges).tolist())
        ties += len(set(np.round(np.nan_to_num(scores[:, judges]).sum(axis=1), 9))) < 4
    assert ties > 20


def test_several_draws_are_chosen_as_each_alone() -> None:
    rng = np.random.default_rng(1)
    scores, losses = rng.integers(0, 4, (50, 5, 3)) / 4, rng.random((5, 3))
    judges = np.array([True, False, True])
    together = best_rate(scores, losses, judges)
    assert together.tolist() == [int(best_rate(draw, losses, judges)) for draw in scores]
    assert best_rate(np.zeros((2, 1)), np.array([[math.inf], [1.0]]), np.array([True])) == 1


def test_a_cell_has_the_outcome_of_the_rate_that_the_other_seeds_choose() -> None:
    scores = np.array([[[0.5, 0.5, 0.9], [0.6, 0.6, 0.1]], [[0.7, 0.5, 0.9], [0.6, 0.6, 0.1]]])  # 2 draws, 2 rates
    outcomes = np.array([[10.0, 20.0, 30.0], [11.0, 22.0, 33.0]])
    losses = np.zeros((2, 3))
    # Seed 2 is chosen by seeds 0 and 1: the second rate in the first draw, a tie of 0.6 in the second one.
    assert changes_of_choice(scores, losses, outcomes, 1, 2).tolist() == [0.0, -3.0]
    # Seed 0 by seeds 1 and 2: the first rate in both.
    assert changes_of_choice(scores, losses, outcomes, 1, 0).tolist() == [-1.0, -1.0]
    # A seed that was added later, by all: the mean change stands for its own.
    assert changes_of_choice(scores, losses, outcomes, 1, None).tolist() == [-2.0, -2.0]
    outcomes[0, 2] = np.nan
    assert changes_of_choice(scores, losses, outcomes, 1, 2).tolist() == [0.0, 0.0]


def test_the_interval_and_its_p_have_the_error_of_the_choice() -> None:
    plain = SeedEstimate((1.0, 1.4, 0.6), AnswerSpread(0.04, 0.0))
    chosen = SeedEstimate((1.0, 1.4, 0.6), AnswerSpread(0.04, 0.0, 0.3))
    assert plain.seeds == SEEDS
    halves = plain.half_width(), chosen.half_width()
    assert halves[1] == pytest.approx(math.hypot(halves[0], 1.959964 * 0.3), rel=1e-6)
    p = chosen.p()
    assert p is not None and chosen.half_width(1 - p) == pytest.approx(1.0)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("shape", ["random", "peak"])
def test_equal_methods_are_told_apart_in_at_most_five_percent(seeds: int, shape: str) -> None:
    """400 sweeps: 7.5 % is reached by chance in 1 % of cases where the true share is 5 %."""
    components = Components(rate=0.5, seed=0.6, question=0.5, noise=0.5, shape=shape)
    assert error_rate(components, seeds, "other seeds, with the choice in the interval", sweeps=400) <= 0.075


def test_without_the_error_of_the_choice_equal_methods_are_told_apart_far_too_often() -> None:
    components = Components(rate=0.5, seed=0.6, question=0.5, noise=0.5, shape="random")
    assert error_rate(components, 10, "other seeds", sweeps=400) > 0.12
