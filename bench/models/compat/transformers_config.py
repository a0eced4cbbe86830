"""Private attributes of transformers' model configurations."""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedModel

from bench.models.compat import require

UPSTREAM = "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/configuration_utils.py"

require(
    hasattr(PreTrainedConfig, "_attn_implementation"), "transformers", "PreTrainedConfig._attn_implementation", UPSTREAM
)


def attention_implementation(model: PreTrainedModel) -> str | None:
    """The attention implementation that a loaded model uses: "sdpa", "eager", "flash_attention_2" ..."""
    return model.config._attn_implementation
