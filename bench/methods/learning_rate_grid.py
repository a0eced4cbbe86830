"""Learning rates among a method's settings: the rates to try, and the settings with another rate or without one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from bench.methods.method import Method
    from bench.sweep.cell import Settings
    from bench.sweep.run_sections import TuneConfig


LATTICE_STEPS = 2
"""Learning rates of a decade: 1 and 3 times a power of ten."""


def learning_rates_to_try(method: Method, tune: TuneConfig) -> tuple[float, ...]:
    """The learning rates to try for a method, ascending: those that the sweep lists for it, else `tune.trials` of the
    lattice around its family's published rate, so that methods of one family have the same rates.

    Raises UserError for a method without a published rate, and for lists of unequal length.
    """
    if isinstance(tune.lr, dict) and method.name in tune.lr:
        listed = tuple(sorted(tune.lr[method.name]))
        if len(set(listed)) != tune.trials:
            raise UserError(
                f"tune.lr.{method.name} lists {len(set(listed))} rates, and tune.trials is {tune.trials}",
                "Every method is tuned by the same number of trials: give each list that many.",
            )
        return listed
    center = method.facts.lr_center
    if center is None:
        raise UserError(
            f"method {method.name} has no grid of learning rates to tune by",
            f"List {tune.trials} under tune.lr.{method.name}, or leave the method out of this sweep.",
        )
    first = _place(center) - (tune.trials - 1) // 2
    return tuple(_at(place) for place in range(first, first + tune.trials))


def rate_beyond(rates: Sequence[float], above: bool) -> float:
    """The rate that continues ascending `rates` above their last or below their first: the next of the lattice, or by
    their own step where they are not on it."""
    edge = rates[-1] if above else rates[0]
    if all(math.isclose(rate, _at(_place(rate))) for rate in rates):
        return _at(_place(edge) + (1 if above else -1))
    step = (rates[-1] / rates[0]) ** (1 / (len(rates) - 1))
    return float(f"{edge * step if above else edge / step:.3g}")


def _place(rate: float) -> int:
    """The place of a rate on the lattice, 0 for 1: the nearest one by ratio."""
    return round(LATTICE_STEPS * math.log10(rate))


def _at(place: int) -> float:
    decade, half = divmod(place, LATTICE_STEPS)
    return float(f"{3 if half else 1}e{decade}")


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
