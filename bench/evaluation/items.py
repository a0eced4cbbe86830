"""The rows of an evaluation, one a question, and the scores that follow from them alone."""

from __future__ import annotations

from typing import Any

import pandas as pd


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
