"""The formula of a cell's work, against torch's count of the products that are really computed."""

from __future__ import annotations

import pytest
import torch
from helpers.training import cell_of
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from bench import methods
from bench.costs import ModelFlops, matmul_speed
from bench.costs.flops import attended_pairs
from bench.models.hooks import HeadAt

ROWS, LENGTH = 3, 20


def model_of(layers: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def counted(model: torch.nn.Module, backward: bool) -> int:
    """FLOPs of one pass over ROWS rows with the head at 5 positions."""
    ids = torch.randint(0, 300, (ROWS, LENGTH))
    at = torch.tensor([[0, 0, 1, 2, 2], [3, 4, 5, 6, 7]])
    with FlopCounterMode(display=False) as counter:
        with HeadAt(model, at, LENGTH):
            logits = model(input_ids=ids, use_cache=False).logits
        if backward:
            logits.square().mean().backward()
    return counter.get_total_flops()


# Eager attention computes the masked half too.
WORK = (ROWS * LENGTH, 5, ROWS * LENGTH**2)


def test_scoring_and_full_fine_tuning_are_counted_to_the_last_product() -> None:
    base = model_of(2)
    assert counted(base.requires_grad_(False), backward=False) == ModelFlops.of(base).forward(*WORK)
    model = methods.get("full").attach(base, cell_of("full", base))
    total = sum(one.numel() for one in model.parameters())
    assert counted(model, backward=True) == ModelFlops.of(base, model, total).training(*WORK)


def test_lora_is_counted_but_for_the_first_layers_inputs() -> None:
    """The gradient of what enters the first layer is needed by nobody: less than 3 % of 16 layers."""
    skeleton, base = model_of(16), model_of(16)
    model = methods.get("lora").attach(base, cell_of("lora", base, rank=4, dropout=0.0))
    total = sum(one.numel() for one in model.parameters())
    formula = ModelFlops.of(skeleton, model, total).training(*WORK)
    assert 0.97 * formula < counted(model, backward=True) <= formula


def test_a_token_attends_to_those_before_it_and_to_itself() -> None:
    assert attended_pairs([4, 1]) == 1 + 2 + 3 + 4 + 1


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_the_speed_of_a_product_is_a_speed(dtype: str) -> None:
    assert 1e8 < matmul_speed(dtype) < 1e17
