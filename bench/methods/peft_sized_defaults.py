"""Defaults of PEFT types that depend on the base model's sizes or architecture.

Each function takes the model on the meta device and the settings chosen so far, and returns further settings.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue
    from transformers import PreTrainedModel

    from bench.sweep.cell import Settings


def most_layers(model: PreTrainedModel, chosen: Settings) -> Settings:
    """LLaMA-Adapter: 30 of 32 layers, from the top (arXiv 2303.16199, section 4.1)."""
    return {"adapter_layers": max(1, model.config.get_text_config().num_hidden_layers - 2)}


KEYS_AND_VALUES = (
    *("k_proj", "v_proj", "qkv_proj", "kv_proj", "kv_b_proj", "query_key_value", "Wqkv", "c_attn", "Wk", "Wv"),
    *(f"{attention}.{name}" for attention in ("attention", "self_attention", "self") for name in ("key", "value")),
    *("mlstm_layer.k", "mlstm_layer.v", "v_proj_current", "v_proj_delayed"),
)
"""Ends of the paths of layers that make keys and values, in the architectures of transformers."""
FEEDFORWARD = (
    *("down_proj", "fc2", "w2", "dense_4h_to_h", "fc_out", "mlp.c_proj", "mlp.Wo", "output_linear", "proj_down"),
    *("feed_forward.value", "feed_forward.output.dense"),
)
"""Those of the last layers of feed-forward networks."""
ROUTERS = frozenset({"router", "gate"})


def ia3_modules(model: PreTrainedModel, chosen: Settings) -> Settings:
    """IA3's modules: keys, values and the inputs of the last feed-forward layer (arXiv 2205.05638, section 3.3).

    They are PEFT's for an architecture that its mapping has, and those with the names of such layers for another one.
    Raises UserError if there are none.
    """
    from peft.utils import constants

    architecture = model.config.model_type
    given: JsonValue = chosen.get("target_modules")
    by_peft: list[JsonValue] = list(constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(architecture, []))
    feedforward: list[str] = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(architecture) or []
    targets = given or by_peft
    if not targets:
        feedforward = _ends_of_layers(model, FEEDFORWARD)
        targets = [*_ends_of_layers(model, KEYS_AND_VALUES), *feedforward]
    if not targets:
        raise UserError(
            f"method ia3: a model of the type {architecture} has no layers of keys, values or feed-forward networks "
            "that are known here",
            "Name layers: peft: {target_modules: [...], feedforward_modules: [...]}.",
        )
    within = targets if isinstance(targets, (list, str)) else ()
    return {"target_modules": targets, "feedforward_modules": [name for name in feedforward if name in within]}


def _ends_of_layers(model: PreTrainedModel, ends: Sequence[str]) -> list[str]:
    """Those of the ends of paths that layers of the text model have; their whole paths where other modules, such as a
    router's or an image encoder's layers, have the same ends."""
    from bench.methods.target_modules import adaptable_layers, is_named

    layers = [path for path in adaptable_layers(model) if ROUTERS.isdisjoint(path.split("."))]
    modules = [path for path, _ in model.named_modules()]
    names: list[str] = []
    for end in ends:
        named = [path for path in layers if is_named(path, [end])]
        others = len(named) < sum(is_named(path, [end]) for path in modules)
        names += named if others else [end] if named else []
    return names


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
