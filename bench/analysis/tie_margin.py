"""The margin of a tie: a share of what training gains over the untuned model, and at most so many points."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.analysis.result_tables import trained_cells
from bench.sweep.sections import ReportConfig

SETTING = ["series", "rank", "samples"]


@dataclass(frozen=True)
class TieMargin:
    """The margin of one sweep."""

    points: float
    """0 where no difference is small enough to be a tie."""
    gain: float | None
    """Accuracy of the baseline's best setting less that of its untuned base (points), the smallest over bases; None
    where either is not there."""
    reason: str
    """A clause on where the margin comes from."""


def tie_margin(cells: pd.DataFrame, baseline: str | None, rules: ReportConfig) -> TieMargin:
    """The margin by the rules of the report.

    The gain is that of the baseline's best mean over seeds: what there is to learn in this sweep. A margin of the whole
    gain or more would call a method equivalent that has learned nothing, so it leaves no ties.
    """
    gain = _gain(cells, baseline)
    if gain is None:
        return TieMargin(rules.tie_margin, None, "the untuned model is not scored, so it is not a share of the gain")
    gained = f"{baseline} gains {gain:.1f} points at best over the untuned model"
    if rules.tie_share is not None:
        if gain <= 0:
            return TieMargin(0.0, gain, f"{baseline} gains nothing over the untuned model, so nothing counts as a tie")
        share = rules.tie_share * gain
        if share < rules.tie_margin:
            return TieMargin(share, gain, f"{100 * rules.tie_share:g} % of the gain: {gained}")
        return TieMargin(rules.tie_margin, gain, f"at most {rules.tie_margin:g}: {gained}")
    if rules.tie_margin >= gain:
        fix = f"set report.tie_margin below {gain:.1f}" if gain > 0.05 else "no margin is small enough"
        reason = f"report.tie_margin {rules.tie_margin:g} is no less than the gain, so nothing counts as a tie; {fix}"
        return TieMargin(0.0, gain, f"{gained}, and {reason}")
    return TieMargin(rules.tie_margin, gain, f"as the sweep file says: {gained}")


def _gain(cells: pd.DataFrame, baseline: str | None) -> float | None:
    done = trained_cells(cells)
    untuned = cells[(cells["status"] == "done") & (cells["method"] == "base") & cells["average"].notna()]
    of_baseline = done[done["method"] == baseline]
    best = of_baseline.groupby(["base", *SETTING], dropna=False)["average"].mean().groupby("base").max()
    gains = (best - untuned.groupby("base")["average"].mean()).dropna()
    return float(gains.min()) if len(gains) else None
