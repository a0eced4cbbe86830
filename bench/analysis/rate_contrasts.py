"""How far a method depends on its learning rate: what is lost when the rate is off, and the difference at each rate.

For a crossed design, whose trials have every rate with every seed and answered the test questions. The chosen rate of a
seed is that of the other seeds' development questions, so that no test question has chosen what it measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.analysis.cell_answers import CellAnswers
from bench.analysis.contrast_estimates import EstimatedContrast, Weights, estimate_of
from bench.analysis.result_tables import ResultTables, trained_cells
from bench.statistics import SEEDS, SeedEstimate
from bench.store.records import PlanRecord

OFF = "when the learning rate is off by a step"
"""The measure of `robustness_contrasts`: the mean score at the rates next to the chosen one, less that at this one."""
PLACE = ["base", "rank", "samples", "settings"]


@dataclass(frozen=True)
class RateDifference:
    """Two series at the same learning rate."""

    series: str
    baseline: str
    rate: float
    estimate: SeedEstimate


@dataclass(frozen=True)
class RateStudy:
    """What a crossed design says of learning rates, besides the contrasts."""

    differences: Sequence[RateDifference]
    lost: Mapping[str, float]
    """See `lost_when_off`."""


def rate_cells(trials: ResultTables, plan: PlanRecord) -> pd.DataFrame:
    """The trials that are done, with `settings` (of training, as text) and whether each was `chosen`: it is a final
    cell."""
    done = trained_cells(trials.cells)
    final = {cell.folder for cell in plan.cells}
    return done.assign(
        settings=done["training"].map(repr), rank=pd.to_numeric(done["rank"]), chosen=done["folder"].isin(final)
    )


def robustness_contrasts(
    cells: pd.DataFrame, baseline: str | None, answers: Mapping[str, CellAnswers], post_hoc: bool
) -> list[EstimatedContrast]:
    """Each series against the baseline, by how its score changes when the rate is off, the mean over its settings."""
    weights = {series: _off_weights(of_series) for series, of_series in cells.groupby("series", sort=False)}
    averages = {str(folder): float(average) for folder, average in zip(cells["folder"], cells["average"], strict=True)}
    methods = dict(zip(cells["series"], cells["method"], strict=True))
    bases = dict(zip(cells["series"], cells["base"], strict=True))
    contrasts = []
    for series, of_series in weights.items():
        for reference, of_reference in weights.items():
            paired = methods[reference] == baseline != methods[series] and bases[reference] == bases[series]
            seeds = sorted(of_series.keys() & of_reference.keys())
            if not paired or len(seeds) < SEEDS:
                continue
            both = {
                seed: [*of_series[seed], *((-weight, folder) for weight, folder in of_reference[seed])]
                for seed in seeds
            }
            contrasts.append(
                EstimatedContrast(
                    str(series),
                    str(reference),
                    "",
                    "",
                    None,
                    post_hoc,
                    frozenset(folder for of in both.values() for _, folder in of),
                    estimate_of(_values(both, averages), both, answers, 1),
                    OFF,
                )
            )
    return contrasts


def lost_when_off(cells: pd.DataFrame) -> dict[str, float]:
    """By series: points by which its score falls when the rate is off by a step, the mean over seeds and settings."""
    averages = {str(folder): float(average) for folder, average in zip(cells["folder"], cells["average"], strict=True)}
    lost = {}
    for series, of_series in cells.groupby("series", sort=False):
        values = _values(_off_weights(of_series), averages)
        if values:
            lost[str(series)] = -sum(values) / len(values)
    return lost


def _off_weights(cells: pd.DataFrame) -> Weights:
    """By seed: -1 for the chosen cell and an equal share for the cells at the rates next to it, averaged over the
    settings of a series. Without seeds at which a setting has no chosen cell, or none beside it."""
    settings = [setting for _, setting in cells.groupby(PLACE, sort=False, dropna=False)]
    weights: dict[int, list[tuple[float, str]]] = {}
    for seed in dict.fromkeys(cells["seed"]):
        of_seed = [_off_of_one(setting[setting["seed"] == seed]) for setting in settings]
        if all(of_seed):
            weights[int(seed)] = [(weight / len(settings), folder) for of_one in of_seed for weight, folder in of_one]
    return weights


def _off_of_one(cells: pd.DataFrame) -> list[tuple[float, str]]:
    """The weights of one setting with one seed; empty without a chosen cell or a neighbour."""
    ladder = cells.sort_values("lr")
    places = [place for place, chosen in enumerate(ladder["chosen"]) if chosen]
    if len(places) != 1:
        return []
    folders = [str(folder) for folder in ladder["folder"]]
    beside = [folders[place] for place in (places[0] - 1, places[0] + 1) if 0 <= place < len(folders)]
    return [(-1.0, folders[places[0]]), *((1 / len(beside), folder) for folder in beside)] if beside else []


def differences_at_rates(
    cells: pd.DataFrame, baseline: str | None, answers: Mapping[str, CellAnswers]
) -> list[RateDifference]:
    """Each series against the baseline at each rate that both were run at, the mean over the places of both."""
    averages = {str(folder): float(average) for folder, average in zip(cells["folder"], cells["average"], strict=True)}
    sides = dict(list(cells.groupby("series", sort=False)))
    references = {series: of for series, of in sides.items() if of["method"].iloc[0] == baseline}
    differences = []
    for series, of_series in sides.items():
        for reference, of_reference in references.items() if series not in references else ():
            pairs = of_series.merge(of_reference, on=[*PLACE, "lr", "seed"], suffixes=("", "_baseline"))
            for rate, at_rate in pairs.groupby("lr"):
                weights = _paired_weights(at_rate)
                if len(weights) >= SEEDS:
                    estimate = estimate_of(_values(weights, averages), weights, answers, 1)
                    differences.append(RateDifference(str(series), str(reference), float(rate), estimate))
    return differences


def _paired_weights(pairs: pd.DataFrame) -> Weights:
    """By seed that every place has: the mean difference over places."""
    places = pairs.groupby(PLACE, sort=False, dropna=False)
    seeds = sorted(set.intersection(*(set(place["seed"]) for _, place in places)))
    of_seeds = {int(seed): pairs[pairs["seed"] == seed] for seed in seeds}
    return {
        seed: [
            (sign / len(rows), str(folder))
            for sign, column in ((1.0, "folder"), (-1.0, "folder_baseline"))
            for folder in rows[column]
        ]
        for seed, rows in of_seeds.items()
    }


def _values(weights: Weights, averages: Mapping[str, float]) -> Sequence[float]:
    return [sum(weight * averages[folder] for weight, folder in of_seed) for of_seed in weights.values()]
