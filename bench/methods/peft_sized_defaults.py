"""Defaults of PEFT types that depend on the base model's sizes or architecture.

Each function takes the model on the meta device and the settings chosen so far, and returns further settings.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue
    from transformers import PreTrainedModel

    from bench.sweep.cell import Settings


def most_layers(model: PreTrainedModel, chosen: Settings) -> Settings:
    """LLaMA-Adapter: 30 of 32 layers, from the top (arXiv 2303.16199, section 4.1)."""
    return {"adapter_layers": max(1, model.config.get_text_config().num_hidden_layers - 2)}


def ia3_modules(model: PreTrainedModel, chosen: Settings) -> Settings:
    """IA3's modules. PEFT would set them when it attaches; they are set here so that they are part of the cell."""
    from peft.utils import constants

    architecture = model.config.model_type
    given: JsonValue = chosen.get("target_modules")
    by_peft: list[JsonValue] = list(constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(architecture, []))
    targets = given or by_peft or None
    feedforward: list[str] = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(architecture) or []
    within = targets if isinstance(targets, (list, str)) else ()
    return {"target_modules": targets, "feedforward_modules": [name for name in feedforward if name in within]}


def _common_divisor(model: PreTrainedModel) -> int:
    """The largest number that divides both sides of every linear layer."""
    from bench.methods.target_modules import linear_layers, targeted_weights

    weights = targeted_weights(model, linear_layers(model))
    return math.gcd(*(side for weight in weights.values() for side in weight.shape))


def block_that_divides(model: PreTrainedModel, chosen: Settings) -> Settings:
    """C3A's blocks, as large as every layer permits."""
    return {"block_size": _common_divisor(model)}


def vector_that_divides(model: PreTrainedModel, chosen: Settings) -> Settings:
    """VB-LoRA's vectors: of length 256 in its paper, whose models have sides that 256 divides."""
    return {"vector_length": math.gcd(256, _common_divisor(model))}
