"""Cells that need more memory than the device has."""

from __future__ import annotations

from collections.abc import Iterable

from bench.planning.estimate import Estimator
from bench.planning.plan import PlannedCell

NAMED_CELLS = 5
"""Cells that a message names before it abbreviates."""


def memory_of_device() -> int | None:
    """Bytes of memory of one device; None where the device does not report it."""
    import psutil
    import torch

    from bench.models.device import compute_device

    device = compute_device()
    if device.type == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().total if device.type == "cpu" else None


def too_large(cells: Iterable[PlannedCell], estimator: Estimator) -> str:
    """Which cells, by name, need more memory for weights and gradients alone than the device has; empty if none.

    A sharded training (FSDP) is left out: what each device needs is not known before it runs.
    """
    available = memory_of_device()
    if available is None:
        return ""
    estimates = [
        (planned.cell.name, estimator.estimate(planned)) for planned in cells if planned.training.parallel != "fsdp"
    ]
    large = [
        (name, estimate.memory_bytes)
        for name, estimate in estimates
        if estimate.memory_source == "at least" and estimate.memory_bytes > available
    ]
    if not large:
        return ""
    names = ", ".join(name for name, _ in large[:NAMED_CELLS]) + (", ..." if len(large) > NAMED_CELLS else "")
    largest, needed = max(large, key=lambda cell: cell[1])
    return (
        f"{len(large)} cell{'s' if len(large) > 1 else ''} cannot fit this device: {names}. {largest} needs at least "
        f"{gigabytes(needed)} for weights and gradients, and the device has {gigabytes(available)}"
    )


def gigabytes(count: int) -> str:
    """`1.2 GB`, `340 MB`."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
