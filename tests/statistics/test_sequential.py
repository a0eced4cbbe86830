"""Boundaries of repeated looks, against the t quantile, a plain simulation and an independent table."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.tables import within
from scipy import stats

from bench.statistics import sequential
from bench.statistics.boundaries import BOUNDARIES

TABLE = {1: (4.30, 3.89, 3.20, 2.79, 2.47), 5: (6.76, 5.61, 4.34, 3.72, 3.28), 38: (11.53, 8.33, 5.95, 4.85, 4.23)}
"""Found by another simulation, by level: 5 %, a fifth and a 38th of it."""


def test_the_stored_boundaries_are_those_of_an_independent_simulation() -> None:
    assert BOUNDARIES[1] == pytest.approx(TABLE[1], abs=0.03)
    assert BOUNDARIES[5] == pytest.approx(TABLE[5], abs=0.03)
    # The first is exact here, and 0.05 off there: at a 38th of 5 % that simulation is itself uncertain by so much.
    assert BOUNDARIES[38][0] == pytest.approx(stats.t.isf(0.05 / 38 / 4 / 2, 4), abs=0.001)
    assert BOUNDARIES[38] == pytest.approx(TABLE[38], abs=0.1)
    assert BOUNDARIES[38][2:] == pytest.approx(TABLE[38][2:], abs=0.03)


def test_boundaries_grow_with_the_number_of_comparisons() -> None:
    rows = [BOUNDARIES[number] for number in sorted(BOUNDARIES)]
    assert (np.diff(rows, axis=0) > 0).all()
    assert all(list(row) == sorted(row, reverse=True) for row in rows)


@pytest.mark.parametrize("comparisons", [1, 5])
def test_plain_t_statistics_cross_them_as_often_as_they_should(comparisons: int) -> None:
    runs, level = 200_000, 0.05 / comparisons
    values = np.random.default_rng(comparisons).normal(size=(runs, 20))
    open_runs, spent = np.ones(runs, dtype=bool), 0.0
    for look, critical in zip(sequential.LOOKS, BOUNDARIES[comparisons], strict=True):
        seen = values[:, :look]
        t = np.abs(seen.mean(axis=1)) / seen.std(axis=1, ddof=1) * np.sqrt(look)
        share = (open_runs & (t > critical)).mean()
        expected = level * look / 20 - spent
        assert abs(share - expected) < within(expected, runs)
        open_runs, spent = open_runs & (t <= critical), level * look / 20


def test_boundaries_of_other_looks_are_found_again() -> None:
    few = sequential.boundaries(0.95, (5, 10), paths=200_000, seed=1)
    assert few[0].critical == pytest.approx(stats.t.isf(0.0125, 4))
    assert few[1].error < 0.01
    again = sequential.boundaries(0.95, paths=100_000, seed=2)
    assert [boundary.critical for boundary in again] == pytest.approx(BOUNDARIES[1], abs=0.05)


@pytest.mark.parametrize("looks", [(1, 5), (5, 6), (7, 5)])
def test_looks_that_cannot_be_are_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two seeds or more"):
        sequential.boundaries(looks=looks)


def test_a_boundary_is_that_of_a_look() -> None:
    design = sequential.SequentialDesign()
    assert design.reached(4) is None and design.reached(9) == 7 and design.reached(30) == 20
    assert design.critical(5) == BOUNDARIES[1][0] and design.critical(7, 5) == BOUNDARIES[5][1]
    assert design.critical(20, 35) == BOUNDARIES[38][4] and design.critical(20, 10_000) == np.inf
    with pytest.raises(ValueError, match="9 seeds are no look; the looks are at 5, 7, 10, 14, 20"):
        design.critical(9)


def test_boundaries_of_other_looks_are_simulated_once_and_can_be_stored() -> None:
    """Alike to the default ones where the looks are the same, whatever the number of paths; stored ones are taken."""
    assert sequential._simulated(sequential.LOOKS, 1) == pytest.approx(BOUNDARIES[1], abs=0.02)
    design = sequential.SequentialDesign.of((5, 10))
    assert design.critical(5) == pytest.approx(stats.t.isf(0.0125, 4), abs=0.001)
    assert sequential.SequentialDesign.of((5, 10), {1: (9.0, 8.0)}).critical(10) == 8.0
    assert sequential.SequentialDesign.of([5, 7, 10, 14, 20]).stored is BOUNDARIES
