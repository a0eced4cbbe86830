"""Texts generated for lm-eval's requests: greedy or sampled in batches, or by beam search one prompt at a time.

This module groups requests into batches that fit in memory; `bench.evaluation.decoding` generates the tokens of a
batch.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from bench.costs.flops import attended_pairs
from bench.data.encoding import encode_prompt
from bench.errors import out_of_memory
from bench.evaluation.batch_limit import BatchLimit
from bench.evaluation.decoding import Decoding, decode_batch
from bench.models import rotary
from bench.models.embedded_tokens import check_embedded
from bench.progress import Advance, ignore_progress

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM


class GenerationKwargs(TypedDict, total=False):
    """The generation kwargs of an lm-eval request that are supported."""

    until: str | list[str]
    max_gen_toks: int
    do_sample: bool
    num_beams: int
    temperature: float
    seed: int
    """Of the sampling of this request."""


@dataclass(frozen=True)
class _Prompt:
    """A tokenized request."""

    number: int
    """Index of the request."""
    ids: list[int]
    seed: int


def generate_until(
    lm: HFLM,
    requests: Sequence[Instance],
    limit: BatchLimit,
    dtype: str = "float32",
    *,
    pads_left: bool = True,
    advance: Advance = ignore_progress,
    count: Callable[[int, int, int, float], None] = lambda tokens, rows, at_head, pairs: None,
    on_text: Callable[[int, str], None] = lambda number, text: None,
) -> list[str]:
    """The text generated for each request, in their order: lm-eval's `generate_until` for the model `lm`.

    A prompt is tokenized as it is, with white space at its end. It is cut on the left if it and the new tokens exceed
    `lm.max_length`, as in HFLM. A row ends with an end-of-text token, with a text of `until`, or after `max_gen_toks`
    tokens. One beam is greedy decoding or, with `do_sample`, sampling at `temperature` from the whole vocabulary,
    seeded by the request's own `seed`, so that a text does not depend on the other texts of its batch. A batch has at
    most the tokens of `limit`, padding and new tokens included, and its rows; `limit` shrinks when memory runs out.
    Several beams are transformers' beam search, one prompt at a time; `until` then only cuts the best beam's text.

    With `pads_left` false (a method does not support padding on the left), a batch holds prompts of one length only.

    `dtype` is what forward passes compute in (`computing_in`). `advance(done, total, note)` counts the prompts, `count`
    the work of each prompt (`TokenCounts.add`), and `on_text(number, text)` is called for each text. Raises ValueError
    for generation kwargs that are not supported, Diverged if a logit is NaN, CellProblem for a token without embedding.
    """
    texts: dict[int, str] = {}

    def finish(batch: list[_Prompt], decoding: Decoding, row: int, new: list[int]) -> None:
        prompt = batch[row]
        if prompt.number in texts:  # memory ran out after the row had ended
            return
        text = _cut(lm.tokenizer.decode(new, skip_special_tokens=True), decoding.until)
        texts[prompt.number] = text
        read = len(prompt.ids) + len(new) - 1  # the model never reads the last token
        count(read, 1, len(new), attended_pairs([read]))
        on_text(prompt.number, text)
        advance(len(texts), len(requests), "prompts")

    alone_from = rotary.alone_from(lm.model.config) or lm.max_length + 1
    groups = _grouped(lm, requests)
    check_embedded(lm.model, lm.tokenizer, [prompt.ids for prompts in groups.values() for prompt in prompts])
    for decoding, prompts in groups.items():
        # Longest first: the rows of a batch have similar lengths, and what does not fit in memory fails at once.
        waiting = sorted(prompts, key=lambda prompt: -len(prompt.ids))
        while waiting:
            longest = len(waiting[0].ids) + decoding.max_new_tokens
            size = 1 if longest >= alone_from else _batch_size(waiting, decoding, limit, pads_left)
            batch = waiting[:size]
            ids, seeds = [prompt.ids for prompt in batch], [prompt.seed for prompt in batch]
            try:
                decode_batch(lm, ids, decoding, dtype, seeds, on_end=functools.partial(finish, batch, decoding))
            except RuntimeError as error:
                if size == 1 or not out_of_memory(error):
                    raise
                limit.halve(size, len(waiting[0].ids) + decoding.max_new_tokens)
                gc.collect()
                continue
            waiting = waiting[size:]
    return [texts[number] for number in range(len(requests))]


def generate_exactly(lm: HFLM, prompts: list[list[int]], tokens: int, dtype: str = "float32") -> list[list[int]]:
    """Exactly `tokens` new tokens for each prompt (B lists of tokens, all of one length) by greedy decoding, whether or
    not a text ends: equal work for every model."""
    return decode_batch(lm, prompts, Decoding(max_new_tokens=tokens), dtype, end_tokens=frozenset())


def _grouped(lm: HFLM, requests: Sequence[Instance]) -> dict[Decoding, list[_Prompt]]:
    """The requests, tokenized, by how they are decoded."""
    groups: dict[Decoding, list[_Prompt]] = {}
    for number, request in enumerate(requests):
        text, kwargs = request.args
        decoding = _decoding(kwargs, lm.max_gen_toks)
        room = lm.max_length - decoding.max_new_tokens
        if room < 1:
            raise ValueError(f"{decoding.max_new_tokens} new tokens leave no room for a prompt in {lm.max_length}")
        ids = encode_prompt(lm.tokenizer, text) or [lm.prefix_token_id]
        groups.setdefault(decoding, []).append(_Prompt(number, ids[-room:], kwargs.get("seed", 0)))
    return groups


def _decoding(kwargs: GenerationKwargs, max_new_tokens: int) -> Decoding:
    """A request's kwargs, checked. Raises ValueError for kwargs that are not supported."""
    supported = GenerationKwargs.__annotations__.keys()
    given: Iterable[str] = kwargs
    if unknown := sorted(set(given) - supported):
        raise ValueError(f"unknown generation kwargs {', '.join(unknown)}; known: {', '.join(sorted(supported))}")
    beams = kwargs.get("num_beams", 1)
    sampled, temperature = bool(kwargs.get("do_sample")), float(kwargs.get("temperature") or 0)
    if sampled != (temperature > 0) or (sampled and beams > 1):
        raise ValueError("to sample takes do_sample, a temperature above 0 and one beam; else leave out the first two")
    until = kwargs.get("until") or []
    texts: Sequence[str] = [until] if isinstance(until, str) else until
    ends = tuple(text for text in texts if text)
    return Decoding(kwargs.get("max_gen_toks", max_new_tokens), ends, beams, temperature)


def _batch_size(waiting: list[_Prompt], decoding: Decoding, limit: BatchLimit, pads_left: bool) -> int:
    """How many of the waiting prompts the next batch holds."""
    if decoding.num_beams > 1:
        return 1
    longest = len(waiting[0].ids)
    size = min(limit.rows(longest + decoding.max_new_tokens), len(waiting))
    return size if pads_left else min(size, sum(len(prompt.ids) == longest for prompt in waiting))


def _cut(text: str, until: tuple[str, ...]) -> str:
    """The text before the first of `until`."""
    for end in until:
        text = text.partition(end)[0]
    return text
