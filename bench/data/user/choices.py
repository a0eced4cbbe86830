"""The choices of a user's multiple-choice question, in every shape that files have them in."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile

from bench.data.files.bad_rows import RowError, shown
from bench.data.files.json_rows import Row
from bench.data.files.row_values import has_column, scalar_text, structure_of, value_of, whole_characters

TEXT_KEYS = ("text", "texts", "content", "value")
NAME_KEYS = ("label", "labels", "key", "id")
"""In an object: the choice's text, and its name, such as a letter."""


@dataclass(frozen=True)
class Choices:
    """Two or more choices."""

    texts: tuple[str, ...]
    names: tuple[str, ...] = ()
    """What the file calls each of them, where it says so: letters, keys or columns."""


def read_choices(row: Row, columns: str | list[str]) -> Choices:
    """The choices in one column (a list, an object, or lists of texts and labels) or in several.

    Nulls at the end, and columns that the row lacks there, are left out: a row may have fewer choices. Raises RowError
    for a choice that is blank, no text or there twice.
    """
    if isinstance(columns, list):
        texts: Sequence[object] = [
            _blank_is_null(value_of(row, column)) if has_column(row, column) else None for column in columns
        ]
        names: Sequence[object] = columns
    else:
        texts, names = _in_one_column(row, columns)
    texts = list(texts)
    while texts and texts[-1] is None:
        texts.pop()
    if len(texts) < 2:
        raise RowError(
            f"{_named(columns)} must hold two or more texts, got {shown(texts)}",
            "Write choices as a list, as an object of letters and texts, or in columns of their own.",
        )
    read = tuple(_text(value, place, columns) for place, value in enumerate(texts, start=1))
    for place, text in enumerate(read):
        first = next(i for i, other in enumerate(read) if _seen_as(other) == _seen_as(text))
        if first < place:
            raise RowError(
                f"choices {first + 1} and {place + 1} in {_named(columns)} are the same, {shown(text)}",
                "Give each question different choices.",
            )
    return Choices(read, tuple(str(name) for name in names[: len(read)]))


def _in_one_column(row: Row, column: str) -> tuple[Sequence[object], Sequence[object]]:
    """Texts and names."""
    value = structure_of(row, column)
    if isinstance(value, dict):
        texts = next((value[key] for key in TEXT_KEYS if isinstance(value.get(key), list)), None)
        if texts is None:
            # Parquet gives every row the keys of all rows, such as those of choices with numbers before A, B, C and D.
            held = list(dropwhile(lambda name: value[name] is None, value))
            return [value[name] for name in held], held
        return texts, _names(value, len(texts))
    if not isinstance(value, (list, tuple)):
        raise RowError(
            f"{column!r} must hold two or more texts, got {shown(value)}",
            "Write choices as a list, as an object of letters and texts, or in columns of their own.",
        )
    if any(isinstance(choice, dict) for choice in value):
        return _of_objects(value, column)
    parent = column.rpartition(".")[0]
    around = value_of(row, parent) if parent and has_column(row, parent) else None
    return value, _names(around, len(value)) if isinstance(around, dict) else ()


def _names(value: Row, count: int) -> Sequence[object]:
    lists = [value[key] for key in NAME_KEYS if isinstance(value.get(key), list) and len(value[key]) == count]
    return lists[0] if lists else ()


def _of_objects(value: Sequence[object], column: str) -> tuple[Sequence[object], Sequence[object]]:
    """Texts and names of a list of {label, text}."""
    choices = [choice for choice in value if isinstance(choice, dict)]
    text = next((key for key in TEXT_KEYS if all(key in choice for choice in choices)), None)
    if text is None or len(choices) < len(value):
        raise RowError(f"{column!r} must hold texts or objects of a label and a text, got {shown(value)}")
    name = next((key for key in NAME_KEYS if all(key in choice for choice in choices)), None)
    return [choice[text] for choice in choices], [choice[name] for choice in choices] if name else ()


def _text(value: object, place: int, columns: str | list[str]) -> str:
    text = scalar_text(value)
    where = f"choice {place} in {_named(columns)}"
    if text is None or not text.strip():
        got = "null" if value is None else shown(value)
        raise RowError(f"{where} must be a text, got {got}", "Give every choice a text.")
    return whole_characters(text, where)


def _seen_as(text: str) -> str:
    """A text as a reader sees it: an accented letter is one character or two."""
    return unicodedata.normalize("NFC", text).strip()


def _named(columns: str | list[str]) -> str:
    return ", ".join(map(repr, columns)) if isinstance(columns, list) else repr(columns)


def _blank_is_null(value: object) -> object:
    """The empty cell of a table as null; white space alone is no empty cell."""
    return None if value == "" else value
