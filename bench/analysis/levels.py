"""How surely the average of a setting is known by itself: the bars of figures, and the ranked table."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bench.analysis.cell_answers import CellAnswers, least_step, weighted_spread
from bench.analysis.result_tables import trained_cells
from bench.statistics import SeedEstimate

BOTH, SEEDS_ALONE, QUESTIONS_ALONE = "seeds and questions", "seeds", "questions"
"""What an interval is over."""


def with_intervals(cells: pd.DataFrame, answers: Mapping[str, CellAnswers]) -> pd.DataFrame:
    """The cells with the interval of their setting's mean, which is the same for all of its cells: `half_width`
    (points, 95 %) and `interval`, what it is over.

    With three seeds or more it is the interval of a comparison, of the setting with nothing: over seeds and, from the
    layout question x seed of its answers, over the choice of questions; over seeds alone where the rows of a cell could
    not be read. With fewer seeds, and of the untuned model, it is over questions alone (`question_noise`).
    """
    halves: dict[str, float] = dict(zip(cells["folder"], cells["question_noise"].astype(float), strict=True))
    over = dict.fromkeys(halves, QUESTIONS_ALONE)
    done = trained_cells(cells)
    for _, members in done.groupby(["series", "base", "rank", "samples"], dropna=False, sort=False):
        estimate = _estimate(members, answers)
        interval = estimate.interval()
        if interval is None:
            half, kind = float(members["question_noise"].astype(float).mean()), QUESTIONS_ALONE
        else:
            half = (interval.high - interval.low) / 2
            kind = SEEDS_ALONE if estimate.spread is None else BOTH
        halves |= dict.fromkeys(members["folder"], half)
        over |= dict.fromkeys(members["folder"], kind)
    return cells.assign(half_width=cells["folder"].map(halves), interval=cells["folder"].map(over))


def _estimate(members: pd.DataFrame, answers: Mapping[str, CellAnswers]) -> SeedEstimate:
    """The average of a setting, from the cells of its seeds."""
    of_seeds = {
        seed: [(1.0, answers.get(folder))] for seed, folder in zip(members["seed"], members["folder"], strict=True)
    }
    step = least_step(cell for cells in of_seeds.values() for _, cell in cells)
    return SeedEstimate(tuple(members["average"].astype(float)), weighted_spread(of_seeds), step)
