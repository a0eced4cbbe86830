"""What sharded parameters would lose is refused before a process group is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.training import cell_of
from transformers import AutoModelForCausalLM

from bench import methods
from bench.errors import CellProblem
from bench.training.sharding import shard_model


def attached(method: str, tiny: Path) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(tiny)
    return methods.get(method).attach(model, cell_of(method, model))


def test_what_sharding_would_break_is_refused(tiny_model: Path) -> None:
    """CPT and OSF change gradients by hooks, VB-LoRA's bank serves all layers; neither reaches the process group."""
    for method, why in (("cpt", "hooks"), ("osf", "hooks"), ("vblora", "layers share")):
        with pytest.raises(CellProblem, match=f"{method} cannot be trained sharded.*{why}"):
            shard_model(attached(method, tiny_model), 2, method)
