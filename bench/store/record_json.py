"""Records as JSON text: read with a clear error, brought up to date where an older version wrote them, and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue, ValidationError

from bench.errors import UserError
from bench.store.damage import RESTORE, CorruptFile, reason_of
from bench.store.migrate import Content, migrated
from bench.store.records import SCHEMA, Record
from bench.sweep.cell import Cell
from bench.sweep.schema import describe

RecordType = TypeVar("RecordType", bound=Record)


class NewerSchema(UserError):
    """A file that a newer version of bench wrote."""


def read_record(path: Path, text: str | None, kind: type[RecordType], fix: str = RESTORE) -> RecordType | None:
    """The content of a file as a record, brought up to date where an older version wrote it; None without a file.

    Raises CorruptFile, which names the file, if the text is no such record, and NewerSchema if a newer version wrote
    it. `fix`: what to do about a corrupt one.
    """
    return None if text is None else parse_record(path, text, kind, fix)


def parse_record(path: Path, text: str, kind: type[RecordType], fix: str = RESTORE) -> RecordType:
    """As `read_record`, of a text that is there."""
    try:
        content = migrated(_content(path, text), kind)
        if missing := [key for key in kind.KEYS if key not in content]:
            raise ValueError(f"it has no {missing[0]}")
        return _without_unknown_keys(content, kind)
    except (ValueError, TypeError, RecursionError) as error:
        raise _corrupt(path, error, fix) from None


def _without_unknown_keys(content: Content, kind: type[RecordType]) -> RecordType:
    """A key that the record has not (somebody's note) is no reason to distrust the rest of a file."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        unknown = [problem["loc"] for problem in error.errors() if problem["type"] == "extra_forbidden"]
        if len(unknown) < error.error_count():
            raise
    for *parents, key in unknown:
        holder: Any = content
        for parent in parents:
            holder = holder[parent]
        del holder[key]
    return kind.model_validate(content)


def parse_cell(path: Path, text: str) -> Cell:
    """The cell that a cell.json holds. Raises as `read_record` does."""
    try:
        content = _content(path, text)
        content.pop("schema", None)
        return Cell.model_validate(content)
    except (ValueError, TypeError, RecursionError) as error:
        raise _corrupt(path, error) from None


def content_of(record: Record) -> dict[str, Any]:
    """A record as its JSON file holds it: fields that are None are left out."""
    return record.model_dump(mode="json", by_alias=True, exclude_none=True)


def content_of_cell(cell: Cell) -> dict[str, Any]:
    """A cell as cell.json holds it. The schema's number is no part of the cell, so its hash does not depend on it."""
    return {"schema": SCHEMA, **cell.model_dump(mode="json")}


def check_schema(path: Path, schema: object) -> None:
    """Raise NewerSchema for the schema number of a newer version, and ValueError for what is no number."""
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise ValueError(f"its schema is {schema!r}, which is not a number")
    if schema > SCHEMA:
        raise NewerSchema(
            f"{path} was written by a newer version of bench (schema {schema}; this version reads up to {SCHEMA})",
            "Upgrade bench, or choose another --results folder.",
        )


def _content(path: Path, text: str) -> Content:
    content = parse_stored_json(text)
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    check_schema(path, content.get("schema", 1))
    return content


def parse_stored_json(text: str) -> JsonValue:
    """The value of a JSON text. Raises ValueError, also for an integer that no table can hold."""
    value: JsonValue = json.loads(text, parse_int=_integer)
    return value


def _integer(digits: str) -> int:
    number = int(digits)
    if abs(number) >= 2**63:
        raise ValueError(f"the number {digits[:20]}... has more than 64 bits")
    return number


def _corrupt(path: Path, error: Exception, fix: str = RESTORE) -> CorruptFile:
    reason = describe(error).split("; ")[0] if isinstance(error, ValidationError) else reason_of(path, error)
    return CorruptFile(path, reason, fix)
