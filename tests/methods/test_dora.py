"""DoRA's norm from small products against PEFT's own forward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.training import cell_of
from transformers import AutoModelForCausalLM

from bench import methods
from bench.errors import UserError


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_algebraic_norm_is_pefts_dora(dropout: float, tiny_model: Path) -> None:
    """Forward and every gradient equal PEFT's own (fp32, 1e-5), away from the start and with dropout."""
    results = []
    for norm in ("algebraic", "peft"):
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        torch.manual_seed(1)
        model = methods.get("dora").attach(base, cell_of("dora", base, rank=4, norm=norm, dropout=dropout))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        torch.manual_seed(2)
        ids = torch.arange(24).reshape(2, 12) + 5
        out = model.train()(input_ids=ids, labels=ids)
        out.loss.backward()
        results.append((out.logits, {n: p.grad for n, p in model.named_parameters() if p.requires_grad}))
    (ours, our_gradients), (theirs, peft_gradients) = results
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert our_gradients.keys() == peft_gradients.keys()
    for name, gradient in peft_gradients.items():
        assert torch.allclose(our_gradients[name], gradient, atol=1e-5), name


def test_dora_is_the_identity_at_the_start_in_bfloat16(tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    ids = torch.arange(10)[None] + 5
    before = base(input_ids=ids).logits
    model = methods.get("dora").attach(base, cell_of("dora", base)).eval()
    assert torch.equal(model(input_ids=ids).logits, before)


def test_dora_refuses_a_base_with_a_row_of_zeros(tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    cell = cell_of("dora", base)
    base.model.layers[1].mlp.up_proj.weight.data[3] = 0
    with pytest.raises(UserError, match=r"rows of zeros in model\.layers\.1\.mlp\.up_proj"):
        methods.get("dora").attach(base, cell)
