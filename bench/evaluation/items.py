"""The rows of an evaluation, one a question, and the scores that follow from them alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.errors import Diverged


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


def check(items: pd.DataFrame) -> pd.DataFrame:
    """The rows, if every recorded accuracy follows from its prediction.

    Raises ValueError where one does not: lm-eval and the rows would disagree.
    """
    recomputed = (items["prediction"] == items["gold"]).astype(float)
    if not recomputed.equals(items["acc"].astype(float)):
        raise ValueError(f"{(recomputed != items['acc']).sum()} recorded accuracies do not follow from their rows")
    return items


def scores(items: pd.DataFrame, primary: str) -> dict[str, Any]:
    """Accuracies of an items table, from its rows alone: n, acc, the primary metric, the majority class and chance
    (1/k, averaged over questions).

    Where choices were scored, acc_norm too. Where answers were generated, parse_rate (the share in which the parser
    found an answer, be it none of the choices) and acc_parsed, the accuracy among those (None without any): an acc
    below chance is then seen to be a failure of the form and not of knowledge.
    """
    gold = items["gold"]
    right = items["prediction"] == gold
    values: dict[str, float | None] = {"acc": float(right.mean())}
    if "prediction_norm" in items:
        values["acc_norm"] = float((items["prediction_norm"] == gold).mean())
    if "parsed" in items:
        parsed = items["parsed"] != ""
        values["parse_rate"] = float(parsed.mean())
        values["acc_parsed"] = float(right[parsed].mean()) if parsed.any() else None
    choices = items["choices"] if "choices" in items else items["loglikelihoods"].map(len)
    return {
        "n": len(items),
        **values,
        "primary": primary,
        "score": values[primary],
        "majority": float(gold.value_counts(normalize=True).max()),
        "chance": float((1 / choices).mean()),
    }
