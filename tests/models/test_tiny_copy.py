"""Tiny copies of bases: the same kinds of layers, for every decoder family."""

from __future__ import annotations

import re

import pytest
import torch
from helpers.families import FAMILIES, tiny_config
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from bench.models.load import load_skeleton
from bench.models.tiny_copy import MOST_PARAMETERS, tiny_copy

FAST = ("llama", "gpt2", "gpt_neox", "qwen3_moe", "gemma3_text", "mamba", "falcon", "bloom")
NO_COPY = frozenset(["mllama", "emu3"])
"""Families whose sizes do not shrink together."""


def kinds(model: PreTrainedModel) -> set[tuple[str, type[nn.Module]]]:
    """Places of modules, without the numbers in them, with their classes."""
    return {(re.sub(r"\d+", "#", path), type(module)) for path, module in model.named_modules()}


def published_or_tiny(name: str) -> PreTrainedModel:
    """A family's model without weights at its default sizes; of a family whose defaults make no model, a tiny one."""
    with torch.device("meta"):
        try:
            skeleton = AutoModelForCausalLM.from_config(CONFIG_MAPPING[name]())
            skeleton(input_ids=torch.zeros((1, 4), dtype=torch.long))
        except Exception:
            return AutoModelForCausalLM.from_config(tiny_config(name))
        return skeleton


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in FAMILIES])
def test_the_copy_of_a_family_has_each_kind_of_module(name: str) -> None:
    skeleton = published_or_tiny(name)
    copy = tiny_copy(skeleton, 260)
    assert (copy is None) == (name in NO_COPY)
    if copy is None:
        return
    assert kinds(copy) == kinds(skeleton)
    assert sum(parameter.numel() for parameter in copy.parameters()) <= MOST_PARAMETERS
    assert copy.get_input_embeddings().num_embeddings <= 260
    assert torch.isfinite(copy(input_ids=torch.arange(24)[None] % 260).logits).all()


def test_a_copy_keeps_what_methods_ask_of_a_model() -> None:
    """Tied embeddings, the number of heads, grouped keys and values, and, where a setting picks layers, all layers."""
    skeleton = load_skeleton("meta-llama/Llama-3.1-8B")
    copy, deep = tiny_copy(skeleton, 260), tiny_copy(skeleton, 260, all_layers=True)
    assert copy.config.num_attention_heads == 32 and copy.config.num_key_value_heads == 8
    assert copy.config.hidden_size == 32 * copy.config.head_dim
    assert copy.config.num_hidden_layers == 2 and deep.config.num_hidden_layers == 32
    assert load_skeleton("smollm2-135m-instruct").config.tie_word_embeddings
    tied = tiny_copy(load_skeleton("smollm2-135m-instruct"), 260)
    assert tied.get_input_embeddings().weight is tied.get_output_embeddings().weight


def test_a_router_that_begins_with_zeros_has_the_random_values_of_a_trained_one() -> None:
    """DoRA divides by the norm of each row: a copy of zeros would refuse it on a base that has none."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(tiny_config("afmoe"))
    assert not AutoModelForCausalLM.from_config(tiny_config("afmoe")).model.layers[1].mlp.router.gate.weight.any()
    copy = tiny_copy(skeleton, 260)
    assert copy is not None
    assert [name for name, value in copy.named_parameters() if value.ndim > 1 and not value.any()] == []
