"""The rows of an evaluation, one a question, and the scores that follow from them alone."""

from __future__ import annotations

from typing import Any

import pandas as pd


def check(items: pd.DataFrame) -> pd.DataFrame:
    """The rows, if every recorded accuracy follows from its log-likelihoods.

    Raises ValueError where one does not: lm-eval and the rows would disagree.
    """
    recomputed = (items["prediction"] == items["gold"]).astype(float)
    if not recomputed.equals(items["acc"].astype(float)):
        raise ValueError(f"{(recomputed != items['acc']).sum()} recorded accuracies do not follow from their rows")
    return items


def scores(items: pd.DataFrame, primary: str) -> dict[str, Any]:
    """Accuracies of an items table, from its rows alone: n, acc, acc_norm, the primary metric, the majority class
    and chance (1/k, averaged over questions)."""
    gold = items["gold"]
    values = {
        "acc": float((items["prediction"] == gold).mean()),
        "acc_norm": float((items["prediction_norm"] == gold).mean()),
    }
    return {
        "n": len(items),
        **values,
        "primary": primary,
        "score": values[primary],
        "majority": float(gold.value_counts(normalize=True).max()),
        "chance": float((1 / items["loglikelihoods"].map(len)).mean()),
    }
