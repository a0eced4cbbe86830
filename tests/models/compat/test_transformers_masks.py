"""Masks made from what the host knows of a batch equal those that transformers makes by looking."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

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
