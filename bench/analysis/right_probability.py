"""The secondary outcome: the probability of the right choice, from the rows of an evaluation.

It is the softmax over the choices of a question, at the right one, of the scores that the task's primary metric ranks
them by. Of acc these are the log-likelihoods l_k. Of acc_norm they are l_k / n_k, with n_k the characters of choice k,
times the mean of n over the question's choices: the softmax of nats a character would be nearly uniform whatever a
model knows. Choices of equal length have the same probabilities by both.

Log-likelihood itself is no outcome: it follows the confidence, which is to say the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Rows = Mapping[str, pa.ChunkedArray]
"""The columns of an evaluation's rows, (questions,) each."""


def right_probability(rows: Rows, primary: str) -> np.ndarray | None:
    """(questions,) 0 to 1. None where choices have no log-likelihoods, or where these do not fit the right answers."""
    choices = _choices(rows)
    if choices is None:
        return None
    scores, lengths, counts, starts = choices
    gold = np.asarray(rows["gold"])
    if (gold < 0).any() or (gold >= counts).any():
        return None
    if primary == "acc_norm":
        if lengths is None:
            return None
        characters = np.maximum(lengths, 1)
        scores = scores / characters * np.repeat(np.add.reduceat(characters, starts) / counts, counts)
    weights = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), counts))
    return np.asarray(weights[starts + gold] / np.add.reduceat(weights, starts))


def fixed_labels(rows: Rows) -> bool:
    """Whether all questions have the same choices, as true or false: then always giving the commonest is a strategy.

    The rows have the lengths of the choices and not their texts: they are the same for all questions, and not all
    equal. Choices that are numbered or lettered have equal lengths and stand for another text in each question; labels
    of equal length are taken for such ones.
    """
    choices = _choices(rows)
    if choices is None:
        return False
    _, lengths, counts, _ = choices
    if lengths is None or len(counts) < 2 or len(set(counts.tolist())) > 1:
        return False
    by_question = lengths.reshape(len(counts), -1)  # (questions, choices)
    return bool((by_question == by_question[0]).all() and len(set(by_question[0].tolist())) > 1)


def _choices(rows: Rows) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray] | None:
    """Log-likelihoods (nats) and lengths (characters; None where they do not fit) of all choices, one question after
    the other; the number of choices of each question, and where they begin. None without finite log-likelihoods."""
    if "loglikelihoods" not in rows or rows["loglikelihoods"].null_count:
        return None
    counts = pc.list_value_length(rows["loglikelihoods"]).to_numpy()
    scores = pc.list_flatten(rows["loglikelihoods"]).to_numpy()
    if not len(counts) or (counts < 1).any() or scores.dtype != np.float64 or not np.isfinite(scores).all():
        return None
    lengths = None
    if "lengths" in rows and not rows["lengths"].null_count:
        flat = pc.list_flatten(rows["lengths"])
        if flat.null_count == 0 and np.array_equal(pc.list_value_length(rows["lengths"]).to_numpy(), counts):
            lengths = flat.to_numpy()
    return scores, lengths, counts, np.cumsum(counts) - counts
