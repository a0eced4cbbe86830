"""Models whose rotary frequencies depend on the length of the longest text of a batch (LongRoPE): scored and answering
as they do one text at a time."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from helpers.sweeps import tiny_tokenizer
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.models import rotary
from bench.models.compat.lm_eval import generation_request

CHANGE = 40
"""Tokens beyond which the frequencies are others."""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> PreTrainedModel:
    monkeypatch.setattr(rotary, "VIRTUAL_TOKENS", 4)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    scaling: dict[str, Any] = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0}
    scaling |= {"short_factor": [1.0] * 16, "long_factor": [4.0] * 16, "original_max_position_embeddings": CHANGE}
    config = AutoConfig.for_model(
        "phi3",
        **sizes,
        num_key_value_heads=2,
        vocab_size=300,
        max_position_embeddings=4 * CHANGE,
        original_max_position_embeddings=CHANGE,
        rope_parameters=scaling,
        pad_token_id=0,
    )
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def text(length: int) -> str:
    return "".join(random.Random(length).choices("abcdefgh", k=length))


def requests() -> list[Instance]:
    """Questions of several lengths, of which one has a choice below and one beyond the change."""
    made = []
    for number, length in enumerate((5, 12, CHANGE - 6, CHANGE - 2, CHANGE + 30)):
        for choice in (" yes", " of course not, never"):
            made.append(Instance("loglikelihood", {}, (text(length), choice), len(made), ("task", number, 1)))
    return made


def test_scores_are_hflms_one_by_one(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    reference = HFLM(model, tokenizer=tokenizer, batch_size=1, logits_cache=False, softmax_dtype="float32")
    expected = [value for value, _ in reference.loglikelihood(requests(), disable_tqdm=True)]
    scored = [value for value, _ in LanguageModel(model, tokenizer, share="any").loglikelihood(requests())]
    assert scored == pytest.approx(expected, abs=1e-3)
    monkeypatch.setattr(rotary, "alone_from", lambda config: None)
    together = [value for value, _ in LanguageModel(model, tokenizer, share="none").loglikelihood(requests())]
    assert max(abs(a - b) for a, b in zip(together, expected, strict=True)) > 0.01  # the lengths do matter


def test_answers_are_those_of_one_prompt_alone(model: PreTrainedModel) -> None:
    asked = [generation_request(text(length), {"max_gen_toks": 6}, length) for length in (8, 20, CHANGE, 70)]
    alone = [LanguageModel(model, tiny_tokenizer()).generate_until([request])[0] for request in asked]
    assert LanguageModel(model, tiny_tokenizer()).generate_until(asked) == alone


def test_other_models_take_batches_as_before() -> None:
    assert rotary.alone_from(AutoConfig.for_model("llama")) is None
    dynamic = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    config = AutoConfig.for_model("llama", max_position_embeddings=2048, rope_parameters=dynamic)
    assert rotary.alone_from(config) == 2048 - rotary.VIRTUAL_TOKENS
    layers = AutoConfig.for_model("gemma3_text")
    assert rotary.alone_from(layers) is None
