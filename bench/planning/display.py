"""What `bench plan` shows: each cell with its state and what it is expected to take, and the sweep as a whole."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from bench.planning.estimate import GUESSED_UTILISATION, Estimate, estimator, gigabytes, too_large
from bench.planning.plan import TO_RUN, Plan, PlannedCell, state
from bench.planning.tuning import settle
from bench.store.folder import Results

UTILISED = GUESSED_UTILISATION["cuda"]
PENDING = "pending tune"
"""The state of a cell whose learning rate is yet to be chosen."""
WAITING = (*TO_RUN, PENDING)


def listing(plan: Plan, results: Results, tflops: float | None = None) -> dict[str, Any]:
    """The cells of a plan (`cells`) and their sums (`total`), as JSON has it: seconds, bytes, FLOPs; `tflops`: on
    another device than this one. Of cells whose data only stand for others there is no id."""
    plan, guess = settle(plan, results), estimator(plan, results, tflops=tflops)
    sizes = {one.cell.base: one.total for one in plan.cells if one.cell.method == "base"}
    cells = [_row(one, guess.estimate(one), state(one, results), sizes[one.cell.base]) for one in plan.cells]
    for one in plan.pending:
        row = _row(one.template, guess.estimate(one.template), PENDING, sizes[one.template.cell.base])
        cells.append({**row, "id": None, "lr": None})
    waiting = [one for one in cells if one["state"] in WAITING]
    seconds = sum(one["seconds"] for one in waiting)
    total = {
        "cells": len(cells),
        "states": dict(Counter(one["state"] for one in cells)),
        "seconds": round(seconds),
        "ends": (datetime.now() + timedelta(seconds=seconds)).isoformat(timespec="minutes"),
        "training_flops": sum(one["training_flops"] for one in waiting),
        "disk_bytes": sum(one["disk_bytes"] for one in waiting),
        "memory_bytes": max((one["memory_bytes"] for one in waiting), default=0),
    }
    if plan.data.placeholders:
        cells = [{**one, "id": None} if one["method"] != "base" else one for one in cells]
    planned = [*plan.cells, *(one.template for one in plan.pending)]
    found = {"cells": cells, "total": total, "too_large": "" if tflops else too_large(planned, guess)}
    return found | {"tflops": tflops, "placeholders": list(plan.data.placeholders)}


def _row(planned: PlannedCell, estimate: Estimate, state: str, base: int) -> dict[str, Any]:
    cell = planned.cell
    return {
        "id": cell.id,
        "name": cell.name,
        "state": state,
        "base": cell.base.id,
        "method": cell.method,
        "rank": cell.rank,
        "samples": cell.samples,
        "seed": cell.seed,
        "trainable": planned.trainable,
        "percent_of_base": round(100 * planned.trainable / base, 4),
        "lr": cell.options.get("lr"),
        "seconds": round(estimate.seconds, 1),
        "training_flops": estimate.training_flops,
        "memory_bytes": estimate.memory_bytes,
        "memory_source": estimate.memory_source,
        "disk_bytes": estimate.disk_bytes,
        "source": estimate.source,
    }


def lines(plan: Plan, found: dict[str, Any]) -> list[str]:
    """The same to be read by a person."""
    from bench.progress import duration

    cells, total = found["cells"], found["total"]
    rows = [["cell", "id", "state", "trainable", "% of base", "lr", "time", "memory", "disk", "GFLOPs", "time from"]]
    for cell in cells:
        waits = cell["state"] in WAITING
        at_least = ">" if cell["memory_source"] == "at least" else ""
        rows.append(
            [
                cell["name"],
                cell["id"] or "-",
                cell["state"],
                f"{cell['trainable']:,}" if cell["trainable"] else "-",
                f"{cell['percent_of_base']:.3f}" if cell["trainable"] else "-",
                f"{cell['lr']:g}" if cell["lr"] else "-",
                duration(cell["seconds"]) if waits else "-",
                at_least + gigabytes(cell["memory_bytes"]) if waits else "-",
                f"{cell['disk_bytes'] / 1e6:,.1f} MB" if waits else "-",
                f"{cell['training_flops'] / 1e9:,.0f}" if cell["training_flops"] else "-",
                cell["source"] if waits else "-",
            ]
        )
    # Plain lines: a table of rich's takes half a millisecond a row, and a sweep has thousands.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    said = [f"{plan.sweep.name}: {len(cells):,} cells", ""]
    said += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    waiting = sum(total["states"].get(one, 0) for one in WAITING)
    said.append("")
    if waiting:
        hours, ends = total["seconds"] / 3600, total["ends"].replace("T", " ")
        when = (
            f"about {hours:,.0f} hours of a device of {found['tflops']:g} TFLOP/s, of which {UTILISED:.0%} are used"
            if found["tflops"]
            else f"about {duration(total['seconds'])} on one device, until {ends}"
        )
        said.append(
            f"{waiting} to run: {when}; {total['training_flops']:.2g} FLOPs of training, "
            f"{total['disk_bytes'] / 1e6:,.0f} MB on disk"
        )
        if found["too_large"]:
            said.append(f"bench run would refuse: {found['too_large']}")
        if not found["tflops"] and any(cell["source"] == "arithmetic" and cell["state"] in TO_RUN for cell in cells):
            said.append("times from arithmetic may be far off: --calibrate runs a few steps of each setting")
    if found["placeholders"]:
        said.append(
            f"placeholders took the place of the data of {', '.join(found['placeholders'])}: as many rows as were "
            "published, about as long, so that tokens, FLOPs and times are estimates, and ids are not known"
        )
    for base, choice in plan.dtypes.items():
        said.append(f"{base}: computes in {choice.value} ({choice.reason})")
    data = plan.data
    for name, pool in data.pools.items():
        overlap = data.overlap[name]
        said.append(
            f"{name}: {len(pool):,} training rows ({overlap.removed} removed that stand in a test or development "
            f"set), {len(data.development[name])} for development"
        )
    for kind, sets in (("questions", data.questions), ("to be answered in words", data.open_questions)):
        if sets:
            said.append(f"{kind}: " + ", ".join(f"{name} {len(rows)}" for name, rows in sets.items()))
    return said
