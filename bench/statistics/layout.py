"""The two-way layout question x seed of a comparison: what the questions and the churn of answers add to its spread.

The layout has a value for each question and seed: the difference of two runs' answers to the question, or any other
weighted sum of answers. Letters: S seeds, Q questions of a task, C clusters of questions, T tasks. Of a task

    value of question q at seed s = mean + seed s + question q + residual.

The question component stays however many seeds there are: it says for which questions one method is the better one. The
residual is churn: answers that change from seed to seed for no reason that the questions share (Miller 2024, arXiv
2411.00640, has the same decomposition for one model).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TaskValues:
    """The values of one task."""

    values: np.ndarray  # (S, Q) points
    clusters: np.ndarray  # (Q,) the label of each question's cluster; a label of its own where it has none


@dataclass(frozen=True)
class AnswerSpread:
    """What the answers themselves say of the spread of a mean over tasks, in points."""

    question_variance: float
    """v_q: variance of the mean over the choice of questions, whatever the number of seeds."""
    churn: float
    """s.d. over seeds that the churn of the answers alone implies."""
    choice_error: float = 0.0
    """Standard error of the mean from the choice of learning rates by development questions, which the seeds share."""

    @property
    def question_error(self) -> float:
        """Standard error of the mean from the choice of questions."""
        return math.sqrt(self.question_variance)


def answer_spread(tasks: Sequence[TaskValues]) -> AnswerSpread | None:
    """The components of the mean over the tasks, each task weighing alike.

    v_q is the sum over tasks of (MS_question - MS_residual) / (S Q) / T^2, not below 0 in total; the churn's variance
    is the sum of MS_residual / Q / T^2. Questions of one cluster fall together, so clusters take the place of
    questions: with r the sum of a cluster's deviations from its task's mean, C times the variance of r takes the place
    of Q times that of a single question. None below two seeds, or where a task has fewer than two clusters.
    """
    question_variance = churn_variance = 0.0
    for task in tasks:
        labels, member = np.unique(task.clusters, return_inverse=True)
        seeds, questions = task.values.shape
        if len(labels) < 2 or seeds < 2:
            return None
        deviations = task.values - task.values.mean(axis=1, keepdims=True)
        sums = np.stack([np.bincount(member, weights=row, minlength=len(labels)) for row in deviations])  # (S, C)
        mean = sums.mean(axis=0)
        question_square = seeds * (mean**2).sum() / (len(labels) - 1)
        residual_square = ((sums - mean) ** 2).sum() / ((len(labels) - 1) * (seeds - 1))
        scale = len(labels) / questions**2 / len(tasks) ** 2
        question_variance += scale * (question_square - residual_square) / seeds
        churn_variance += scale * residual_square
    return AnswerSpread(max(0.0, float(question_variance)), math.sqrt(churn_variance)) if tasks else None
