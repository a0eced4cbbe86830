"""The blocks of a causal language model."""

from __future__ import annotations

import pytest
from helpers.families import tiny_family

from bench.models.blocks import find_blocks


@pytest.mark.parametrize(
    ("family", "path"),
    [
        ("llama", "model.layers"),
        ("gpt2", "transformer.h"),
        ("mpt", "transformer.blocks"),
        ("rwkv", "rwkv.blocks"),
        ("llama4_text", "model.layers"),
        ("opt", "model.decoder.layers"),
        ("gemma3", "model.language_model.layers"),
        ("git", "git.encoder.layer"),
    ],
)
def test_the_blocks_of_the_text_model_are_found(family: str, path: str) -> None:
    model = tiny_family(family)
    blocks = find_blocks(model)
    assert blocks is not None
    assert blocks.path == path
    assert blocks.layers is model.get_submodule(path)
    assert blocks.decoder is model.get_submodule(path.rpartition(".")[0])


def test_a_model_of_several_stacks_has_no_blocks() -> None:
    assert find_blocks(tiny_family("hrm_text")) is None
