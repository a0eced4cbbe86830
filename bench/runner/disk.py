"""Room on the disk: looked for before a cell is begun, and made by the sweep's policy once cells are done."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from bench.errors import UserError
from bench.planning.estimate import Estimate
from bench.planning.plan import Plan, PlannedCell, state
from bench.store.folder import Results

SPARE_BYTES = 50_000_000
"""Left for logs, the report and whatever else the machine writes."""

PARTS = 7
"""Times its adapter that a cell may take while it runs: two checkpoints (weights and two moments each) beside it."""


def check_room(planned: PlannedCell, estimate: Estimate, results: Results) -> None:
    """Raises UserError where the disk has less room than the cell takes."""
    free = shutil.disk_usage(results.path).free
    needed = PARTS * estimate.disk_bytes + SPARE_BYTES
    if free < needed:
        raise UserError(
            f"{planned.cell.name} is not begun: it takes up to {needed / 1e6:,.0f} MB on the disk, and "
            f"{free / 1e6:,.0f} MB are free",
            "Free some space, set run.keep_adapters to best or none, or choose another --results folder; the same "
            "command goes on from what is there.",
        )


def prune(plan: Plan, results: Results) -> None:
    """Remove the adapters that the sweep's policy (`run.keep_adapters`) does not keep, of cells that are done."""
    policy = plan.sweep.run.keep_adapters
    if policy == "all":
        return
    done = [one for one in plan.cells if one.cell.data is not None and state(one, results) == "done"]
    kept = set() if policy == "none" else {one.cell.id for one in best(done, results)}
    if policy == "best" and not plan.data.development_view.questions:
        return  # nothing says which is the best
    for one in done:
        adapter = results.folder(one.cell).adapter
        if one.cell.id not in kept and adapter.is_dir():
            shutil.rmtree(adapter, ignore_errors=True)  # another run of the sweep may be at it


def best(done: Iterable[PlannedCell], results: Results) -> list[PlannedCell]:
    """Of each method the cell with the most right answers to development questions; trials are none of them."""
    found: dict[str, tuple[float, PlannedCell]] = {}
    for one in done:
        right = results.folder(one.cell).metrics().get("development", {}).get("acc")
        if one.trial or right is None:
            continue
        if one.cell.method not in found or right > found[one.cell.method][0]:
            found[one.cell.method] = (right, one)
    return [one for _, one in found.values()]
