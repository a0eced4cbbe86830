"""The trained settings of a sweep beside the best of them, with what each cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from bench.analysis.cell_answers import CellAnswers, least_step, weighted_spread
from bench.analysis.result_tables import trained_cells
from bench.analysis.series import setting_labels
from bench.statistics import SEEDS, AgainstBest, SeedEstimate, compare_with_best


@dataclass(frozen=True)
class RankedSetting:
    """A setting: cells that differ in the seed alone."""

    label: str
    base: str
    average: float
    """Points: the mean over its seeds."""
    seeds: int
    against_best: AgainstBest


def rank_against_best(cells: pd.DataFrame, answers: Mapping[str, CellAnswers], margin: float) -> list[RankedSetting]:
    """The done settings of each base, the highest average first. `margin`: of what counts as not worse (points)."""
    done = trained_cells(cells)
    done = done.assign(label=setting_labels(done))
    ranked: list[RankedSetting] = []
    for base, of_base in done.groupby("base", sort=False):
        settings = {str(label): _by_seed(of_setting) for label, of_setting in of_base.groupby("label", sort=False)}
        labels = sorted(settings, key=lambda label: -_mean(settings[label]))
        pairs = {}
        for (i, first), (j, second) in combinations(enumerate(labels), 2):
            estimate = _difference(settings[first], settings[second], answers)
            if estimate is not None:
                pairs[i, j] = estimate
        for label, against in zip(labels, compare_with_best(pairs, len(labels), margin), strict=True):
            ranked.append(RankedSetting(label, str(base), _mean(settings[label]), len(settings[label]), against))
    return ranked


def _by_seed(cells: pd.DataFrame) -> dict[int, tuple[str, float]]:
    """Folder and average (points) of the cells of a setting."""
    columns = zip(cells["seed"], cells["folder"], cells["average"], strict=True)
    return {int(seed): (str(folder), float(average)) for seed, folder, average in columns}


def _mean(setting: Mapping[int, tuple[str, float]]) -> float:
    return sum(average for _, average in setting.values()) / len(setting)


def _difference(
    first: Mapping[int, tuple[str, float]], second: Mapping[int, tuple[str, float]], answers: Mapping[str, CellAnswers]
) -> SeedEstimate | None:
    """Second less first, over the seeds of both; None below three seeds, and where they answered other questions."""
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < SEEDS:
        return None
    folders = {seed: (second[seed][0], first[seed][0]) for seed in seeds}
    of_seeds = {seed: [(1.0, answers.get(of)), (-1.0, answers.get(than))] for seed, (of, than) in folders.items()}
    cells = [cell for pair in of_seeds.values() for _, cell in pair if cell is not None]
    if len({cell.question_set for cell in cells}) > 1:
        return None
    values = tuple(second[seed][1] - first[seed][1] for seed in seeds)
    return SeedEstimate(values, weighted_spread(of_seeds), least_step(cells))
