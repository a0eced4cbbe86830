"""Which modules an adapter is put on."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM

from bench.methods.target_modules import linear_layers


def test_auto_targets_every_linear_layer_but_the_head(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert linear_layers(model) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
