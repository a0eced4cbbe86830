"""Average accuracy of each method at its rank and samples: a row each, the best on top."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.result_tables import averaged_scores, majority_average, trained_cells
from bench.analysis.series import setting_labels
from bench.report.figures.bars import draw_bar
from bench.report.figures.rank_vs_accuracy import caption_of, series_with_ranks
from bench.report.figures.rendering import ReportFigure, render_figure
from bench.report.figures.style import DASHES, GREY, method_look, styled, wrapped

NAME = "accuracy_by_method"


def draw(cells: pd.DataFrame, scores: pd.DataFrame) -> list[ReportFigure]:
    """The figure, where a cell is trained and the rank figure does not show the same."""
    scores = averaged_scores(scores)
    figure = method_figure(cells, scores)
    if figure is None:
        return []
    caption = caption_of(cells, "large dots are means over seeds, small ones the seeds", "one seed a point")
    if majority_average(scores) is not None:
        caption += " Dotted: answering every task with its majority class."
    caption += " The order of the rows is no ranking of the methods."
    says = "Average accuracy of each method, one row each, the best on top"
    return [render_figure(NAME, "Accuracy by method", says, caption, figure)]


def method_figure(cells: pd.DataFrame, scores: pd.DataFrame) -> Figure | None:
    """Average accuracy (points) of each method at its rank and samples, a row each, the best on top; the untuned base
    and the majority class as lines. None without a trained cell, and where two methods are told by the rank figure."""
    trained = trained_cells(cells)
    in_rank_figure = set(series_with_ranks(cells))
    if trained.empty or (trained["method"].nunique() < 3 and set(trained["series"]) == in_rank_figure):
        return None
    trained = trained.assign(label=setting_labels(trained))
    rows = [(label, runs["average"].mean(), runs) for label, runs in trained.groupby("label")]
    rows.sort(key=lambda row: -row[1])
    with styled():
        figure = Figure(layout="constrained")
        ax = figure.subplots()
        for place, (_, mean, runs) in enumerate(rows):
            colour, marker = method_look(runs["method"].iloc[0])
            draw_bar(ax, (mean, place), runs, colour, along="x")
            ax.plot(mean, place, color=colour, marker=marker, ms=6, ls="none")
            if len(runs) > 1:
                ax.plot(runs["average"], [place] * len(runs), color=colour, marker=".", ms=5, ls="none", alpha=0.55)
        labels = [wrapped(label, 44) for label, _, _ in rows]
        ax.set_yticks(range(len(rows)), labels)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlabel("average accuracy (%)")
        longest = max(len(line) for label in labels for line in label.split("\n"))
        tallest = max(label.count("\n") + 1 for label in labels)
        width = 4.6 + 0.075 * longest
        lines = _references(ax, cells, scores)
        # Beside one another where they are short.
        columns = len(lines) if sum(0.8 + 0.075 * len(str(line.get_label())) for line in lines) < width else 1
        if lines:
            figure.legend(handles=lines, loc="outside upper center", ncols=columns, frameon=False)
        height = 1.3 + len(rows) * (0.08 + 0.17 * tallest) + (0.2 * (len(lines) - 1) if columns == 1 else 0)
        figure.set_size_inches(width, height)
    return figure


def _references(ax: Axes, cells: pd.DataFrame, scores: pd.DataFrame) -> list[Line2D]:
    """What every score is to be held against: the untuned base, and answering every task with its majority class."""
    lines = []
    untuned = cells[(cells["status"] == "done") & (cells["method"] == "base")]
    for place, (base, rows) in enumerate(untuned.groupby("base")):
        mean = rows["average"].mean()
        name = "untuned base" if cells["base"].nunique() == 1 else f"untuned {base}"
        dashes = DASHES[place % len(DASHES)]
        lines.append(ax.axvline(mean, color=GREY, ls=dashes, lw=1.2, zorder=1, label=f"{name} {mean:.1f}"))
    majority = majority_average(scores)
    if majority is not None:
        label = f"majority class {majority:.1f}"
        lines.append(ax.axvline(majority, color=GREY, ls=":", lw=1.4, zorder=1, label=label))
    return lines
