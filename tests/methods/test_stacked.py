"""An edit of hidden states over a change of weights: `loreft+lora`."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.training import cell_of
from transformers import AutoModelForCausalLM

from bench import methods


@pytest.mark.parametrize("weights", ["lora", "dora"])
def test_parameters_of_a_pair_add_up(weights: str, tiny_model: Path) -> None:
    counts = []
    for name, settings in (("loreft", {"rank": 4}), (weights, {"rank": 4}), (f"loreft+{weights}", {"rank": 4})):
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        model = methods.get(name).attach(base, cell_of(name, base, **settings))
        counts.append(sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad))
    assert counts[0] + counts[1] == counts[2]


def test_each_part_of_a_pair_learns_at_its_own_rate(tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    cell = cell_of("loreft+lora_plus", base, loreft={"lr": 2e-3}, lora_plus={"lr": 1e-4})
    model = methods.get("loreft+lora_plus").attach(base, cell)
    groups = methods.get("loreft+lora_plus").optimizer(model, cell).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            expected = 16e-4 if "lora_B" in name else 1e-4 if "lora_A" in name else 2e-3
            assert rates.pop(id(parameter)) == pytest.approx(expected), name
    assert not rates
