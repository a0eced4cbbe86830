"""The same text alone and in a batch, on kinds of attention that treat padding differently."""

from __future__ import annotations

import pytest
from helpers.families import tiny_family
from helpers.sweeps import tiny_tokenizer
from helpers.training import cell_of
from lm_eval.api.instance import Instance

from bench import methods
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.models.compat.lm_eval import generation_request

PROMPTS = ("Yes", "A prompt that is much longer than a window of sixteen tokens is", "What is this?")
FAMILIES = ("llama", "mistral", "gpt_oss", "bloom", "mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "openai-gpt")
WINDOWED = ("mistral", "gpt_oss", "llama4_text", "phi3", "cohere2", "starcoder2")


def requests() -> list[Instance]:
    kwargs = {"max_gen_toks": 8, "until": []}
    return [generation_request(prompt, kwargs, number) for number, prompt in enumerate(PROMPTS)]


def check_texts(family: str, method: str) -> None:
    model = tiny_family(family)
    for parameter in model.parameters():
        parameter.data *= 3  # so that the texts depend on the prompts
    if method != "base":
        model = methods.get(method).attach(model, cell_of(method, model))
    facts = methods.METHODS[method].facts
    lm = LanguageModel(model.eval(), tiny_tokenizer(), 8, facts.shared_prefix, pads_left=facts.pads_left)
    together = lm.generate_until(requests())
    assert together == [lm.generate_until([request])[0] for request in requests()]
    assert any(together)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_writes_the_same_text_alone_and_in_a_batch(family: str) -> None:
    check_texts(family, "base")


@pytest.mark.parametrize("family", WINDOWED)
def test_padding_does_not_push_a_prefix_out_of_a_window(family: str) -> None:
    check_texts(family, "prefix")
