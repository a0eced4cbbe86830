"""Learning rates among a method's settings: the rates to try, and the settings with another rate or without one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from bench.methods.method import Method
    from bench.sweep.cell import Settings
    from bench.sweep.run_sections import TuneConfig


def learning_rates_to_try(method: Method, tune: TuneConfig) -> tuple[float, ...]:
    """The learning rates to try for a method: those that the sweep lists for it, else `tune.trials` of the registry's
    grid around the published one. A grid that is too short is extended beyond its ends by its own mean step.

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
    windows = [grid[start : start + tune.trials] for start in range(len(grid) - tune.trials + 1)]
    nearest = min(windows, key=lambda window: abs(sum(map(math.log, window)) / len(window) - middle))
    return tuple(float(f"{rate:.3g}") for rate in nearest)


def with_learning_rate(options: Settings, rate: float) -> Settings:
    """The settings with another learning rate. The parts of a stacked method keep their ratios to it."""
    before = _rate(options)
    changed: Settings = {}
    for key, value in options.items():
        if isinstance(value, dict) and "lr" in value:
            part = _rate(value)
            changed[key] = with_learning_rate(value, rate if not before or part is None else rate * (part / before))
        else:
            changed[key] = value
    return {**changed, "lr": rate}


def without_learning_rate(options: Settings) -> Settings:
    """The settings without the learning rate, also in the parts of a stacked method: it determines how fast, not what,
    a cell trains."""

    def strip(value: JsonValue) -> JsonValue:
        return without_learning_rate(value) if isinstance(value, dict) else value

    return {key: strip(value) for key, value in options.items() if key != "lr"}


def _rate(options: Settings) -> float | None:
    rate = options.get("lr")
    return rate if isinstance(rate, (int, float)) else None
