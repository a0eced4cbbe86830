"""A results folder read back as tables (pandas): one row a cell, one row a score, one row a question."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from bench import statistics
from bench.analysis.average_tasks import AverageTasks, NearChance, ScoredCell, average_tasks
from bench.analysis.batch_sizes import first_names, unequal_batches
from bench.analysis.cell_answers import CellAnswers, cell_answers
from bench.analysis.cost_columns import answering_columns, cost_columns, merge_columns, total_seconds
from bench.analysis.rate_choice import choice_changes, scored_trials
from bench.analysis.rescoring import QuestionRows, RescoredEvaluation, differing_questions, question_table, rescored
from bench.analysis.series import cell_name, series_names
from bench.errors import UserError
from bench.store.damage import CorruptFile, CorruptPack
from bench.store.folder import CellFolder, Results
from bench.store.record_json import NewerSchema
from bench.store.recorded_sweep import recorded_plan
from bench.store.records import CellRecord, EvaluationRecord, PlannedRecord, Status
from bench.sweep.sections import Average

SCORES = (
    *("folder", "task", "protocol", "metric", "n", "merged", "score", "low", "high", "acc", "acc_norm"),
    *("majority", "chance", "parse_rate", "acc_parsed", "probability", "counted", "near_chance"),
)
"""The columns of `ResultTables.scores`."""

DAMAGED = "damaged"
"""The status of a cell whose record cannot be read."""


@dataclass(frozen=True)
class ResultTables:
    """A sweep's results."""

    cells: pd.DataFrame
    """One row a cell of the plan."""
    scores: pd.DataFrame
    """One row a cell, protocol and task; low and high are Wilson's interval. `counted`: the task counts in averages on
    the cell's base, and `near_chance`: it is near chance there (`bench.analysis.average_tasks`)."""
    problems: tuple[str, ...]
    """Records that disagree with their rows, and cells that cannot be compared."""
    unplanned: int
    """Recorded cells of other settings, which are not in the plan."""
    questions: pd.DataFrame
    """One row a cell and question of its average; of cells whose rows could all be read. `cluster` is missing where a
    question is a cluster of its own. The texts are categories: they are few, and the rows many."""
    warnings: tuple[str, ...]
    """The warnings in the cells' records, each once."""
    near_chance: tuple[NearChance, ...] = ()
    """The tasks that are near chance, on each base."""
    trials: ResultTables | None = None
    """Of a crossed design, all trials, the final cells among them."""
    choice_changes: Mapping[str, np.ndarray] = field(default_factory=dict)  # (resamples,) each
    """Of a crossed design, by folder: see `bench.analysis.rate_choice`."""

    @cached_property
    def answers(self) -> dict[str, CellAnswers]:
        """The answers of each cell, by folder: resampled once for all tables and figures."""
        return cell_answers(self.questions, self.choice_changes)


def read_results(results: Results, average: Average | None = None) -> ResultTables:
    """All cells of the sweep's plan, those that were not begun included, with their scores recomputed from the rows.

    Accuracies are in points (0 to 100). `average`: the tasks of the averages, in the place of the sweep's. A cell whose
    record is corrupt has the status `damaged`. Raises UserError for a folder that holds no sweep, and for a file of a
    newer version.
    """
    plan = recorded_plan(results)
    cells = _read_cells(results, plan.cells)
    tasks = average_tasks(plan.report.average if average is None else average, [cell.of_average for cell in cells])
    in_plan = {planned.folder for planned in (*plan.cells, *plan.trials)}
    unplanned = sum(name not in in_plan for name in _recorded_names(results))
    tables = _tables(cells, tasks, plan.protocols, unplanned)
    if not any(trial.evaluations for trial in plan.trials):
        return tables
    trials = _tables(_read_cells(results, plan.trials), tasks, plan.protocols)
    done = trials.cells[trials.cells["status"] == "done"]
    scored = scored_trials(results, plan.trials, done.set_index("folder")["average"].to_dict())
    return replace(tables, trials=trials, choice_changes=choice_changes(plan.cells, scored))


def _read_cells(results: Results, planned: Sequence[PlannedRecord]) -> list[_Cell]:
    names = series_names(planned)
    return [_read_cell(results.folder_named(of.folder), of, name) for of, name in zip(planned, names, strict=True)]


