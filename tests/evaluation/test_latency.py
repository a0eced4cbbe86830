"""Timed answers: equal work for every model, whatever it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.evaluation.generation import generate_exactly
from bench.evaluation.latency import time_generation
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.evaluation.workload import LATENCY_PROMPT_TOKENS


@pytest.fixture
def lm(tiny_model: Path) -> LanguageModel:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    return LanguageModel(model, AutoTokenizer.from_pretrained(tiny_model))


def test_every_row_gets_so_many_tokens_though_its_text_has_ended(lm: LanguageModel) -> None:
    model, prompts = lm.model, [[5, 6, 7], [8, 9, 10]]
    theirs = model.generate(
        input_ids=lm.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")["input_ids"],
        min_new_tokens=12,
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=None,
    )
    assert generate_exactly(lm, prompts, 12) == theirs[:, 3:].tolist()
    # A model that says nothing but its end-of-text token.
    first = generate_exactly(lm, prompts[:1], 1)[0][0]
    model.generation_config.eos_token_id = lm.tokenizer.eos_token_id = first
    assert len(generate_exactly(lm, prompts[:1], 9)[0]) == 9


def test_the_figures_are_those_of_the_clock(lm: LanguageModel) -> None:
    progress: list[int] = []
    timings = time_generation(lm, ["Some text to answer, long enough."], lambda done, *_: progress.append(done))
    assert set(timings) == {1, 8} and progress == [1, 2, 3, 4, 5, 6]
    for batch, timing in timings.items():
        assert timing.tokens_per_second == pytest.approx(64 * batch / timing.seconds, rel=0.02)
        assert timing.prompt_tokens == LATENCY_PROMPT_TOKENS
