"""The sections of a sweep file that say how its cells are measured, run and tuned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.statistics import SEEDS
from bench.sweep.sections import LearningRate, Minutes, Seed, Strict

FURTHER_RATES = 2
"""By which a grid of learning rates may grow, unless the sweep says otherwise."""


class CostsConfig(Strict):
    """What is measured of every cell besides what its training and scoring come to. No part of any identity."""

    inference: bool = True
    """Time greedy generation of 64 tokens, of one prompt and of eight: the untuned base, the cell, and merged. Done for
    the first seed and the first sample count of each method and setting."""


class RunConfig(Strict):
    """What a run does with its cells, and not what comes out. No part of any identity."""

    cell_timeout: Minutes | None = None
    """Minutes that a cell may take; one that takes longer is stopped and recorded as `hung`. Default: any."""
    silence_timeout: Minutes = 60.0
    """Minutes without any progress after which a cell is taken to hang."""
    keep_adapters: Literal["all", "best", "none"] = "all"
    """Which trained adapters stay on the disk once their cells are scored; `best`: of each method's cells the one with
    the most right answers to development questions. Scores on more tasks need the adapter."""


class TuneConfig(Strict):
    """How learning rates are tuned: equally, for every method and setting of it."""

    lr: Literal["grid"] | dict[str, tuple[LearningRate, ...]] = "grid"
    """`grid`: of each method the rates around its published one, from the registry; or rates by method (the others
    have their grids). One grid for all methods would decide the ranking."""
    trials: int = Field(3, ge=2, le=100)
    """Rates tried for each method and setting."""
    design: Literal["crossed", "pilot"] = "pilot"
    """`crossed`, the default with three seeds and no budget: every rate runs with every seed, and the rate of a seed is
    chosen by the development questions of the other seeds; its trials are the final cells, and the intervals have a
    part for the noise of the choice. `pilot`: one trial a rate, with a seed of its own, chooses for all seeds, and no
    interval has the noise of its choice."""
    limit: int | None = Field(None, ge=2, le=100)
    """Rates at most. While the best rate of any setting is the lowest or the highest, every method gets one more.
    Default: `trials` and two."""
    budget: float = Field(1.0, ge=1e-6, le=1)
    """Of a pilot: samples of a trial, as a share of the sweep's largest count. Short runs favour high rates."""
    seed: Seed = 7919
    """Of all trials of a pilot; no final cell may have it."""

    @property
    def most_rates(self) -> int:
        """`limit`, or its default."""
        return self.trials + FURTHER_RATES if self.limit is None else self.limit


def with_design(sweep: dict[str, object]) -> dict[str, object]:
    """A sweep as it was written, with the design of its tuning where `tune` names none."""
    tune, seeds = sweep.get("tune"), sweep.get("seeds")
    if not isinstance(tune, dict) or "design" in tune:
        return sweep
    crossed = isinstance(seeds, list) and len(seeds) >= SEEDS and tune.get("budget", 1) in (1, None)
    return {**sweep, "tune": {**tune, "design": "crossed" if crossed else "pilot"}}