def _tables(cells: Sequence[_Cell], tasks: AverageTasks, protocols: Sequence[str], unplanned: int = 0) -> ResultTables:
    """The tables of these cells, with averages over these tasks."""
    warnings: dict[str, list[str]] = {}
    for cell in cells:
        for text in cell.warnings:
            warnings.setdefault(text, []).append(cell.name)
    # The protocol of the averages first, whichever protocol the first cell has scores of.
    order = {name: place for place, name in enumerate(protocols)}
    scored = [(cell, result) for cell in cells for result in cell.scored]
    scored.sort(key=lambda pair: order.get(pair[1].evaluation.protocol, len(order)))
    questions = question_table([rows for cell in cells for rows in cell.questions(tasks.counted[cell.base])])
    problems = [
        *(text for cell in cells for text in cell.problems),
        *(f"report.average names {task}, which no cell was scored on" for task in tasks.missing),
        *differing_questions(questions),
        *_untouched(cells),
        *unequal_batches([(cell.name, cell.evaluations) for cell in cells]),
    ]
    return ResultTables(
        pd.DataFrame([{**cell.row, **cell.averages(tasks.counted[cell.base])} for cell in cells]),
        pd.DataFrame([_score_row(cell, result, tasks) for cell, result in scored], columns=SCORES),
        tuple(dict.fromkeys(problems)),
        unplanned,
        questions,
        tuple(f"{first_names(names)}: {text}" for text, names in warnings.items()),
        tasks.near_chance,
    )


def trained_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """The trained cells that are done and have an average."""
    return cells[(cells["status"] == "done") & (cells["method"] != "base") & cells["average"].notna()]


def averaged_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of the protocol that the plan names first. The averages are made of those that are `counted`."""
    return scores[scores["protocol"] == scores["protocol"].iloc[0]] if len(scores) else scores


def majority_average(scores: pd.DataFrame) -> float | None:
    """The average (points) of answering every task that counts with its majority class; None where a task has none, or
    where not the same tasks count on all bases."""
    if scores.empty or scores.groupby("task")["counted"].nunique().max() > 1:
        return None
    shares = scores[scores["counted"]].drop_duplicates("task")["majority"]
    return shares.mean() if len(shares) and shares.notna().all() else None


@dataclass(frozen=True)
class _Cell:
    """A cell of the plan, as its files have it."""

    folder: str
    name: str
    base: str
    row: dict[str, object]
    """Its row of `ResultTables.cells`, without the averages."""
    scored: list[RescoredEvaluation] = field(default_factory=list)
    averaged: list[RescoredEvaluation] = field(default_factory=list)
    """Those of the protocol of the averages; none where an evaluation of the plan is missing."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def evaluations(self) -> list[EvaluationRecord]:
        return [result.evaluation for result in self.scored]

    @property
    def answers(self) -> dict[str, str]:
        """Hash of the log-likelihoods, by evaluation of the average; without evaluations that have none."""
        # Two protocols never share an average: it is of the protocol that the plan names first.
        first = [result for result in self.scored if result.evaluation.label == self.scored[0].evaluation.label]
        return {f"{each.evaluation.task}@{each.evaluation.label}": each.answers for each in first if each.answers}

    @property
    def of_average(self) -> ScoredCell:
        return ScoredCell(self.base, str(self.row["method"]), self.averaged)

    def questions(self, tasks: Collection[str]) -> list[QuestionRows]:
        """The rows of these tasks; none where one of them could not be read."""
        rows = [result.rows for result in self.averaged if result.evaluation.task in tasks]
        readable = [of_task for of_task in rows if of_task is not None]
        return readable if len(readable) == len(rows) else []

    def averages(self, tasks: Collection[str]) -> dict[str, float | None]:
        """The averages over these tasks, and over all of them (points)."""
        counted = [result for result in self.averaged if result.evaluation.task in tasks]
        shares = [(result.evaluation.score, result.evaluation.n) for result in counted]
        return {
            "average": _average([result.evaluation.score for result in counted]),
            "average_all": _average([result.evaluation.score for result in self.averaged]),
            "probability": _average([result.probability for result in counted]),
            "question_noise": 100 * statistics.question_half_width(shares) if shares else None,
        }


def _average(shares: Sequence[float | None]) -> float | None:
    """In points; None where there are none, or one is not known."""
    values = [share for share in shares if share is not None]
    return 100 * sum(values) / len(values) if values and len(values) == len(shares) else None


def _read_cell(folder: CellFolder, planned: PlannedRecord, series: str) -> _Cell:
    """A cell's record with its scores computed anew from the rows; problems are listed, not raised."""
    name = cell_name(planned, series)
    record, damage = _read_record(folder)
    recomputed = [rescored(folder, record.evaluations[id]) for id in planned.evaluations if id in record.evaluations]
    averaged = [result for result in recomputed if result.evaluation.label == recomputed[0].evaluation.label]
    complete = len(recomputed) == len(planned.evaluations)
    answers = [record.answers.get(id) for id in planned.answers]
    scored = complete and None not in answers and bool(recomputed or answers)
    return _Cell(
        planned.folder,
        name,
        planned.base,
        {
            "folder": planned.folder,
            "name": name,
            "series": series,
            "base": planned.base,
            "method": planned.method,
            "rank": planned.rank,
            "samples": planned.samples,
            "seed": planned.seed,
            "options": planned.options,
            "lr": planned.lr,
            "training": planned.training,
            "status": DAMAGED if damage else _status(record.status, scored),
            "reason": damage or record.reason,
            "traceback": record.traceback,
            **cost_columns(record.costs),
            **merge_columns(record),
            "development": _points(record.development.acc if record.development else None),
            "development_n": record.development.n if record.development else None,
            "evaluation_seconds": total_seconds(result.evaluation for result in recomputed),
            **answering_columns([answer for answer in answers if answer is not None]),
        },
        recomputed,
        averaged if complete else [],
        [
            *_corrupt_settings(folder),
            *(result.problem for result in recomputed if result.problem),
            *_flipped(name, record),
        ],
        record.warnings,
    )


