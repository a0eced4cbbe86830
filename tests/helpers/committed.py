"""The committed results, as packed as they are in git or as loose files that a test may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench.store.folder import Results
from bench.store.pack import unpack
from helpers.paths import RESULTS, ROOT


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
