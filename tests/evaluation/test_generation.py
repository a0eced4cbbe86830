"""The decoder against transformers' own `generate`, one prompt at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.generation import TOKENS, load, one_by_one
from helpers.sweeps import make_tiny_model
from helpers.training import trained

from bench import methods
from bench.data.encoding import encode_pair
from bench.errors import Diverged
from bench.evaluation import generation
from bench.evaluation.batch_limit import BatchLimit
from bench.evaluation.prefix_sharing_lm import LanguageModel

PROMPTS = [
    "Question: what is 3?\nAnswer:",
    "Question: what is 12345?\nAnswer:",
    "Name it.",
    "A longer one: " + "ab " * 9,
]
PROMPTS += ["Name it!", "Is it so? "]


def requests(prompts: list[str], **kwargs: Any) -> list[Any]:
    from lm_eval.api.instance import Instance

    kwargs = {"until": [], "max_gen_toks": TOKENS, "do_sample": False, **kwargs}
    return [Instance("generate_until", {}, (prompt, dict(kwargs)), i) for i, prompt in enumerate(prompts)]


class Spy:
    """The new tokens that the decoder comes to, by prompt, and the shape (rows, tokens) of each forward pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
        self.tokens: dict[tuple[int, ...], list[int]] = {}
        self.passes: list[tuple[int, int]] = []
        inner = generation.decode_batch

        def generate(lm: Any, prompts: list[list[int]], *rest: Any, **more: Any) -> list[list[int]]:
            made = inner(lm, prompts, *rest, **more)
            for prompt, new in zip(prompts, made, strict=True):
                self.tokens[tuple(prompt)] = new
            return made

        def count(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            self.passes.append(tuple(kwargs["input_ids"].shape))

        monkeypatch.setattr(generation, "decode_batch", generate)
        model.register_forward_pre_hook(count, with_kwargs=True)


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_batches_are_one_by_one_token_for_token(rows: int, sharp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy with left padding in float32 against `generate` at batch 1."""
    model, tokenizer = load(sharp)
    theirs = one_by_one(model, tokenizer, PROMPTS)
    assert len({tuple(new) for new in theirs}) == len(PROMPTS)  # else equal answers would prove nothing
    spy = Spy(monkeypatch, model)
    done = []
    texts = generation.generate_until(
        LanguageModel(model, tokenizer, rows),
        requests(PROMPTS),
        BatchLimit(10_000, rows),
        advance=lambda *progress: done.append(progress),
    )
    assert [spy.tokens[tuple(tokenizer.encode(prompt))] for prompt in PROMPTS] == theirs
    assert texts == [tokenizer.decode(new, skip_special_tokens=True) for new in theirs]
    assert done[-1] == (len(PROMPTS), len(PROMPTS), "prompts")
    assert spy.passes[0][0] == min(rows, len(PROMPTS))


def test_a_batch_holds_as_many_tokens_as_it_may(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load(tiny_model)
    spy = Spy(monkeypatch, model)
    generation.generate_until(LanguageModel(model, tokenizer, 16), requests(PROMPTS), BatchLimit(120))
    firsts = [shape for shape in spy.passes if shape[1] > 1]
    assert all(rows == 1 or rows * (length + TOKENS) <= 120 for rows, length in firsts)
    assert len(firsts) > 1 and sum(rows for rows, _ in firsts) == len(PROMPTS)


def test_rows_leave_when_they_have_ended(sharp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the end-of-text token and by a text of `until`; each forward pass holds only the rows that still go on."""
    model, tokenizer = load(sharp)
    plain = one_by_one(model, tokenizer, PROMPTS)
    # What the second prompt says at its third token ends a text from now on; others say it later or never.
    end = plain[1][2]
    model.generation_config.eos_token_id = [end, tokenizer.eos_token_id]
    lengths = [new.index(end) + 1 if end in new else TOKENS for new in plain]
    assert len(set(lengths)) > 1
    spy = Spy(monkeypatch, model)
    lm = LanguageModel(model, tokenizer, 16)
    generation.generate_until(lm, requests(PROMPTS), BatchLimit(10_000))
    assert [len(spy.tokens[tuple(tokenizer.encode(one))]) for one in PROMPTS] == [
        n - (plain[i][n - 1] == end) for i, n in enumerate(lengths)
    ]
    assert [rows for rows, _ in spy.passes] == [sum(n > step for n in lengths) for step in range(max(lengths))]

    model.generation_config.eos_token_id = tokenizer.eos_token_id
    spy.passes.clear()
    texts = [tokenizer.decode(new) for new in plain]
    stop = texts[1][2:4]
    cut = generation.generate_until(lm, requests(PROMPTS, until=[stop]), BatchLimit(10_000))
    assert cut == [text.split(stop)[0] for text in texts]
    assert spy.passes[-1][0] < len(PROMPTS)


def test_beams_are_transformers_own(sharp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four beams, a prompt at a time whatever the batch; and they are not the greedy texts."""
    model, tokenizer = load(sharp)
    theirs = one_by_one(model, tokenizer, PROMPTS, num_beams=4)
    assert theirs != one_by_one(model, tokenizer, PROMPTS)
    spy = Spy(monkeypatch, model)
    generation.generate_until(LanguageModel(model, tokenizer, 16), requests(PROMPTS, num_beams=4), BatchLimit(10_000))
    assert [spy.tokens[tuple(tokenizer.encode(one))] for one in PROMPTS] == theirs
    assert max(rows for rows, _ in spy.passes) == 4


@pytest.mark.parametrize("beams", [1, 4])
def test_the_models_own_settings_have_no_part(beams: int, sharp: Path) -> None:
    """A base model's generation_config may sample or punish repetition; it is as it was afterwards."""
    model, tokenizer = load(sharp)
    lm = LanguageModel(model, tokenizer, 16)
    plain = generation.generate_until(lm, requests(PROMPTS, num_beams=beams), BatchLimit(10_000))
    own = {"do_sample": True, "temperature": 1.7, "repetition_penalty": 1.9, "length_penalty": -3.0}
    own |= {"no_repeat_ngram_size": 1, "min_new_tokens": 4}
    model.generation_config.update(**own)
    assert generation.generate_until(lm, requests(PROMPTS, num_beams=beams), BatchLimit(10_000)) == plain
    assert {key: getattr(model.generation_config, key) for key in own} == own


def test_prompts_are_training_s_and_are_cut_on_the_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of a prompt without white space at its end are those that training marks as prompt, with and without a
    beginning-of-text token; white space at its end is kept."""
    for bos in (False, True):
        model, tokenizer = load(make_tiny_model(tmp_path / str(bos), bos=bos))
        spy = Spy(monkeypatch, model)
        texts = ["Answer:", "Response:\n    ", "<s>a", "é", "b" * 600]
        lm = LanguageModel(model, tokenizer, 1)
        generation.generate_until(lm, requests([*texts, ""]), BatchLimit(1))
        for text in texts[:4]:
            head, _ = encode_pair(tokenizer, text.rstrip(), "\n    the answer")
            tail = tokenizer.encode(text[len(text.rstrip()) :], add_special_tokens=False)
            assert (*head, *tail) in spy.tokens
        assert (lm.prefix_token_id,) in spy.tokens
        longest = max(spy.tokens, key=len)
        assert longest == tuple(tokenizer.encode("b" * 600)[-(512 - TOKENS) :])
        monkeypatch.undo()


def test_what_is_not_decoded_is_refused(tiny_model: Path) -> None:
    lm = LanguageModel(*load(tiny_model), 4)
    for kwargs, message in [
        ({"do_sample": True}, "to sample takes do_sample, a temperature above 0"),
        ({"temperature": 0.7}, "to sample takes do_sample, a temperature above 0"),
        ({"do_sample": True, "temperature": 0.7, "num_beams": 4}, "to sample takes do_sample, a temperature above 0"),
        ({"top_p": 0.75}, "unknown generation kwargs top_p; known: do_sample, max_gen_toks"),
        ({"max_gen_toks": 512}, "no room for a prompt"),
    ]:
        with pytest.raises(ValueError, match=message):
            generation.generate_until(lm, requests(["a"], **kwargs), BatchLimit(100))


@pytest.mark.parametrize("beams", [1, 4])
def test_logits_that_are_not_numbers_end_the_cell(beams: int, tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(Diverged):
        generation.generate_until(LanguageModel(model, tokenizer, 4), requests(["a"], num_beams=beams), BatchLimit(100))


def test_batches_shrink_when_memory_runs_out(sharp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass of more than two rows does not fit: fewer are tried, and every prompt is answered."""
    model, tokenizer = load(sharp)
    theirs = [tokenizer.decode(new) for new in one_by_one(model, tokenizer, PROMPTS)]

    def refuse(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        if len(kwargs["input_ids"]) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    lm = LanguageModel(model, tokenizer, 16)
    assert generation.generate_until(lm, requests(PROMPTS), BatchLimit(10_000)) == theirs


UNMERGED = {
    "lora": {"lr": 1e-4},
    "loreft": {"lr": 1e-3, "rank": 4},
    "loreft+dora": {},
    "prefix": {"lr": 1e-3},
    "prompt": {"lr": 1e-2},
    "p_tuning": {"lr": 1e-3, "peft": {"encoder_hidden_size": 32}},
    "cpt": {"lr": 1e-3, "peft": {"cpt_token_ids": [5, 6, 7], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 3]}},
    "llama_adapter": {"lr": 0.1},
}
"""Methods that change what generation is given or carries: virtual tokens, a prompt mask, a cache of their own. Their
rates move the texts, and leave them different from one another."""


@pytest.mark.parametrize(
    "method",
    [name if name in ("loreft", "prefix") else pytest.param(name, marks=pytest.mark.slow) for name in UNMERGED],
)
@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")  # peft 0.21.2 in its own `generate`
def test_unmerged_methods_generate_batched_as_one_by_one(method: str, tmp_path: Path, sharp: Path) -> None:
    """Greedy and by beams, against PEFT's own `generate` at batch 1 (float32, token for token)."""
    base, tokenizer = load(sharp)
    model, _ = trained(tmp_path, sharp, method, {"epochs": 2, "batch_size": 4}, **UNMERGED[method])
    model.eval()
    facts = methods.METHODS[method].facts
    lm = LanguageModel(model, tokenizer, 16, pads_left=facts.pads_left)
    untuned = one_by_one(base, tokenizer, PROMPTS)
    for beams in (1, 4):
        theirs = one_by_one(model, tokenizer, PROMPTS, num_beams=beams)
        texts = lm.generate_until(requests(PROMPTS, num_beams=beams))
        assert texts == [tokenizer.decode(new, skip_special_tokens=True) for new in theirs]
        assert len(set(texts)) > 1 and theirs != untuned
