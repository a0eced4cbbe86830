"""What `bench plan` shows: each cell with its status and what it is expected to take, and the sweep as a whole."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast

from bench.methods.parameter_count import adapted_share
from bench.models.load import load_config
from bench.planning.estimate import GUESSED_UTILISATION, Estimate, make_estimator, what_it_took
from bench.planning.later_seeds import with_recorded
from bench.planning.lengths import LengthRow, cut_sentences, training_lengths
from bench.planning.memory import gigabytes, too_large
from bench.planning.plan import TO_RUN, Plan, PlannedCell, status_of
from bench.planning.recorded_cells import recorded_in_another_dtype
from bench.planning.tuning import settle
from bench.progress import duration
from bench.store.folder import Results
from bench.sweep.cell import Settings

PENDING = "pending tune"
"""Shown as the status of a cell whose learning rate is yet to be chosen."""
WAITING = (*TO_RUN, PENDING)


@dataclass(frozen=True)
class CellRow:
    """A cell as `bench plan` lists it."""

    id: str | None
    """None where the id is not known: a pending cell, or data that placeholders stand for."""
    name: str
    state: str
    """A status, or `pending tune`."""
    base: str
    method: str
    rank: int | None
    samples: int
    seed: int
    trainable: int
    percent_of_base: float
    lr: float | None
    seconds: float
    training_flops: float
    memory_bytes: int
    memory_source: str
    disk_bytes: int
    source: str

    @property
    def waits(self) -> bool:
        """True if the cell is yet to be run."""
        return self.state in WAITING


@dataclass(frozen=True)
class Total:
    """Sums over the cells that are yet to be run, and how many cells there are by state."""

    cells: int
    states: dict[str, int]
    seconds: int
    """On one device."""
    ends: str
    """When a run that starts now would end (ISO 8601)."""
    training_flops: float
    disk_bytes: int
    memory_bytes: int
    """The largest of any cell."""


@dataclass(frozen=True)
class PlanListing:
    """The cells of a plan and their sums; `bench plan --json` prints these fields."""

    cells: list[CellRow]
    total: Total
    too_large: str
    """Which cells cannot fit the device; empty if all may fit, or for another device."""
    tflops: float | None
    """Speed of the other device that is planned for; None: this device."""
    placeholders: list[str]
    """Data sets that placeholders stand for."""
    refused: list[str]
    """Bases and settings that cannot run, each with the reason; their cells are not among `cells`."""
    other_dtypes: list[str]
    """Sentences about cells that are recorded in another dtype than `dtype: auto` chooses here."""
    lengths: list[LengthRow]
    """How long the training examples are; empty where a base's tokenizer is not on this machine."""


def list_plan(plan: Plan, results: Results, tflops: float | None = None) -> PlanListing:
    """The cells of a plan with what they will take, on this device or on another one of this speed."""
    plan, estimator = settle(with_recorded(plan, results), results), make_estimator(plan, results, tflops=tflops)
    base_sizes = {planned.cell.base: planned.total for planned in plan.cells if planned.cell.method == "base"}

    def row(planned: PlannedCell, state: str) -> CellRow:
        # A cell that has ended shows what it took: counting FLOPs anew takes seconds a setting.
        ended = tflops is None and state not in WAITING
        took = what_it_took(results.folder(planned.cell).record().costs) if ended else None
        return _row(planned, took or estimator.estimate(planned), state, base_sizes[planned.cell.base])

    cells = [row(planned, status_of(planned, results)) for planned in plan.cells]
    cells += [replace(row(planned, PENDING), id=None, lr=None) for planned in plan.further]
    if plan.data.placeholders:
        cells = [cell if cell.method == "base" else replace(cell, id=None) for cell in cells]
    planned = [*plan.cells, *plan.further]
    waiting = [planned for planned, cell in zip(planned, cells, strict=True) if cell.waits]
    return PlanListing(
        cells=cells,
        total=_total(cells),
        too_large="" if tflops else too_large(waiting, estimator),
        tflops=tflops,
        placeholders=list(plan.data.placeholders),
        refused=[str(refusal.error) for refusal in plan.refused],
        other_dtypes=[] if tflops else recorded_in_another_dtype(plan, results),
        lengths=training_lengths(plan),
    )


def _total(cells: list[CellRow]) -> Total:
    waiting = [cell for cell in cells if cell.waits]
    seconds = sum(cell.seconds for cell in waiting)
    return Total(
        cells=len(cells),
        states=dict(Counter(cell.state for cell in cells)),
        seconds=round(seconds),
        ends=(datetime.now() + timedelta(seconds=seconds)).isoformat(timespec="minutes"),
        training_flops=sum(cell.training_flops for cell in waiting),
        disk_bytes=sum(cell.disk_bytes for cell in waiting),
        memory_bytes=max((cell.memory_bytes for cell in waiting), default=0),
    )


def _row(planned: PlannedCell, estimate: Estimate, state: str, base_size: int) -> CellRow:
    cell = planned.cell
    return CellRow(
        id=cell.id,
        name=cell.name,
        state=state,
        base=cell.base.id,
        method=cell.method,
        rank=cell.rank,
        samples=cell.samples,
        seed=cell.seed,
        trainable=planned.trainable,
        percent_of_base=round(100 * planned.trainable / base_size, 4),
        lr=cell.lr,
        seconds=round(estimate.seconds, 1),
        training_flops=estimate.training_flops,
        memory_bytes=estimate.memory_bytes,
        memory_source=estimate.memory_source,
        disk_bytes=estimate.disk_bytes,
        source=estimate.source,
    )


