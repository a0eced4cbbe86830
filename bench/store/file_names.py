"""Names of files and folders that a file of results gives: a stranger's must not lead out of the results folder,
neither by themselves nor by a symbolic link."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from bench.errors import UserError


def plain_name(name: str) -> str:
    """The name, if it is that of a file or folder within another folder. Raises ValueError for one that is a path."""
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise ValueError(f"{name!r} is not the name of a file or folder")
    return name


def plain_path(path: str) -> str:
    """The path, if it consists of such names with / between them. Raises ValueError as `plain_name` does."""
    for name in path.split("/"):
        plain_name(name)
    return path


FileName = Annotated[str, AfterValidator(plain_name)]
"""The type of such a name in a record."""


def check_within(folder: Path, paths: Iterable[Path]) -> None:
    """Raise UserError if a folder of these files is a symbolic link that leads out of `folder`."""
    for parent in {path.parent for path in paths}:
        if not (target := parent.resolve()).is_relative_to(folder.resolve()):
            raise UserError(
                f"{parent} leads out of the results folder, to {target}; packed files are not written there",
                f"Remove the symbolic link, or copy the folder with what its links lead to: cp -rL {folder} COPY",
            )
