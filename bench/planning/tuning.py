"""Equal tuning: the same number of learning rates is tried for every method and setting, on development questions.

A trial is a cell like any other, with a seed that no final cell has, scored on the development split and never on test
questions. Once all trials of a setting have ended, its final cells run at the rate whose trial scored best (ties: the
lower loss of the training). Until then they are pending: planned, and without an identity.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.methods.method import Method
    from bench.planning.plan import Plan, PlannedCell
    from bench.sections import TuneConfig
    from bench.store import Results


@dataclass(frozen=True)
class Pending:
    """A final cell whose rate its trials have yet to choose."""

    template: PlannedCell
    """The cell at the first of the rates."""
    rates: tuple[float, ...]
    trials: tuple[PlannedCell, ...]
    """One for each of the rates."""

    @property
    def name(self) -> str:
        """As the cell's own name will be."""
        return self.template.cell.name

    def at(self, rate: float) -> PlannedCell:
        """The cell at a rate."""
        cell = self.template.cell
        content = cell.model_dump(mode="json")
        content["options"] = with_rate(content["options"], rate)
        content["tuned_by"] = [one.cell.folder for one in self.trials]
        return replace(self.template, cell=type(cell).model_validate(content))


@dataclass(frozen=True)
class Choice:
    """What the trials of a setting came to."""

    rate: float
    scores: tuple[float | None, ...]
    """Development accuracy (0 to 1) by rate; None for a trial that did not come to an end."""
    edge: bool
    """The best rate is the lowest or the highest that was tried: a better one may lie beyond."""


def with_rate(options: dict[str, Any], rate: float) -> dict[str, Any]:
    """The settings with another learning rate, also in the parts of a stacked method (each keeps its ratio)."""
    before = options.get("lr")
    changed = {
        key: with_rate(value, rate if not before or "lr" not in value else rate * (value["lr"] / before))
        if isinstance(value, dict) and "lr" in value
        else value
        for key, value in options.items()
    }
    return {**changed, "lr": rate}


def rates_of(method: Method, tune: TuneConfig) -> tuple[float, ...]:
    """The rates to try for a method: those that the sweep lists for it, else the registry's grid, `tune.trials` of it
    around the published rate. A grid that is too short goes on beyond its ends by its own mean step.

    Raises UserError for a method without a grid, and for lists of unequal length.
    """
    if isinstance(tune.lr, dict) and method.name in tune.lr:
        listed = tuple(sorted(tune.lr[method.name]))
        if len(set(listed)) != tune.trials:
            raise UserError(
                f"tune.lr.{method.name} lists {len(set(listed))} rates, and tune.trials is {tune.trials}",
                "Every method is tuned by the same number of trials: give each list that many.",
            )
        return listed
    grid = sorted(method.facts.lr_grid)
    if not grid:
        raise UserError(
            f"method {method.name} has no grid of learning rates to tune by",
            f"List {tune.trials} under tune.lr.{method.name}, or leave the method out of this sweep.",
        )
    step = (grid[-1] / grid[0]) ** (1 / (len(grid) - 1)) if len(grid) > 1 else math.sqrt(10)
    while len(grid) < tune.trials:
        below, above = grid[0] / step, grid[-1] * step
        grid = [*grid, above] if len(grid) % 2 else [below, *grid]
    middle = math.log(method.default_lr or math.sqrt(grid[0] * grid[-1]))
    windows = [grid[at : at + tune.trials] for at in range(len(grid) - tune.trials + 1)]
    best = min(windows, key=lambda window: abs(sum(map(math.log, window)) / len(window) - middle))
    return tuple(float(f"{rate:.3g}") for rate in best)


def choose(pending: Pending, results: Results, waiting: Collection[str] = ()) -> Choice | None:
    """The best of the rates by what is recorded; None while trials are to be run (`waiting` has the ids of those that
    will be tried again), or where none has come to an end."""
    from bench.planning.plan import TO_RUN, state

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
