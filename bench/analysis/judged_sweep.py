"""A results folder with the comparisons that its cells allow: what the report says, and what `decide` decides by."""

from __future__ import annotations

from dataclasses import dataclass

from bench.analysis.comparison import done_baseline
from bench.analysis.contrasts import SweepComparisons, compare_sweep
from bench.analysis.look_stages import StoredBoundaries, first_look
from bench.analysis.result_tables import ResultTables, read_results
from bench.analysis.tie_margin import TieMargin, tie_margin
from bench.errors import UserError
from bench.judging.question_files import plan_with_questions
from bench.store.folder import Results
from bench.store.look_records import LooksRecord
from bench.store.records import PlanRecord


@dataclass(frozen=True)
class JudgedSweep:
    """A sweep and its comparisons."""

    plan: PlanRecord
    """With a baseline that is done."""
    planned_baseline: str | None
    tables: ResultTables
    margin: TieMargin
    """Of a tie between accuracies, by the seeds of the first look."""
    comparisons: SweepComparisons
    boundaries: StoredBoundaries | None
    """Those that are stored with the results."""


def judge_sweep(results: Results) -> JudgedSweep:
    """Raises UserError for a folder that holds no sweep, and for a file of a newer version."""
    plan, tables = plan_with_questions(results), read_results(results)
    planned = plan.baseline
    plan = plan.model_copy(update={"baseline": done_baseline(tables.cells, planned)})
    margin = tie_margin(first_look(tables, plan).cells, plan.baseline, plan.report)
    table = recorded_looks(results).boundaries
    # Boundaries of other looks than the plan's are of no use to it.
    is_plans = table is not None and plan.decide is not None and tuple(table.looks) == plan.decide.looks
    stored = table.by_comparisons if table is not None and is_plans else None
    return JudgedSweep(plan, planned, tables, margin, compare_sweep(tables, plan, margin.points, stored), stored)


def recorded_looks(results: Results) -> LooksRecord:
    """What is recorded of the looks; nothing where that cannot be read: it is made again from the rows."""
    try:
        return results.looks()
    except UserError:
        return LooksRecord()
