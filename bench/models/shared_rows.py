"""Which models take several texts in one row without letting them see one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PLAIN_CAUSAL = {"llama", "olmo", "olmo2", "qwen2", "qwen3", "granite", "smollm3"}
"""Architectures in which a token's output follows from its position and from what it attends to alone. In others
(sliding windows, recurrent layers, ALiBi) texts that share a row could leak into one another."""


def shares_rows(config: PretrainedConfig) -> bool:
    """True if an attention mask can keep the texts in one row of such a model apart."""
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return config.model_type in PLAIN_CAUSAL and not windowed
