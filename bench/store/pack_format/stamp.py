"""What a cached file is recognised by, and the error for a packed file that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

from bench.store.damage import CorruptPack, reason_of

Stamp = tuple[int, int, int]
"""Time of change (ns), size (bytes) and inode: they change when a file is replaced."""


def stamp(path: Path) -> Stamp | None:
    """The stamp of a file; None if there is none."""
    try:
        return stamp_of(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def stamp_of(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


def corrupt(path: Path, error: Exception) -> CorruptPack:
    """The error for a packed file that cannot be read."""
    return CorruptPack(
        f"{path} is corrupt: {reason_of(path, error)}",
        f"Restore it from a copy; if it is in git: git checkout -- {path}\n  Without it, remove it (and of a missing "
        "records.jsonl.gz its items.parquet): `bench run` then runs its cells again.",
    )
