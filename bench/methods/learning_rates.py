"""Learning rates among a method's settings: which to try, and the settings with one or without."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.methods.method import Method
    from bench.sweep.sections import TuneConfig


def learning_rates_to_try(method: Method, tune: TuneConfig) -> tuple[float, ...]:
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


def with_learning_rate(options: dict[str, Any], rate: float) -> dict[str, Any]:
    """The settings with another learning rate, also in the parts of a stacked method (each keeps its ratio)."""
    before = options.get("lr")
    changed = {
        key: with_learning_rate(value, rate if not before or "lr" not in value else rate * (value["lr"] / before))
        if isinstance(value, dict) and "lr" in value
        else value
        for key, value in options.items()
    }
    return {**changed, "lr": rate}


def without_learning_rate(options: dict[str, Any]) -> dict[str, Any]:
    """The settings without the learning rate, also in the parts of a pair: it changes the speed of training alone."""
    return {
        key: without_learning_rate(value) if isinstance(value, dict) else value
        for key, value in options.items()
        if key != "lr"
    }
