"""Texts generated from prompts: greedy or sampled in left-padded batches which finished rows leave, or by beams, one at
a time.

The loop runs inside transformers' `generate`, which prepares the inputs, the positions and the key-value cache, so that
it serves every method as `generate` does: plain models, PEFT's with virtual tokens, and those that need `prompt_mask`.
What a model's own generation settings say (sampling, penalties) has no part in it; only its end-of-text tokens have.

B rows of a batch, T tokens of its longest, V vocabulary.
"""

from __future__ import annotations

import functools
import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from bench.costs.flops import seen
from bench.errors import Diverged, out_of_memory
from bench.models.dtype import computing_in
from bench.models.hooks import PromptMaskInGeneration, causal_lm
from bench.progress import Advance, ignore_progress

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM


@dataclass(frozen=True)
class _Settings:
    """The generation kwargs of a request."""

    until: tuple[str, ...]
    """Texts that end a row; the first of them and what follows is cut off."""
    max_new_tokens: int
    num_beams: int
    temperature: float
    """0: the likeliest token."""


@dataclass(frozen=True)
class _Prompt:
    """A request, tokenized."""

    number: int
    ids: list[int]
    seed: int


def generate_until(
    lm: HFLM,
    requests: Sequence[Instance],
    batch_tokens: int,
    most_rows: int | None = None,
    dtype: str = "float32",
    advance: Advance = ignore_progress,
    pads_left: bool = True,
    count: Callable[[int, int, float], None] = lambda tokens, at_head, pairs: None,
    done_with: Callable[[int, str], None] = lambda number, text: None,
) -> list[str]:
    """The text generated for each request, in their order: lm-eval's `generate_until` for the model `lm`.

    A prompt is tokenized as it stands, white space at its end included, and cut on the left where it and the new tokens
    exceed `lm.max_length`, as HFLM does. A row ends with an end-of-text token, with a text of `until` or after
    `max_gen_toks` tokens. One beam is greedy decoding, or with `do_sample` sampling at `temperature` from the whole
    vocabulary, seeded by the request's own `seed`, so that a text does not depend on the others in its batch; in
    batches of at most `batch_tokens` tokens (padding and new tokens among them; halved when memory runs out) and
    `most_rows` rows. Several beams are transformers' beam search, one prompt at a time, for which `until` only cuts the
    best beam's text.

    Where a method cannot bear padding on the left (`pads_left` of its facts), a batch holds prompts of one length only:
    PEFT counts the padding between virtual tokens and text as positions, which moves the logits (5e-4 where float32
    moves them by 1e-7).

    `dtype` is what forward passes compute in (`computing_in`); `advance(done, total, note)` is told of the prompts
    done, `count` of each prompt's work (`lm.Counted`), `done_with` of each text by its request's place. Raises
    ValueError for generation kwargs that it does not know, Diverged where a logit is not a number.
    """
    texts = [""] * len(requests)
    groups: dict[_Settings, list[_Prompt]] = {}
    for number, request in enumerate(requests):
        text, kwargs = request.args
        settings = _settings(kwargs, lm.max_gen_toks)
        room = lm.max_length - settings.max_new_tokens
        if room < 1:
            raise ValueError(f"{settings.max_new_tokens} new tokens leave no room for a prompt in {lm.max_length}")
        ids = lm.tok_encode(text) or [lm.prefix_token_id]
        groups.setdefault(settings, []).append(_Prompt(number, ids[-room:], kwargs.get("seed", 0)))
    told: set[int] = set()

    def tell(batch: list[_Prompt], settings: _Settings, row: int, new: list[int]) -> None:
        """A row has ended. Where memory has run out since, it ends again, and counts once."""
        prompt = batch[row]
        if prompt.number in told:
            return
        told.add(prompt.number)
        texts[prompt.number] = _cut(lm.tokenizer.decode(new, skip_special_tokens=True), settings.until)
        read = len(prompt.ids) + len(new) - 1  # the last is never read
        count(read, len(new), seen([read]))
        done_with(prompt.number, texts[prompt.number])
        advance(len(told), len(requests), "prompts")

    for settings, waiting in groups.items():
        # Longest first: rows of a batch are of like length, and what does not fit in memory fails at once.
        waiting.sort(key=lambda prompt: -len(prompt.ids))
        while waiting:
            size = _size(waiting, settings, batch_tokens, most_rows, pads_left)
            batch = waiting[:size]
            ids, seeds = [prompt.ids for prompt in batch], [prompt.seed for prompt in batch]
            left = functools.partial(tell, batch, settings)
            try:
                _generate(lm, ids, settings, dtype, seeds, left=left)
            except RuntimeError as error:
                if size == 1 or not out_of_memory(error):
                    raise
                batch_tokens = size * (len(waiting[0].ids) + settings.max_new_tokens) // 2
                gc.collect()
                continue
            waiting = waiting[size:]
    return texts


