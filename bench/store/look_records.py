"""What is recorded of a sweep that is run until its contrasts are told (looks.json), and of plans with more seeds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.statistics import Verdict
from bench.store.records import SCHEMA, PlanRecord, Record


class ContrastLook(Record):
    """A contrast at one look."""

    contrast: str
    """Its name."""
    verdict: Verdict | None = None
    """None where it could not be judged yet."""
    told_before: bool = False
    """By an earlier look, whose numbers these are."""
    seeds: int | None = None
    """That it was judged by; fewer than the look's where cells have failed."""
    estimate: float | None = None
    """Points."""
    low: float | None = None
    """Of the repeated interval at 95 %."""
    high: float | None = None
    boundary: float | None = None
    """c_k of that interval."""

    @property
    def answered(self) -> bool:
        return self.verdict in ("better", "worse", "tie")


class LookRecord(Record):
    """One look: what was seen, and what followed."""

    number: int
    """The first is 1."""
    seeds: list[int]
    """All seeds of the look."""
    margin: float
    """Of a tie, points; 0 where there is none."""
    contrasts: list[ContrastLook]
    missing: list[str] = Field(default_factory=list)
    """Cells of these seeds that have no scores, each with its status."""
    added: list[str] = Field(default_factory=list)
    """Names of the cells that were added."""
    added_seeds: int = 0
    """To each setting of an open contrast, and to the baseline."""
    ended: Literal["told", "looks", "budget", "nothing"] | None = None
    """Why nothing was added: all contrasts are told, the looks are used up, the budget would be exceeded, or there is
    no contrast that can be estimated."""
    budget: str | None = None
    """That the next look would have exceeded."""


class BoundaryTable(Record):
    """Boundaries of other looks than the default ones, by Monte Carlo."""

    looks: list[int]
    by_comparisons: dict[int, list[float]] = Field(default_factory=dict)
    """By the number of comparisons that share the level: one for each look."""
    paths: int
    seed: int
    """Of the random numbers."""


class LooksRecord(Record):
    """All looks: looks.json."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    looks: list[LookRecord] = Field(default_factory=list)
    boundaries: BoundaryTable | None = None
    """None for the default looks, whose boundaries come with the package."""


def plan_after(before: PlanRecord | None, plan: PlanRecord, begun: bool) -> PlanRecord:
    """A plan that takes the place of an earlier one; `begun`: cells of the sweep have scores.

    What was written down before the first score stays apart from what came later: contrasts, looks, seeds.
    """
    contrasts = plan.contrasts
    if contrasts is not None:
        contrasts = contrasts.after(before.contrasts if before is not None else None, begun)
    decide = plan.decide
    if decide is not None:
        decide = decide.after(before.decide if before is not None else None, begun)
    elif before is not None and begun:
        decide = before.decide  # its looks have been taken
    plan = plan.model_copy(update={"contrasts": contrasts, "decide": decide})
    if before is not None and begun:
        plan = plan.model_copy(update={"looks": looks_after(before, plan)})
    return plan


def looks_after(before: PlanRecord, plan: PlanRecord) -> list[list[int]]:
    """The looks of a plan that follows another one with scores: a plan with more seeds looks again, unless they are
    seeds of planned looks."""
    earlier, now = ({cell.seed: None for cell in of.cells if cell.method != "base"} for of in (before, plan))
    seeds = [seed for seed in earlier if seed is not None]
    decide = before.decide
    planned = set(decide.seeds) if decide is not None and not (decide.late and not before.looks) else set()
    added = set(now) - set(earlier) - planned
    return [*before.looks, seeds] if seeds and added else before.looks
