"""Simulates whole sweeps of a known truth and prints the tables of docs/statistics.md (about ten minutes on a core).

PYTHONPATH=.:tests python tests/simulations/verdicts.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from helpers.simulated import (
    COMPONENTS,
    Components,
    Families,
    Outcome,
    added_seeds,
    coverage,
    decide,
    fixed,
    look_again,
)

RUNS, FAMILIES, COMPARISONS, MOST = 4000, 20_000, 5, 20
MARGIN = 1.0
SEEDS_ALONE = Components("seeds alone", 500, 1.0, 1e-3, 0.0)
"""No churn and no question effects: where the floor and the questions' part hold nothing back."""
DESIGNS: dict[str, Callable[[Families], Outcome]] = {
    "3 seeds": lambda families: fixed(families, 3, MARGIN),
    "5 seeds": lambda families: fixed(families, 5, MARGIN),
    "10 seeds": lambda families: fixed(families, 10, MARGIN),
    "decide": lambda families: decide(families, MARGIN),
    "seeds added": lambda families: added_seeds(families, MARGIN),
    "look again": lambda families: look_again(families, MARGIN),
}


def coverage_table() -> list[str]:
    lines = ["| components | seeds | t over seeds | seeds and questions | average over settings | single setting |"]
    lines.append("|---|---|---|---|---|---|")
    for parts in COMPONENTS:
        for seeds in (3, 10):
            found = coverage(parts, seeds, RUNS)
            shares = (found.over_seeds, found.both, found.average, found.row)
            lines.append(f"| {parts.name} | {seeds} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |")
    return lines


def design_table() -> list[str]:
    lines = [f"| components | true difference | {' | '.join(DESIGNS)} |", "|---|---|" + "---|" * len(DESIGNS)]
    for parts in (*COMPONENTS, SEEDS_ALONE):
        for difference in (0.0, 1.0, 2.0):
            families = Families.of(parts, FAMILIES, [difference] * COMPARISONS, MOST, seed=1)
            cells = []
            for design in DESIGNS.values():
                outcome = design(families)
                everywhere = np.ones(outcome.verdicts.shape, dtype=bool)
                false = outcome.false_verdicts(everywhere) if difference == 0 else outcome.false_ties(everywhere)
                seeds = "" if len(set(outcome.seeds.flat)) == 1 else f", {outcome.seeds.mean():.1f}"
                cells.append(f"{100 * outcome.told():.0f} ({100 * false:.1f}){seeds}")
            lines.append(f"| {parts.name} | {difference:g} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join([*coverage_table(), "", *design_table(), ""]))
