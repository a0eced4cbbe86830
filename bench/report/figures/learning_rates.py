"""How sensitive each method is to its learning rate: the accuracy of its trials."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.figures.rendering import ReportFigure, render_figure
from bench.report.figures.style import GREY, series_looks, styled

NAME = "learning_rates"


def draw(frame: pd.DataFrame) -> list[ReportFigure]:
    """Accuracy against the learning rate: a panel a method, a line a setting, the chosen rates ringed. On the test
    where every rate was run with every seed, else on development questions."""
    crossed = frame["accuracy"].notna().any()
    what = "accuracy" if crossed else "development accuracy"
    scored = frame.assign(score=frame["accuracy"]) if crossed else frame
    scored = scored[scored["score"].notna()]
    if scored.empty:
        return []
    methods = list(dict.fromkeys(scored["method"]))
    looks = series_looks(methods)
    columns = min(3, len(methods))
    lines = math.ceil(len(methods) / columns)
    with styled():
        figure = Figure(figsize=(1.2 + 2.7 * columns, 0.6 + 2.3 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        for ax, method in zip(axes, methods, strict=False):
            _panel(ax, method, scored[scored["method"] == method], looks[method])
        for ax in axes[len(methods) :]:
            ax.set_axis_off()
        figure.supxlabel("learning rate", fontsize=9.5)
        figure.supylabel(f"{what} (%)", fontsize=9.5)
    caption = (
        "Mean over the seeds, the band from the lowest to the highest of them; ringed: rates that were chosen."
        if crossed
        else "One trial a point, one seed; ringed: the rate at which the final cells run."
    )
    says = f"{what.capitalize()} against learning rate, one panel a method"
    return [render_figure(NAME, "Learning rates", says, caption, figure)]


def _panel(ax: Axes, method: str, scored: pd.DataFrame, look: tuple[str, str]) -> None:
    """The settings of one method, a line each."""
    settings = scored.groupby("setting", sort=False)
    colour, marker = look
    for place, (_, rows) in enumerate(settings):
        by_rate = rows.groupby("lr")
        setting = by_rate.agg(score=("score", "mean"), chosen=("chosen", "first"), rank=("rank", "first")).reset_index()
        ends = by_rate["score"].agg(["min", "max"])
        shade = 1.0 if len(settings) == 1 else 0.4 + 0.6 * place / (len(settings) - 1)
        rank = setting["rank"].iloc[0]
        label = None if pd.isna(rank) else f"r={rank:g}"
        ax.plot(setting["lr"], setting["score"], color=colour, marker=marker, ms=4, lw=1.4, alpha=shade, label=label)
        ax.fill_between(ends.index, ends["min"], ends["max"], color=colour, alpha=0.12 * shade, lw=0)
        best = setting[setting["chosen"] > 0]
        ax.plot(best["lr"], best["score"], ls="none", marker="o", ms=10, mfc="none", mec=GREY)
    ax.set_xscale("log")
    tried = sorted(scored["lr"].unique())
    ax.set_xticks(tried, [f"{rate:g}" for rate in tried], fontsize=8, rotation=30 if len(tried) > 3 else 0)
    ax.minorticks_off()
    ax.margins(x=0.15)
    ax.set_title(method, fontsize=10)
    if len(settings) > 1:
        ax.legend(frameon=False, fontsize=8)