def _settings(kwargs: dict[str, Any], max_new_tokens: int) -> _Settings:
    """A request's kwargs, checked. Raises ValueError for what is not decoded here."""
    known = {"until", "max_gen_toks", "do_sample", "num_beams", "temperature", "seed"}
    if unknown := sorted(set(kwargs) - known):
        raise ValueError(f"unknown generation kwargs {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    sampled, temperature = bool(kwargs.get("do_sample")), float(kwargs.get("temperature") or 0)
    if sampled != (temperature > 0) or (sampled and kwargs.get("num_beams", 1) > 1):
        raise ValueError("to sample takes do_sample, a temperature above 0 and one beam; else leave out the first two")
    until = kwargs.get("until") or ()
    until = tuple(one for one in ((until,) if isinstance(until, str) else until) if one)
    return _Settings(until, kwargs.get("max_gen_toks", max_new_tokens), kwargs.get("num_beams", 1), temperature)


def _size(
    waiting: list[_Prompt], settings: _Settings, batch_tokens: int, most_rows: int | None, pads_left: bool
) -> int:
    """How many of the waiting prompts the next batch holds."""
    if settings.num_beams > 1:
        return 1
    longest = len(waiting[0].ids)
    size = max(1, batch_tokens // (longest + settings.max_new_tokens))
    size = min(size, most_rows or size, len(waiting))
    return size if pads_left else min(size, sum(len(prompt.ids) == longest for prompt in waiting))


def exactly(lm: HFLM, prompts: list[list[int]], tokens: int, dtype: str = "float32") -> list[list[int]]:
    """So many new tokens of each prompt (B lists of tokens, all of one length) by greedy decoding, whether a text ends
    or not: equal work for every model."""
    return _generate(lm, prompts, _Settings((), tokens, 1, 0.0), dtype, ends=set())


@torch.inference_mode()
def _generate(
    lm: HFLM,
    prompts: list[list[int]],
    settings: _Settings,
    dtype: str,
    seeds: Sequence[int] = (),
    ends: set[int] | None = None,
    left: Callable[[int, list[int]], None] = lambda row, new: None,
) -> list[list[int]]:
    """The new tokens of each prompt, up to its end-of-text token (B lists); `left` is told of each row as it ends."""
    model, tokenizer, length = lm.model, lm.tokenizer, max(map(len, prompts))
    pad = tokenizer.pad_token_id
    ends = _end_tokens(model, tokenizer.eos_token_id) if ends is None else ends

    def ending(row: int, new: list[int]) -> None:
        left(row, _before(new, ends))

    ids = torch.tensor([[pad] * (length - len(one)) + one for one in prompts], device=lm.device)  # (B, T)
    mask = torch.tensor([[0] * (length - len(one)) + [1] * len(one) for one in prompts], device=lm.device)  # (B, T)
    config = GenerationConfig(
        do_sample=False,
        num_beams=settings.num_beams,
        max_new_tokens=settings.max_new_tokens,
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(ends) or None,
    )
    if settings.num_beams == 1:
        ended = functools.partial(_ended, tokenizer=tokenizer, ends=ends, settings=settings)
        choose = _Sampled(settings.temperature, seeds) if settings.temperature else _likeliest
        decode = {"custom_generate": functools.partial(_one_beam, ended=ended, choose=choose, left=ending)}
    else:
        decode = {}
    with (
        _own_settings(model, config),
        PromptMaskInGeneration(model, mask.bool()),
        computing_in(dtype, lm.device),
        warnings.catch_warnings(),
    ):
        # peft 0.21.2, which counts the positions after virtual tokens itself: right where there is no padding.
        warnings.filterwarnings("ignore", "Position ids are not supported", UserWarning)
        generated = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([_Finite()]),
            **decode,
        )
    if settings.num_beams > 1:
        generated = generated[:, length:].tolist()
        for row, new in enumerate(generated):
            ending(row, new)
    return [_before(new, ends) for new in generated]


def _one_beam(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    ended: Callable[[list[int]], bool],
    choose: Callable[[torch.Tensor, list[int]], torch.Tensor],
    left: Callable[[int, list[int]], None],
    **kwargs: Any,
) -> list[list[int]]:
    """The new tokens of each row of `input_ids` (B, T), by `choose(logits, rows)`; called by `generate` as its decoder.

    A row that has ended leaves the ids, the mask, the positions and the cache, so that the others go on without it.
    """
    new: list[list[int]] = [[] for _ in range(len(input_ids))]
    rows, first = list(range(len(input_ids))), True  # which rows are still in
    while True:
        step = 1 if kwargs.get("use_cache") and not first else None
        inputs = model.prepare_inputs_for_generation(
            input_ids, next_sequence_length=step, is_first_iteration=first, **kwargs
        )
        outputs = model(**inputs, return_dict=True)
        first = False
        kwargs = model._update_model_kwargs_for_generation(outputs, kwargs)
        logits = logits_processor(input_ids, outputs.logits[:, -1].float())  # (B, V)
        token = choose(logits, rows)  # (B,)
        input_ids = torch.cat([input_ids, token[:, None]], dim=1)
        for row, one in zip(rows, token.tolist(), strict=True):
            new[row].append(one)
        staying = [place for place, row in enumerate(rows) if not ended(new[row])]
        for row in sorted(set(rows) - {rows[place] for place in staying}):
            left(row, new[row])
        if not staying:
            return new
        if len(staying) < len(rows):
            index = torch.tensor(staying, device=input_ids.device)
            kwargs = {key: _select(value, index, len(rows)) for key, value in kwargs.items()}
            input_ids, rows = input_ids[index], [rows[place] for place in staying]


def _likeliest(logits: torch.Tensor, rows: list[int]) -> torch.Tensor:  # (B, V) -> (B,)
    return logits.argmax(-1)


class _Sampled:
    """Tokens drawn at a temperature, each row from a stream of its own."""

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        # On the CPU, so that a seed is the same stream on every device.
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, logits: torch.Tensor, rows: list[int]) -> torch.Tensor:  # (B, V) -> (B,)
        shares = (logits.double() / self.temperature).softmax(-1).cpu()
        drawn = [torch.multinomial(own, 1, generator=self.streams[row]) for own, row in zip(shares, rows, strict=True)]
        return torch.cat(drawn).to(logits.device)


