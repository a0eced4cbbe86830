"""The looks that a sweep has come to, by its plan and its rows: which seeds each of them sees, and by which boundaries.

A sweep without `decide` has one look, at all of its seeds. With it there is a look at each of the planned numbers of
seeds. Seeds that nobody planned count at the next of the default looks, at a quarter of the level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.result_tables import ResultTables
from bench.statistics import LATER_SHARE, LOOKS, SequentialDesign
from bench.store.records import PlanRecord, Status

WAITING = ("missing", Status.TRAINED, Status.KILLED, "damaged")
"""The statuses of cells that a run would run."""
StoredBoundaries = Mapping[int, Sequence[float]]
"""By the number of comparisons."""


@dataclass(frozen=True)
class LookStage:
    """One look."""

    seeds: tuple[int, ...]
    """All that it sees."""
    design: SequentialDesign | None = None
    """None: a fixed number of seeds, judged as if there were no other look."""
    share: int = 1
    """5 % divided by it is the level of all looks of the design."""

    def counted(self, seeds: int) -> int:
        """Of so many seeds that a comparison has, those that it is judged by: as many as the last look that they reach.
        A seed that is missing is no look gained."""
        return seeds if self.design is None else self.design.reached(seeds) or seeds

    def is_look(self, seeds: int) -> bool:
        """Whether a comparison of so many seeds can be judged."""
        return self.design is None or seeds in self.design.looks


def look_stages(tables: ResultTables, plan: PlanRecord, stored: StoredBoundaries | None = None) -> list[LookStage]:
    """The looks so far, the first one always among them. `stored`: boundaries that are stored with the results."""
    decide = plan.decide
    if decide is not None and not decide.late:
        design = SequentialDesign.of(decide.looks, stored)
        reached = [look for look in decide.looks if look_ended(tables, decide.seeds[:look])]
        stages = [LookStage(decide.seeds[:look], design) for look in reached or decide.looks[:1]]
        return [*stages, *_unplanned(plan, stages[-1].seeds, decide.seeds, SequentialDesign())]
    seeds = tuple(dict.fromkeys(cell.seed for cell in plan.cells if cell.method != "base" and cell.seed is not None))
    planned = tuple(plan.looks[0]) if plan.looks else seeds
    design = SequentialDesign.of(decide.looks, stored) if decide is not None else SequentialDesign()
    return [LookStage(planned), *_unplanned(plan, planned, planned, design)]


def _unplanned(
    plan: PlanRecord, last: Sequence[int], planned: Sequence[int], design: SequentialDesign
) -> list[LookStage]:
    """The looks at seeds that were not planned before the first score, which follow `last`."""
    of_cells = [cell.seed for cell in plan.cells if cell.method != "base" and cell.seed is not None]
    if set(of_cells) <= set(planned):
        return []
    seeds = tuple(dict.fromkeys([*last, *sorted(of_cells)]))
    reached = [look for look in design.looks if len(last) < look <= len(seeds)]
    return [LookStage(seeds[:look], design, LATER_SHARE) for look in reached]


def look_ended(tables: ResultTables, seeds: Sequence[int]) -> bool:
    """Whether the plan has cells of all of these seeds, and none of them is still to be run."""
    trained = tables.cells[tables.cells["method"] != "base"]
    of_look = trained[trained["seed"].isin(list(seeds))]
    # A trained cell with a reason could not be scored.
    waiting = of_look["status"].isin(WAITING) & ~((of_look["status"] == Status.TRAINED) & (of_look["reason"] != ""))
    return set(seeds) <= set(of_look["seed"]) and not waiting.any()


def of_seeds(tables: ResultTables, seeds: Sequence[int]) -> ResultTables:
    """The tables with trained cells of these seeds alone."""
    cells = tables.cells
    return replace(tables, cells=cells[(cells["method"] == "base") | cells["seed"].isin(list(seeds))])


def first_look(tables: ResultTables, plan: PlanRecord) -> ResultTables:
    """The tables with the seeds that were planned before the first score, or those of the first planned look: what was
    seen later must not move what the first verdicts were made with, such as the margin of a tie."""
    return of_seeds(tables, look_stages(tables, plan)[0].seeds)


def later_seeds_sentence(plan: PlanRecord, stages: Sequence[LookStage]) -> str:
    """On seeds that were not planned: which look the comparisons show. Empty where there are none."""
    first_plan = [stage for stage in stages if stage.share == 1]
    planned = first_plan[-1].seeds
    decide = plan.decide if plan.decide is not None and not plan.decide.late else None
    expected = set(planned) | set(decide.seeds if decide is not None else ())
    added = {cell.seed for cell in plan.cells if cell.method != "base"} - expected
    if not added:
        return ""
    later = stages[len(first_plan) :]
    number = len(planned) + len(added)
    looks = later[-1].design.looks if later and later[-1].design is not None else LOOKS
    if plan.decide is not None and plan.decide.late:
        looks = plan.decide.looks
    following = next((look for look in looks if look > number), None)
    counted = f"the first {len(later[-1].seeds)} seeds, a look" if later else f"the {len(planned)} planned seeds"
    return (
        f"{len(added)} seeds were added after the first score. Comparisons are those of {counted}; verdicts of the "
        "planned seeds stand, and what they left open is judged by the boundaries of a sequential design at a quarter "
        f"of the level{f' (next at {following} seeds)' if following else ''}."
    )
