"""Equal tuning: every method and setting is tried at the same number of learning rates, on development questions.

A trial is a cell like any other, scored on the development split. In a pilot each rate has one trial, with a seed that
no final cell has, and the final cells run at the rate that scored best. In a crossed design each rate has a trial with
every seed, which is scored on the test questions, too: the final cell of a seed is its trial at the rate that did best
with the other seeds (cross-fitting), so a cell has no part in its own choice. The seeds share the development
questions, so `bench.analysis.rate_choice` adds the noise of the choice to the intervals. Until a rate is chosen the
final cells are pending.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from bench.evaluation.scoring import tie_loss
from bench.methods.learning_rate_grid import rate_beyond
from bench.planning.plan import TO_RUN, Pending, Plan, PlannedCell, cell_at, status_of
from bench.statistics import best_rate
from bench.store.folder import Results
from bench.store.records import CellRecord, Status

HIGHEST_RATE = 10.0
"""A grid is not extended beyond."""
LOWEST_RATE = 1e-9


@dataclass(frozen=True)
class Trial:
    """The result of a trial that is done."""

    rate: float
    """Learning rate."""
    seed: int
    score: float
    """Development accuracy (0 to 1), the mean over the tasks of the first protocol, by the metric of the score; on data
    without questions the negative loss of the development rows' answers (nats a token)."""
    loss: float
    """Decides between equal scores: see `tie_loss`."""


