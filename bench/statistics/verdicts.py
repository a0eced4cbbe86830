"""The verdicts on the comparisons of one family, from their estimates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.statistics.estimates import SeedEstimate
from bench.statistics.intervals import LEVEL, Interval
from bench.statistics.power import TIE_MARGIN
from bench.statistics.significance import benjamini_hochberg, holm

Verdict = Literal["better", "worse", "tie", "unresolved", "these two runs"]
SINGLE: Verdict = "these two runs"
"""The verdict of fewer than three seeds: none on methods."""
Correction = Literal["holm", "benjamini-hochberg"]
CORRECTIONS: dict[Correction, Callable[[Sequence[float | None]], list[float | None]]] = {
    "holm": holm,
    "benjamini-hochberg": benjamini_hochberg,
}


@dataclass(frozen=True)
class SeedComparison:
    """What one estimate says within its family."""

    interval: Interval | None
    """Not adjusted."""
    p: float | None
    """Of no difference."""
    p_adjusted: float | None
    """Over the family."""
    tie_p: float | None
    """Of a difference of the margin or more; None where there is no margin."""
    tie_p_adjusted: float | None
    """Over the family."""
    verdict: Verdict
    adjusted: Interval | None = None
    """The interval at the level of the adjusted p, which is what figures draw: it leaves out zero where the verdict is
    better or worse, lies within the margin where it is a tie, and does neither where it is unresolved. A verdict of an
    earlier look stands, whatever this interval does."""


def compare_family(
    family: Sequence[SeedEstimate],
    margin: float | Sequence[float] = TIE_MARGIN,
    correction: Correction = "holm",
) -> list[SeedComparison]:
    """The verdicts of all comparisons of one family.

    With three seeds or more: a tie where the adjusted p of a difference of the margin or more is at most 5 %; else
    better or worse where the adjusted p of no difference is below 5 %; else unresolved. Both kinds of p are adjusted,
    each over its own family: that two methods are alike is a discovery as well. A family of one has a tie where its
    95 % interval lies inside the margin. `margin`: of all (points), or of each; 0 leaves no ties, and such a comparison
    counts for nothing in the adjustment for ties. Fewer seeds describe their own runs only, and count for nothing.
    """
    margins = [margin] * len(family) if isinstance(margin, (int, float)) else margin
    adjust = CORRECTIONS[correction]
    p_values = [estimate.p() for estimate in family]
    tie_values = [
        estimate.tie_p(of_one) if of_one > 0 else None for estimate, of_one in zip(family, margins, strict=True)
    ]
    comparisons = []
    columns = zip(family, p_values, adjust(p_values), tie_values, adjust(tie_values), strict=True)
    for estimate, p, p_adjusted, tie, tie_adjusted in columns:
        verdict = _verdict(estimate.mean, p_adjusted, tie_adjusted)
        factor = _adjustment(verdict, (p, p_adjusted), (tie, tie_adjusted), len(family))
        adjusted = estimate.interval(1 - (1 - LEVEL) / factor)
        comparisons.append(SeedComparison(estimate.interval(), p, p_adjusted, tie, tie_adjusted, verdict, adjusted))
    return comparisons


def _adjustment(
    verdict: Verdict,
    apart: tuple[float | None, float | None],
    tie: tuple[float | None, float | None],
    comparisons: int,
) -> float:
    """By how much the level of an interval is to be divided for it to agree with the verdict: the ratio of the adjusted
    p to p, of no difference or of a tie; of a verdict that is neither, the larger of both."""
    ratios = [
        1.0 if p is None or adjusted is None else adjusted / p if p > 0 else float(comparisons)
        for p, adjusted in (apart, tie)
    ]
    return {"better": ratios[0], "worse": ratios[0], "tie": ratios[1]}.get(verdict, max(ratios))


def _verdict(mean: float, p_adjusted: float | None, tie_p_adjusted: float | None) -> Verdict:
    if p_adjusted is None:
        return SINGLE
    if tie_p_adjusted is not None and tie_p_adjusted <= 1 - LEVEL:
        return "tie"
    if p_adjusted < 1 - LEVEL:
        return "better" if mean > 0 else "worse"
    return "unresolved"
