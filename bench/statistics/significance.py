"""Tests of a difference, and the correction for multiple comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special, stats

from bench.statistics.intervals import ROUNDING, SEEDS, standard_deviation


def t_test(values: Sequence[float], step: float = 0.0) -> float | None:
    """Two-sided p of Student's one-sample t test of a mean of zero; None below three values. `step`: see
    `standard_deviation`.

    Values with zero spread get the limit: 1 where they are zero, else 0.
    """
    n = len(values)
    if n < SEEDS:
        return None
    mean, deviation = sum(values) / n, standard_deviation(values, step)
    if deviation == 0:
        return 1.0 if abs(mean) <= ROUNDING else 0.0
    return float(2 * special.stdtr(n - 1, -abs(mean) / deviation * math.sqrt(n)))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test: of the questions that two single runs answer differently, how many only
    the first and only the second got right. 1 where there are none.

    It assumes independent questions (it ignores clusters) and compares these two runs, not their methods.
    """
    n = only_first + only_second
    return float(stats.binomtest(only_first, n).pvalue) if n else 1.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted so that the family-wise error rate is kept (Holm 1979), whatever their dependence. None stays
    None and does not count.

    The same as statsmodels' `multipletests(p_values, method="holm")`, which collects the process's garbage in every
    call: a tenth of a second where models and tables are in memory, against microseconds.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for step, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - step) * p))
        adjusted[place] = largest
    return adjusted
