"""Scores recomputed from the rows of an evaluation, and the rows of all evaluations as one table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.evaluation.scoring import check_rows, compute_scores, is_correct
from bench.hashing import short_hash
from bench.store.folder import CellFolder
from bench.store.records import EvaluationRecord, Scores

QUESTION_KEY = ["protocol", "task", "question_id"]
"""The columns that identify a question."""
QUESTIONS = ("folder", *QUESTION_KEY, "cluster", "correct")
"""The columns of `ResultTables.questions`."""
ITEMS = (
    *("question_id", "cluster", "gold", "prediction", "prediction_norm", "acc", "parsed", "choices"),
    "loglikelihoods",
)
"""The columns of an items file that scores and comparisons need."""
ROUNDING = 1e-9
"""A recorded share and the recomputed one may differ by this much."""


@dataclass(frozen=True)
class QuestionRows:
    """The rows of one evaluation, on their way into `ResultTables.questions`."""

    folder: str
    protocol: str
    task: str
    question_id: pa.ChunkedArray  # (questions,) texts
    cluster: pa.ChunkedArray  # (questions,) texts, or null
    correct: np.ndarray  # (questions,) bool


@dataclass(frozen=True)
class RescoredEvaluation:
    """An evaluation with the scores that its rows give."""

    evaluation: EvaluationRecord
    rows: QuestionRows | None
    """None where the rows are missing or contradict themselves; the scores are then the recorded ones."""
    problem: str = ""
    """How the rows disagree with the record; empty where they agree."""
    answers: str = ""
    """Hash of the log-likelihoods, to the last bit; empty where there are none."""


def rescored(folder: CellFolder, recorded: EvaluationRecord) -> RescoredEvaluation:
    """Recompute the scores of an evaluation from its rows."""
    items = folder.columns(recorded.file, ITEMS)
    name = f"{folder.path.name}: {recorded.file}"
    if items is None:
        return RescoredEvaluation(recorded, None, f"{name} is missing; its score is the recorded one")
    if "choices" not in items:
        items["choices"] = pc.list_value_length(items["loglikelihoods"])
    try:
        recomputed = compute_scores(check_rows(items), recorded.primary)
    except ValueError as error:
        return RescoredEvaluation(recorded, None, f"{name}: {error}")
    problem = ""
    if _disagree(recorded, recomputed):
        problem = f"{name}: recorded {recorded.acc:.4f}, its rows give {recomputed.acc:.4f}; the rows are shown"
    evaluation = recorded.model_copy(update=recomputed.model_dump(exclude_none=True))
    return RescoredEvaluation(evaluation, _rows(folder.path.name, evaluation, items), problem, _answers_hash(items))


def _answers_hash(items: Mapping[str, pa.ChunkedArray]) -> str:
    if "loglikelihoods" not in items:
        return ""
    loglikelihoods = pc.list_flatten(items["loglikelihoods"]).to_numpy()
    return short_hash(loglikelihoods.tobytes()) if loglikelihoods.dtype == np.float64 else ""


def _disagree(recorded: Scores, recomputed: Scores) -> bool:
    pairs = (
        (recorded.acc, recomputed.acc),
        (recorded.acc_norm, recomputed.acc_norm),
        (recorded.n, recomputed.n),
        (recorded.score, recomputed.score),
        (recorded.parse_rate, recomputed.parse_rate),
        (recorded.acc_parsed, recomputed.acc_parsed),
    )
    return any(before is not None and after is not None and abs(before - after) > ROUNDING for before, after in pairs)


def _rows(folder: str, evaluation: EvaluationRecord, items: Mapping[str, pa.ChunkedArray]) -> QuestionRows:
    # An answer that could not be parsed is -1, which is no gold answer.
    correct = is_correct(items, "prediction_norm" if evaluation.primary == "acc_norm" else "prediction")
    clusters = items.get("cluster", pa.chunked_array([pa.nulls(len(correct))]))
    return QuestionRows(folder, evaluation.label, evaluation.task, items["question_id"], clusters, correct)


def question_table(evaluations: Sequence[QuestionRows]) -> pd.DataFrame:
    """The rows of all evaluations as `ResultTables.questions`."""
    lengths = [len(rows.correct) for rows in evaluations]
    columns: dict[str, object] = {
        "folder": pd.Categorical([rows.folder for rows in evaluations]).repeat(lengths),
        "protocol": pd.Categorical([rows.protocol for rows in evaluations]).repeat(lengths),
        "task": pd.Categorical([rows.task for rows in evaluations]).repeat(lengths),
        "question_id": _categories([rows.question_id for rows in evaluations]),
        "cluster": _categories([rows.cluster for rows in evaluations]),
        "correct": np.concatenate([np.empty(0, dtype=bool), *(rows.correct for rows in evaluations)]),
    }
    return pd.DataFrame(columns, columns=QUESTIONS)


def _categories(texts: Sequence[pa.ChunkedArray]) -> pd.Categorical:
    """Texts, one array after the other, as categories in sorted order."""
    chunks = [chunk.cast(pa.large_string()) for array in texts for chunk in array.chunks]
    encoded = pa.chunked_array(chunks, pa.large_string()).dictionary_encode().combine_chunks()
    labels = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(labels)
    # The last code stands for missing texts.
    codes = np.append(np.argsort(order), -1)
    return pd.Categorical.from_codes(codes[encoded.indices.fill_null(-1).to_numpy()], labels[order])


def differing_questions(questions: pd.DataFrame) -> list[str]:
    """For every task, the cells that answered other questions than most cells of the task."""
    numbered = questions.assign(question_id=pd.factorize(questions["question_id"])[0])
    evaluations = numbered.groupby(["protocol", "task", "folder"], sort=False, observed=True)["question_id"]
    by_task: defaultdict[tuple[str, str], dict[str, frozenset[int]]] = defaultdict(dict)
    for (protocol, task, folder), ids in evaluations:
        by_task[protocol, task][folder] = frozenset(ids.tolist())
    problems = []
    for (protocol, task), by_folder in by_task.items():
        (usual, _), *others = Counter(by_folder.values()).most_common()
        problems += [
            f"{folder}: of {task} ({protocol}) it answered other questions ({len(ids)}) than most cells "
            f"({len(usual)}); it is not compared with them"
            for folder, ids in by_folder.items()
            if others and ids != usual
        ]
    return problems
