"""The contrasts of a sweep as numbers, one a seed: those that the sweep file names, or the default ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.analysis.cell_answers import CellAnswers, least_step, weighted_spread
from bench.analysis.comparison import PairedPlace
from bench.analysis.result_tables import ResultTables, trained_cells
from bench.errors import UserError
from bench.statistics import SEEDS, SeedEstimate
from bench.store.records import PlanRecord
from bench.sweep.contrasts import ContrastConfig, ContrastsRecord, WeightedCells, slope_weights, weighted_cells

TREND_VALUES = 3
"""A default trend has at least so many ranks or sample counts: through two it would be a difference."""

Weights = Mapping[int, Sequence[tuple[float, str]]]
"""By seed: the weight and the folder of each cell."""
Counted = Callable[[int], int]
"""Of so many seeds that a comparison has, how many it is judged by, the first ones."""


ContrastKey = tuple[str, str | None, str, str, str | None, str]
"""The sides of a contrast, its base, places, slope and family."""


def every_seed(seeds: int) -> int:
    return seeds


@dataclass(frozen=True)
class EstimatedContrast:
    """A contrast before its family is judged. Its fields are those of `Contrast`."""

    of: str
    against: str | None
    base: str
    over: str
    per_doubling: str | None
    post_hoc: bool
    folders: frozenset[str]
    estimate: SeedEstimate
    measure: str = ""

    def key(self, family: str) -> ContrastKey:
        """What identifies it at every look."""
        return self.of, self.against, self.base, self.over or self.measure, self.per_doubling, family


def default_contrasts(
    places: Sequence[PairedPlace], answers: Mapping[str, CellAnswers], post_hoc: bool, counted: Counted = every_seed
) -> list[EstimatedContrast]:
    """Each series against its baseline, by the mean over the places that both have."""
    groups: dict[tuple[str, str, str], list[PairedPlace]] = {}
    for place in places:
        groups.setdefault((place.row.series, place.row.baseline_label, place.row.base), []).append(place)
    estimated = []
    for (series, baseline, _), members in groups.items():
        seeds = sorted(seed for seed in members[0].pairs if all(seed in place.pairs for place in members))
        seeds = seeds[: counted(len(seeds))]
        if len(members) > 1 and len(seeds) < SEEDS:
            continue
        members = [place.of_seeds(seeds) for place in members]
        weights = {
            seed: [
                (sign / len(members), folder)
                for place in members
                for sign, folder in ((1.0, place.pairs[seed].folder), (-1.0, place.pairs[seed].baseline))
            ]
            for seed in seeds
        }
        values = [sum(place.pairs[seed].difference for place in members) / len(members) for seed in seeds]
        single = len(members) == 1
        estimate = members[0].estimate(answers) if single else estimate_of(values, weights, answers, len(members))
        over = _over([place.row.rank for place in members], [place.row.samples for place in members])
        folders = frozenset[str]().union(*(place.folders for place in members))
        estimated.append(EstimatedContrast(series, baseline, "", over, None, post_hoc, folders, estimate))
    return estimated


def default_trends(
    cells: pd.DataFrame, answers: Mapping[str, CellAnswers], post_hoc: bool, counted: Counted = every_seed
) -> list[EstimatedContrast]:
    """The trend of each series with the samples, or else with the rank, where it has so many of either."""
    estimated = []
    for (series, _), of_series in cells.groupby(["series", "base"], sort=False):
        for axis, other in (("samples", "rank"), ("rank", "samples")):
            numbers = pd.to_numeric(of_series[axis])
            if numbers.nunique() < TREND_VALUES:
                continue
            lines = of_series[numbers.notna()].assign(settings=of_series["training"].map(repr))
            weights = _first(_line_weights(lines, axis, other), counted)
            if len(weights) >= SEEDS:
                averages = dict(zip(of_series["folder"], of_series["average"], strict=True))
                values = [sum(weight * averages[folder] for weight, folder in of) for of in weights.values()]
                folders = frozenset(folder for of in weights.values() for _, folder in of)
                estimate = estimate_of(values, weights, answers, len(next(iter(weights.values()))))
                over = f"{numbers.nunique()} values of {axis}"
                # A series of several bases is named after its base.
                estimated.append(EstimatedContrast(series, None, "", over, axis, post_hoc, folders, estimate))
            break
    return estimated


def _line_weights(cells: pd.DataFrame, axis: str, other: str) -> Weights:
    """The slope per doubling, averaged over the lines of equal other settings, for each seed that has all cells."""
    places = cells.groupby([other, "settings", axis], dropna=False, sort=False)["seed"].agg(set)
    seeds = sorted(set.intersection(*places))
    lines = [line for _, line in cells.groupby([other, "settings"], dropna=False) if line[axis].nunique() > 1]
    weights: dict[int, list[tuple[float, str]]] = {}
    for seed in seeds:
        of_seed = []
        for line in lines:
            of_series = line[line["seed"] == seed]
            slopes = slope_weights([float(value) for value in of_series[axis]])
            of_seed += [(slope / len(lines), folder) for slope, folder in zip(slopes, of_series["folder"], strict=True)]
        weights[int(seed)] = of_seed
    return weights


def named_contrasts(
    tables: ResultTables,
    plan: PlanRecord,
    record: ContrastsRecord,
    answers: Mapping[str, CellAnswers],
    problems: list[str],
    counted: Counted = every_seed,
) -> list[EstimatedContrast]:
    """The contrasts that the sweep file names; those that cannot be estimated are problems."""
    done = trained_cells(tables.cells)
    averages = {str(folder): float(average) for folder, average in zip(done["folder"], done["average"], strict=True)}
    estimated = []
    for contrast in record.named:
        try:
            on_bases = weighted_cells(contrast, plan.cells)
        except UserError as error:
            problems.append(f"{error.problem}. {error.fix}")
            continue
        for weighted in on_bases:
            base = str(weighted.base) if len(on_bases) > 1 else ""
            post_hoc = contrast.id not in record.planned
            outcome = _of_config(contrast, weighted, base, averages, answers, post_hoc, counted)
            if isinstance(outcome, str):
                problems.append(outcome)
            else:
                estimated.append(outcome)
    return estimated


def _of_config(
    contrast: ContrastConfig,
    weighted: WeightedCells,
    base: str,
    averages: Mapping[str, float],
    answers: Mapping[str, CellAnswers],
    post_hoc: bool,
    counted: Counted,
) -> EstimatedContrast | str:
    """A named contrast, or why it cannot be estimated."""
    complete = {seed: cells for seed, cells in weighted.cells.items() if all(folder in averages for _, folder in cells)}
    weights = _first(complete, counted)
    name = f"the contrast of {' and '.join(filter(None, (contrast.label_of, contrast.label_against)))}"
    if len(weights) < SEEDS:
        return (
            f"{name} has all of its cells at {len(weights)} of {len(weighted.cells)} seeds, and needs {SEEDS}: run the "
            "sweep to its end, or name more seeds"
        )
    sets = {answers[folder].question_set for cells in weights.values() for _, folder in cells if folder in answers}
    if len(sets) > 1:
        return f"{name} is left out: its cells answered different questions; score them all on the same tasks"
    values = [sum(weight * averages[folder] for weight, folder in cells) for cells in weights.values()]
    sides = 1 if contrast.against is None else 2
    places = len(next(iter(weights.values()))) // sides
    folders = frozenset(folder for cells in weights.values() for _, folder in cells)
    return EstimatedContrast(
        contrast.label_of,
        contrast.label_against,
        base,
        _over(weighted.ranks, weighted.samples) if places > 1 else "",
        contrast.per_doubling,
        post_hoc,
        folders,
        estimate_of(values, weights, answers, places),
    )


def _first(weights: Weights, counted: Counted) -> Weights:
    """The first seeds, as many as are counted."""
    return {seed: weights[seed] for seed in sorted(weights)[: counted(len(weights))]}


def estimate_of(
    values: Sequence[float], weights: Weights, answers: Mapping[str, CellAnswers], places: int
) -> SeedEstimate:
    of_seeds = {seed: [(weight, answers.get(folder)) for weight, folder in cells] for seed, cells in weights.items()}
    step = least_step(cell for cells in of_seeds.values() for _, cell in cells)
    return SeedEstimate(tuple(values), weighted_spread(of_seeds), step / places, places)


def _over(ranks: Sequence[float | None], samples: Sequence[int]) -> str:
    """`5 ranks`, `2 ranks and 4 sample counts`; empty for a single place."""
    counts = [(len(set(ranks)), "ranks"), (len(set(samples)), "sample counts")]
    several = [f"{count} {name}" for count, name in counts if count > 1]
    return " and ".join(several) or ("" if len(ranks) < 2 else f"{len(ranks)} settings")
