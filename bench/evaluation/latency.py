"""How long a model takes to answer: greedy generation of so many tokens, of one prompt and of several at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from bench.evaluation.generation import exactly
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.models.device import synchronize
from bench.progress import Advance, ignore_progress

NEW_TOKENS = 64
BATCHES = (1, 8)
REPEATS = 3
WARM_UP_TOKENS = 4
PROMPT_TOKENS = 32
"""Of each prompt; prompts of one length need no padding, which some methods cannot bear."""


def latency(lm: LanguageModel, texts: Sequence[str], advance: Advance = ignore_progress) -> dict[str, dict[str, float]]:
    """By batch size (as text): the median `seconds` of greedy generation of NEW_TOKENS tokens, whether the text ends or
    not, and the `tokens_per_second` that they make; `prompt_tokens` of each prompt.

    The prompts are cut from `texts`, end to end. Key-value caches as the method allows; the arithmetic is that of the
    cell's scoring.
    """
    prompts = _prompts(lm, texts)
    found: dict[str, dict[str, float]] = {}
    for number, batch in enumerate(BATCHES):
        taken: list[float] = []
        exactly(lm, prompts[:batch], WARM_UP_TOKENS, lm.computing_dtype)
        for _ in range(REPEATS):
            synchronize(lm.device)
            begun = time.perf_counter()
            exactly(lm, prompts[:batch], NEW_TOKENS, lm.computing_dtype)
            synchronize(lm.device)
            taken.append(time.perf_counter() - begun)
            advance(number * REPEATS + len(taken), len(BATCHES) * REPEATS, "timings")
        seconds = statistics.median(taken)
        found[str(batch)] = {
            "seconds": round(seconds, 4),
            "tokens_per_second": round(batch * NEW_TOKENS / seconds, 2),
            "prompt_tokens": len(prompts[0]),
        }
    return found


def _prompts(lm: LanguageModel, texts: Sequence[str]) -> list[list[int]]:
    """As many prompts as the largest batch has, of one length, from the texts' tokens."""
    length = max(1, min(PROMPT_TOKENS, lm.max_length - NEW_TOKENS))
    needed = length * max(BATCHES)
    ids: list[int] = []
    at = 0
    while len(ids) < needed:
        ids += lm.tok_encode(texts[at % len(texts)])
        at += 1
    return [ids[begin : begin + length] for begin in range(0, needed, length)]
