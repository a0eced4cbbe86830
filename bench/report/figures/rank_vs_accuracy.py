"""Average accuracy against rank: a line a series, a panel a sample count."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.result_tables import averaged_scores, trained_cells
from bench.report import published
from bench.report.figures.bars import bars_caption, draw_bar
from bench.report.figures.rendering import ReportFigure, render_figure
from bench.report.figures.style import DASHES, GREY, legend, series_looks, styled
from bench.store.records import PlanRecord

NAME = "rank_vs_accuracy"
LINES = 8
"""More series than this, and only those with a line are in the figure."""


def draw(cells: pd.DataFrame, scores: pd.DataFrame, plan: PlanRecord) -> list[ReportFigure]:
    """The figure, where a series has two ranks."""
    figure = rank_figure(cells, averaged_scores(scores), plan)
    if figure is None:
        return []
    caption = caption_of(cells, "small dots are seeds, lines their means", "one seed a point")
    left_out = trained_cells(cells)["series"].nunique() - len(series_with_ranks(cells))
    if left_out:
        caption += f" Series without two ranks ({left_out}) are in the next figure only."
    says = "Average accuracy against rank, one line a method"
    return [render_figure(NAME, "Rank against accuracy", says, caption, figure)]


def caption_of(cells: pd.DataFrame, several: str, single: str) -> str:
    """What a figure of average accuracies shows. `several` and `single` describe its dots, of several seeds or one."""
    dots = several if cells[cells["method"] != "base"]["seed"].nunique() > 1 else single
    return f"Average of the tasks' primary metrics; {dots}. {bars_caption(cells)} Dashed grey: the untuned base model."


def series_with_ranks(cells: pd.DataFrame) -> list[str]:
    """The series of the rank figure: all, or those with a line where they are many; none where no series has two
    ranks to draw a line between."""
    trained = trained_cells(cells)
    series = list(dict.fromkeys(trained["series"]))
    ranks = trained.groupby(["series", "samples"])["rank"].nunique()
    lines = {name for name, _ in ranks[ranks > 1].index}
    if not lines:
        return []
    return series if len(series) <= LINES else [name for name in series if name in lines]


def rank_figure(cells: pd.DataFrame, scores: pd.DataFrame, plan: PlanRecord) -> Figure | None:
    """Average accuracy (points) against rank: a line a series (its mean over seeds), a dot a seed, the untuned base
    as a line; one panel a sample count. None where no series has two ranks."""
    plotted = series_with_ranks(cells)
    if not plotted:
        return None
    done = cells[(cells["status"] == "done") & cells["average"].notna()]
    trained = done[done["series"].isin(plotted)]
    ranked = trained[trained["rank"].notna()]
    with styled():
        panels = sorted(ranked["samples"].unique())
        # Not through pyplot, which keeps every figure that it makes.
        figure = Figure(layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)
        looks = series_looks(plotted)
        for ax, samples in zip(axes[0], panels, strict=True):
            _panel(ax, ranked[ranked["samples"] == samples], looks)
            for series, rows in trained[trained["rank"].isna() & (trained["samples"] == samples)].groupby("series"):
                ax.axhline(rows["average"].mean(), color=looks[series][0], ls="-.", lw=1.3, label=series)
            for place, (base, rows) in enumerate(done[done["method"] == "base"].groupby("base")):
                label = "untuned" if cells["base"].nunique() == 1 else f"untuned {base}"
                dashes = DASHES[place % len(DASHES)]
                ax.axhline(rows["average"].mean(), color=GREY, ls=dashes, lw=1.2, label=label)
            of_panel = done[(done["samples"] == samples) | (done["method"] == "base")]
            if not published.rank_differences(plan, of_panel, scores):
                _overlay(ax, looks)
            if len(panels) > 1:
                ax.set_title(f"{samples:,} training samples", fontsize=10)
            ax.set_xlabel("rank")
        axes[0][0].set_ylabel("average accuracy (%)")
        legend(figure, list(axes[0]))
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    names = [name for name in looks if name in set(rows["series"])]
    for place, name in enumerate(names):
        runs = rows[rows["series"] == name]
        # Side by side, so that intervals of one rank do not cover one another.
        shift = 2 ** (min(0.05, 0.6 / len(names)) * (place - (len(names) - 1) / 2))
        means = runs.groupby("rank")["average"].mean()
        colour, marker = looks[name]
        at = [rank * shift for rank in means.index]
        for rank, of_rank in runs.groupby("rank"):
            draw_bar(ax, (rank * shift, means[rank]), of_rank, colour)
        ax.plot(at, means, color=colour, marker=marker, ms=6, lw=1.6, label=name)
        if runs.groupby("rank").size().max() > 1:
            ax.plot(runs["rank"] * shift, runs["average"], color=colour, marker=".", ms=5, ls="none", alpha=0.55)
    ranks = sorted(rows["rank"].unique())
    ax.set_xscale("log", base=2)
    numbered: list[float] = []
    for rank in rows["rank"].value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable").index:
        # Of ranks too near one another for two numbers, that of the most cells.
        if all(abs(math.log(rank / other)) > 0.07 * math.log(ranks[-1] / ranks[0]) for other in numbered):
            numbered.append(rank)
    ax.set_xticks(ranks, [f"{rank:g}" if rank in numbered else "" for rank in ranks])
    ax.minorticks_off()
    ax.margins(x=0.12)


def _overlay(ax: Axes, looks: dict[str, tuple[str, str]]) -> None:
    """The published curves, dashed, and others' reproductions, as open markers."""
    for method, rows in published.read_published("dora_table15_rank").groupby("method"):
        colour, marker = looks.get(method, (GREY, "o"))
        label = f"{method}, {published.RANK_SOURCE}"
        ax.plot(rows["rank"], rows["average"], color=colour, ls="--", marker=marker, ms=4, alpha=0.7, label=label)
    for method, rows in published.read_published("dora_reproductions").groupby("method"):
        colour, marker = looks.get(method, (GREY, "o"))
        label = f"{method}, reproductions by others"
        ax.plot(rows["rank"], rows["average"], color=colour, ls="none", marker=marker, mfc="none", label=label)
