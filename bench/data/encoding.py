"""Examples to tokens, in the same way for every method, in training and in scoring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerBase

from bench.data.examples import Example
from bench.errors import UserError
from bench.hashing import short_hash
from bench.models.packaged import cache_folder
from bench.store.files import writing

IGNORED = -100
"""The label of a token without a loss (PyTorch's cross_entropy)."""

TOKENS_VERSION = 3
"""Part of the cache's hash. Raise it when `encode_pair` changes, so that tokens on disk are not used any more."""

Truncate = Literal["start", "end"]
"""Which end of an example that is too long is cut: the beginning of its prompt, or the end of its answer."""


@dataclass(frozen=True)
class Encoded:
    """A tokenized example; the first `prompt_length` tokens are the prompt."""

    ids: list[int]
    prompt_length: int
    truncated: bool
    supervised: bool = True
    """False for a row that only fills a batch up: none of its tokens has a loss."""
    length: int = 0
    """Tokens before the cut."""
    answer_cut: int = 0
    """Tokens that the end of the answer lost, the end-of-text token included."""


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text that is to be continued: with what the tokenizer puts before a text of its own accord (a
    beginning-of-text token, unless the text begins with it already), without what it puts behind (end of text)."""
    before = _tokens_before(tokenizer)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids if ids[: len(before)] == before else before + ids


def encode_pair(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Context and continuation as tokens, in training and in scoring.

    Both are tokenized as one text, which is split where its tokens cease to be those of the context alone. A token that
    spans the join therefore belongs to the continuation, and no character of the continuation is lost. White space at
    the end of the context belongs to the continuation. A context without a token of its own becomes the
    beginning-of-text token (the end-of-text token where there is none).

    Where no token spans the join, this is lm-eval's `TemplateLM._encode_pair`. That splits by the number of the
    context's tokens: where a token spans the join, it drops the continuation's first characters.

    Raises UserError if such a context meets a tokenizer that has neither of the two tokens.
    """
    ids = encode_prompt(tokenizer, context + continuation)
    alone = encode_prompt(tokenizer, context.rstrip())
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, ids, strict=False)))
    if shared and len(alone) == shared and alone[-1] == tokenizer.unk_token_id:
        shared -= _unknown_spans_join(tokenizer, context, continuation, shared)
    head, tail = ids[:shared], ids[shared:]
    if head:
        return head, tail
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if prefix is None:
        raise UserError(
            "the tokenizer has no beginning-of-text and no end-of-text token, and a text has nothing before its answer",
            "Give every row a prompt, or set bos_token in the base model's tokenizer_config.json.",
        )
    return [prefix], tail[1:] if tail[:1] == [prefix] else tail


def _unknown_spans_join(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str, shared: int) -> bool:
    """Whether the last of the `shared` tokens, the unknown token, stands for more than the context: it is the same
    token for whatever the vocabulary lacks."""
    if not tokenizer.is_fast:
        return False  # a slow tokenizer does not say what a token stands for
    plain = tokenizer(context + continuation, add_special_tokens=False, return_offsets_mapping=True)
    place = shared - 1 - (len(encode_prompt(tokenizer, context + continuation)) - len(plain["input_ids"]))
    return place >= 0 and bool(plain["offset_mapping"][place][1] > len(context.rstrip()))


def prompt_text(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str) -> str:
    """The text to ask a model with that was trained on context and continuation: its tokens are the context's tokens
    there. It is the context without white space at its end, and without what shares a token with the continuation."""
    stripped = context.rstrip()
    head, _ = encode_pair(tokenizer, context, continuation)
    if head == encode_prompt(tokenizer, stripped):
        return stripped
    text = str(tokenizer.decode(head, skip_special_tokens=True))
    return text if text and encode_prompt(tokenizer, text) == head else stripped


def _tokens_before(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts before a text. Some put others behind it (tokenizer.json's
    post-processor): a text that is to be continued must not have them."""
    for text in ("a", "0", ".", " "):
        plain = tokenizer.encode(text, add_special_tokens=False)
        if plain:  # else the vocabulary lacks the character
            ids: list[int] = tokenizer.encode(text)
            starts = range(len(ids) - len(plain) + 1)
            return ids[: next((start for start in starts if ids[start : start + len(plain)] == plain), 0)]
    return []


def encode(
    tokenizer: PreTrainedTokenizerBase,
    example: Example,
    max_length: int,
    append_eos: bool,
    truncate: Truncate = "start",
) -> Encoded:
    """Tokenize an example. One that is too long loses the beginning of its prompt, as in scoring, and only then the end
    of its answer; with `truncate` "end", it loses its end alone, as in LLM-Adapters."""
    pair = encode_pair(tokenizer, example.prompt, example.answer)
    return _truncated(*pair, tokenizer, max_length, append_eos, truncate)


def encode_all(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    max_length: int,
    append_eos: bool,
    truncate: Truncate = "start",
) -> list[Encoded]:
    """`encode` of each example. Tokens are cached on disk (in `tokens/` of the cache folder) by a hash of the texts and
    the tokenizer's content, so that the cells of a sweep tokenize their common examples once."""
    path = cache_folder() / "tokens" / f"{_tokens_key(tokenizer, examples)}.safetensors"
    pairs = _read_cache(path)
    if pairs is None:
        pairs = [encode_pair(tokenizer, example.prompt, example.answer) for example in examples]
        _write_cache(path, pairs)
    return [_truncated(*pair, tokenizer, max_length, append_eos, truncate) for pair in pairs]


def _truncated(
    context: list[int],
    answer: list[int],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    append_eos: bool,
    truncate: Truncate,
) -> Encoded:
    if append_eos and tokenizer.eos_token_id is not None:
        answer = [*answer, tokenizer.eos_token_id]
    length = len(context) + len(answer)
    if truncate == "end":
        prompt = context[:max_length]
        kept = answer[: max_length - len(prompt)]
    else:
        kept = answer[: max_length - 1]
        prompt = context[-(max_length - len(kept)) :]
    return Encoded(
        prompt + kept,
        len(prompt),
        truncated=length > max_length,
        length=length,
        answer_cut=len(answer) - len(kept),
    )


def _tokens_key(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> str:
    """Hash of all that the tokens depend on. A tokenizer without a serialized form counts by class
    and vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    settings = [TOKENS_VERSION, type(tokenizer).__name__, tokenizer.bos_token, tokenizer.eos_token_id]
    return short_hash(
        content, json.dumps([settings, [[example.prompt, example.answer] for example in examples]]), digits=32
    )


def _read_cache(path: Path) -> list[tuple[list[int], list[int]]] | None:
    """The pairs that `_write_cache` wrote, or None without a readable file."""
    try:
        arrays = load_file(path)
        ids, lengths = arrays["ids"].tolist(), arrays["lengths"].tolist()
    except (OSError, SafetensorError, KeyError):
        return None
    ends = list(accumulate(length for pair in lengths for length in pair))
    parts = [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return list(zip(parts[::2], parts[1::2], strict=True))


def _write_cache(path: Path, pairs: Sequence[tuple[list[int], list[int]]]) -> None:
    """Contexts and answers concatenated, with their lengths (examples, 2)."""
    ids = [token for context, answer in pairs for token in (*context, *answer)]
    lengths = [[len(context), len(answer)] for context, answer in pairs]
    # Only a cache: without a writable folder the next cell tokenizes again.
    with suppress(UserError, SafetensorError), writing(path) as temporary:
        save_file({"ids": np.array(ids, np.int32), "lengths": np.array(lengths, np.int32)}, temporary)