def _select(value: Any, index: torch.Tensor, rows: int) -> Any:
    """What `generate` carries from step to step, for some of its rows."""
    if isinstance(value, torch.Tensor) and value.dim() and value.shape[0] == rows:
        return value[index]
    if isinstance(value, Cache):
        value.reorder_cache(index)  # beam search's means, which all kinds of cache have; in place
    return value


def _ended(new: list[int], tokenizer: Any, ends: set[int], settings: _Settings) -> bool:
    if new[-1] in ends or len(new) == settings.max_new_tokens:
        return True
    return bool(settings.until) and any(one in tokenizer.decode(new) for one in settings.until)


def _before(new: list[int], ends: set[int]) -> list[int]:
    """The tokens before the first that ends a text."""
    return new[: next((place for place, token in enumerate(new) if token in ends), len(new))]


def _cut(text: str, until: tuple[str, ...]) -> str:
    """The text before the first of `until`."""
    for one in until:
        text = text.partition(one)[0]
    return text


def _end_tokens(model: torch.nn.Module, eos: int | None) -> set[int]:
    """The tokenizer's end-of-text token, which training appends, and those of the model's own settings."""
    own = causal_lm(model).generation_config.eos_token_id
    return {eos, *([own] if isinstance(own, int) else own or [])} - {None}


@contextmanager
def _own_settings(model: torch.nn.Module, config: GenerationConfig) -> Iterator[None]:
    """While entered, `config` is all that the model knows of generation: `generate` would fill in what it leaves open
    from the model's own settings."""
    inner = causal_lm(model)
    before, inner.generation_config = inner.generation_config, config
    try:
        yield
    finally:
        inner.generation_config = before


class _Finite(LogitsProcessor):
    """Ends a generation whose logits (B, V) are not numbers; its largest would still have an index."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if scores.isnan().any():
            raise Diverged("the model's logits are not numbers")
        return scores
