"""The tiny models of the decoder families, on which other tests run: each is causal, small and reloads as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.families import FAMILIES, FAST_FAMILIES, LEFT_OUT, save_family, tiny_config, tiny_family
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from bench.errors import UserError
from bench.models.load import load_model, load_tokenizer
from bench.models.locate import find_base

LENGTH = 40
"""Tokens: more than two windows of 16."""


def test_every_model_type_of_transformers_is_a_family_or_left_out_with_a_reason() -> None:
    assert {*FAMILIES, *LEFT_OUT} == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert len(FAMILIES) >= 140
    assert all(LEFT_OUT.values())
    assert set(FAST_FAMILIES) <= set(FAMILIES)


@pytest.mark.parametrize(
    "name", [name if name in FAST_FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_tiny_model_is_causal_and_small(name: str) -> None:
    model = tiny_family(name)
    text = torch.arange(3, 3 + LENGTH)[None]
    other = text.clone()
    other[0, -1] = 9
    with torch.no_grad():
        logits, changed = model(input_ids=text).logits, model(input_ids=other).logits
    assert logits.shape == (1, LENGTH, model.config.get_text_config().vocab_size)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[:, :-1], changed[:, :-1], rtol=0, atol=1e-5)
    assert not torch.equal(logits[:, -1], changed[:, -1])
    assert sum(parameter.numel() for parameter in model.parameters()) < 3_000_000


def test_a_family_has_a_layer_of_each_kind() -> None:
    assert tiny_config("gemma3_text").layer_types == ["sliding_attention", "full_attention"]
    assert set(tiny_config("qwen3_next").layer_types) == {"linear_attention", "full_attention"}
    assert tiny_config("gemma3").get_text_config().sliding_window == 16


def test_a_saved_family_has_weights_and_a_tokenizer_that_fit(tmp_path: Path) -> None:
    folder = save_family("mistral", tmp_path)
    tokens = AutoTokenizer.from_pretrained(folder)("Nine is odd.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(tokens).logits
        assert torch.equal(logits, tiny_family("mistral")(tokens).logits)


def test_weights_of_another_vocabulary_are_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = save_family("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))
    with pytest.raises(UserError, match=r"do not fit its config.json: .* for \[300, 32\] of another shape"):
        load_model(find_base(str(folder)), "float32")


def test_a_tokenizer_without_an_end_of_text_token_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = save_family("llama", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="has no end-of-text token"):
        load_tokenizer(find_base(str(folder)))
