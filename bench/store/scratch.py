"""Temporary folders that a killed process leaves behind, and the next one removes."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "bench-"


class ScratchFolder:
    """An empty folder `bench-*` among the system's temporary files, removed by `cleanup` or when the process ends.

    Its owner holds the lock of `<folder>.lock` beside it as long as it lives. A killed process removes nothing, but the
    system lets go of its lock: who makes a folder removes those of the same user whose locks are free.
    """

    def __init__(self, kind: str = "") -> None:
        """`kind` becomes part of the name."""
        remove_leftovers()
        self.path = Path(tempfile.gettempdir()) / f"{PREFIX}{kind}{secrets.token_hex(6)}"
        lock = _lock(self.path)
        # Where the file system knows no locks, the folder has none, and is not taken for one that was left behind.
        with suppress(OSError, NotImplementedError):
            lock.acquire(timeout=0)
        if not lock.is_locked:
            _lock_file(self.path).unlink(missing_ok=True)
        self.path.mkdir(mode=0o700)
        self._remove = weakref.finalize(self, _remove, self.path, lock)

    def __enter__(self) -> ScratchFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Remove the folder, if that has not been done."""
        self._remove()


def remove_leftovers() -> None:
    """Remove the scratch folders of this user whose processes have ended."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not (_is_mine(path, stat.S_ISDIR) and _is_mine(_lock_file(path), stat.S_ISREG)):
            continue
        lock = _lock(path)
        with suppress(OSError, NotImplementedError, Timeout):
            lock.acquire(timeout=0)
            _remove(path, lock)


def _is_mine(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path that may be gone is of this kind, no link, and belongs to this user."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return kind(status.st_mode) and status.st_uid == (os.getuid() if hasattr(os, "getuid") else 0)


def _remove(path: Path, lock: FileLock) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if lock.is_locked:
        _lock_file(path).unlink(missing_ok=True)
        lock.release()


def _lock(path: Path) -> FileLock:
    return FileLock(_lock_file(path), fallback_to_soft=False)


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
