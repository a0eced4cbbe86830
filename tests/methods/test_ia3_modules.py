"""IA3's default modules: PEFT's where it has some, else the keys, values and last feed-forward layers of the base."""

from __future__ import annotations

import pytest
import torch
from helpers.families import FAMILIES, tiny_config
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as BY_PEFT
from transformers import PreTrainedModel

from bench import methods
from bench.errors import UserError
from bench.methods.target_modules import adaptable_layers, is_named
from bench.models.load import build_model

WITHOUT = ("falcon_mamba", "mamba", "mamba2")
"""Families that have neither keys, values nor feed-forward networks."""


def skeleton_of(family: str) -> PreTrainedModel:
    with torch.device("meta"):
        return build_model(tiny_config(family))


def modules_of(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    configuration = methods.get("ia3").resolve({}, model)["peft"]
    return configuration["target_modules"], configuration["feedforward_modules"]  # type: ignore[call-overload, index]


@pytest.mark.parametrize(
    ("family", "modules", "feedforward"),
    [
        ("arcee", ["down_proj", "k_proj", "v_proj"], ["down_proj"]),
        ("deepseek_v3", ["down_proj", "kv_b_proj"], ["down_proj"]),
        ("phi3", ["down_proj", "qkv_proj"], ["down_proj"]),
        ("qwen3_moe", ["k_proj", "v_proj"], []),
        ("starcoder2", ["k_proj", "mlp.c_proj", "v_proj"], ["mlp.c_proj"]),
        ("mpt", ["Wqkv", "down_proj"], ["down_proj"]),
        ("rwkv", ["attention.key", "attention.value", "feed_forward.value"], ["feed_forward.value"]),
    ],
)
def test_modules_of_an_architecture_that_peft_has_none_for(
    family: str, modules: list[str], feedforward: list[str]
) -> None:
    targets, inputs = modules_of(skeleton_of(family))
    assert (sorted(targets), inputs) == (modules, feedforward)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "falcon"])
def test_modules_of_an_architecture_that_peft_knows_are_peft_s(family: str) -> None:
    model = skeleton_of(family)
    assert modules_of(model)[0] == sorted(BY_PEFT[model.config.model_type])


def test_of_a_model_that_reads_images_the_text_model_alone_is_scaled() -> None:
    targets, feedforward = modules_of(skeleton_of("gemma3"))
    assert targets and feedforward and not [name for name in targets if "vision" in name]
    # Whole paths, because the image encoder has layers of these names, too.
    assert all(".layers." in name for name in targets if name.endswith(("k_proj", "v_proj")))


def test_a_router_is_not_scaled() -> None:
    targets, _ = modules_of(skeleton_of("zaya"))
    assert targets and not [name for name in targets if ".gate." in name or name == "down_proj"]


@pytest.mark.parametrize("family", [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES])
def test_every_family_with_keys_and_values_has_modules(family: str) -> None:
    model = skeleton_of(family)
    if family in WITHOUT:
        with pytest.raises(UserError, match="no layers of keys, values or feed-forward"):
            modules_of(model)
        return
    targets, _ = modules_of(model)
    assert [path for path in adaptable_layers(model) if is_named(path, targets)]
