"""The verdicts on the comparisons of one table, from their paired differences by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.statistics.intervals import LEVEL, Interval, mean_interval
from bench.statistics.power import TIE_MARGIN
from bench.statistics.significance import holm, t_test

Verdict = Literal["better", "worse", "tie", "unresolved", "these two runs"]
SINGLE: Verdict = "these two runs"
"""The verdict of fewer than three seeds: none on methods."""


@dataclass(frozen=True)
class SeedComparison:
    """What the paired differences of one comparison say within its family."""

    interval: Interval | None
    """t over seeds, not adjusted."""
    p: float | None
    p_adjusted: float | None
    """Holm's, over the family."""
    verdict: Verdict


def compare_family(
    family: Sequence[Sequence[float]], margin: float = TIE_MARGIN, steps: Sequence[float] | None = None
) -> list[SeedComparison]:
    """The verdicts of all comparisons of one table. Each is given by its differences by seed (points), and by the step
    in which these can come, where they are not known exactly.

    With three seeds or more: a tie where the unadjusted interval lies inside the margin; else better or worse where
    the adjusted p is below 5 %; else unresolved. Fewer seeds describe their own runs only, and count for nothing in
    the adjustment. A tie is judged first and its interval is not adjusted: each of two one-sided tests at 2.5 % says
    that a difference is small, which is no discovery that a family of comparisons would multiply.
    """
    steps = [0.0] * len(family) if steps is None else steps
    p_values = [t_test(values, step) for values, step in zip(family, steps, strict=True)]
    comparisons = []
    for values, step, p, adjusted in zip(family, steps, p_values, holm(p_values), strict=True):
        interval = mean_interval(values, step=step)
        comparisons.append(SeedComparison(interval, p, adjusted, _verdict(values, interval, adjusted, margin)))
    return comparisons


def _verdict(values: Sequence[float], interval: Interval | None, p_adjusted: float | None, margin: float) -> Verdict:
    if interval is None or p_adjusted is None:
        return SINGLE
    if -margin <= interval.low and interval.high <= margin:
        return "tie"
    if p_adjusted < 1 - LEVEL:
        return "better" if sum(values) > 0 else "worse"
    return "unresolved"
