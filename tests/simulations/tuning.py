"""How often two equal methods are told apart because their learning rates were chosen with noise.

    PYTHONPATH=.:tests python tests/simulations/tuning.py

prints the table of docs/statistics.md. Both methods have the same true score at each of the rates: what differs is
noise.
Letters: M methods (two), R rates, S seeds, D draws of development questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.statistics import AnswerSpread, SeedEstimate, best_rate, changes_of_choice

RATES, DRAWS, SWEEPS = 4, 200, 2000
SHARED = 0.5
"""The share of a run's own deviation that its development questions see, too."""
PILOT, OTHERS, ADDED = "pilot", "other seeds", "other seeds, with the choice in the interval"
DESIGNS = (PILOT, OTHERS, ADDED)


@dataclass(frozen=True)
class Components:
    """Standard deviations, in points."""

    rate: float
    """Of the true scores at the rates; of a peak, what a step away from the best rate costs."""
    seed: float
    """Of a run with its seed: a setting x seed component."""
    question: float
    """Of a development score from the choice of development questions, at one rate: what the seeds share."""
    noise: float
    """Of a development score from the run alone."""
    shape: str = "random"
    """`random`: the rates' scores are drawn; `peak`: they fall with the square of the distance from the best."""


SCENARIOS = {
    "few development questions": Components(0.5, 0.6, 1.0, 0.5),
    "some": Components(0.5, 0.6, 0.5, 0.5),
    "many": Components(0.5, 0.6, 0.2, 0.5),
    "rates that matter more": Components(1.0, 0.6, 0.7, 0.5),
    "rates that matter little": Components(0.2, 0.6, 0.7, 0.5),
    "a peak": Components(0.5, 0.6, 0.5, 0.5, "peak"),
}


def error_rate(components: Components, seeds: int, design: str, sweeps: int = SWEEPS) -> float:
    """The share of sweeps in which the 95 % interval of the difference of two equal methods excludes zero."""
    rng = np.random.default_rng(0)
    return sum(_told_apart(components, seeds, design, rng) for _ in range(sweeps)) / sweeps


def _told_apart(components: Components, seeds: int, design: str, rng: np.random.Generator) -> bool:
    if components.shape == "peak":
        true = -components.rate * (np.arange(RATES) - rng.uniform(1, RATES - 2)) ** 2  # (R,)
    else:
        true = components.rate * rng.standard_normal(RATES)
    own = components.seed * rng.standard_normal((2, RATES, seeds))
    outcomes = true[:, None] + own  # (M, R, S)
    shared = components.question * rng.standard_normal((2, RATES, 1))
    runs = 1 if design == PILOT else seeds
    noise = components.noise * rng.standard_normal((2, RATES, runs))
    if design == PILOT:  # a run of its own
        own = components.seed * rng.standard_normal((2, RATES, 1))
    scores = true[:, None] + SHARED * own + shared + noise  # (M, R, runs)
    losses = np.zeros((RATES, runs))
    values, changes = np.zeros(seeds), np.zeros(DRAWS)
    for sign, of_scores, of_outcomes in zip((1, -1), scores, outcomes, strict=True):
        # A draw of other questions moves a score of all seeds alike.
        drawn = of_scores + components.question * rng.standard_normal((DRAWS, RATES, 1)) if design == ADDED else None
        for seed in range(seeds):
            judges = np.arange(runs) != (-1 if design == PILOT else seed)
            chosen = int(best_rate(of_scores, losses, judges))
            values[seed] += sign * of_outcomes[chosen, seed]
            if drawn is not None:
                changes += sign * changes_of_choice(drawn, losses, of_outcomes, chosen, seed) / seeds
    estimate = SeedEstimate(tuple(values.tolist()), AnswerSpread(0.0, 0.0, float(changes.std())))
    return estimate.half_width() < abs(estimate.mean)


def main() -> None:
    """Print the table, in per cent."""
    print("| | " + " | ".join(f"{design}: 3 / 5 / 10 seeds" for design in DESIGNS) + " |")
    print("|---|" + "---|" * len(DESIGNS))
    for name, components in SCENARIOS.items():
        cells = [
            " / ".join(f"{100 * error_rate(components, seeds, design):.1f}" for seeds in (3, 5, 10))
            for design in DESIGNS
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
