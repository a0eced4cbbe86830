"""Intervals and the verdicts made from them. Differences and intervals are in the unit of what they are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

Verdict = Literal["better", "worse", "tie", "unresolved", "these two runs"]

TIE_MARGIN = 1.0
"""Points: a difference whose interval lies inside plus or minus this is a tie."""


@dataclass(frozen=True)
class Interval:
    """A closed interval."""

    low: float
    high: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Student's t interval of a mean over seeds; None below three values, where it says nothing."""
    n = len(values)
    if n < 3:
        return None
    mean = sum(values) / n
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * spread / math.sqrt(n)
    return Interval(mean - half, mean + half)


def verdict(differences: Sequence[float], margin: float = TIE_MARGIN) -> Verdict:
    """What paired per-seed differences (points) say: see design rule "ties said aloud".

    Fewer than three seeds speak of their own runs only. An interval inside the margin is a tie; one that holds
    zero but reaches beyond is unresolved.
    """
    interval = mean_interval(differences)
    if interval is None:
        return "these two runs"
    if -margin <= interval.low and interval.high <= margin:
        return "tie"
    if interval.low > 0:
        return "better"
    if interval.high < 0:
        return "worse"
    return "unresolved"


def question_noise(scores: Sequence[tuple[float, int]], level: float = 0.95) -> float:
    """Half-width of the interval that the sampling of questions alone gives an average over tasks.

    `scores`: (accuracy in 0..1, questions) a task. It knows nothing of seeds, so it covers too little.
    """
    variance = sum(p * (1 - p) / n for p, n in scores) / len(scores) ** 2
    return float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(variance)
