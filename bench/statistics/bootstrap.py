"""The question bootstrap: intervals over the questions that happened to be asked.

Letters: R resamples, C clusters of a task, Q its questions, M runs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.statistics.intervals import LEVEL, Interval

RESAMPLES = 2000
"""Enough that the ends of a percentile interval move by about a fiftieth of its width."""
WEIGHTS = 4_000_000
"""Weights of the bootstrap held at a time: 32 MB."""


@dataclass(frozen=True)
class TaskAnswers:
    """The same questions of one task, answered by several runs."""

    correct: np.ndarray  # (M, Q) 0 or 1, or any score
    clusters: np.ndarray  # (Q,) the label of each question's cluster; a label of its own where it has none


def resampled_averages(tasks: Mapping[str, TaskAnswers], resamples: int = RESAMPLES) -> np.ndarray:  # (R, M)
    """The question bootstrap: average accuracy (0 to 1) of each run over the tasks, on questions drawn anew with
    replacement, within each task, whole clusters at a time.

    The draws are the same for all runs, and always the same for a task of this name and these clusters: differences
    of columns are paired by question, and a report is reproducible.
    """
    averages = [_resampled_task(name, answers, resamples) for name, answers in tasks.items()]
    return np.asarray(np.mean(averages, axis=0))


def _resampled_task(task: str, answers: TaskAnswers, resamples: int) -> np.ndarray:  # (R, M)
    # Sorted: rows may come in any order.
    labels, member = np.unique(np.asarray(answers.clusters), return_inverse=True)
    clusters = len(labels)
    sums = np.stack([np.bincount(member, weights=row, minlength=clusters) for row in answers.correct], axis=1)  # (C, M)
    sizes = np.bincount(member, minlength=clusters)  # (C,)
    random = np.random.default_rng(zlib.crc32(task.encode()))
    averages = []
    block = max(1, WEIGHTS // clusters)  # the stream of draws goes on from block to block
    for begin in range(0, resamples, block):
        draws = min(block, resamples - begin)
        weights = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws).astype(float)  # (R, C)
        averages.append(weights @ sums / (weights @ sizes)[:, None])
    return np.concatenate(averages)


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """The middle of a bootstrap's values (R,)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
