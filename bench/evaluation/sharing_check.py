"""Whether shared prefixes leave the log-likelihoods of a model as they are, measured on a few questions before use.

A method or an architecture may let a token depend on more than what it attends to. Sharing is then wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch

from bench.errors import out_of_memory
from bench.evaluation.batch_limit import BatchLimit
from bench.evaluation.continuation_scorer import ContinuationScorer, TokenCounts
from bench.evaluation.prefix_tree import Continuation, pack_rows
from bench.models.dtype import computing_in
from bench.models.hooks import HeadAt
from bench.store.records import SharingCheck

CHECKED_QUESTIONS = 4

FLOAT32_TOLERANCE = 1e-3
"""Nats by which sharing may move a log-likelihood in float32; the shape of a batch moves it by about 2e-5."""

NOISE_FACTOR = 3
"""In half precision the shape of a batch alone moves a log-likelihood by some tenths of a nat. Sharing is refused if it
moves them, on average, by more than this factor times that, and by more than the rounding of the logits."""


def check_sharing(
    scorer: ContinuationScorer, continuations: Sequence[Continuation], groups: Sequence[Hashable], share: str
) -> SharingCheck | None:
    """Score a few questions with and without shared prefixes; None if no question has branches.

    The difference is the largest one in float32 and the mean in half precision; None in the record if the model
    refuses such rows or the scores are NaN. It costs no `counts` of the scorer.
    """
    numbers, questions = _sample(continuations, groups, scorer.max_length)
    if not numbers:
        return None
    few, ungrouped = [continuations[number] for number in numbers], [None] * len(numbers)
    exact = scorer.dtype == "float32" and scorer.model.dtype == torch.float32
    one_by_one, batched = (
        replace(scorer, limit=BatchLimit(scorer.limit.tokens, rows), counts=TokenCounts()) for rows in (1, None)
    )
    reference = one_by_one.values(few, ungrouped)
    noise = 0.0 if exact else np.abs(batched.values(few, ungrouped) - reference).mean()
    try:
        differences = np.abs(batched.values(few, [groups[number] for number in numbers]) - reference)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if out_of_memory(error):
            raise
        differences = np.array([np.nan])  # the model does not accept such rows
    scorer.limit.shrink_to(batched.limit.tokens)
    difference = differences.max() if exact else differences.mean()
    allowed = FLOAT32_TOLERANCE if exact else max(NOISE_FACTOR * noise, _resolution(scorer, few[0]))
    return SharingCheck(
        share=share,
        questions=questions,
        difference=float(difference) if np.isfinite(difference) else None,
        allowed=float(allowed),
    )


def passed(check: SharingCheck) -> bool:
    """Whether prefixes may be shared."""
    return check.difference is not None and check.difference <= check.allowed


def warning_of(check: SharingCheck, exact: bool) -> str:
    """What the report says of a check that did not pass; `exact`: the difference is the largest one, not the mean."""
    difference = "nan" if check.difference is None else f"{check.difference:.2g}"
    kind = "at most" if exact else "on the mean"
    return (
        f"with shared prefixes the log-likelihoods of {check.questions} questions are {difference} nats from "
        f"those of whole texts ({kind}; {check.allowed:.2g} allowed), so every text was computed whole"
    )


def _sample(
    continuations: Sequence[Continuation], groups: Sequence[Hashable], max_length: int
) -> tuple[list[int], int]:
    """The numbers of the continuations of CHECKED_QUESTIONS questions with branches, spread over the task, and how many
    questions these are."""
    members: dict[Hashable, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    questions = list(members.values())
    step = max(1, len(questions) // CHECKED_QUESTIONS)
    numbers: list[int] = []
    count = 0
    for index in sorted(range(len(questions)), key=lambda index: (index % step, index)):
        if _has_branches([continuations[number] for number in questions[index]], max_length):
            numbers += questions[index]
            count += 1
        if count == CHECKED_QUESTIONS:
            break
    return numbers, count


def _has_branches(question: list[Continuation], max_length: int) -> bool:
    """Whether the texts of a question make a row with branches, none of them over the limit."""
    if len(question) < 2 or any(len(continuation.inputs) > max_length for continuation in question):
        return False
    return any(row.has_branches for row in pack_rows(question, [0] * len(question), max_length))


@torch.inference_mode()
def _resolution(scorer: ContinuationScorer, continuation: Continuation) -> float:
    """Nats by which rounding moves the model's largest logits on average: a quarter of the distance between two
    neighbouring values. Two computations may agree to the last bit and still be no finer than this."""
    length = len(continuation.inputs)
    prompt = [position < len(continuation.context) for position in range(length)]
    inputs = {
        "input_ids": torch.tensor([continuation.inputs], device=scorer.device),
        "prompt_mask": torch.tensor([prompt], device=scorer.device),
    }
    last = torch.tensor([[0], [length - 1]], device=scorer.device)
    with HeadAt(scorer.model, last, length), computing_in(scorer.dtype, scorer.device):
        logits = scorer.model(**inputs, use_cache=False).logits
    return float(logits.abs().max()) * torch.finfo(logits.dtype).eps / 4
