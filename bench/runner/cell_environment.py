"""What a cell was run with, so that it can be run again: versions, commit, device, fingerprints."""

from __future__ import annotations

import platform

import torch

from bench.data.sweep_data import SweepData
from bench.environment import harness_commit, package_versions
from bench.models.device import machine
from bench.models.dtype import resolve_dtype
from bench.models.locate import ModelFolder
from bench.planning.plan import PlannedCell, overlap_records
from bench.store.records import BaseModelRecord, EnvironmentRecord


def environment_record(base: ModelFolder, data: SweepData, planned: PlannedCell) -> EnvironmentRecord:
    """Versions, commit, device and fingerprints of a cell's run. No path and no host name."""
    here = machine()
    return EnvironmentRecord(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=package_versions(),
        commit=harness_commit(),
        device=here["device"],
        processor=here.get("processor"),
        threads=torch.get_num_threads(),
        base_model=BaseModelRecord(id=base.id, revision=base.revision, commit=base.commit),
        dtype_reason=resolve_dtype(planned.base.dtype).reason,
        data_fingerprint=data.fingerprint,
        overlap=overlap_records(data),
    )