class Trials:
    """The results of trials, each read once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._read: dict[str, Trial | None] = {}

    def done(self, pending: Pending) -> list[Trial]:
        """Those of a setting that ended well."""
        of_setting = [self._result(planned) for planned in pending.trials]
        return [trial for trial in of_setting if trial is not None]

    def best_rate(self, pending: Pending) -> float | None:
        """The best learning rate of a cell; None if no trial of another seed ended well. In a crossed design the other
        seeds choose; a seed that is added later has no trials, and all first seeds choose for it."""
        seed = pending.template.cell.seed
        return _best([trial for trial in self.done(pending) if trial.seed != seed])

    def _result(self, planned: PlannedCell) -> Trial | None:
        if planned.cell.id not in self._read:
            ended = status_of(planned, self.results) == Status.DONE
            self._read[planned.cell.id] = _trial(planned, self.results.folder(planned.cell).record()) if ended else None
        return self._read[planned.cell.id]


def _trial(planned: PlannedCell, record: CellRecord) -> Trial:
    rate, seed = planned.cell.lr or 0.0, planned.cell.seed
    if record.development_loss is not None and planned.development_rows:
        return Trial(rate, seed, -record.development_loss.loss, 0.0)
    evaluations = [record.evaluations[wanted.id] for wanted in planned.development]
    return Trial(rate, seed, fmean(evaluation.score for evaluation in evaluations), tie_loss(record, evaluations))


def _best(trials: Sequence[Trial]) -> float | None:
    """The best rate by `bench.statistics.best_rate`; None without trials."""
    if not trials:
        return None
    rates, seeds = sorted({trial.rate for trial in trials}), sorted({trial.seed for trial in trials})
    scores, losses = np.full((2, len(rates), len(seeds)), np.nan)
    for trial in trials:
        place = rates.index(trial.rate), seeds.index(trial.seed)
        scores[place], losses[place] = trial.score, trial.loss
    return rates[int(best_rate(scores, losses, np.ones(len(seeds), dtype=bool)))]


def settle(plan: Plan, results: Results, waiting: Collection[str] = ()) -> Plan:
    """The plan with the cells whose learning rate is chosen by now, and with further trials where a grid is extended.

    `waiting` has the ids of trials that will be tried again.
    """
    trials = Trials(results)
    plan = grown(plan, results, waiting, trials)
    grows = any(_may_grow(pending, plan) for pending in plan.pending)
    if grows and any(_waits(pending, results, waiting) for pending in plan.pending):
        return plan  # grids grow for all alike, when all have been tried
    rates = {
        id(pending): None if _waits(pending, results, waiting) else trials.best_rate(pending)
        for pending in plan.pending
    }
    cells = {planned.cell.id: planned for planned in plan.cells}
    for pending in plan.pending:
        rate = rates[id(pending)]
        if rate is not None:
            planned = pending.at(rate)
            cells[planned.cell.id] = planned
    left = tuple(pending for pending in plan.pending if rates[id(pending)] is None)
    if len(left) == len(plan.pending):
        return plan
    return replace(plan, cells=tuple(cells.values()), pending=left)


def _waits(pending: Pending, results: Results, waiting: Collection[str]) -> bool:
    """Whether a trial of its setting has not ended."""
    return any(trial.cell.id in waiting or status_of(trial, results) in TO_RUN for trial in pending.trials)


# ---- grids that grow


def grown(plan: Plan, results: Results, waiting: Collection[str] = (), trials: Trials | None = None) -> Plan:
    """The plan with the further trials that the recorded ones ask for. `trials`: those that were read already."""
    trials = trials or Trials(results)
    while (extended := _extended(plan, trials, waiting)) is not None:
        plan = extended
    return plan


def _may_grow(pending: Pending, plan: Plan) -> bool:
    return plan.sweep.tune is not None and len(pending.rates) < plan.sweep.tune.most_rates


def _extended(plan: Plan, trials: Trials, waiting: Collection[str]) -> Plan | None:
    """The plan with one more rate for every setting, if the best rate of any lies at an end of its rates; None if no
    grid grows, or not yet."""
    # Grids grow by the first seeds, before any rate is chosen.
    tunings = settings([pending for pending in plan.pending if pending.template.cell.seed in plan.sweep.seeds])
    if not tunings or not all(_may_grow(pending, plan) for pending in tunings):
        return None
    if any(_waits(pending, trials.results, waiting) for pending in tunings):
        return None
    places: dict[tuple[float, ...], list[int]] = {}
    for pending in tunings:
        best = _best(trials.done(pending))
        if best is not None:
            places.setdefault(pending.rates, []).append(pending.rates.index(best))
    if not any(place in (0, len(rates) - 1) for rates, of_rates in places.items() for place in of_rates):
        return None
    further = {rates: rate_beyond(rates, _grows_above(rates, of_rates)) for rates, of_rates in places.items()}
    if any(not LOWEST_RATE <= rate <= HIGHEST_RATE for rate in further.values()):
        return None
    further_trials = {pending.setting: _with_rate(pending, further.get(pending.rates)) for pending in tunings}

    def with_trials(pending: Pending) -> Pending:
        trials = further_trials.get(pending.setting, ())
        rates = {*pending.rates, *(trial.cell.lr or 0.0 for trial in trials)}
        return replace(pending, rates=tuple(sorted(rates)), trials=(*pending.trials, *trials))

    return replace(
        plan,
        cells=(*plan.cells, *(trial for trials in further_trials.values() for trial in trials)),
        pending=tuple(map(with_trials, plan.pending)),
        later=tuple(with_trials(entry) if isinstance(entry, Pending) else entry for entry in plan.later),
    )


def _grows_above(rates: Sequence[float], places: Sequence[int]) -> bool:
    """Methods with the same rates keep the same rates: they grow above if the best rate of any is the highest; else
    below if that of any is the lowest; else on the side of most."""
    last = len(rates) - 1
    if last in places:
        return True
    return 0 not in places and 2 * sum(places) >= last * len(places)


def _with_rate(pending: Pending, rate: float | None) -> tuple[PlannedCell, ...]:
    """Trials of a setting at a further rate, as many as at the first; none where all its trials failed."""
    if rate is None:
        return ()
    first = pending.trials[0].cell.lr
    return tuple(replace(trial, cell=cell_at(trial.cell, rate)) for trial in pending.trials if trial.cell.lr == first)


def settings(pending: Sequence[Pending]) -> list[Pending]:
    """One pending cell of each setting that is tuned."""
    return list({cell.setting: cell for cell in pending}.values())
