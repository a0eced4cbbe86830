"""What more training samples bring: accuracy and judged scores against samples, and rank against samples."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from bench.analysis.cell_answers import cell_answers
from bench.analysis.levels import with_intervals
from bench.analysis.result_tables import trained_cells
from bench.report.figures.bars import bars_caption, draw_bar
from bench.report.figures.rendering import ReportFigure, render_figure
from bench.report.figures.style import DASHES, GREY, legend, series_looks, styled
from bench.report.judge_panels import JudgePanel

ACCURACY, HEAT, SCORE = NAMES = ("samples_vs_accuracy", "rank_by_samples", "samples_vs_score")
"""The figures' files."""


def draw(cells: pd.DataFrame, panels: list[JudgePanel]) -> list[ReportFigure]:
    """The figures that these results can fill: those of accuracy where cells have two sample counts, that of scores
    where a judge has scored such cells."""
    figures = []
    dots = "Small dots are seeds, lines their means." if cells["seed"].nunique() > 1 else "One seed a point."
    accuracy = _accuracy(cells)
    if accuracy is not None:
        caption = (
            f"Average of the tasks' primary metrics. {dots} {bars_caption(cells)} Dashed grey: the untuned base model."
        )
        says = "Average accuracy against training samples, one line a method"
        figures.append(render_figure(ACCURACY, "Samples against accuracy", says, caption, accuracy))
    heat = _heat(cells)
    if heat is not None:
        caption = "Average accuracy (%) by rank and training samples, the mean over seeds; a panel a method."
        says = "Average accuracy by rank and samples, one panel a method"
        figures.append(render_figure(HEAT, "Rank and samples", says, caption, heat))
    plotted = [panel for panel in panels if _several(panel.cells)]
    if plotted:
        says = "Judged score against training samples, one line a method, one panel a judge and set of questions"
        caption = _score_caption(plotted, dots)
        figures.append(render_figure(SCORE, "Samples against score", says, caption, _scores(plotted)))
    return figures


def _score_caption(panels: list[JudgePanel], dots: str) -> str:
    bars = bars_caption(pd.concat([_with_intervals(panel) for panel in panels]))
    caption = f"{dots} {bars} Dashed grey: the untuned base model."
    if any(panel.kind == "reference" for panel in panels):
        caption += (
            " The judge named reference gives the likeness to a reference answer from 0 to 100: it does not see "
            "whether an answer is right."
        )
    noisy = [panel for panel in panels if panel.noise]
    if noisy:
        widths = ", ".join(f"{panel.noise:.2f} ({panel.title})" for panel in noisy)
        caption += f" Bands: what the judge's own noise does to a mean, 95 % of the time: {widths}."
    silent = [panel for panel in panels if panel.noise is None and panel.kind != "reference"]
    if silent:
        names = ", ".join(dict.fromkeys(panel.name for panel in silent))
        caption += f" The noise of {names} is not known: no check has measured it."
    failed = list(dict.fromkeys(panel.name for panel in panels if panel.failed_check))
    if failed:
        caption += f" {', '.join(failed)} failed the check of judges: these scores say nothing."
    return caption


def _several(cells: pd.DataFrame) -> bool:
    done = trained_cells(cells)
    return done.groupby(_lines(done))["samples"].nunique().max() > 1 if len(done) else False


def _lines(cells: pd.DataFrame) -> pd.Series:
    """The line that each cell lies on: its series, with its rank where the series has several."""
    ranks = cells.groupby("series")["rank"].nunique()
    several = cells["series"].map(ranks) > 1
    names = cells["series"] + " r" + cells["rank"].map(lambda rank: "" if pd.isna(rank) else f"{rank:g}")
    return cells["series"].where(~several, names).rename("line")


def _look(done: pd.DataFrame) -> dict[str, tuple[str, str, float]]:
    """(colour, marker, opacity) of each line: a series keeps its colour, its higher ranks are darker."""
    of_series = series_looks(dict.fromkeys(done["series"]))
    looks = {}
    for series, runs in done.groupby("series", sort=False):
        names = list(dict.fromkeys(runs.sort_values("rank")["line"]))
        for place, name in enumerate(names):
            shade = 1.0 if len(names) == 1 else 0.35 + 0.65 * place / (len(names) - 1)
            looks[name] = (*of_series[series], shade)
    return looks


def _accuracy(cells: pd.DataFrame) -> Figure | None:
    """Average accuracy (points) against samples. None where no line has two counts."""
    if not _several(cells):
        return None
    with styled():
        figure = Figure(layout="constrained")
        ax = figure.subplots()
        _curves(ax, cells)
        ax.set_ylabel("average accuracy (%)")
        legend(figure, [ax])
    return figure


