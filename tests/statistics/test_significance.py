"""Holm, Benjamini-Hochberg and McNemar, against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from bench.statistics import benjamini_hochberg, holm, mcnemar


def closed_testing(p_values: list[float]) -> list[float]:
    """Holm by what it is: a hypothesis falls where every set of hypotheses that holds it does, by Bonferroni."""
    places = range(len(p_values))
    sets = [one for size in range(1, len(p_values) + 1) for one in itertools.combinations(places, size)]
    return [
        max(min(1.0, len(one) * min(p_values[place] for place in one)) for one in sets if mine in one)
        for mine in places
    ]


def test_holm_is_closed_testing_with_bonferroni() -> None:
    random = np.random.default_rng(0)
    for size in range(1, 8):
        p_values = [float(p) for p in random.random(size) ** 3]
        assert holm(p_values) == pytest.approx(closed_testing(p_values), abs=1e-12)
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06] * 3)  # ties


def test_holm_passes_what_has_no_p_and_does_not_count_it() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]
    assert holm([None]) == [None] and holm([]) == []


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 0), (5, 5), (12, 30)])
def test_mcnemar_by_counting(first: int, second: int) -> None:
    """Of all ways that the discordant questions could have fallen, those as uneven as what was seen."""
    n = first + second
    ways = [math.comb(n, k) for k in range(n + 1)]
    expected = sum(way for way in ways if way <= ways[first]) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1.0, expected), abs=1e-12)


def test_holm_is_statsmodels_s() -> None:
    random = np.random.default_rng(0)
    for size in (1, 2, 5, 38):
        p_values = [float(p) for p in random.random(size) ** 3]
        assert holm([*p_values, p_values[0]]) == multipletests([*p_values, p_values[0]], method="holm")[1].tolist()


def test_benjamini_hochberg_is_statsmodels_s() -> None:
    p_values = [0.001, 0.02, 0.03, 0.8, 0.04]
    expected = multipletests(p_values, method="fdr_bh")[1].tolist()
    found = benjamini_hochberg([*p_values[:2], None, *p_values[2:]])
    assert found[2] is None and [p for p in found if p is not None] == pytest.approx(expected)
    assert benjamini_hochberg([None]) == [None] and benjamini_hochberg([]) == []
