"""Equal tuning: every method and setting is tried at the same number of learning rates, on development questions.

A trial is a cell like any other, with a seed that no final cell has, scored on the development split and never on test
questions. When all trials of a setting have ended, its final cells run at the learning rate whose trial scored best
(ties: the lower training loss). Until then the final cells are pending: planned, and without an identity.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from bench.planning.plan import TO_RUN, Pending, Plan, PlannedCell, status_of
from bench.store.folder import Results
from bench.store.records import Status


@dataclass(frozen=True)
class Trial:
    """The result of a trial that is done."""

    rate: float
    """Learning rate."""
    score: float
    """Development accuracy (0 to 1), the mean over the tasks of the first protocol."""
    loss: float
    """Training loss at the end; infinite where it is not recorded."""


def choose_rate(pending: Pending, results: Results, waiting: Collection[str] = ()) -> float | None:
    """The best learning rate by the recorded trials; None while trials still have to run, or if none is done.

    `waiting` has the ids of trials that will be tried again.
    """
    statuses = [status_of(trial, results) for trial in pending.trials]
    if any(status in TO_RUN for status in statuses) or any(trial.cell.id in waiting for trial in pending.trials):
        return None
    done = [
        _result(trial, rate, results)
        for trial, rate, status in zip(pending.trials, pending.rates, statuses, strict=True)
        if status == Status.DONE
    ]
    if not done:
        return None
    return max(done, key=lambda trial: (round(trial.score, 9), -trial.loss)).rate


def _result(planned: PlannedCell, rate: float, results: Results) -> Trial:
    record = results.folder(planned.cell).record()
    protocol = planned.evaluations[0].protocol
    scores = [record.evaluations[wanted.id].score for wanted in planned.evaluations if wanted.protocol == protocol]
    loss = record.costs.final_loss if record.costs is not None else None
    return Trial(rate, sum(scores) / len(scores), math.inf if loss is None else loss)


def settle(plan: Plan, results: Results, waiting: Collection[str] = ()) -> Plan:
    """The plan in which every pending cell whose trials have chosen its learning rate is a cell."""
    rates = {pending.setting: choose_rate(pending, results, waiting) for pending in settings(plan.pending)}
    ids = {planned.cell.id for planned in plan.cells}
    settled: list[PlannedCell] = []
    left: list[Pending] = []
    for pending in plan.pending:
        rate = rates[pending.setting]
        if rate is None:
            left.append(pending)
        elif (planned := pending.at(rate)).cell.id not in ids:
            settled.append(planned)
    return replace(plan, cells=(*plan.cells, *settled), pending=tuple(left))


def settings(pending: Sequence[Pending]) -> list[Pending]:
    """One pending cell of each setting that is tuned."""
    return list({cell.setting: cell for cell in pending}.values())
