"""The committed results, as packed as they are in git or as loose files that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.store.folder import Results
from bench.store.pack import unpack
from helpers.paths import RESULTS


def committed() -> list[Results]:
    """All committed sweeps."""
    sweeps = [Results(path.parent) for path in sorted(RESULTS.glob("*/plan.json"))]
    assert sweeps
    return sweeps


def loose_copy(sweep: str, folder: Path) -> Path:
    """Copy a committed sweep without its report into `folder`, unpacked, and return `folder`."""
    shutil.copytree(RESULTS / sweep, folder, ignore=shutil.ignore_patterns("report", "adapter", "locks"))
    unpack(Results(folder))
    return folder
