"""Which process runs which cell: a lock per cell that dies with its holder.

The locks of a sweep lie in one folder beside its cells and hold nothing. Whoever runs a cell holds its lock (the
system's own, by filelock) from before it looks at the record until the record is written; when the process ends,
however it ends, the system lets go. On a file system that several machines share it must know such locks, as NFS from
version 4 on does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from bench.errors import UserError
from bench.store.folder import Results

REPORT = "report"
"""The lock of whoever writes the report."""
PACK = "pack"
"""The lock of whoever packs or unpacks."""


@contextmanager
def holding(results: Results, name: str) -> Iterator[bool]:
    """Hold the lock of a cell (by its folder's name) or of the report; False, without waiting, where another does."""
    folder = results.path / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A lock in name only, which filelock falls back to, would outlive its holder.
        lock = FileLock(folder / f"{name}.lock", fallback_to_soft=False)
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"cannot write the lock {name} in {folder}: {getattr(error, 'strerror', None) or error}",
            "The results folder must be writable, and its file system must know locks (NFS: version 4).",
        ) from error
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def judging(results: Results, label: str) -> Iterator[bool]:
    """Hold the lock of a judge; False, without waiting, where another process judges with it or packs the folder.

    Packing looks at all other locks while it holds its own, and judging looks at that one while it holds its own, so
    that never both go on.
    """
    with holding(results, f"judge-{label}") as held:
        if not held:
            yield False
            return
        with holding(results, PACK) as free:
            pass
        yield free


def locked_names(results: Results) -> list[str]:
    """The names of all locks that were ever held in the folder, whether or not they are held now."""
    return sorted(path.stem for path in (results.path / "locks").glob("*.lock"))
