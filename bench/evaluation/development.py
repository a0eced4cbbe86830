"""Development questions: they choose learning rates and check merging, for which test questions are never used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.data.encoding import encode_pair
from bench.data.questions import Question, Rendered, render
from bench.data.sweep_data import SweepData
from bench.errors import Diverged
from bench.evaluation.workload import DEVELOPMENT_QUESTIONS
from bench.store.records import DevelopmentLoss, DevelopmentRecord

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from transformers import PreTrainedTokenizerBase


def development_questions(data: SweepData) -> list[tuple[Question, Rendered]]:
    """DEVELOPMENT_QUESTIONS questions with their texts, in equal shares from the development set of each training
    set; fewer if a set has fewer."""
    share = -(-DEVELOPMENT_QUESTIONS // max(1, len(data.development)))
    drawn = [question for questions in data.development.values() for question in questions[:share]]
    return [(item, render(item, data.tasks[item.task].wording, data.config.format)) for item in drawn]


def development_loss(lm: LM, data: SweepData, tokenizer: PreTrainedTokenizerBase) -> DevelopmentLoss:
    """The loss of the answers of the data's development rows, each after its prompt."""
    from lm_eval.api.instance import Instance

    examples = data.rendered_development_answers(tokenizer)
    pairs = [(example.prompt, example.answer) for example in examples]
    requests = [Instance("loglikelihood", {}, pair, place, metadata=("", place, 1)) for place, pair in enumerate(pairs)]
    total = sum(float(loglikelihood) for loglikelihood, _ in lm.loglikelihood(requests, disable_tqdm=True))
    if not math.isfinite(total):
        raise Diverged("the log-likelihood of a development answer is not finite")
    tokens = sum(len(encode_pair(tokenizer, *pair)[1]) for pair in pairs)
    return DevelopmentLoss(
        rows=data.development_answers_fingerprint, n=len(pairs), tokens=tokens, loss=-total / max(1, tokens)
    )


def development_accuracy(
    questions: Sequence[tuple[Question, Rendered]], loglikelihoods: Sequence[Sequence[float]]
) -> DevelopmentRecord:
    """The share of the questions whose most likely choice is right; `loglikelihoods` are those of the choices."""
    correct = [
        int(np.argmax(values)) == question.label
        for (question, _), values in zip(questions, loglikelihoods, strict=True)
    ]
    return DevelopmentRecord(n=len(correct), acc=sum(correct) / len(correct) if correct else None)
