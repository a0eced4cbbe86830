"""Folders of the checkout that tests read, and copies of the committed results that a test may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench.store.folder import Results
from bench.store.pack import unpack

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
RESULTS = ROOT / "results"
"""The committed results."""
SHARED = ROOT.parent / "shared"
"""Real data beside the checkout; tests that need it are skipped where it is missing."""


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files that match, sorted. Fails if there is none, so that no loop over them checks nothing."""
    paths = sorted(folder.glob(pattern))
    assert paths, f"nothing in {folder} matches {pattern}"
    return paths


def committed() -> list[Results]:
    """All committed sweeps."""
    sweeps = [Results(path.parent) for path in sorted(RESULTS.glob("*/plan.json"))]
    assert sweeps
    return sweeps


def write_schema_1(folder: Path) -> Results:
    """Write two cells of results/rank_real_small, and their plan with a trial, as the first version wrote them."""
    texts = json.loads((ROOT / "tests" / "store" / "schema_1.json").read_text())
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Results(folder)


def loose_copy(sweep: str, folder: Path) -> Path:
    """Copy a committed sweep without its report into `folder`, unpacked, and return `folder`."""
    shutil.copytree(RESULTS / sweep, folder, ignore=shutil.ignore_patterns("report", "adapter", "locks"))
    unpack(Results(folder))
    return folder
