"""McNemar's test, and the corrections for multiple comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special, stats


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test: of the questions that two single runs answer differently, how many only
    the first and only the second got right. 1 where there are none.

    It assumes independent questions (it ignores clusters) and compares these two runs, not their methods.
    """
    n = only_first + only_second
    return float(stats.binomtest(only_first, n).pvalue) if n else 1.0


def sign_test(above: int, below: int) -> float:
    """Exact one-sided p of the sign test: of the pairs that differ, at least so many lie above by chance. 1 where there
    are none."""
    n = above + below
    return float(stats.binomtest(above, n, alternative="greater").pvalue) if n else 1.0


def above_zero(values: np.ndarray) -> float:
    """One-sided p of a mean (of n values) that is not above zero, by Student's t. 1 below two values."""
    n = len(values)
    if n < 2:
        return 1.0
    mean, error = float(values.mean()), float(values.std(ddof=1)) / n**0.5
    if error == 0:
        return 0.0 if mean > 0 else 1.0
    return float(special.stdtr(n - 1, -mean / error))


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


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted so that of the comparisons called significant at most that share is false on average
    (Benjamini and Hochberg 1995): for exploring. None stays None and does not count."""
    places = [place for place, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    if places:
        corrected = stats.false_discovery_control([p for p in p_values if p is not None], method="bh")
        for place, p in zip(places, corrected, strict=True):
            adjusted[place] = float(p)
    return adjusted
