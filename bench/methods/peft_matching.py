"""Settings of a PEFT configuration that name parts of a model, and match none of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.methods.target_modules import is_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue
    from transformers import PreTrainedModel


def check_matches(configuration: Mapping[str, JsonValue], model: PreTrainedModel, method: str) -> None:
    """Raises UserError for an entry of a setting that matches nothing in the model: PEFT ignores most of them, some
    with a warning."""
    from bench.models.blocks import find_blocks

    paths = [path for path, _ in model.named_modules() if path]
    targeted = [path for path in paths if _is_matched(path, configuration.get("target_modules"))]
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = configuration.get(name)
        for pattern in patterns if isinstance(patterns, dict) else ():
            # As PEFT matches them (peft.utils.get_pattern_key).
            if not any(re.match(rf"(.*\.)?({pattern})$", path) for path in targeted):
                raise _unmatched(method, name, pattern, "no module that is adapted has this name")
    for name in ("modules_to_save", "exclude_modules"):
        for entry in _entries(configuration.get(name)):
            within = targeted if name == "exclude_modules" else paths
            if not any(_is_matched(path, entry if isinstance(entry, str) else None) for path in within):
                raise _unmatched(method, name, entry, "no module of the base has this name")
    blocks = find_blocks(model)
    for index in _entries(configuration.get("layers_to_transform")):
        if blocks is not None and not (isinstance(index, int) and 0 <= index < len(blocks.layers)):
            raise _unmatched(method, "layers_to_transform", index, f"the base has layers 0 to {len(blocks.layers) - 1}")


def _entries(setting: JsonValue) -> list[JsonValue]:
    return setting if isinstance(setting, list) else [] if setting is None else [setting]


def _is_matched(path: str, targets: JsonValue) -> bool:
    """Whether names, or a pattern, match a module's path, as PEFT has it."""
    if isinstance(targets, str):
        return targets == "all-linear" or is_named(path, [targets]) or re.fullmatch(targets, path) is not None
    return isinstance(targets, list) and is_named(path, [str(target) for target in targets])


def _unmatched(method: str, setting: str, entry: object, reason: str) -> UserError:
    return UserError(f"method {method}: {setting}: {entry!r} matches nothing: {reason}", "Correct it, or leave it out.")
