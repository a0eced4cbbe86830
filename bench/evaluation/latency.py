"""How long a model takes to answer: greedy generation of a fixed number of tokens, for one prompt and for several."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from bench.data.encoding import encode_prompt
from bench.evaluation.generation import generate_exactly
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.evaluation.workload import (
    LATENCY_BATCHES,
    LATENCY_PROMPT_TOKENS,
    LATENCY_REPEATS,
    LATENCY_TOKENS,
    LATENCY_WARM_UP_TOKENS,
)
from bench.models.device import synchronize
from bench.progress import Advance, ignore_progress
from bench.store.records import Timing


def time_generation(lm: LanguageModel, texts: Sequence[str], advance: Advance = ignore_progress) -> dict[int, Timing]:
    """By batch size, the median time of greedy generation of LATENCY_TOKENS tokens, whether or not the text ends.

    The prompts are cut from the concatenated `texts`. Key-value caches are used as the method allows; the dtype is
    that of the cell's scoring.
    """
    prompts = _prompts(lm, texts)
    timings: dict[int, Timing] = {}
    for number, batch in enumerate(LATENCY_BATCHES):
        durations: list[float] = []
        generate_exactly(lm, prompts[:batch], LATENCY_WARM_UP_TOKENS, lm.computing_dtype)
        for _ in range(LATENCY_REPEATS):
            synchronize(lm.device)
            start = time.perf_counter()
            generate_exactly(lm, prompts[:batch], LATENCY_TOKENS, lm.computing_dtype)
            synchronize(lm.device)
            durations.append(time.perf_counter() - start)
            advance(number * LATENCY_REPEATS + len(durations), len(LATENCY_BATCHES) * LATENCY_REPEATS, "timings")
        seconds = statistics.median(durations)
        timings[batch] = Timing(
            seconds=round(seconds, 4),
            tokens_per_second=round(batch * LATENCY_TOKENS / seconds, 2),
            prompt_tokens=len(prompts[0]),
        )
    return timings


def _prompts(lm: LanguageModel, texts: Sequence[str]) -> list[list[int]]:
    """Prompts of one length for the largest batch, cut from the texts' tokens."""
    length = max(1, min(LATENCY_PROMPT_TOKENS, lm.max_length - LATENCY_TOKENS))
    needed = length * max(LATENCY_BATCHES)
    ids: list[int] = []
    index = 0
    while len(ids) < needed:
        ids += encode_prompt(lm.tokenizer, texts[index % len(texts)])
        index += 1
    return [ids[begin : begin + length] for begin in range(0, needed, length)]
