"""The rows of an evaluation, one for each question, and the scores that follow from the rows alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bench.store.records import CellRecord, EvaluationRecord, Scores

if TYPE_CHECKING:
    import pandas as pd

Columns = TypeVar("Columns", bound="Mapping[str, Any] | pd.DataFrame")
"""The columns of an evaluation's rows by name, each (questions,): a pandas table, or arrays."""


def check_rows(rows: Columns) -> Columns:
    """The rows, if every recorded accuracy follows from its prediction.

    Raises ValueError if one does not: lm-eval and the rows would then disagree.
    """
    contradictions = is_correct(rows) != np.asarray(rows["acc"], dtype=float)
    if contradictions.any():
        raise ValueError(f"{contradictions.sum()} recorded accuracies do not follow from their rows")
    return rows


def is_correct(rows: Columns, prediction: str = "prediction") -> np.ndarray:
    """Whether each prediction is the right answer, (questions,) bool. `prediction` is the name of the column."""
    return np.asarray(rows[prediction]) == np.asarray(rows["gold"])


def compute_scores(rows: Columns, primary: str) -> Scores:
    """The scores of an evaluation, computed from its rows alone; `primary` is the metric that stands for the task.

    Chance is 1/k averaged over the questions, where k is `choices` or else the number of `loglikelihoods`. acc_norm
    needs scored choices; parse_rate (the share in which the parser found an answer, be it none of the choices) and
    acc_parsed (the accuracy among those) need generated answers: they show whether an acc below chance is a failure
    of format or of knowledge.
    """
    correct = is_correct(rows)
    acc = float(correct.mean())
    acc_norm = float(is_correct(rows, "prediction_norm").mean()) if "prediction_norm" in rows else None
    parse_rate = acc_parsed = None
    if "parsed" in rows:
        parsed = np.asarray(rows["parsed"], dtype=object) != ""
        parse_rate = float(parsed.mean())
        acc_parsed = float(correct[parsed].mean()) if parsed.any() else None
    choices = rows["choices"] if "choices" in rows else [len(values) for values in rows["loglikelihoods"]]
    score = acc_norm if primary == "acc_norm" else acc
    if score is None:
        raise ValueError(f"these rows have no {primary}")
    return Scores(
        n=len(correct),
        acc=acc,
        acc_norm=acc_norm,
        primary=primary,
        score=score,
        majority=float(np.unique(rows["gold"], return_counts=True)[1].max() / len(correct)),
        chance=float((1 / np.asarray(choices)).mean()),
        parse_rate=parse_rate,
        acc_parsed=acc_parsed,
        gold_loss=_gold_loss(rows),
    )


def _gold_loss(rows: Mapping[str, Any] | pd.DataFrame) -> float | None:
    """Mean negative log-likelihood (nats) of the right choices; None where no choices were scored."""
    if "loglikelihoods" not in rows:
        return None
    gold, values = np.asarray(rows["gold"]), rows["loglikelihoods"]
    lists = values.to_numpy(zero_copy_only=False) if hasattr(values, "chunks") else values
    lengths = np.array([len(of_question) for of_question in lists])
    if not np.issubdtype(gold.dtype, np.integer) or (gold < 0).any() or (gold >= lengths).any():
        return None
    return -float(np.concatenate(list(lists))[np.cumsum(lengths) - lengths + gold].mean())


def tie_loss(record: CellRecord, evaluations: Sequence[EvaluationRecord]) -> float:
    """What decides between learning rates of equal scores: the mean negative log-likelihood (nats) of the right answers
    to the development questions; where answers are generated, the training loss at the end, or infinite."""
    losses = [evaluation.gold_loss for evaluation in evaluations if evaluation.gold_loss is not None]
    if len(losses) == len(evaluations):
        return sum(losses) / len(losses)
    loss = record.costs.final_loss if record.costs is not None else None
    return math.inf if loss is None else loss
