"""Reads the rows of JSON text: a value a line, a list of rows, or a table under one key or by column."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bench.errors import UserError

Row = dict[str, Any]
"""A row of a file or a hub data set, by column: any JSON value."""

LIST_KEYS = ("data", "rows", "examples", "instances", "records", "items", "samples", "entries")
"""Keys under which a JSON object may hold the list of its rows."""
SPEAKER_KEYS = ("role", "from")
"""Every turn of a chat has one of these keys."""


@dataclass(frozen=True)
class Unreadable:
    """Stands for a row that could not be parsed."""

    reason: str


def json_rows(text: str, origin: object, by_line: bool) -> Iterable[object]:
    """The rows of a JSON text; `by_line`: its name says that it has a value a line. Other rows than objects, and lines
    that do not parse (`Unreadable`), are left to the caller to refuse.

    Raises UserError for text that is not valid JSON as a whole and does not have a value a line either.
    """
    first, second = [*islice(_lines(text), 2), "", ""][:2]
    if second and not isinstance(parse_line(first), Unreadable):
        return map(parse_line, _lines(text))
    try:
        value = parse_json(text)
    except ValueError as error:
        if by_line or (second and isinstance(parse_line(second), dict)):
            return map(parse_line, _lines(text))
        raise UserError(f"{origin} is not valid JSON: {error}", "Give a list of rows, or one row per line.") from None
    if by_line and isinstance(value, dict) and not second:
        return [value]  # a file of one row, whose columns may be lists
    return _table(value, origin)


def parse_line(line: str) -> object:
    """The JSON value of a line, or Unreadable."""
    try:
        return parse_json(line)
    except json.JSONDecodeError as error:
        return Unreadable(f"not valid JSON ({error.msg} at character {error.pos + 1})")
    except ValueError as error:
        return Unreadable(f"not valid JSON ({error})")


def parse_json(text: str) -> object:
    """The value of a JSON text; NaN, which is no JSON and stands for a missing value, is null. Raises ValueError for
    text that is invalid, nested too deep, with a number of too many digits or with a key that an object has twice."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError("a number has too many digits" if "int_max_str_digits" in str(error) else str(error)) from None


def is_chat(value: object) -> bool:
    """Whether a value is a list of the turns of a chat."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and any(key in turn for key in SPEAKER_KEYS) for turn in value)
    )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)[:60]!r} occurs twice")
    return content


def _constant(name: str) -> float | None:
    """A number that JSON does not have, but Python writes."""
    return None if name == "NaN" else float(name)


def _lines(text: str) -> Iterator[str]:
    """The lines that are not blank. Not splitlines, which also splits at characters that a JSON string may contain."""
    begin = 0
    while begin <= len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        line = text[begin:end]
        if line.strip():
            yield line
        begin = end + 1


def _table(value: object, origin: object) -> Iterable[object]:
    """The rows of a JSON value that is a whole file."""
    if isinstance(value, list):
        return [value] if is_chat(value) else value
    if not isinstance(value, dict):
        raise UserError(f"{origin} holds no rows but a JSON {type(value).__name__}", "Give a list of rows.")
    names, cells = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(cells, list):  # pandas, orient="split"
        return [
            dict(zip(map(str, names), row, strict=True))
            if isinstance(row, list) and len(row) == len(names)
            else Unreadable(f"it does not have the {len(names)} cells that `columns` names")
            for row in cells
        ]
    lists = [key for key in LIST_KEYS if isinstance(value.get(key), list)]
    if len(lists) == 1 and all(isinstance(row, (dict, list)) for row in value[lists[0]]):
        rows: list[object] = value[lists[0]]
        return rows
    return _columns(value) or [value]


def _columns(table: dict[str, Any]) -> list[object] | None:
    """The rows of a table by column, as pandas (an object a column) and datasets (a list a column) write it."""
    columns = list(table.values())
    if any(map(is_chat, columns)):
        return None
    if columns and all(isinstance(column, list) for column in columns):
        columns = [dict(enumerate(column)) for column in columns]
    if len(columns) < 2 or not all(
        isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns
    ):
        return None
    return [dict(zip(table, (column[place] for column in columns), strict=True)) for place in columns[0]]
