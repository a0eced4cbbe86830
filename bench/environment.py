"""What a cell was run with, so that it can be run again: versions, commit, device, fingerprints."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bench.data import Data
from bench.models import base_models
from bench.planning.plan import PlannedCell

RECORDED_PACKAGES = (
    "bench-peft",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "lm-eval",
    "datasets",
    "numpy",
    "pyreft",
    "galore-torch",
    "bitsandbytes",
)


def environment(base: base_models.Base, data: Data, planned: PlannedCell) -> dict[str, Any]:
    """What the cell was run with: versions, commit, device, fingerprints. No path and no host name."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
        "commit": _commit(),
        **machine(),
        "threads": torch.get_num_threads(),
        "base_model": {"id": base.id, "revision": base.revision, "commit": base.commit},
        "dtype_reason": base_models.resolve_dtype(planned.base.dtype).reason,
        "data_fingerprint": data.fingerprint,
        "overlap": {name: vars(one) for name, one in data.overlap.items()},
    }


def machine() -> dict[str, str]:
    """What decides how fast a cell runs here: the device, and of a CPU which one."""
    if base_models.device().type == "cuda":
        return {"device": torch.cuda.get_device_name()}
    able = torch.cpu.get_capabilities()
    vectors = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "bf16") if able.get(name)]
    name = str(able.get("cpu_name", platform.machine()))
    return {"device": base_models.device().type, "processor": f"{name} ({', '.join(vectors)})" if vectors else name}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def _commit() -> str | None:
    """The harness's own commit as the run began, with `-dirty` where its code was changed (results, which a run writes,
    are none); None outside a checkout."""
    return commit_of(Path(__file__).parent)


def commit_of(code: Path) -> str | None:
    """The commit of the checkout that a folder of code is in, with `-dirty` where files in that folder differ from it;
    None where git knows none of them."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(code), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changed = git("rev-parse", "--short=12", "HEAD"), git("status", "--porcelain", "--", ".")
    if not commit or changed is None or not git("ls-files", "."):
        return None
    return f"{commit}-dirty" if changed else commit
