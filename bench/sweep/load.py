"""Sweep files (YAML): what they extend, overrides of the command line, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bench.errors import UserError
from bench.sweep.schema import Sweep, describe


def load_sweep(path: Path | str, overrides: tuple[str, ...] = ()) -> Sweep:
    """Read a sweep file, what it extends, and `key.path=value` overrides.

    Raises UserError, naming the file and the key, for anything that does not fit.
    """
    path = Path(path)
    raw = _read(path, ())
    for override in overrides:
        _override(raw, override)
    try:
        return Sweep.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error)}", "docs/sweep_file.md has every key with what it takes.") from None


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path} extends itself", "Remove one of the `extends` lines.")
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"there is no sweep file {path}", "Examples lie in configs/.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds no sweep", "A sweep file is a YAML mapping that opens with `name:`.")
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    return _merged(_read(path.parent / parent, (*seen, path.resolve())), raw)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; anything else is replaced."""
    both = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(both.get(key), dict):
            value = _merged(both[key], value)
        both[key] = value
    return both


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override!r} is not key=value", "For example: --set training.epochs=2")
    *parents, last = key.strip().split(".")
    at: Any = raw
    try:
        for part in parents:
            if isinstance(at, dict) and at.get(part) is None:  # a section that is off
                at[part] = {}
            at = at[int(part)] if isinstance(at, list) else at[part]
        value = yaml.safe_load(text)
        if isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value
    except (ValueError, IndexError, TypeError, AttributeError, yaml.YAMLError):
        raise UserError(
            f"--set {override!r} fits nowhere in the sweep",
            "A path into a list counts from 0: methods.0.rank=[4,8]",
        ) from None
