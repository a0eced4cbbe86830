"""Disk space: checked before a cell starts, and freed by the sweep's policy when cells are done."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from bench.errors import UserError
from bench.planning.estimate import Estimate
from bench.planning.plan import Plan, PlannedCell, status_of
from bench.store.folder import Results
from bench.store.records import Status

SPARE_BYTES = 50_000_000
"""Left free for logs, the report and everything else that the machine writes."""

ADAPTER_COPIES = 7
"""Disk space that a cell may take while it runs, as a multiple of its adapter: the adapter and two checkpoints (weights
and two moments each)."""


def check_disk_space(planned: PlannedCell, estimate: Estimate, results: Results) -> None:
    """Raises UserError if the disk has less free space than the cell takes."""
    free = shutil.disk_usage(results.path).free
    needed = ADAPTER_COPIES * estimate.disk_bytes + SPARE_BYTES
    if free < needed:
        raise UserError(
            f"{planned.cell.name} is not started: it takes up to {needed / 1e6:,.0f} MB of disk space, and "
            f"{free / 1e6:,.0f} MB are free",
            "Free some space, set run.keep_adapters to best or none, or choose another --results folder; run the same "
            "command to resume.",
        )


def remove_adapters(plan: Plan, results: Results) -> None:
    """Remove the adapters of cells that are done, except those that the sweep's policy (`run.keep_adapters`) keeps."""
    policy = plan.sweep.run.keep_adapters
    if policy == "all" or (policy == "best" and not plan.data.development_view.questions):
        return  # without development questions, no cell is known to be the best
    done = [cell for cell in plan.cells if cell.cell.data is not None and status_of(cell, results) == Status.DONE]
    keep = set() if policy == "none" else {planned.cell.id for planned in best_cells(done, results)}
    for planned in done:
        adapter = results.folder(planned.cell).adapter
        if planned.cell.id not in keep and adapter.is_dir():
            shutil.rmtree(adapter, ignore_errors=True)  # another run of the sweep may remove it at the same time


def best_cells(done: Iterable[PlannedCell], results: Results) -> list[PlannedCell]:
    """For each method the cell with the highest accuracy on development questions; trials are left out."""
    best: dict[str, tuple[float, PlannedCell]] = {}
    for planned in done:
        development = results.folder(planned.cell).record().development
        if not planned.final or development is None or development.acc is None:
            continue
        method = planned.cell.method
        if method not in best or development.acc > best[method][0]:
            best[method] = (development.acc, planned)
    return [planned for _, planned in best.values()]