def _read_record(folder: CellFolder) -> tuple[CellRecord, str]:
    """A cell's record; an empty one, and why, where it cannot be read. Raises NewerSchema."""
    try:
        return (folder.record() if folder.exists() else CellRecord()), ""
    except NewerSchema:
        raise
    except CorruptFile as error:
        return CellRecord(), f"{error.path.name} is corrupt: {error.reason}; `bench run` runs the cell again"
    except UserError as error:
        return CellRecord(), error.problem


def _corrupt_settings(folder: CellFolder) -> list[str]:
    """A sentence if the cell.json is corrupt; the plan has its content too."""
    try:
        if folder.exists():
            folder.cell()
    except CorruptFile as error:
        return [f"{folder.path.name}: cell.json is corrupt ({error.reason}); `bench run` writes it anew"]
    except UserError:  # a pack that cannot be read: `_read_record` says so
        return []
    return []


def _recorded_names(results: Results) -> list[str]:
    """The folders of all recorded cells; of the loose ones alone where the pack cannot be read."""
    try:
        return [folder.path.name for folder in results.folders()]
    except CorruptPack:
        return [path.parent.name for path in results.path.glob("cells/*/cell.json")]


def _status(recorded: Status, scored: bool) -> str:
    """A cell is done when it has all of the plan's scores, whatever was still to be measured when it was stopped."""
    if recorded is Status.TODO:
        return "missing"
    if recorded in (Status.DONE, Status.TRAINED):
        return "done" if scored else "missing" if recorded is Status.DONE else "trained"
    return recorded.value


def _untouched(cells: Sequence[_Cell]) -> list[str]:
    """Trained cells that answer as the untuned base does, bit for bit: what was trained was not applied."""
    untuned = {cell.row["base"]: cell.answers for cell in cells if cell.row["method"] == "base"}
    problems = []
    for cell in cells:
        alike = cell.answers.items() & untuned.get(cell.row["base"], {}).items()
        if cell.row["method"] != "base" and alike and len(alike) == len(cell.answers):
            problems.append(
                f"{cell.name}: its answers equal the untuned model's bit for bit: its adapter was not applied, or "
                "training changed nothing"
            )
    return problems


def _flipped(name: str, record: CellRecord) -> list[str]:
    """What to know of a merge that changes answers: whether the scores are of the merged model."""
    flips = record.merge_flips
    if flips is None or not flips.flips_above_margin:
        return []
    merged = any(evaluation.merged for evaluation in record.evaluations.values())
    scored = (
        "its scores are those of the merged model, by an earlier version of bench"
        if merged
        else "its scores are those of the unmerged model"
    )
    return [
        f"{name}: merged, it answers {flips.flips_above_margin} of {flips.n} probed questions otherwise than "
        f"unmerged, by more than the margin of {flips.margin:g} nats; {scored}"
    ]


def _score_row(cell: _Cell, result: RescoredEvaluation, tasks: AverageTasks) -> dict[str, object]:
    """A row of the scores, in points."""
    evaluation = result.evaluation
    interval = statistics.wilson(round(evaluation.score * evaluation.n), evaluation.n)
    return {
        "folder": cell.folder,
        "task": evaluation.task,
        "protocol": evaluation.label,
        "metric": evaluation.primary,
        "n": evaluation.n,
        "merged": evaluation.merged,
        "score": 100 * evaluation.score,
        "low": 100 * interval.low,
        "high": 100 * interval.high,
        "acc": 100 * evaluation.acc,
        "acc_norm": _points(evaluation.acc_norm),
        "majority": 100 * evaluation.majority,
        "chance": 100 * evaluation.chance,
        "parse_rate": _points(evaluation.parse_rate),
        "acc_parsed": _points(evaluation.acc_parsed),
        "probability": _points(result.probability),
        "counted": evaluation.task in tasks.counted[cell.base],
        "near_chance": any((near.base, near.task) == (cell.base, evaluation.task) for near in tasks.near_chance),
    }


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share
