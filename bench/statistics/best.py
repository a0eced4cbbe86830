"""Comparisons with the best (Hsu 1984): which settings may be the best, and which are not worse than it by a margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.statistics.estimates import SeedEstimate
from bench.statistics.intervals import LEVEL
from bench.statistics.significance import holm


@dataclass(frozen=True)
class AgainstBest:
    """What is known of one setting beside the best of all, whichever that is."""

    worse: bool
    """Some other setting is better. The best setting is called worse in at most 5 % of sweeps."""
    not_worse_p: float | None
    """Adjusted p of being worse than the best by the margin or more; None where there is no margin, or where it could
    not be compared with every other setting."""
    bound: float
    """Points: it is at most so much worse than the best, at 95 %; infinite where the comparisons do not say."""


def compare_with_best(pairs: Mapping[tuple[int, int], SeedEstimate], count: int, margin: float) -> list[AgainstBest]:
    """Compare `count` settings with the best of them. `pairs`: by the numbers i < j of two settings, the average of
    setting j less that of setting i; pairs that could not be estimated are left out.

    A setting is worse if the p of the comparison with some other one, adjusted for their number (Bonferroni), is below
    5 %: only the comparisons of the truly best setting can call it worse, so the settings are not adjusted for theirs.
    That a setting is not worse by the margin holds against every other one, so it has the largest of their p values,
    adjusted over the settings (Holm).
    """
    behind = {(i, j): estimate for (i, j), estimate in pairs.items()}
    behind |= {(j, i): estimate.reversed for (i, j), estimate in pairs.items()}
    worse, not_worse, bounds = [], [], []
    for i in range(count):
        others = [behind.get((i, j)) for j in range(count) if j != i]
        estimated = [estimate for estimate in others if estimate is not None and estimate.interval() is not None]
        worse.append(any(2 * estimate.reversed.reaching_p(0) * (count - 1) < 1 - LEVEL for estimate in estimated))
        complete = len(estimated) == len(others)
        values = [2 * estimate.reaching_p(margin) for estimate in estimated]
        not_worse.append(min(1.0, max(values, default=0.0)) if complete and margin > 0 else None)
        highs = [interval.high for estimate in estimated if (interval := estimate.interval()) is not None]
        bounds.append(max(0.0, max(highs, default=0.0)) if complete else math.inf)
    return [AgainstBest(*of) for of in zip(worse, holm(not_worse), bounds, strict=True)]
