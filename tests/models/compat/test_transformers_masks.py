"""Masks made from what the host knows of a batch equal those that transformers makes by looking."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, MistralConfig
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    create_causal_mask,
    create_sliding_window_causal_mask,
    sdpa_mask,
)

from bench.models.compat.transformers_masks import KnownPadding


@pytest.mark.parametrize("padded", [False, True])
def test_the_logits_are_those_of_transformers_own_masks(padded: bool, tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="sdpa").eval()
    ids = torch.arange(12).reshape(2, 6)
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 4:] = 0
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).logits
        with KnownPadding(padded):
            assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is not sdpa_mask
            logits = model(input_ids=ids, attention_mask=mask).logits
    assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask
    # The same kernels on an equal mask, or on none if nothing is masked: equal within float32's error at real tokens.
    torch.testing.assert_close(logits[mask.bool()], expected[mask.bool()], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("cached", [0, 5])
def test_masks_are_transformers_own(padded: bool, cached: int) -> None:
    """With and without a sliding window, virtual tokens in the cache (prefix tuning) or not; bit for bit."""
    torch.manual_seed(0)
    config = MistralConfig(hidden_size=32, num_attention_heads=4, sliding_window=4, attn_implementation="sdpa")
    mask = torch.ones(3, cached + 8, dtype=torch.long)
    if padded:
        mask[1, -3:] = 0
    for make in (create_causal_mask, create_sliding_window_causal_mask):
        cache = DynamicCache()
        if cached:
            cache.update(torch.zeros(3, 4, cached, 8), torch.zeros(3, 4, cached, 8), 0)
        theirs = make(config, torch.zeros(3, 8, 32), mask, cache if cached else None)
        with KnownPadding(padded):
            ours = make(config, torch.zeros(3, 8, 32), mask, cache if cached else None)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    assert make(config, torch.zeros(3, 2, 32), mask[:, :2], None) is None  # as before, once it is over
