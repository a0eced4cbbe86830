"""The published numbers."""

from __future__ import annotations

from pathlib import Path

from bench.report import published


def test_published_files_are_the_shared_ones(shared: Path) -> None:
    for name in published.SOURCES:
        assert (published.FOLDER / f"{name}.csv").read_bytes() == (shared / "published" / f"{name}.csv").read_bytes()
