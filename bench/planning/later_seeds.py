"""Cells of the seeds that `decide` adds: known from the start, and part of the plan once a look has asked for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.errors import UserError
from bench.methods.learning_rate_grid import without_learning_rate
from bench.planning.plan import Pending, Plan, PlannedCell
from bench.planning.tuning import grown
from bench.store.folder import Results


def template_of(entry: PlannedCell | Pending) -> PlannedCell:
    """A cell, or what stands for it until its learning rate is chosen."""
    return entry.template if isinstance(entry, Pending) else entry


def seedless_key(planned: PlannedCell, tuned: bool) -> str:
    """What the cells of one setting have in common, whatever their seed: not the learning rate where it is tuned."""
    cell = planned.cell
    options = without_learning_rate(cell.options) if tuned else cell.options
    return json.dumps(
        [cell.base.model_dump(), cell.method, options, cell.samples, cell.training], sort_keys=True, default=str
    )


def with_later(plan: Plan, wanted: Callable[[PlannedCell | Pending], bool]) -> Plan:
    """The plan with those of the later cells that are wanted."""
    chosen = [entry for entry in plan.later if wanted(entry)]
    ids = {planned.cell.id for planned in plan.cells}
    cells = [entry for entry in chosen if isinstance(entry, PlannedCell) and entry.cell.id not in ids]
    pending = [entry for entry in chosen if isinstance(entry, Pending)]
    left = tuple(entry for entry in plan.later if not wanted(entry))
    return replace(plan, cells=(*plan.cells, *cells), pending=(*plan.pending, *pending), later=left)


def with_recorded(plan: Plan, results: Results) -> Plan:
    """The plan with the later cells that the recorded plan has: they were added by looks of an earlier run."""
    if not plan.later:
        return plan
    try:
        recorded = results.plan_record() if (results.path / "plan.json").is_file() else None
    except UserError:  # it is written anew, and the looks add the same cells again
        recorded = None
    if recorded is None:
        return plan
    plan = grown(plan, results)
    folders = {cell.folder for cell in recorded.cells}

    def is_recorded(entry: PlannedCell | Pending) -> bool:
        cells: Sequence[PlannedCell] = (
            [entry.at(rate) for rate in entry.rates] if isinstance(entry, Pending) else [entry]
        )
        return any(planned.cell.folder in folders for planned in cells)

    return with_later(plan, is_recorded)
