"""How many cells a sweep with `decide` will take: the least, the expected and the largest number, and their time.

The expected number is simulated: what is recorded of a contrast stays, its further seeds are drawn with the spread of
the recorded ones, and every look is judged as the run will judge it. Before anything is recorded, the spread is that of
the committed sweeps and true differences are drawn around 0 with an s.d. of a point: what tuned methods differ by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from bench.analysis.judged_sweep import JudgedSweep, judge_sweep
from bench.deciding.planned_contrasts import PlannedContrast, baseline_settings, planned_contrasts
from bench.planning.estimate import make_estimator
from bench.planning.later_seeds import seedless_key, with_recorded
from bench.planning.plan import Plan, PlannedCell
from bench.planning.tuning import settle
from bench.progress import duration
from bench.statistics import SEEDS, AnswerSpread, SeedEstimate, SequentialDesign, Verdict, compare_at_look
from bench.store.folder import Results

RUNS, SEED = 1000, 0
"""Simulated contrasts at each look, and the seed of their random numbers."""
USUAL_DIFFERENCE = 1.0
"""s.d. of true differences before anything is recorded, points."""


@dataclass(frozen=True)
class UsualSpread:
    """Of the difference of two cells of one seed, in points, as a committed sweep has it."""

    sweep: str
    questions: int
    """A task."""
    seed: float
    """s.d. over seeds, without churn."""
    churn: float
    question: float
    """Standard error from the choice of questions."""


USUAL = (
    UsualSpread("methods_smollm2", 100, 0.0, 1.84, 0.85),
    UsualSpread("samples_smollm2", 250, 0.79, 0.97, 0.55),
    UsualSpread("rank_smollm2", 500, 0.47, 0.46, 0.21),
)
"""Root mean squares over the paired differences of these sweeps. In the first one churn is all of the spread over
seeds."""


@dataclass(frozen=True)
class CellCount:
    """A number of trained cells, and the time of those that are yet to be run."""

    cells: float
    seconds: float


@dataclass(frozen=True)
class Expectation:
    """What a sweep with `decide` takes."""

    least: CellCount
    """Every contrast is told at the next look."""
    expected: CellCount
    largest: CellCount
    """None is, or as far as the budget goes."""
    fixed: int
    """Cells of a design in which every setting has the seeds of the last look."""
    source: str
    """Where the spread comes from."""


@dataclass(frozen=True)
class _Simulated:
    """A contrast in the simulation."""

    settings: frozenset[str]
    values: tuple[float, ...]
    """Recorded ones."""
    spread: AnswerSpread
    deviation: float
    """s.d. over seeds."""
    places: int
    margin: float
    verdict: Verdict | None = None


@dataclass(frozen=True)
class _Costs:
    """What cells take."""

    present: int
    """Trained cells of the plan, trials included."""
    waiting_seconds: float
    """Of those of the plan that are yet to be run."""
    spent_seconds: float
    """Of those that were run."""
    per_cell: Mapping[str, float]
    """Seconds of a cell, by setting."""


def expect_cells(plan: Plan, results: Results, tflops: float | None = None) -> Expectation | None:
    """What `decide` will take; None without it. `tflops`: of another device that is planned for. Raises UserError where
    there is nothing to decide."""
    config = plan.sweep.decide
    if config is None:
        return None
    contrasts = planned_contrasts(plan)
    plan = settle(with_recorded(plan, results), results)
    costs = _costs(plan, results, tflops)
    simulated, source = _contrasts(plan, results, contrasts)
    tuned = plan.sweep.tune is not None
    methods = {seedless_key(planned, tuned): planned.cell.method for planned in _templates(plan)}
    baseline = baseline_settings([contrast.settings for contrast in contrasts], methods, plan.record().baseline)
    present = len({planned.cell.seed for planned in _templates(plan)})
    looks = [look for look in config.looks if look >= present]
    counted = _Counted(plan, costs, baseline, looks)
    runs = max(20, RUNS // len(simulated))
    random = np.random.default_rng(SEED)
    judge, most = _judge(config.looks), config.looks[-1]
    sizes = [counted.run(simulated, _draw(simulated, most, random), judge) for _ in range(runs)]
    largest = counted.run(simulated, None, lambda contrasts, values, verdicts, seeds: verdicts)
    trials = sum(not planned.final for planned in plan.cells) - sum(pending.crossed for pending in plan.pending)
    fixed = trials + len(methods) * config.looks[-1]
    least = CellCount(costs.present, costs.waiting_seconds)
    expected = CellCount(fmean(size.cells for size in sizes), fmean(size.seconds for size in sizes))
    return Expectation(least, expected, largest, fixed, source)


def _templates(plan: Plan) -> list[PlannedCell]:
    """The trained final cells of the plan, those that are pending included."""
    final = [planned for planned in plan.cells if planned.cell.data is not None and planned.final]
    return [*final, *(pending.template for pending in plan.pending)]


def _costs(plan: Plan, results: Results, tflops: float | None) -> _Costs:
    estimator = make_estimator(plan, results, tflops=tflops)
    trained = [planned for planned in plan.cells if planned.cell.data is not None]
    trained += plan.further
    recorded = {planned.cell.id: results.folder(planned.cell).record().costs for planned in trained}
    spent = [costs.wall_seconds or 0.0 for costs in recorded.values() if costs is not None]
    waiting = [estimator.estimate(planned).seconds for planned in trained if recorded[planned.cell.id] is None]
    tuned = plan.sweep.tune is not None
    per_cell: dict[str, float] = {}
    for planned in _templates(plan):
        per_cell.setdefault(seedless_key(planned, tuned), estimator.estimate(planned).seconds)
    return _Costs(len(trained), sum(waiting), sum(spent), per_cell)


def _contrasts(plan: Plan, results: Results, contrasts: Sequence[PlannedContrast]) -> tuple[list[_Simulated], str]:
    """The contrasts with the spread of recorded cells; else with the usual one of a committed sweep."""
    sweep = judge_sweep(results) if (results.path / "plan.json").is_file() else None
    margin = plan.sweep.report.tie_margin
    if sweep is not None and sweep.margin.gain is not None:
        margin = sweep.margin.points
    recorded = _recorded(plan, sweep) if sweep is not None else {}
    questions = [len(rows) for rows in plan.data.questions.values()] or [USUAL[-1].questions]
    usual = min(USUAL, key=lambda spread: abs(math.log(spread.questions / fmean(questions))))
    simulated = []
    for contrast in contrasts:
        margin_of = 0.0 if contrast.slope else margin
        past = recorded.get(contrast.settings)
        if past is not None:
            estimate, verdict = past
            spread = estimate.spread if estimate.spread is not None else AnswerSpread(0.0, 0.0)
            simulated.append(
                _Simulated(
                    contrast.settings, estimate.values, spread, estimate.deviation, estimate.places, margin_of, verdict
                )
            )
            continue
        # An average over settings varies less; their questions are the same.
        scale = 1 / math.sqrt(contrast.places)
        spread = AnswerSpread(usual.question**2, usual.churn * scale)
        deviation = math.hypot(usual.seed, usual.churn) * scale
        simulated.append(_Simulated(contrast.settings, (), spread, deviation, contrast.places, margin_of))
    with_cells = sum(bool(contrast.values) for contrast in simulated)
    if with_cells == len(simulated):
        return simulated, "the spread of this sweep's own cells"
    usual_text = f"the usual spread of {usual.sweep} ({usual.questions} questions a task)"
    return simulated, f"{usual_text}{f'; {with_cells} contrasts by their own cells' if with_cells else ''}"


def _recorded(plan: Plan, sweep: JudgedSweep) -> dict[frozenset[str], tuple[SeedEstimate, Verdict | None]]:
    """The estimates of three seeds or more, by the settings of their contrast, and what is told already."""
    tuned = plan.sweep.tune is not None
    keys = {planned.cell.folder: seedless_key(planned, tuned) for planned in plan.cells}
    estimates: dict[frozenset[str], tuple[SeedEstimate, Verdict | None]] = {}
    for contrast in sweep.comparisons.primary:
        settings = frozenset(keys[folder] for folder in contrast.folders if folder in keys)
        estimates[settings] = contrast.judged.estimate, contrast.verdict if contrast.answered else None
    for unjudged in sweep.comparisons.unjudged:
        settings = frozenset(keys[folder] for folder in unjudged.folders if folder in keys)
        if unjudged.estimate.seeds >= SEEDS:
            estimates[settings] = unjudged.estimate, None
    return estimates


def _draw(contrasts: Sequence[_Simulated], most: int, random: np.random.Generator) -> list[list[float]]:
    """The values of each contrast at all seeds: the recorded ones, and further ones around a likely true difference."""
    drawn = []
    for contrast in contrasts:
        if contrast.values:
            number = len(contrast.values)
            centre = random.normal(fmean(contrast.values), contrast.deviation / math.sqrt(number))
        else:
            centre = random.normal(0.0, USUAL_DIFFERENCE)
        further = random.normal(centre, contrast.deviation, max(0, most - len(contrast.values)))
        drawn.append([*contrast.values, *further.tolist()])
    return drawn


Judge = Callable[[Sequence[_Simulated], Sequence[Sequence[float]], list[Verdict | None], int], list[Verdict | None]]
"""From contrasts, their values, what is told and the seeds of a look: what is told then."""


def _judge(looks: Sequence[int]) -> Judge:
    design = SequentialDesign.of(looks)

    def judge(
        contrasts: Sequence[_Simulated], values: Sequence[Sequence[float]], verdicts: list[Verdict | None], seeds: int
    ) -> list[Verdict | None]:
        estimates = [
            SeedEstimate(tuple(of[:seeds]), contrast.spread, places=contrast.places)
            for contrast, of in zip(contrasts, values, strict=True)
        ]
        results = compare_at_look(estimates, verdicts, [contrast.margin for contrast in contrasts], design=design)
        return [None if result.verdict == "unresolved" else result.verdict for result in results]

    return judge


@dataclass(frozen=True)
class _Counted:
    """Counts the cells of a simulated sweep, as `bench.deciding.look` adds them."""

    plan: Plan
    costs: _Costs
    baseline: frozenset[str]
    looks: Sequence[int]
    """From the number of seeds that the plan has."""

    def run(self, contrasts: Sequence[_Simulated], values: Sequence[Sequence[float]] | None, judge: Judge) -> CellCount:
        """One sweep; without `values`, one in which nothing more is told."""
        config = self.plan.sweep.decide
        assert config is not None
        verdicts = [contrast.verdict for contrast in contrasts]
        cells, seconds = float(self.costs.present), self.costs.waiting_seconds
        for look, following in zip(self.looks, self.looks[1:], strict=False):
            verdicts = judge(contrasts, values or [], verdicts, look)
            if None not in verdicts:
                break
            still_open = [contrast for contrast, verdict in zip(contrasts, verdicts, strict=True) if verdict is None]
            settings = self.baseline.union(*(contrast.settings for contrast in still_open))
            more = following - look
            added = more * len(settings)
            of_added = more * sum(self.costs.per_cell.get(key, 0.0) for key in settings)
            if config.cells is not None and cells + added > config.cells:
                break
            if config.seconds is not None and self.costs.spent_seconds + seconds + of_added > config.seconds:
                break
            cells, seconds = cells + added, seconds + of_added
        return CellCount(cells, seconds)


def expectation_lines(expectation: Expectation) -> list[str]:
    """For a person to read."""
    least, expected, largest = expectation.least, expectation.expected, expectation.largest
    return [
        f"decide: {least.cells:.0f} trained cells at least, {expected.cells:.0f} expected, {largest.cells:.0f} at most "
        f"(all settings with all seeds: {expectation.fixed}); to run: about {duration(least.seconds)}, "
        f"{duration(expected.seconds)} and {duration(largest.seconds)}",
        f"expected by {expectation.source}"
        + (
            f" and true differences around 0 with an s.d. of {USUAL_DIFFERENCE:g} point"
            if "usual" in expectation.source
            else ""
        ),
    ]
