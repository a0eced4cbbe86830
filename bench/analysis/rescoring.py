"""Scores recomputed from the rows of an evaluation, and the rows of all evaluations as one table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.analysis.right_probability import fixed_labels, right_probability
from bench.evaluation.scoring import is_correct
from bench.evaluation.stored_rows import differ, scores_of_rows
from bench.hashing import short_hash
from bench.store.damage import CorruptFile, CorruptPack
from bench.store.folder import CellFolder
from bench.store.records import EvaluationRecord

QUESTION_KEY = ["protocol", "task", "question_id"]
"""The columns that identify a question."""
QUESTIONS = ("folder", *QUESTION_KEY, "cluster", "correct", "probability")
"""The columns of `ResultTables.questions`."""


@dataclass(frozen=True)
class QuestionRows:
    """The rows of one evaluation, on their way into `ResultTables.questions`."""

    folder: str
    protocol: str
    task: str
    question_id: pa.ChunkedArray  # (questions,) texts
    cluster: pa.ChunkedArray  # (questions,) texts, or null
    correct: np.ndarray  # (questions,) bool
    probability: np.ndarray | None  # (questions,) of the right choice, 0 to 1; None where no choices were scored
    gold: np.ndarray  # (questions,) index of the right choice
    fixed_labels: bool
    """All questions have the same choices (true or false, say)."""


@dataclass(frozen=True)
class RescoredEvaluation:
    """An evaluation with the scores that its rows give."""

    evaluation: EvaluationRecord
    rows: QuestionRows | None
    """None where the rows are missing or corrupt; the scores are then the recorded ones."""
    problem: str = ""
    """How the rows disagree with the record; empty where they agree."""
    answers: str = ""
    """Hash of the log-likelihoods, to the last bit; empty where there are none."""

    @property
    def probability(self) -> float | None:
        """Of the right choice (0 to 1), the mean over the questions; None where the rows do not say."""
        of_questions = self.rows.probability if self.rows is not None else None
        return None if of_questions is None else float(of_questions.mean())


def rescored(folder: CellFolder, recorded: EvaluationRecord) -> RescoredEvaluation:
    """Recompute the scores of an evaluation from its rows."""
    name = f"{folder.path.name}: {recorded.file}"
    try:
        stored = scores_of_rows(folder, recorded)
    except CorruptFile as error:
        return RescoredEvaluation(recorded, None, f"{name} is corrupt ({error.reason}); its score is the recorded one")
    except CorruptPack as error:
        return RescoredEvaluation(recorded, None, f"{error.problem}; scores of packed cells are the recorded ones")
    if stored is None:
        return RescoredEvaluation(recorded, None, f"{name} is missing; its score is the recorded one")
    items, recomputed = stored
    problem = ""
    if differ(recorded, recomputed):
        problem = f"{name}: recorded {recorded.acc:.4f}, its rows give {recomputed.acc:.4f}; the rows are shown"
    evaluation = recorded.model_copy(update=recomputed.model_dump(exclude_none=True))
    return RescoredEvaluation(evaluation, _rows(folder.path.name, evaluation, items), problem, _answers_hash(items))


def _answers_hash(items: Mapping[str, pa.ChunkedArray]) -> str:
    if "loglikelihoods" not in items:
        return ""
    loglikelihoods = pc.list_flatten(items["loglikelihoods"]).to_numpy()
    return short_hash(loglikelihoods.tobytes()) if loglikelihoods.dtype == np.float64 else ""


def _rows(folder: str, evaluation: EvaluationRecord, items: Mapping[str, pa.ChunkedArray]) -> QuestionRows:
    # An answer that could not be parsed is -1, which is no gold answer.
    correct = is_correct(items, "prediction_norm" if evaluation.primary == "acc_norm" else "prediction")
    clusters = items.get("cluster", pa.chunked_array([pa.nulls(len(correct))]))
    return QuestionRows(
        folder,
        evaluation.label,
        evaluation.task,
        items["question_id"],
        clusters,
        correct,
        right_probability(items, evaluation.primary),
        np.asarray(items["gold"]),
        fixed_labels(items),
    )


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
        "probability": np.concatenate(
            [
                np.empty(0),
                *(
                    np.full(len(rows.correct), np.nan) if rows.probability is None else rows.probability
                    for rows in evaluations
                ),
            ]
        ),
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
