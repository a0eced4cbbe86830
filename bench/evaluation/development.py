"""Development questions: they choose learning rates and check merging, for which test questions are never used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.data.questions import Question, Rendered, render
from bench.data.sweep_data import SweepData
from bench.evaluation.workload import DEVELOPMENT_QUESTIONS
from bench.store.records import DevelopmentRecord


def development_questions(data: SweepData) -> list[tuple[Question, Rendered]]:
    """DEVELOPMENT_QUESTIONS questions with their texts, in equal shares from the development set of each training
    set; fewer if a set has fewer."""
    share = -(-DEVELOPMENT_QUESTIONS // max(1, len(data.development)))
    drawn = [question for questions in data.development.values() for question in questions[:share]]
    return [(item, render(item, data.tasks[item.task].wording, data.config.format)) for item in drawn]


def development_accuracy(
    questions: Sequence[tuple[Question, Rendered]], loglikelihoods: Sequence[Sequence[float]]
) -> DevelopmentRecord:
    """The share of the questions whose most likely choice is right; `loglikelihoods` are those of the choices."""
    correct = [
        int(np.argmax(values)) == question.label
        for (question, _), values in zip(questions, loglikelihoods, strict=True)
    ]
    return DevelopmentRecord(n=len(correct), acc=sum(correct) / len(correct) if correct else None)