def format_plan(plan: Plan, listing: PlanListing) -> list[str]:
    """The listing for a person to read, as lines of text."""
    return [
        f"{plan.sweep.name}: {len(listing.cells):,} cells",
        "",
        *_table(listing.cells),
        "",
        *(f"cannot run: {refusal}" for refusal in listing.refused),
        *_to_run(listing),
        *_about_adapters(plan),
        *_about_data(plan, listing),
        *plan.unscored,
    ]


HEADER = ("cell", "id", "state", "trainable", "% of base", "lr", "time", "memory", "disk", "GFLOPs", "time from")


def _table(cells: list[CellRow]) -> list[str]:
    """Plain lines: a table of rich takes half a millisecond a row, and a sweep has thousands of rows."""
    rows = [HEADER, *(_columns(cell) for cell in cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _columns(cell: CellRow) -> tuple[str, ...]:
    at_least = ">" if cell.memory_source == "at least" else ""
    return (
        cell.name,
        cell.id or "-",
        cell.state,
        f"{cell.trainable:,}" if cell.trainable else "-",
        f"{cell.percent_of_base:.3f}" if cell.trainable else "-",
        f"{cell.lr:g}" if cell.lr else "-",
        duration(cell.seconds) if cell.waits else "-",
        at_least + gigabytes(cell.memory_bytes) if cell.waits else "-",
        f"{cell.disk_bytes / 1e6:,.1f} MB" if cell.waits else "-",
        f"{cell.training_flops / 1e9:,.0f}" if cell.training_flops else "-",
        cell.source if cell.waits else "-",
    )


def _to_run(listing: PlanListing) -> list[str]:
    """What the cells that are yet to be run will take, all together."""
    total = listing.total
    waiting = sum(total.states.get(state, 0) for state in WAITING)
    if not waiting:
        return []
    if listing.tflops:
        used = GUESSED_UTILISATION["cuda"]
        when = (
            f"about {total.seconds / 3600:,.0f} hours of a device of {listing.tflops:g} TFLOP/s, of which {used:.0%} "
            "are used"
        )
    else:
        when = f"about {duration(total.seconds)} on one device, until {total.ends.replace('T', ' ')}"
    lines = [
        f"{waiting} to run: {when}; {total.training_flops:.2g} FLOPs of training, "
        f"{total.disk_bytes / 1e6:,.0f} MB on disk"
    ]
    if listing.too_large:
        lines.append(f"bench run would refuse: {listing.too_large}")
    guessed = any(cell.source == "arithmetic" and cell.state in TO_RUN for cell in listing.cells)
    if guessed and not listing.tflops:
        lines.append("times from arithmetic may be far off: --calibrate runs a few steps of each setting")
    return lines


def _about_adapters(plan: Plan) -> list[str]:
    """Which part of each base's weights the methods act on, where it is not all of them."""
    shares: dict[tuple[str, int], list[str]] = {}
    seen = set()
    for planned in (*plan.cells, *plan.further):
        cell = planned.cell
        # A share depends on the targets alone: cells that differ in rank, seed or learning rate have the same.
        configuration = cell.options.get("peft", cell.options)
        targets = {key: value for key, value in dict(cast("Settings", configuration)).items() if "target" in key}
        key = (cell.base, cell.method, json.dumps(targets, sort_keys=True))
        if cell.data is None or key in seen:
            continue
        seen.add(key)
        trusted = planned.base.trust_remote_code
        share = adapted_share(cell, load_config(planned.base.id, planned.base.revision, trusted), trusted)
        if share is not None and round(100 * share) < 100:
            shares.setdefault((cell.base.id, round(100 * share)), []).append(cell.method)
    return [
        f"{', '.join(dict.fromkeys(methods))}: acts on {share} % of the weights in the blocks of {base}"
        for (base, share), methods in shares.items()
    ]


def _about_data(plan: Plan, listing: PlanListing) -> list[str]:
    """What the cells learn from and are scored on, and the dtype that they compute in."""
    lines = []
    if listing.placeholders:
        lines.append(
            f"placeholders took the place of the data of {', '.join(listing.placeholders)}: as many rows as were "
            "published, about as long, so that tokens, FLOPs and times are estimates, and ids are not known"
        )
    lines += [f"{base}: computes in {dtype.value} ({dtype.reason})" for base, dtype in plan.dtypes.items()]
    lines += [f"{base}: computes attention in eager ({reason})" for base, reason in plan.attention.items()]
    lines += plan.warnings
    lines += listing.other_dtypes
    data = plan.data
    for name, pool in data.pools.items():
        lines.append(
            f"{name}: {len(pool):,} training rows ({data.overlap[name].removed} removed that are in a test or "
            f"development set), {len(data.development[name])} for development"
        )
    lines += [f"how {name} is read: {reading}" for name, reading in data.readings.items()]
    lines += cut_sentences(listing.lengths)
    for kind, sets in (("questions", data.questions), ("to be answered in words", data.open_questions)):
        if sets:
            lines.append(f"{kind}: " + ", ".join(f"{name} {len(rows)}" for name, rows in sets.items()))
    return lines
