"""Which setting to take: named only where it is not inside the noise, and of equals the cheapest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from bench.analysis.best_setting import RankedSetting
from bench.report.finding import p_text, points_text
from bench.statistics import LEVEL, SEEDS

LEAST_SAVING = 0.01
"""A smaller saving (a share) is not spoken of."""


def best_sentences(ranked: Sequence[RankedSetting], costs: pd.DataFrame, margin: float) -> list[str]:
    """A sentence for each base with two settings or more. `costs`: of `setting_costs`; `margin`: points, 0 for none."""
    bases = list(dict.fromkeys(setting.base for setting in ranked))
    sentences = []
    for base in bases:
        settings = [setting for setting in ranked if setting.base == base]
        if len(settings) > 1:
            where = f" on {base}" if len(bases) > 1 else ""
            sentences.append(_sentence(settings, costs.set_index("label"), margin, where))
    return sentences


def _sentence(settings: Sequence[RankedSetting], costs: pd.DataFrame, margin: float, where: str) -> str:
    """`settings`: the highest average first."""
    top = settings[0]
    if min(setting.seeds for setting in settings) < SEEDS:
        return f"No setting is named the best{where}: that takes {SEEDS} seeds of each, and some have fewer."
    contenders = [setting for setting in settings if not setting.against_best.worse]
    seeds = sorted({setting.seeds for setting in settings})
    over = f"95 % over {seeds[0] if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'} seeds and questions"
    if len(contenders) == 1:
        return f"The best setting{where} is {_named(contenders[0])}: every other one is worse ({over})."
    equals = [
        setting
        for setting in settings
        if setting.against_best.not_worse_p is not None and setting.against_best.not_worse_p <= 1 - LEVEL
    ]
    if equals:
        chosen = _cheapest(equals, costs)
        p = chosen.against_best.not_worse_p
        assert p is not None
        return (
            f"Take {_named(chosen)}{where}: it is not worse than the best by {points_text(margin)} (adjusted p "
            f"{p_text(p)}; at most {chosen.against_best.bound:.1f}, {over})"
            f"{_as_cheapest(chosen, equals, top, costs)}."
        )
    bound = top.against_best.bound
    lost = f": who takes it loses at most {bound:.1f} points to the best" if math.isfinite(bound) else ""
    return (
        f"No setting is named the best{where}: {len(contenders)} of {len(settings)} cannot be told apart from it. The "
        f"highest average is that of {_named(top)}{lost} ({over})."
    )


def _named(setting: RankedSetting) -> str:
    return f"{setting.label} ({setting.average:.1f})"


def _cheapest(settings: Sequence[RankedSetting], costs: pd.DataFrame) -> RankedSetting:
    """By the time of training, where it is known of all, else by trained parameters; then by the higher average."""
    labels = [setting.label for setting in settings]
    column = "seconds" if costs.loc[labels, "seconds"].notna().all() else "trainable"
    return min(settings, key=lambda setting: (costs.loc[setting.label, column], -setting.average))


def _as_cheapest(
    chosen: RankedSetting, equals: Sequence[RankedSetting], top: RankedSetting, costs: pd.DataFrame
) -> str:
    """Why this one of several that are as good: `, and of 3 such settings the cheapest: 33 % less ...`."""
    if len(equals) == 1:
        return ""
    savings = []
    for column, what in (("seconds", "training time"), ("memory", "memory")):
        share = 1 - costs.loc[chosen.label, column] / costs.loc[top.label, column]
        if share >= LEAST_SAVING:  # false where it is not known
            savings.append(f"{100 * share:.0f} % less {what}")
    saved = f": {' and '.join(savings)} than {_named(top)}, the highest average" if savings else ""
    return f", and of {len(equals)} such settings the cheapest{saved}"