def _scores(panels: list[JudgePanel]) -> Figure:
    """Mean score against samples, a panel a judge and set, each on its judge's own scale."""
    with styled():
        figure = Figure(layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, panel in zip(axes, panels, strict=True):
            _curves(ax, _with_intervals(panel), panel.noise)
            ax.set_title(panel.title, fontsize=10)
            ax.set_ylabel(f"mean score ({panel.scale})")
        legend(figure, list(axes))
    return figure


def _with_intervals(panel: JudgePanel) -> pd.DataFrame:
    """The cells of a panel with the intervals of their mean scores."""
    bounds = panel.scores.set_index("folder")
    noise = panel.cells["folder"].map((bounds["high"] - bounds["low"]) / 2)
    return with_intervals(panel.cells.assign(question_noise=noise), cell_answers(panel.questions))


def _curves(ax: Axes, cells: pd.DataFrame, noise: float | None = None) -> None:
    """`average` against samples on a log axis: a line for each series (and rank), its seeds as dots."""
    done = trained_cells(cells)
    done = done.assign(line=_lines(done))
    look = _look(done)
    for place, (name, runs) in enumerate(done.groupby("line", sort=False)):
        colour, marker, shade = look[name]
        # Side by side, so that intervals of one count do not cover one another.
        shift = 1.02 ** (place - (len(look) - 1) / 2)
        means = runs.groupby("samples")["average"].mean()
        at = means.index.to_numpy() * shift
        if noise:
            ax.fill_between(at, means - noise, means + noise, color=colour, alpha=0.12, lw=0)
        for count, of_count in runs.groupby("samples"):
            draw_bar(ax, (count * shift, means[count]), of_count, colour, shade=shade)
        ax.plot(at, means, color=colour, marker=marker, ms=6, lw=1.6, alpha=shade, label=name)
        if runs.groupby("samples").size().max() > 1:
            ax.plot(runs["samples"] * shift, runs["average"], color=colour, marker=".", ms=5, ls="none", alpha=0.55)
    untuned = cells[(cells["status"] == "done") & (cells["method"] == "base") & cells["average"].notna()]
    for place, (base, runs) in enumerate(untuned.groupby("base")):
        label = "untuned" if cells["base"].nunique() == 1 else f"untuned {base}"
        ax.axhline(runs["average"].mean(), color=GREY, ls=DASHES[place % len(DASHES)], lw=1.2, label=label)
    counts = sorted(done["samples"].unique())
    ax.set_xscale("log")
    ax.set_xticks(counts, [f"{count:,}" for count in counts])
    ax.minorticks_off()
    ax.margins(x=0.12)
    ax.set_xlabel("training samples")


def _heat(cells: pd.DataFrame) -> Figure | None:
    """Average accuracy (points) by rank and samples, a panel a series. None where no series has two of each."""
    done = trained_cells(cells)
    done = done[done["rank"].notna()]
    counts = done.groupby("series")[["rank", "samples"]].nunique()
    plotted = [name for name in dict.fromkeys(done["series"]) if (counts.loc[name] > 1).all()]
    if not plotted:
        return None
    done = done[done["series"].isin(plotted)]
    tables = {
        name: rows.pivot_table(index="rank", columns="samples", values="average").sort_index(ascending=False)
        for name, rows in done.groupby("series")
    }
    columns = min(3, len(plotted))
    lines = math.ceil(len(plotted) / columns)
    across = max(table.shape[1] for table in tables.values())
    down = max(table.shape[0] for table in tables.values())
    size = (1.6 + columns * (0.9 + 0.75 * across), 0.9 + lines * (0.7 + 0.5 * down))
    with styled({"axes.grid": False}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        low, high = done["average"].min(), done["average"].max()
        images = [_heat_panel(ax, name, tables[name], low, high) for ax, name in zip(axes, plotted, strict=False)]
        for ax in axes[len(plotted) :]:
            ax.set_axis_off()
        figure.colorbar(images[-1], ax=list(axes), label="average accuracy (%)", shrink=0.9)
    return figure


def _heat_panel(ax: Axes, name: str, table: pd.DataFrame, low: float, high: float) -> AxesImage:
    """One series: its accuracies (ranks, sample counts) as colours and numbers, on a scale from low to high."""
    values = table.to_numpy()
    image = ax.imshow(values, cmap="cividis", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
    ax.set_xticks(range(table.shape[1]), [f"{count:,}" for count in table.columns])
    ax.set_yticks(range(table.shape[0]), [f"{rank:g}" for rank in table.index])
    ax.tick_params(length=0)
    for (y, x), value in np.ndenumerate(values):
        if not math.isnan(value):
            ink = "white" if value < (low + high) / 2 else "black"
            ax.text(x, y, f"{value:.1f}", ha="center", va="center", color=ink, fontsize=9)
    ax.set_title(name, fontsize=10)
    ax.set_xlabel("training samples")
    ax.set_ylabel("rank")
    return image
