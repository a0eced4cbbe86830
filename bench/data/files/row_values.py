"""The values of a row by the names of its columns. All functions raise RowError, which names the column."""

from __future__ import annotations

import ast
import json
import math
from datetime import date
from decimal import Decimal

from bench.data.files.bad_rows import RowError, names_shown, shown
from bench.data.files.json_rows import Row, parse_json


def has_column(row: Row, column: str) -> bool:
    """Whether a row has a column, of this name or, with dots, in the objects that it holds (`outer.inner`)."""
    if column in row:
        return True
    head, _, rest = column.partition(".")
    return bool(rest) and isinstance(row.get(head), dict) and has_column(row[head], rest)


def value_of(row: Row, column: str) -> object:
    """The value in a column."""
    if column in row:
        return row[column]
    if not has_column(row, column):
        raise RowError(f"no column {column!r}; it has {names_shown(map(str, row))}")
    head, _, rest = column.partition(".")
    return value_of(row[head], rest)


def text_of(row: Row, column: str) -> str:
    """The text in a column, which must not be blank."""
    return checked_text(value_of(row, column), repr(column))


def checked_text(value: object, name: str) -> str:
    """`value` as a text of whole characters that is not blank, maybe of a number; `name` is what an error calls it."""
    text = scalar_text(value)
    if text is None or not text.strip():
        raise RowError(f"{name} must be a text, got {'null' if value is None else shown(value)}")
    return whole_characters(text, name)


def whole_characters(text: str, name: str) -> str:
    """`text`, unless it holds half of a surrogate pair, which JSON can write and no file or tokenizer can take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"{name} holds half of a character (\\u{ord(text[error.start]):04x} without its other half)",
            "Write the whole character, or take it out.",
        ) from None
    return text


def scalar_text(value: object) -> str | None:
    """A text, number, truth value or date as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    return str(value) if isinstance(value, (Decimal, date)) else None


def answer_of(row: Row, column: str) -> str:
    """The text to be learnt in a column, maybe a number; blank or null as an empty text."""
    value = value_of(row, column)
    if value is None:
        return ""
    text = scalar_text(value)
    if text is None:
        raise RowError(f"{column!r} must be a text, got {shown(value)}")
    return whole_characters(text, repr(column)) if text.strip() else ""


def structure_of(row: Row, column: str) -> object:
    """The value in a column; a text that is the JSON or Python form of a list or an object, as CSV files have it, is
    read as that."""
    value = value_of(row, column)
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    try:
        return parse_json(value)
    except ValueError:
        pass
    try:
        parsed: object = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise RowError(
            f"{column!r} is neither JSON nor Python's form of a list: {shown(value)}", "Write it as JSON."
        ) from None
    return parsed
