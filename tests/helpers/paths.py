"""Folders of the checkout that tests read."""

from __future__ import annotations

from pathlib import Path

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
