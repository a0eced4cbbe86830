"""Private marks that transformers puts on a model: quantized, indivisible layers, which attention it uses.

A GGUF file is dequantized while transformers loads it, but the model keeps the marks of a quantized one, and saving
would write them. Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/modeling_utils.py
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bench.models.compat import require

UPSTREAM = "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers"

require(
    hasattr(PreTrainedConfig, "_attn_implementation"),
    "transformers",
    "PreTrainedConfig._attn_implementation",
    f"{UPSTREAM}/configuration_utils.py",
)
require(
    hasattr(PreTrainedModel, "_no_split_modules"),
    "transformers",
    "PreTrainedModel._no_split_modules",
    f"{UPSTREAM}/modeling_utils.py",
)


def forget_run_settings(config: PreTrainedConfig) -> None:
    """Remove from a configuration, and from those within it, what some config.json say of how a model is run: its kind
    of attention, checkpointed gradients, and what a forward pass returns. The sweep says it. Changes it in place."""
    config.output_attentions = False  # before the kind of attention, which some do not go with
    config.output_hidden_states = False
    config.return_dict = True
    config._attn_implementation = None
    vars(config).pop("gradient_checkpointing", None)
    for part in vars(config).values():
        if isinstance(part, PreTrainedConfig):
            forget_run_settings(part)


def forget_quantization(model: PreTrainedModel) -> None:
    """Remove the marks of a quantized model from one whose weights are plain floats. Changes it in place."""
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        vars(model).pop(mark, None)
    model.hf_quantizer = None  # type: ignore[assignment]  # no submodule, which is all that torch declares
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def check_saved(folder: Path) -> None:
    """Raise IncompatibleLibrary if the saved model in the folder is marked as quantized."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    require(
        "quantization_config" not in config,
        "transformers",
        "the set of marks of a quantized model",
        f"{UPSTREAM}/quantizers/base.py",
    )


def attention_implementation(model: PreTrainedModel) -> str | None:
    """The attention implementation that a loaded model uses: "sdpa", "eager", "flash_attention_2" ..."""
    return model.config._attn_implementation


def layers_of(model: nn.Module, causal_lm: PreTrainedModel) -> list[nn.Module]:
    """The modules of `model` that the architecture says must not be split over devices."""
    names = causal_lm._no_split_modules or ()
    return [module for module in model.modules() if type(module).__name__ in names]
