"""Running a sweep until its contrasts are told: at which numbers of seeds it is looked at, and what it may take.

At each look the seeds of those contrasts are added to that are still open, until all are told, the looks are used up or
the budget is spent. `bench.statistics.sequential` has the boundaries that keep the error rate over all looks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, field_validator

from bench.errors import shortened
from bench.statistics import LOOKS, SEEDS
from bench.sweep.sections import Strict

BUDGET = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(h|m|cells)")
MOST_LOOKS, MOST_SEEDS_OF_LOOKS = 10, 200
SEED_LIMIT = 2**32
"""Above all seeds."""


class DecideConfig(Strict):
    """Seeds are added where a contrast is open, until all are told: `decide: {}` does it at the default looks. `seeds`
    are then those of the first look, and may be left out. The baseline gets all seeds."""

    looks: tuple[Annotated[int, Field(ge=SEEDS, le=MOST_SEEDS_OF_LOOKS)], ...] = LOOKS
    """Numbers of seeds at which the contrasts are judged, rising by two or more, the first at least 3. The last is the
    most seeds that a setting gets."""
    budget: str | None = None
    """What all trained cells together may take, those of the first look included: hours or minutes of running cells
    (`8h`, `90m`), or a number of cells (`40 cells`). A look that would go beyond it is not begun. Default: any."""

    @field_validator("looks", mode="before")
    @classmethod
    def _rising(cls, looks: object) -> object:
        looks = (looks,) if type(looks) is int else looks
        if not isinstance(looks, (list, tuple)) or not all(type(look) is int for look in looks):
            raise ValueError(
                f"decide.looks is a list of numbers of seeds, such as {list(LOOKS)}; got {shortened(looks)}"
            )
        if min(looks) < SEEDS or any(after - before < 2 for before, after in itertools.pairwise(looks)):
            raise ValueError(
                f"the first look has {SEEDS} seeds or more, and each further one at least two more than the one "
                f"before; got {shortened(list(looks))}, e.g. {list(LOOKS)}"
            )
        if len(looks) > MOST_LOOKS or looks[-1] > MOST_SEEDS_OF_LOOKS:
            raise ValueError(
                f"at most {MOST_LOOKS} looks, at up to {MOST_SEEDS_OF_LOOKS} seeds; got {shortened(list(looks))}"
            )
        return looks

    @field_validator("budget", mode="before")
    @classmethod
    def _hours_or_cells(cls, budget: object) -> object:
        match = BUDGET.fullmatch(budget.strip()) if isinstance(budget, str) else None
        countable = match is not None and (match[2] != "cells" or match[1].isdigit())
        if budget is not None and (match is None or not countable or float(match[1]) <= 0):
            given = "" if isinstance(budget, (str, int, float)) else f"; got {shortened(budget)}"
            raise ValueError(
                f"a budget is hours or minutes of running cells, or their number: 8h, 90m or 40 cells{given}"
            )
        return budget

    def _amount(self, unit: str) -> float | None:
        match = BUDGET.fullmatch(self.budget.strip()) if self.budget is not None else None
        return float(match[1]) if match is not None and match[2] == unit else None

    @property
    def seconds(self) -> float | None:
        """The budget in seconds of running cells; None without one of this kind."""
        hours, minutes = self._amount("h"), self._amount("m")
        return 3600 * hours if hours is not None else 60 * minutes if minutes is not None else None

    @property
    def cells(self) -> int | None:
        """The budget in trained cells; None without one of this kind."""
        cells = self._amount("cells")
        return None if cells is None else int(cells)

    def all_seeds(self, first: Sequence[int], reserved: int | None = None) -> tuple[int, ...]:
        """The seeds of all looks: those of the first, then the numbers that follow the largest one. `reserved`: the
        seed of trials, which no cell has. Raises ValueError where no numbers are left."""
        following = [
            seed for seed in range(max(first) + 1, min(SEED_LIMIT, max(first) + self.looks[-1] + 2)) if seed != reserved
        ]
        if len(first) + len(following) < self.looks[-1]:
            raise ValueError(f"decide adds the seeds after {max(first)}, and there are too few; give smaller seeds")
        return (*first, *following[: self.looks[-1] - len(first)])


class DecideRecord(Strict):
    """How a sweep is decided, as its plan records it; the looks of a sweep that has scores are not changed any more."""

    looks: tuple[int, ...]
    """Numbers of seeds."""
    seeds: tuple[int, ...]
    """All of them, in the order of the looks."""
    budget: str | None = None
    late: bool = False
    """It came after the first score: the looks have a quarter of the level."""

    def after(self, before: DecideRecord | None, begun: bool) -> DecideRecord:
        """This one, following that of an earlier plan; `begun`: cells of the sweep have scores."""
        if not begun:
            return self
        if before is None:
            return self.model_copy(update={"late": True})
        return before.model_copy(update={"budget": self.budget})
