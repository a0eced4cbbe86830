"""A tiny model that answers differently to different prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.generation import load


@pytest.fixture(scope="session")
def sharp(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model with louder layers: it says different things after different prompts."""
    folder = tmp_path_factory.mktemp("sharp")
    model, tokenizer = load(tiny_model)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(30)
            layer.mlp.down_proj.weight.mul_(30)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
