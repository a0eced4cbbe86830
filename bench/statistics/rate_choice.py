"""The choice of a learning rate from the development scores of several rates and seeds.

Letters: R rates, S seeds, D resamples of the development questions.
"""

from __future__ import annotations

import numpy as np

DIGITS = 9
"""Scores that agree to so many digits are a tie: sums of the same answers differ by rounding alone."""


def best_rate(scores: np.ndarray, losses: np.ndarray, judges: np.ndarray) -> np.ndarray:
    """The place of the rate with the best mean score over the seeds that judge it.

    `scores` (..., R, S) and `losses` (R, S) are missing (NaN) where a run did not end well, `judges` (S,) says which
    seeds count. Ties go to the lower mean loss, then to the lower place. A rate at which fewer seeds ended well than at
    another rate is not taken. Returns places (...). Raises ValueError where no rate has a score.
    """
    ended = ~np.isnan(scores.reshape(-1, *scores.shape[-2:])[0][:, judges])  # (R, judges)
    counts = ended.sum(axis=1)
    if not counts.any():
        raise ValueError("no rate has a score")
    places = np.flatnonzero(counts == counts.max())
    of_places = scores[..., places, :][..., judges]
    means = np.round(np.nanmean(of_places, axis=-1), DIGITS)  # (..., places)
    loss = np.nan_to_num(np.nanmean(losses[places][:, judges], axis=1), posinf=np.finfo(float).max)
    ties = means == means.max(axis=-1, keepdims=True)
    best: np.ndarray = places[np.where(ties, -loss, -np.inf).argmax(axis=-1)]
    return best


def changes_of_choice(
    scores: np.ndarray, losses: np.ndarray, outcomes: np.ndarray, chosen: int, seed: int | None
) -> np.ndarray:
    """By how much a run's outcome changes where its learning rate is chosen by resampled development questions.

    `scores` (D, R, S) are those of the resamples, `losses` and `outcomes` (R, S) those of the runs. The run has the
    rate at place `chosen` and the seed at place `seed`, which has no part in its choice (cross-fitting). A seed that is
    none of the S (None) was added later: all of them choose for it, and their mean change stands for its own. An
    outcome that is missing changes nothing. Returns (D,).
    """
    judges = np.ones(outcomes.shape[1], dtype=bool)
    if seed is not None:
        judges[seed] = False
    places = best_rate(scores, losses, judges)
    changes = outcomes - outcomes[chosen]  # (R, S)
    of_run = changes if seed is None else changes[:, [seed]]
    ended = ~np.isnan(of_run)
    means = np.where(ended, of_run, 0.0).sum(axis=1) / np.maximum(1, ended.sum(axis=1))  # (R,)
    return np.asarray(means[places])
