"""Reads the rows of JSON and JSONL files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.errors import UserError

Row = dict[str, Any]
"""A row of a JSON file or a hub data set, by column: any JSON value."""


def read_rows(path: Path) -> Iterable[Row]:
    """The rows of a JSON list or a JSONL file, whichever its first character says it is.

    Raises UserError for a file that is missing or is not valid JSON; the rows themselves are not checked.
    """
    return _json_list(path) if _read(path).lstrip().startswith("[") else _jsonl(path)


def _json_list(path: Path) -> list[Row]:
    text = _read(path)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(rows, list):
        raise UserError(f"{path} must be a JSON list of rows")
    return rows


def _jsonl(path: Path) -> Iterator[Row]:
    # Not splitlines, which also splits at characters that a JSON string may contain.
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path}, row {number}: not valid JSON ({error.msg})", "Fix or remove the row."
                ) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else path.parent.parent
        names = sorted(child.name for child in folder.iterdir())[:20] if folder.is_dir() else []
        raise UserError(f"there is no data file {path}", f"{folder} holds: {', '.join(names) or 'nothing'}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
