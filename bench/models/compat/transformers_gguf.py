"""A model that transformers has read from a GGUF file, turned into a plain model of floats.

transformers dequantizes such a file while it loads it, but keeps the marks of a quantized model, and saving would write
them. Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/modeling_utils.py
"""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedModel

from bench.models.compat import require


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
        "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/quantizers/base.py",
    )
