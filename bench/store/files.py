"""Atomic writes: every file of results is written whole or not at all.

A file is written under a temporary name in its own folder, flushed to the disk and renamed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.errors import UserError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; on leaving without an exception it is flushed and becomes `path`.

    Raises UserError where the folder cannot be written to or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # a link in its place would lead the writing elsewhere
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}",
            "Free some space or choose another --results folder; the same command resumes from what is there.",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; on leaving without an exception its files are flushed and it becomes `path`.

    Raises UserError where it cannot be written or the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                _flush(file)
        shutil.rmtree(path, ignore_errors=True)
        part.rename(path)
    except Exception as error:
        if isinstance(error, OSError) or disk_is_full(error):
            raise UserError(f"cannot write {path}: {error}", "Free some space; the same command resumes.") from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the system write a file to the disk now."""
    # Opened for writing: Windows flushes no other.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises UserError where the folder cannot be written to."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot remove {path}: {error.strerror or error}", "Check the permissions.") from error


def disk_is_full(error: BaseException) -> bool:
    """safetensors reports a full disk in words of its own, not as an OSError."""
    return "StorageFull" in str(error) or "No space left" in str(error)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file whole, readable and with its keys in their order."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
