"""The rows of an evaluation, one a question, and the scores that follow from them alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bench.errors import Diverged

if TYPE_CHECKING:
    import pandas as pd

Columns = TypeVar("Columns", bound="Mapping[str, Any] | pd.DataFrame")
"""The columns of an evaluation's rows by name, each (questions,): a table of pandas, or arrays."""


def samples_of(lm: Any, name: str, task: Any, documents: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """lm-eval's samples of a task that it has just run, in the order of the documents (all of them by default).

    Raises Diverged where a log-likelihood is not finite.
    """
    import lm_eval

    chosen = None if documents is None else {name: list(documents)}
    # Not simple_evaluate: it indexes every task that lm-eval has, for nine seconds a call.
    results = lm_eval.evaluate(lm, {name: task}, samples=chosen, log_samples=True, bootstrap_iters=0)
    samples = results["samples"][name]
    # The response of a log-likelihood is a pair, that of a generation a text.
    responses = [one for sample in samples for one in sample["filtered_resps"] if not isinstance(one, str)]
    if not all(math.isfinite(one[0]) for one in responses):
        raise Diverged(f"the model's log-likelihoods on {name} are not finite")
    return sorted(samples, key=lambda sample: sample["doc_id"])


def check(items: Columns) -> Columns:
    """The rows, if every recorded accuracy follows from its prediction.

    Raises ValueError where one does not: lm-eval and the rows would disagree.
    """
    apart = right(items) != np.asarray(items["acc"], dtype=float)
    if apart.any():
        raise ValueError(f"{apart.sum()} recorded accuracies do not follow from their rows")
    return items


def right(items: Columns, prediction: str = "prediction") -> np.ndarray:
    """Whether each prediction is the right answer. (questions,)"""
    return np.asarray(items[prediction]) == np.asarray(items["gold"])


def scores(items: Columns, primary: str) -> dict[str, Any]:
    """Accuracies of an evaluation's rows, from these alone: n, acc, the primary metric, the majority class and chance
    (1/k, averaged over questions; k is `choices`, or how many `loglikelihoods` there are).

    Where choices were scored, acc_norm too. Where answers were generated, parse_rate (the share in which the parser
    found an answer, be it none of the choices) and acc_parsed, the accuracy among those (None without any): an acc
    below chance is then seen to be a failure of the form and not of knowledge.
    """
    correct = right(items)
    values: dict[str, float | None] = {"acc": float(correct.mean())}
    if "prediction_norm" in items:
        values["acc_norm"] = float(right(items, "prediction_norm").mean())
    if "parsed" in items:
        parsed = np.asarray(items["parsed"], dtype=object) != ""
        values["parse_rate"] = float(parsed.mean())
        values["acc_parsed"] = float(correct[parsed].mean()) if parsed.any() else None
    choices = items["choices"] if "choices" in items else [len(one) for one in items["loglikelihoods"]]
    return {
        "n": len(correct),
        **values,
        "primary": primary,
        "score": values[primary],
        "majority": float(np.unique(items["gold"], return_counts=True)[1].max() / len(correct)),
        "chance": float((1 / np.asarray(choices)).mean()),
    }
