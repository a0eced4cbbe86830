"""The noise of choosing learning rates: a cell's average, had other development questions chosen its rate.

For a crossed design, whose trials have every rate with every seed, scored on the development and on the test questions.
The development questions are drawn anew (the bootstrap), alike for all trials; each draw chooses the rate of every cell
as the plan did, by the other seeds; and the trial at that rate has the average that the cell would then have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis.cell_answers import CellAnswers, cell_answers
from bench.analysis.rescoring import QuestionRows, question_table, rescored
from bench.evaluation.scoring import tie_loss
from bench.methods.learning_rate_grid import without_learning_rate
from bench.statistics import changes_of_choice
from bench.store.folder import Results
from bench.store.records import PlannedRecord


@dataclass(frozen=True)
class ScoredTrial:
    """A trial that ended well."""

    planned: PlannedRecord
    average: float
    """Points, on the test questions; NaN where it has none."""
    development: CellAnswers
    """Its answers to the development questions."""
    loss: float
    """Decides between equal scores (`bench.evaluation.scoring.tie_loss`)."""


def scored_trials(
    results: Results, trials: Sequence[PlannedRecord], averages: Mapping[str, float]
) -> list[ScoredTrial]:
    """Those of the trials that are done, with `averages` by folder, whose answers to the development questions can be
    read."""
    losses: dict[str, float] = {}
    rows: list[QuestionRows] = []
    for trial in trials:
        if trial.folder not in averages or not trial.development:
            continue
        folder = results.folder_named(trial.folder)
        record = folder.record()
        development = [record.evaluations[id] for id in trial.development if id in record.evaluations]
        of_trial = [readable for of in development if (readable := rescored(folder, of).rows) is not None]
        if len(of_trial) == len(trial.development):
            losses[trial.folder] = tie_loss(record, development)
            rows += of_trial
    answers = cell_answers(question_table(rows))
    return [
        ScoredTrial(trial, averages[trial.folder], answers[trial.folder], losses[trial.folder])
        for trial in trials
        if trial.folder in losses
    ]


def choice_changes(cells: Sequence[PlannedRecord], trials: Sequence[ScoredTrial]) -> dict[str, np.ndarray]:
    """By the folder of each cell whose rate the trials chose: (resamples,) points by which its average changes. Without
    cells whose trials did not all answer the same development questions, and those whose own trial is missing."""
    by_setting: dict[str, list[ScoredTrial]] = {}
    for trial in trials:
        by_setting.setdefault(_setting(trial.planned), []).append(trial)
    changes = {}
    for cell in cells:
        of_setting = by_setting.get(_setting(cell), []) if cell.tuned else []
        of_cell = _changes(cell, of_setting) if of_setting else None
        if of_cell is not None:
            changes[cell.folder] = of_cell
    return changes


def _setting(planned: PlannedRecord) -> str:
    """What the trials of one setting have in common: all but the seed and the learning rate."""
    options = without_learning_rate(planned.options)
    return json.dumps([planned.base, planned.method, options, planned.samples, planned.training], sort_keys=True)


def _changes(cell: PlannedRecord, trials: Sequence[ScoredTrial]) -> np.ndarray | None:
    rates = sorted({trial.planned.lr or 0.0 for trial in trials})
    seeds = sorted({trial.planned.seed or 0 for trial in trials})
    resampled = _resampled(trials)
    judged_by_others = set(seeds) - {cell.seed}
    if resampled is None or cell.lr not in rates or not judged_by_others:
        return None
    scores = np.full((len(resampled), len(rates), len(seeds)), np.nan)
    losses, outcomes = np.full((2, len(rates), len(seeds)), np.nan)
    for number, trial in enumerate(trials):
        place = rates.index(trial.planned.lr or 0.0), seeds.index(trial.planned.seed or 0)
        scores[:, *place] = resampled[:, number]
        losses[place] = trial.loss
        outcomes[place] = trial.average
    seed = seeds.index(cell.seed) if cell.seed in seeds else None
    if seed is not None and np.isnan(outcomes[rates.index(cell.lr), seed]):
        return None
    return changes_of_choice(scores, losses, outcomes, rates.index(cell.lr), seed)


def _resampled(trials: Sequence[ScoredTrial]) -> np.ndarray | None:
    """(resamples, trials) development scores on questions drawn anew."""
    averages = [trial.development.averages for trial in trials if trial.development.averages is not None]
    same = len({trial.development.question_set for trial in trials}) == 1
    return np.stack(averages, axis=1) if same and len(averages) == len(trials) else None
