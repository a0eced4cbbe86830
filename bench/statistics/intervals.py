"""Intervals of one score: over the questions that were asked, and over seeds.

Scores over seeds are in points (0 to 100), shares of right answers in 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95
"""Of every interval; a p value below 1 - LEVEL is significant."""
SEEDS = 3
"""The fewest seeds from which an interval over seeds is computed."""
UNKNOWN_STEP = 0.1
"""Points: scores whose answers could not be read are taken to come in these steps, the digits that tables show."""
ROUNDING = 1e-9
"""Points: averages of the same accuracies differ by less than this, from the order of their sums."""


@dataclass(frozen=True)
class Interval:
    """A closed interval."""

    low: float
    high: float


def wilson(correct: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share, in 0 to 1: `correct` of `n` questions (Wilson 1927, without the continuity
    correction). Raises ValueError for impossible counts.

    The same as `scipy.stats.binomtest(correct, n).proportion_ci(level, "wilson")` to 2e-16, which also computes an
    exact test for every score of a report.
    """
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"{correct} right answers of {n} questions")
    z = float(special.ndtri((1 + level) / 2))
    share, scale = correct / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula gives 0 and 1, up to rounding.
    return Interval(0.0 if correct == 0 else middle - half, 1.0 if correct == n else middle + half)


def question_half_width(scores: Sequence[tuple[float, int]], level: float = LEVEL) -> float:
    """Half-width of the interval that the sampling of questions alone gives an average over tasks.

    `scores`: (accuracy in 0 to 1, number of questions) of each task. It excludes seed variance, so it covers too
    little.
    """
    variance = sum(p * (1 - p) / n for p, n in scores) / len(scores) ** 2
    return float(special.ndtri((1 + level) / 2)) * math.sqrt(variance)


def standard_deviation(values: Sequence[float], step: float = 0.0) -> float:
    """Sample standard deviation (n - 1). NaN below two values.

    Values that differ by rounding only have none, where they are known exactly. Accuracies come in steps of one right
    answer: equal accuracies may differ by what rounding to `step` hides, whose s.d. is step / sqrt(12).
    """
    if len(values) < 2:
        return math.nan
    deviation = float(np.std(values, ddof=1))
    return max(deviation if deviation > ROUNDING else 0.0, step / math.sqrt(12))


def mean_interval(values: Sequence[float], level: float = LEVEL, step: float = 0.0) -> Interval | None:
    """Student's t interval of a mean over seeds; None below three values. `step`: see `standard_deviation`."""
    n = len(values)
    if n < SEEDS:
        return None
    mean = sum(values) / n
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * standard_deviation(values, step) / math.sqrt(n)
    return Interval(mean - half, mean + half)


@dataclass(frozen=True)
class NoiseFloor:
    """How much a seed alone moves a score."""

    deviation: float
    """s.d. over seeds (points), pooled over the series."""
    degrees: int
    """Degrees of freedom: seeds less series."""
    difference: float
    """Two single runs of one setting lie within this of each other (points), 95 % of the time."""


def noise_floor(series: Iterable[Sequence[float]], level: float = LEVEL, step: float = 0.0) -> NoiseFloor | None:
    """From the scores (points) of all series with two seeds or more; None without such a series. `step`: see
    `standard_deviation`.

    The difference is a prediction limit: t, not z, because the s.d. is an estimate itself.
    """
    seeded = [values for values in series if len(values) > 1]
    if not seeded:
        return None
    degrees = sum(len(values) - 1 for values in seeded)
    pooled = math.sqrt(sum((len(values) - 1) * standard_deviation(values, step) ** 2 for values in seeded) / degrees)
    limit = float(special.stdtrit(degrees, (1 + level) / 2))
    return NoiseFloor(pooled, degrees, limit * math.sqrt(2) * pooled)
