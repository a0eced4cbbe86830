"""Which tasks the averages are over: the one place that decides it. Tables, figures and comparisons all follow.

By default (`report.average: auto`) a task is left out for a base model where it is near chance: neither the untuned
model nor the trained cells together answer more of its questions than its commonest answer does. Such a task says
nothing of what was learned, and its share of "yes" moves from seed to seed more than any method moves it. Only a task
with a fixed set of labels has such an answer: where the choices are other texts in each question, giving the position
that is most often right is nothing that a model could know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench import statistics
from bench.analysis.rescoring import QuestionRows, RescoredEvaluation
from bench.sweep.sections import Average


@dataclass(frozen=True)
class ScoredCell:
    """What a cell has that its average is made of."""

    base: str
    method: str
    evaluations: Sequence[RescoredEvaluation]
    """By the protocol of the averages."""


@dataclass(frozen=True)
class NearChance:
    """A task that is near chance on a base model. Shares are in points."""

    base: str
    task: str
    untuned: float
    trained: float | None
    """The mean of the trained cells; None where none answered these questions."""
    majority: float
    counted: bool
    """It is in the average all the same: the sweep file says so, or nothing else would be."""


@dataclass(frozen=True)
class AverageTasks:
    """The tasks of the averages."""

    counted: Mapping[str, frozenset[str]]
    """By base."""
    near_chance: tuple[NearChance, ...]
    missing: tuple[str, ...]
    """Tasks that the sweep file names and that no cell was scored on."""


def average_tasks(setting: Average, cells: Sequence[ScoredCell]) -> AverageTasks:
    """The tasks by the setting of the sweep file."""
    counted: dict[str, frozenset[str]] = {}
    near_chance: list[NearChance] = []
    for base in dict.fromkeys(cell.base for cell in cells):
        of_base = [cell for cell in cells if cell.base == base]
        scored = {result.evaluation.task for cell in of_base for result in cell.evaluations}
        of_this_base = [near for task in sorted(scored) if (near := _near_chance(base, task, of_base)) is not None]
        names = {near.task for near in of_this_base}
        if setting == "all" or (setting == "auto" and scored <= names):
            counted[base] = frozenset(scored)
        else:
            counted[base] = frozenset(scored - names if setting == "auto" else scored & set(setting))
        near_chance += [replace(near, counted=near.task in counted[base]) for near in of_this_base]
    named = () if setting in ("auto", "all") else setting
    scored_anywhere = {result.evaluation.task for cell in cells for result in cell.evaluations}
    missing = tuple(task for task in named if scored_anywhere and task not in scored_anywhere)
    return AverageTasks(counted, tuple(near_chance), missing)


def _near_chance(base: str, task: str, cells: Sequence[ScoredCell]) -> NearChance | None:
    """None for a task that is not near chance, and where the untuned model's rows do not say."""
    rows = [
        (cell.method, result.rows)
        for cell in cells
        for result in cell.evaluations
        if result.evaluation.task == task and result.rows is not None
    ]
    untuned = next((of_cell for method, of_cell in rows if method == "base"), None)
    if untuned is None or not untuned.fixed_labels:
        return None
    labels, counts = np.unique(untuned.gold, return_counts=True)
    by_majority = untuned.gold == labels[counts.argmax()]  # (questions,)
    above = untuned.correct & ~by_majority
    below = ~untuned.correct & by_majority
    if statistics.sign_test(int(above.sum()), int(below.sum())) < 1 - statistics.LEVEL:
        return None
    trained = [of_cell.correct for method, of_cell in rows if method != "base" and _same_questions(of_cell, untuned)]
    if trained:
        gain = np.mean(trained, axis=0) - by_majority
        if statistics.above_zero(gain) < 1 - statistics.LEVEL:
            return None
    return NearChance(
        base,
        task,
        100 * float(untuned.correct.mean()),
        100 * float(np.mean(trained)) if trained else None,
        100 * float(by_majority.mean()),
        counted=True,
    )


def _same_questions(first: QuestionRows, second: QuestionRows) -> bool:
    return bool(first.question_id.cast("string").equals(second.question_id.cast("string")))
