"""The answers of cells, question by question: what they say of a difference of averages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pandas as pd

from bench import statistics
from bench.analysis.rescoring import QUESTION_KEY
from bench.statistics import UNKNOWN_STEP, TaskAnswers

RESOLUTION = 0.01
"""Of the score of an answer (0 to 1): the smallest difference that is taken for one."""


@dataclass(frozen=True)
class CellAnswers:
    """The answers of one cell."""

    question_set: int
    """Cells that answered the same questions have the same number."""
    correct: np.ndarray  # (questions,) in the order of (protocol, task, question)
    tasks: np.ndarray  # (questions,) the number of each question's task
    clusters: np.ndarray  # (questions,) the number of each question's cluster
    averages: np.ndarray | None
    """(resamples,) 0 to 1, on questions drawn alike for all cells of the same questions; None where a task has fewer
    than two clusters, which cannot be resampled."""
    step: float
    """Points: the least by which two averages over these questions can differ."""
    choice_changes: np.ndarray | None = None
    """(resamples,) points by which the average changes where other development questions choose the learning rate; None
    where no rate is chosen, or nothing is known of the other rates."""


def over_questions(
    pairs: Sequence[tuple[CellAnswers | None, CellAnswers | None]],
) -> tuple[float | None, float | None, float | None]:
    """The second component of a difference, from the cells of each seed: the bootstrap's interval of its mean over
    seeds (low and high, points) and, of one seed, McNemar's p. None where the rows of a cell could not be read; no
    interval of fewer than two clusters."""
    readable = [
        (treatment, reference) for treatment, reference in pairs if treatment is not None and reference is not None
    ]
    if len(readable) < len(pairs):
        return None, None, None
    differences = [
        treatment.averages - reference.averages
        for treatment, reference in readable
        if treatment.averages is not None and reference.averages is not None
    ]
    low = high = p = None
    if len(differences) == len(readable):
        interval = statistics.percentile_interval(100 * np.mean(differences, axis=0))
        low, high = interval.low, interval.high
    if len(readable) == 1:
        ((treatment, reference),) = readable
        first, second = treatment.correct, reference.correct
        p = statistics.mcnemar(int((first > second).sum()), int((first < second).sum()))
    return low, high, p


def cell_answers(
    questions: pd.DataFrame, choice_changes: Mapping[str, np.ndarray] = MappingProxyType({})
) -> dict[str, CellAnswers]:
    """By folder; the cells that answered the same questions are resampled together. `choice_changes`: those of
    `ResultTables`."""
    places = questions.groupby(QUESTION_KEY, observed=True)
    place = places.ngroup().to_numpy()  # (rows,)
    # A question is in its cluster, whichever cell's rows say so. One row a place, as those are numbered.
    labels = places["cluster"].first().astype(object).reset_index()
    clusters = labels["cluster"].fillna(labels["question_id"].astype(object)).to_numpy(dtype=str)
    task_of_place = labels["task"].to_numpy(dtype=object)
    cell, folders = pd.factorize(questions["folder"])
    order = np.lexsort((place, cell))
    ends = np.cumsum(np.bincount(cell, minlength=len(folders)))[:-1]
    correct = questions["correct"].to_numpy(dtype=float)
    by_question_set: dict[bytes, dict[str, np.ndarray]] = {}
    for folder, rows in zip(folders, np.split(order, ends) if len(order) else [], strict=True):
        by_question_set.setdefault(place[rows].tobytes(), {})[folder] = correct[rows]
    answers: dict[str, CellAnswers] = {}
    for number, (content, by_folder) in enumerate(by_question_set.items()):
        places_of_set = np.frombuffer(content, dtype=place.dtype)
        answers |= _resampled_together(number, by_folder, task_of_place[places_of_set], clusters[places_of_set])
    return {
        folder: replace(of, choice_changes=choice_changes[folder]) if folder in choice_changes else of
        for folder, of in answers.items()
    }


def _resampled_together(
    number: int, by_folder: Mapping[str, np.ndarray], tasks: np.ndarray, clusters: np.ndarray
) -> dict[str, CellAnswers]:
    """The answers (Q,) of cells to the same questions, whose tasks and clusters are (Q,)."""
    correct = np.stack(list(by_folder.values()))  # (M, Q)
    by_task = {
        task: TaskAnswers(correct[:, tasks == task], clusters[tasks == task]) for task in dict.fromkeys(tasks.tolist())
    }
    enough = all(len(set(answers.clusters.tolist())) > 1 for answers in by_task.values())
    averages = statistics.resampled_averages(by_task) if enough else None  # (resamples, M)
    step = _step(correct, tasks)
    task_numbers, cluster_numbers = (np.unique(labels, return_inverse=True)[1] for labels in (tasks, clusters))
    return {
        folder: CellAnswers(
            number,
            correct[place],
            task_numbers,
            cluster_numbers,
            None if averages is None else averages[:, place],
            step,
        )
        for place, folder in enumerate(by_folder)
    }


def least_step(cells: Iterable[CellAnswers | None]) -> float:
    """Points: the steps that a difference or an average of these cells comes in; never 0."""
    return min((answers.step for answers in cells if answers is not None), default=UNKNOWN_STEP)


def _step(correct: np.ndarray, tasks: np.ndarray) -> float:
    """Of averages over tasks, from how near two answers' scores came: 1 apart where they are right or wrong, and at
    least a hundredth, which is a point of a judge's scale, where they are on a continuous scale."""
    names = list(dict.fromkeys(tasks.tolist()))
    steps = []
    for task in names:
        values = np.unique(correct[:, tasks == task])
        widest = 1.0 if set(values.tolist()) <= {0.0, 1.0} else RESOLUTION
        apart = np.diff(values).min(initial=1.0) if len(values) > 1 else widest
        steps.append(100 * max(apart, RESOLUTION) / (tasks == task).sum())
    return float(min(steps)) / len(names)


def weighted_spread(
    weights: Mapping[int, Sequence[tuple[float, CellAnswers | None]]],
) -> statistics.AnswerSpread | None:
    """The spread that the answers give a weighted sum of averages, from the weighted cells of each seed. None where the
    rows of a cell could not be read, or the seeds did not all answer the same questions."""
    cells = [answers for of_seed in weights.values() for _, answers in of_seed]
    first = cells[0] if cells else None
    if first is None or any(answers is None or answers.question_set != first.question_set for answers in cells):
        return None
    sums = 100 * np.stack(
        [
            np.sum([weight * answers.correct for weight, answers in of_seed if answers is not None], axis=0)
            for of_seed in weights.values()
        ]
    )  # (seeds, questions)
    spread = statistics.answer_spread(
        [
            statistics.TaskValues(sums[:, first.tasks == task], first.clusters[first.tasks == task])
            for task in np.unique(first.tasks)
        ]
    )
    return spread and replace(spread, choice_error=_choice_error(weights))


def _choice_error(weights: Mapping[int, Sequence[tuple[float, CellAnswers | None]]]) -> float:
    """Standard error of the mean over seeds from the choice of learning rates: its s.d. over the resamples."""
    changes = [
        weight * answers.choice_changes
        for of_seed in weights.values()
        for weight, answers in of_seed
        if answers is not None and answers.choice_changes is not None
    ]
    return float(np.std(np.sum(changes, axis=0) / len(weights))) if changes else 0.0
