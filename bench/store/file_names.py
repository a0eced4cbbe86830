"""Names of files and folders that a file of results gives: a stranger's must not lead out of the results folder."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


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
