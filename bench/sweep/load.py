"""Reads sweep files (YAML), the files that they extend, and overrides of the command line."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue, ValidationError

from bench.errors import UserError
from bench.sweep.cell import Settings
from bench.sweep.schema import Sweep, describe
from bench.sweep.yaml12 import MAX_CHARACTERS, parse_yaml

SHORT_FORMS = {"base_model": "id", "methods": "method"}
"""Where a text is short for a mapping of one key: `base_model: gpt2` is `base_model: {id: gpt2}`."""


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


def _read(path: Path, seen: tuple[Path, ...]) -> Settings:
    if path.resolve() in seen:
        raise UserError(f"{path} extends itself", "Remove one of the `extends` lines.")
    try:
        with path.open(encoding="utf-8-sig") as file:
            raw = parse_yaml(file.read(MAX_CHARACTERS + 1))
    except FileNotFoundError:
        raise UserError(f"there is no sweep file {path}", "Examples lie in configs/.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", "Give a file of YAML in UTF-8.") from None
    except ValueError as error:
        raise UserError(f"{path} is not a sweep file: {error}", "It must be YAML 1.2.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds no sweep", "A sweep file is a YAML mapping that opens with `name:`.")
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    if not isinstance(parent, str):
        raise UserError(f"{path}: extends names no file", "Give the path of one sweep file: extends: other.yaml")
    return _merged(_read(path.parent / Path(parent).expanduser(), (*seen, path.resolve())), raw)


def _merged(below: Settings, above: Settings) -> Settings:
    """Mappings are merged key by key; anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(value, dict) and isinstance(old, dict) else value
    return merged


def _override(raw: Settings, override: str) -> None:
    """Set one `key.path=value`; a path into a list counts from 0."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override!r} is not key=value", "For example: --set training.epochs=2")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise UserError(
            f"--set {override!r}: its value is not YAML: {error}", f"A text may need quotes: --set '{key}=\"...\"'"
        ) from None
    *parents, last = key.strip().split(".")
    at: JsonValue = raw
    try:
        for depth, part in enumerate(parents):
            if isinstance(at, dict) and at.get(part) is None:  # a section that is off
                at[part] = {}
            has_short_form = depth == 0 or (depth == 1 and isinstance(at, list))  # a base or method, no setting of one
            at = _in_full(at, part, SHORT_FORMS.get(parents[0]) if has_short_form else None)
        if isinstance(at, list):
            at[int(last)] = value
        elif isinstance(at, dict):
            at[last] = value
        else:
            raise TypeError
    except (ValueError, IndexError, TypeError, AttributeError):
        raise UserError(
            f"--set {override!r} fits nowhere in the sweep",
            "A path into a list counts from 0: methods.0.rank=[4,8]",
        ) from None


def _in_full(at: JsonValue, part: str, key: str | None) -> JsonValue:
    """An item of a list or a mapping; a text that is short for a mapping of one `key` becomes that. Raises like
    `_child`."""
    child = _child(at, part)
    if key is None or not isinstance(child, str):
        return child
    full: JsonValue = {key: child}
    if isinstance(at, list):
        at[int(part)] = full
    elif isinstance(at, dict):
        at[part] = full
    return full


def _child(value: JsonValue, part: str) -> JsonValue:
    """An item of a list or a mapping. Raises KeyError, IndexError, ValueError or TypeError."""
    if isinstance(value, list):
        return value[int(part)]
    if isinstance(value, dict):
        return value[part]
    raise TypeError
