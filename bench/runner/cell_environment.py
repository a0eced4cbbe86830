"""What a cell was run with, so that it can be run again: versions, commit, device, fingerprints."""

from __future__ import annotations

import platform
from typing import Any

import torch

from bench.data.sweep_data import SweepData
from bench.environment import harness_commit, package_versions
from bench.models.device import machine
from bench.models.dtype import resolve_dtype
from bench.models.locate import ModelFolder
from bench.planning.plan import PlannedCell


def environment(base: ModelFolder, data: SweepData, planned: PlannedCell) -> dict[str, Any]:
    """What the cell was run with: versions, commit, device, fingerprints. No path and no host name."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": package_versions(),
        "commit": harness_commit(),
        **machine(),
        "threads": torch.get_num_threads(),
        "base_model": {"id": base.id, "revision": base.revision, "commit": base.commit},
        "dtype_reason": resolve_dtype(planned.base.dtype).reason,
        "data_fingerprint": data.fingerprint,
        "overlap": {name: vars(one) for name, one in data.overlap.items()},
    }
