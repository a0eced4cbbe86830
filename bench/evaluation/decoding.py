"""The new tokens of one batch of prompts, left-padded; rows leave the batch when they have ended.

The loop runs inside transformers' `generate`, which prepares the inputs, the positions and the key-value cache. It
therefore serves every method that `generate` serves: plain models, PEFT models with virtual tokens, and methods that
need `prompt_mask`. The model's own generation settings (sampling, penalties) are ignored, except its end-of-text
tokens.

B rows of a batch, T tokens of its longest row, V vocabulary.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)

from bench.errors import Diverged
from bench.models.compat.transformers_generation import DecodingState, GenerativeModel
from bench.models.dtype import computing_in
from bench.models.hooks import PromptMaskInGeneration, causal_lm

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

    Choose = Callable[[torch.Tensor, list[int]], torch.Tensor]
    """The next tokens (B,) from logits (B, V) and the numbers of the rows."""


@dataclass(frozen=True)
class Decoding:
    """How the tokens of a prompt are generated."""

    max_new_tokens: int
    until: tuple[str, ...] = ()
    """Texts that end a row."""
    num_beams: int = 1
    temperature: float = 0.0
    """0: greedy."""


@torch.inference_mode()
def decode_batch(
    lm: HFLM,
    prompts: list[list[int]],
    decoding: Decoding,
    dtype: str,
    seeds: Sequence[int] = (),
    end_tokens: frozenset[int] | None = None,
    on_end: Callable[[int, list[int]], None] = lambda row, new: None,
) -> list[list[int]]:
    """The new tokens of each prompt (B lists), without its end-of-text token; `on_end(row, new)` is called as each row
    ends. `end_tokens`: None for those of the tokenizer and the model. Raises Diverged if a logit is NaN."""
    model, tokenizer, length = lm.model, lm.tokenizer, max(map(len, prompts))
    pad = tokenizer.pad_token_id
    ends = _end_tokens(model, tokenizer.eos_token_id) if end_tokens is None else end_tokens

    def finish(row: int, new: list[int]) -> None:
        on_end(row, _before(new, ends))

    ids = torch.tensor([[pad] * (length - len(prompt)) + prompt for prompt in prompts], device=lm.device)  # (B, T)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=lm.device)
    mask = (torch.arange(length, device=lm.device) >= (length - lengths)[:, None]).long()  # (B, T)
    config = GenerationConfig(
        do_sample=False,
        num_beams=decoding.num_beams,
        max_new_tokens=decoding.max_new_tokens,
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(ends) or None,
    )
    decoder = {}
    if decoding.num_beams == 1:
        ended = functools.partial(_has_ended, tokenizer=tokenizer, ends=ends, decoding=decoding)
        choose = _Sampler(decoding.temperature, seeds) if decoding.temperature else _most_likely
        decoder = {"custom_generate": functools.partial(_decode, ended=ended, choose=choose, on_end=finish)}
    with (
        _generation_config(model, config),
        PromptMaskInGeneration(model, mask.bool()),
        computing_in(dtype, lm.device),
        warnings.catch_warnings(),
    ):
        # peft 0.21.2 counts the positions after virtual tokens itself, which is right without padding.
        warnings.filterwarnings("ignore", "Position ids are not supported", UserWarning)
        generated = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([_RefuseNan()]),
            **decoder,
        )
    if decoding.num_beams > 1:
        generated = generated[:, length:].tolist()
        for row, new in enumerate(generated):
            finish(row, new)
    return [_before(new, ends) for new in generated]


def _decode(
    model: GenerativeModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    ended: Callable[[list[int]], bool],
    choose: Choose,
    on_end: Callable[[int, list[int]], None],
    **kwargs: object,
) -> list[list[int]]:
    """The new tokens of each row of `input_ids` (B, T); `generate` calls this as its decoder."""
    new: list[list[int]] = [[] for _ in range(len(input_ids))]
    rows = list(range(len(input_ids)))  # the numbers of the rows that are still in the batch
    state = DecodingState(model, input_ids, kwargs)
    while True:
        logits = logits_processor(cast(torch.LongTensor, state.input_ids), state.forward())  # (B, V)
        tokens = choose(logits, rows)  # (B,)
        state.append(tokens)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            new[row].append(token)
        staying = [index for index, row in enumerate(rows) if not ended(new[row])]
        for row in sorted(set(rows) - {rows[index] for index in staying}):
            on_end(row, new[row])
        if not staying:
            return new
        if len(staying) < len(rows):
            state.keep_rows(staying)
            rows = [rows[index] for index in staying]


def _most_likely(logits: torch.Tensor, rows: list[int]) -> torch.Tensor:  # (B, V) -> (B,)
    return logits.argmax(-1)


class _Sampler:
    """Samples tokens at a temperature, each row from its own random stream."""

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        # On the CPU, so that a seed gives the same stream on every device.
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, logits: torch.Tensor, rows: list[int]) -> torch.Tensor:  # (B, V) -> (B,)
        probabilities = (logits.double() / self.temperature).softmax(-1).cpu()
        drawn = [
            torch.multinomial(row_probabilities, 1, generator=self.streams[row])
            for row_probabilities, row in zip(probabilities, rows, strict=True)
        ]
        return torch.cat(drawn).to(logits.device)


def _has_ended(new: list[int], tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], decoding: Decoding) -> bool:
    if new[-1] in ends or len(new) == decoding.max_new_tokens:
        return True
    return bool(decoding.until) and any(text in tokenizer.decode(new) for text in decoding.until)


def _before(new: list[int], ends: frozenset[int]) -> list[int]:
    """The tokens before the first end-of-text token."""
    return new[: next((index for index, token in enumerate(new) if token in ends), len(new))]


def _end_tokens(model: torch.nn.Module, eos: int | None) -> frozenset[int]:
    """The tokenizer's end-of-text token, which training appends, and those of the model's generation config."""
    configured = causal_lm(model).generation_config.eos_token_id
    tokens = [configured] if isinstance(configured, int) else configured or []
    return frozenset(token for token in (eos, *tokens) if token is not None)


@contextmanager
def _generation_config(model: torch.nn.Module, config: GenerationConfig) -> Iterator[None]:
    """While entered, `config` is the model's generation config: `generate` would fill in unset values from the model's
    own."""
    inner = causal_lm(model)
    before, inner.generation_config = inner.generation_config, config
    try:
        yield
    finally:
        inner.generation_config = before


class _RefuseNan(LogitsProcessor):
    """Raises Diverged if a logit (B, V) is NaN: argmax would return an index all the same."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if scores.isnan().any():
            raise Diverged("the model's logits are not numbers")
        return scores
