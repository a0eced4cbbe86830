"""Rotary position embeddings whose frequencies change with the length of a text (LongRoPE, dynamic NTK scaling).

transformers chooses the frequencies of a whole batch by its longest text. Beside a text that is beyond the length at
which they change, a shorter one is computed otherwise than alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PretrainedConfig

VIRTUAL_TOKENS = 512
"""Positions that a method may put before a text: from so many below the length at which the frequencies change, a text
may be beyond it."""


def alone_from(config: PretrainedConfig) -> int | None:
    """The length in tokens from which each text must be computed alone; None where length changes no frequencies."""
    text_config = config.get_text_config()
    lengths = [_changes_at(settings, text_config) for settings in _rotary_settings(text_config)]
    changes = [length for length in lengths if length is not None]
    return max(1, min(changes) - VIRTUAL_TOKENS) if changes else None


def _rotary_settings(config: PretrainedConfig) -> list[Mapping[str, object]]:
    """The settings of a model's rotary embeddings: one, or one for each type of layer."""
    settings = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if any(isinstance(value, dict) for value in settings.values()):
        return [value for value in settings.values() if isinstance(value, dict)]
    return [settings]


def _changes_at(settings: Mapping[str, object], config: PretrainedConfig) -> int | None:
    kind = str(settings.get("rope_type", settings.get("type", "default")))
    if kind != "longrope" and "dynamic" not in kind:
        return None
    length = settings.get("original_max_position_embeddings") if kind == "longrope" else None
    return int(str(length or config.max_position_embeddings))
