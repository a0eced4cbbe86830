"""Equal tuning: the same number of learning rates is tried for every method and setting, on development questions.

A trial is a cell like any other, with a seed that no final cell has, scored on the development split and never on test
questions. Once all trials of a setting have ended, its final cells run at the rate whose trial scored best (ties: the
lower loss of the training). Until then they are pending: planned, and without an identity.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from bench.planning.plan import TO_RUN, Pending, Plan, PlannedCell, state
from bench.store.folder import Results


@dataclass(frozen=True)
class Choice:
    """What the trials of a setting came to."""

    rate: float
    scores: tuple[float | None, ...]
    """Development accuracy (0 to 1) by rate; None for a trial that did not come to an end."""
    edge: bool
    """The best rate is the lowest or the highest that was tried: a better one may lie beyond."""


def choose(pending: Pending, results: Results, waiting: Collection[str] = ()) -> Choice | None:
    """The best of the rates by what is recorded; None while trials are to be run (`waiting` has the ids of those that
    will be tried again), or where none has come to an end."""
    states = [state(one, results) for one in pending.trials]
    if any(one in TO_RUN for one in states) or any(one.cell.id in waiting for one in pending.trials):
        return None
    found = [
        _scored(one, results) if how == "done" else (None, math.inf)
        for one, how in zip(pending.trials, states, strict=True)
    ]
    done = [at for at, (score, _) in enumerate(found) if score is not None]
    if not done:
        return None
    best = max(done, key=lambda at: (round(found[at][0], 9), -found[at][1]))
    edge = best in (0, len(found) - 1) and len(found) > 1
    return Choice(pending.rates[best], tuple(score for score, _ in found), edge)


def _scored(trial: PlannedCell, results: Results) -> tuple[float, float]:
    """Development accuracy, the mean over tasks of the first protocol, and the loss at the end of the training."""
    metrics = results.folder(trial.cell).metrics()
    protocol = trial.evaluations[0].protocol
    scores = [metrics["evaluations"][one.id]["score"] for one in trial.evaluations if one.protocol == protocol]
    return sum(scores) / len(scores), metrics["costs"].get("final_loss", math.inf)


def settle(plan: Plan, results: Results, waiting: Collection[str] = ()) -> Plan:
    """The plan with every pending cell whose trials have chosen its rate as a cell."""
    settled, left = [], []
    chosen: dict[tuple[str, ...], Choice | None] = {}
    for one in plan.pending:
        key = tuple(trial.cell.id for trial in one.trials)
        if key not in chosen:
            chosen[key] = choose(one, results, waiting)
        choice = chosen[key]
        if choice is None:
            left.append(one)
        else:
            settled.append(one.at(choice.rate))
    known = {one.cell.id for one in plan.cells}
    fresh = [one for one in settled if one.cell.id not in known]
    return replace(plan, cells=(*plan.cells, *fresh), pending=tuple(left))


def groups(pending: Sequence[Pending]) -> list[Pending]:
    """One of each setting that is tuned."""
    return list({tuple(trial.cell.id for trial in one.trials): one for one in pending}.values())
