"""Examples to tokens, in the same way for every method, in training and in scoring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

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

TOKENS_VERSION = 1
"""Part of the cache's hash. Raise it when `encode_pair` changes, so that tokens on disk are not used any more."""


@dataclass(frozen=True)
class Encoded:
    """A tokenized example; the first `prompt_length` tokens are the prompt."""

    ids: list[int]
    prompt_length: int
    truncated: bool
    supervised: bool = True
    """False for a row that only fills a batch up: none of its tokens has a loss."""


def encode_pair(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Context and continuation as tokens, split exactly as lm-eval scores them (TemplateLM._encode_pair).

    White space at the end of the context belongs to the continuation; both are tokenized together; an empty
    context becomes the beginning-of-text token (the end-of-text token where there is none).
    """
    if not context:
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids = tokenizer.encode(continuation, add_special_tokens=False)
        return [prefix], ids[1:] if ids[:1] == [prefix] else ids
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    # A text that already begins with the beginning-of-text token gets no second one.
    special = not (tokenizer.bos_token and stripped.startswith(tokenizer.bos_token))
    ids = tokenizer.encode(stripped + continuation, add_special_tokens=special)
    head = tokenizer.encode(stripped, add_special_tokens=special)
    return head, ids[len(head) :]


def encode(tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int, append_eos: bool) -> Encoded:
    """Tokenize an example. One that is too long loses the beginning of its prompt, as in scoring."""
    return _truncated(*encode_pair(tokenizer, example.prompt, example.answer), tokenizer, max_length, append_eos)


def encode_all(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, append_eos: bool
) -> list[Encoded]:
    """`encode` of each example. Tokens are cached on disk (in `tokens/` of the cache folder) by a hash of the texts and
    the tokenizer's content, so that the cells of a sweep tokenize their common examples once."""
    path = cache_folder() / "tokens" / f"{_tokens_key(tokenizer, examples)}.safetensors"
    pairs = _read_cache(path)
    if pairs is None:
        pairs = [encode_pair(tokenizer, example.prompt, example.answer) for example in examples]
        _write_cache(path, pairs)
    return [_truncated(*pair, tokenizer, max_length, append_eos) for pair in pairs]


def _truncated(
    context: list[int], answer: list[int], tokenizer: PreTrainedTokenizerBase, max_length: int, append_eos: bool
) -> Encoded:
    if append_eos and tokenizer.eos_token_id is not None:
        answer = [*answer, tokenizer.eos_token_id]
    answer = answer[: max_length - 1]
    prompt = context[-(max_length - len(answer)) :]
    return Encoded(prompt + answer, len(prompt), truncated=len(prompt) < len(context))


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
