"""Damaged files: the error that names one, the name under which one is set aside, and whose rows an items file holds.

Results are written atomically, so a file that cannot be read was edited, cut off by a copy, or is a Git LFS pointer
that was never replaced by its file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UserError, first_line

RESTORE = (
    "Results are written atomically, so this file was edited or damaged. `bench run` with the sweep file sets it aside "
    "and makes it anew where it can; or restore it."
)
SET_ASIDE = ".damaged"
"""Part of the name of a file that was set aside because it was corrupt."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a Git LFS pointer begins."""
IDENTITY = b"bench.rows"
"""The key, among the metadata of an items file, that says whose rows it holds."""


class CorruptFile(UserError):
    """A file of results that cannot be read, or that holds something else than its name says."""

    def __init__(self, path: Path, reason: str, fix: str = RESTORE) -> None:
        super().__init__(f"{path} is corrupt: {reason}", fix)
        self.path = path
        self.reason = reason


class CorruptPack(UserError):
    """A pack that cannot be read: it holds many cells, none of which is to be run again for that alone."""


def reason_of(path: Path, error: Exception) -> str:
    """Why a file cannot be read: what it is, where that can be told, else the error."""
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError:
        start = b"?"
    if start == LFS_POINTER:
        return "it is a Git LFS pointer and not the file itself, which `git lfs pull` gets"
    return "it is empty" if not start else first_line(error)


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `<name>.damaged<suffix>`, in place of an earlier one; returns its path now."""
    target = path.with_name(f"{path.stem}{SET_ASIDE}{path.suffix}")
    path.replace(target)
    return target


def rows_identity(cell: str, file: str) -> bytes:
    """What an items file holds under IDENTITY: the folder of its cell and its name, each with the hash of all settings
    that decide the rows."""
    return json.dumps({"cell": cell, "file": file}).encode()


def check_identity(path: Path, metadata: Mapping[bytes, bytes] | None) -> None:
    """Raise CorruptFile if an items file says that its rows are of another cell or evaluation than its path does. Files
    of older versions say nothing of it."""
    identity = (metadata or {}).get(IDENTITY)
    if identity is None or identity == rows_identity(path.parent.parent.name, path.name):
        return
    try:
        whose = json.loads(identity)
        text = f"{whose['cell']}/{whose['file']}"
    except (ValueError, KeyError, TypeError):
        text = "something else"
    raise CorruptFile(path, f"it holds the rows of {text}")
