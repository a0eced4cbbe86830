"""Quality against cost: what no other setting beats in both, by each of four costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from bench import frames
from bench.report.figures import STYLE, Drawn, drawn, legend, looks
from bench.statistics import ROUNDING

NAME = "quality_vs_cost"
MOST_NAMED = 8
"""Points of a front that are named in the figure; the sentences below it name all."""


@dataclass(frozen=True)
class Cost:
    """An axis of the figure."""

    column: str
    """Of `settings`."""
    label: str
    words: str
    """What a front is said to be of."""


COSTS = (
    Cost("trainable", "trainable parameters", "trainable parameters"),
    Cost("memory", "peak memory of training (MB)", "peak memory of training"),
    Cost("seconds", "training (s)", "training time"),
    Cost("latency", "64 tokens, one prompt (s)", "time to answer"),
)


def settings(cells: pd.DataFrame) -> pd.DataFrame:
    """One row a setting of the trained cells (all but the seed): its label, its mean average, and its costs, each the
    mean over the seeds that have it. What depends on time or memory counts only where a cell had its device to itself;
    the latency is that of the merged model where the method merges."""
    done = frames.trained(cells)
    done = done.assign(label=frames.labels(done))
    shared = done["shared"].eq(True)
    numbers = {
        name: pd.to_numeric(done[name]).mask(shared)
        for name in ("training_peak_bytes", "training_seconds", "latency_merged_1", "latency_unmerged_1")
    }
    done = done.assign(
        trainable=pd.to_numeric(done["trainable"]),
        memory=numbers["training_peak_bytes"] / 1e6,
        seconds=numbers["training_seconds"],
        latency=numbers["latency_merged_1"].fillna(numbers["latency_unmerged_1"]),
    )
    # Timed once for all sample counts and seeds, on which it does not depend.
    done["latency"] = done["latency"].fillna(
        done.groupby(["series", "rank"], dropna=False)["latency"].transform("mean")
    )
    kept = dict.fromkeys(("average", *(one.column for one in COSTS)), "mean")
    rows = done.groupby("label", sort=False).agg({"series": "first", **kept})
    return rows.reset_index()


def front(rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows that none beats: none is better at no more cost, or as good at less. By rising cost."""
    known = rows[rows[cost].notna()].sort_values([cost, "average"], ascending=[True, False], kind="stable")
    best, kept = -math.inf, []
    for place, score in known["average"].items():
        if score > best + ROUNDING:
            best = score
            kept.append(place)
    return known.loc[kept]


def sentences(cells: pd.DataFrame) -> list[str]:
    """The cells of each front, cheapest first."""
    rows = settings(cells)
    found = []
    for cost in COSTS:
        mine = front(rows, cost.column)
        if rows[cost.column].notna().sum() > 1:
            found.append(f"Best for their {cost.words}, the cheapest first: {', '.join(mine['label'])}.")
    return found


def draw(cells: pd.DataFrame) -> list[Drawn]:
    """A panel a cost that two settings have; none where there are no two."""
    rows = settings(cells)
    costs = [cost for cost in COSTS if rows[cost.column].notna().sum() > 1 and rows[cost.column].nunique() > 1]
    if not costs:
        return []
    caption = (
        "Each point is a setting, the mean over its seeds. The line joins the settings that no other beats in both "
        "accuracy and that cost; points nearer to one another than the intervals of the table are not told apart. "
        "What shared its device is left out of all but the parameters, what was not measured out of its panel. The "
        "time to answer is measured once for all samples and seeds."
    )
    says = "Average accuracy against trainable parameters, memory, training time and time to answer, with the fronts"
    return [drawn(NAME, "Quality against cost", says, caption, _figure(rows, costs))]


def _figure(rows: pd.DataFrame, costs: list[Cost]) -> Figure:
    look = looks(dict.fromkeys(rows["series"]))
    columns = min(2, len(costs))
    lines = math.ceil(len(costs) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(layout="constrained")
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for ax, cost in zip(axes.ravel(), costs, strict=False):
            _panel(ax, rows, cost, look)
        for ax in axes.ravel()[len(costs) :]:
            ax.set_axis_off()
        for ax in axes[:, 0]:
            ax.set_ylabel("average accuracy (%)")
        legend(figure, list(axes[0]))
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, max(height, 3.3 * lines))
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, cost: Cost, look: dict[str, tuple[str, str]]) -> None:
    for series, own in rows.groupby("series", sort=False):
        colour, marker = look[series]
        ax.plot(own[cost.column], own["average"], color=colour, marker=marker, ms=6, ls="none", label=series)
    best = front(rows, cost.column)
    ax.plot(best[cost.column], best["average"], color="#8A8A8A", lw=1.1, zorder=1, drawstyle="steps-post")
    for row in best.head(MOST_NAMED).itertuples():
        at = (getattr(row, cost.column), row.average)
        ax.annotate(row.label, at, xytext=(3, 5), textcoords="offset points", fontsize=7.5)
    if cost.column == "trainable":
        ax.set_xscale("log")
        if rows[cost.column].max() < 100 * rows[cost.column].min():
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep="", places=0))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(cost.label)
    ax.margins(x=0.15, y=0.12)
