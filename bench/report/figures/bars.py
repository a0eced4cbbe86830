"""The bars of figures that show averages: the interval of each setting by itself (`bench.analysis.levels`)."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from bench.analysis.levels import BOTH, QUESTIONS_ALONE, SEEDS_ALONE
from bench.analysis.result_tables import trained_cells


def bars_caption(cells: pd.DataFrame) -> str:
    """What the bars are. Those of a setting do not compare it with another one."""
    kinds = set(trained_cells(cells)["interval"])
    alone = "the sampling of questions alone, which knows nothing of seeds"
    if kinds == {QUESTIONS_ALONE}:
        return f"Thin bars: 95 % from {alone}."
    names = [kind for kind in (BOTH, SEEDS_ALONE) if kind in kinds]
    caption = f"Bars: 95 %, the mean of a setting over {', or '.join(names)}"
    if QUESTIONS_ALONE in kinds:
        caption += f"; thin ones, of fewer than three seeds: {alone}"
    return (
        f"{caption}. Methods meet at the same seeds and questions, so bars that overlap say nothing of a difference; "
        "the contrasts and paired differences do."
    )


def draw_bar(
    ax: Axes, at: tuple[float, float], runs: pd.DataFrame, colour: str, along: str = "y", shade: float = 1
) -> None:
    """The bar of a setting, whose cells are `runs`, at its mean (x, y) along an axis; thinner where it knows nothing of
    seeds."""
    half = runs["half_width"].iloc[0]
    alone = runs["interval"].iloc[0] == QUESTIONS_ALONE
    ax.errorbar(
        *at,
        xerr=half if along == "x" else None,
        yerr=half if along == "y" else None,
        color=colour,
        fmt="none",
        lw=0.8 if alone else 1.3,
        capsize=2,
        alpha=shade * (0.45 if alone else 0.7),
    )
