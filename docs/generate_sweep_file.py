"""Writes docs/sweep_file.md, the reference of sweep files, from the classes that read them.

    python docs/generate_sweep_file.py

The page is made from the fields themselves and not from pydantic's JSON Schema, which writes a setting that may be one
value or a list, and a bound that excludes its end, in ways that no reader would.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bench.sweep.schema import SECTIONS

HEAD = """\
# The sweep file

One YAML file is a sweep. Every list in `methods`, `training`, `samples`, `seeds` and `base_model` multiplies; an
unknown key is an error that names the nearest known one. `--set KEY=VALUE` overrides a setting by its dotted key
(`--set training.epochs=2`), and `extends: other.yaml` builds on another file. `bench plan FILE` says what it comes to.
The settings of each method are in [methods.md](methods.md).

This page is made from the code: `python docs/generate_sweep_file.py`.
"""
PRIMITIVES = {int: "a whole number", float: "a number", str: "text", bool: "true, false"}


def page() -> str:
    """The whole page (Markdown)."""
    parts = [HEAD]
    for key, model in SECTIONS.items():
        description = " ".join((model.__doc__ or "").split())
        parts.append(f"## {f'`{key}`' if key else 'Top level'}\n\n{description}\n")
        rows = ["| key | takes | default | |", "|---|---|---|---|"]
        rows += [f"| {' | '.join(row)} |" for row in _rows(model)]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _rows(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        description = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"`{name}`", _takes(field), _default(field), description


def _takes(field: FieldInfo) -> str:
    """The type of a value in words, with its bounds."""
    return _words(field.annotation) + _bounds(field.metadata)


def _bounds(metadata: Iterable[object]) -> str:
    """The bounds of a number, in words."""
    bounds = []
    for constraint in metadata:
        if isinstance(constraint, FieldInfo):
            return _bounds(constraint.metadata)
        for attribute, words in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
            limit = getattr(constraint, attribute, None)
            if limit is not None:
                bounds.append(f"{words} {f'{limit:,}' if isinstance(limit, int) else f'{limit:g}'}")
    return f" {' '.join(bounds)}" if bounds else ""


def _words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0]) + _bounds(inner[1:])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in inner if part is not type(None))
    if origin in (tuple, list):
        return f"one or a list: {_words(inner[0])}"
    if origin is dict:
        return "a mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section, below"
    return PRIMITIVES[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value in ({}, ""):
        return ""
    values = value if isinstance(value, tuple) else (value,)
    return ", ".join(
        f"`{str(item).lower() if isinstance(item, bool) else f'{item:g}' if isinstance(item, float) else item}`"
        for item in values
    )


if __name__ == "__main__":
    Path(__file__).with_name("sweep_file.md").write_text(page(), encoding="utf-8")
