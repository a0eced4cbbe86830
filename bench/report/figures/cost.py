"""Quality against cost: what no other setting beats in both, by each of four costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from bench.analysis.result_tables import trained_cells
from bench.analysis.series import setting_labels
from bench.report.figures.accuracy import NEUTRAL, STYLE, Drawn, drawn, legend, looks
from bench.statistics import ROUNDING

NAME = "quality_vs_cost"
KEYED = 12
"""More series than this, and their markers cannot be told apart: they have no legend."""
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
    done = trained_cells(cells)
    done = done.assign(label=setting_labels(done))
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
            found.append(
                f"On the front of quality against {cost.words}, the cheapest first: {', '.join(mine['label'])}."
            )
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
        "What shared its device is left out of all but the parameters, what was not measured out of its panel."
    )
    if any(cost.column == "latency" for cost in costs):
        caption += (
            " The time to answer is measured once for all samples and seeds; a merged model is the base in another "
            "state, so that what merged ones differ by is the timer's noise."
        )
    if rows["series"].nunique() > KEYED:
        caption += " Pale points without a name are on no front; the table has them."
    says = "Average accuracy against trainable parameters, memory, training time and time to answer, with the fronts"
    return [drawn(NAME, "Quality against cost", says, caption, _figure(rows, costs))]


def _figure(rows: pd.DataFrame, costs: list[Cost]) -> Figure:
    names = dict.fromkeys(rows["series"])
    look = looks(names) if len(names) <= KEYED else dict.fromkeys(names, (NEUTRAL, "o"))
    columns = len(costs) if len(costs) != 4 else 2
    lines = math.ceil(len(costs) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(layout="constrained")
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for ax, cost in zip(axes.ravel(), costs, strict=True):
            _panel(ax, rows, cost, look)
        for ax in axes[:, 0]:
            ax.set_ylabel("average accuracy (%)")
        if len(names) <= KEYED:
            legend(figure, list(axes[0]))
        _, height = figure.get_size_inches()
        figure.set_size_inches(max(6.4, 3.4 * columns), max(height, 3.3 * lines))
        figure.draw_without_rendering()
        for ax, cost in zip(axes.ravel(), costs, strict=True):
            _name_front(ax, rows, cost)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, cost: Cost, look: dict[str, tuple[str, str]]) -> None:
    best = front(rows, cost.column)
    for series, own in rows.groupby("series", sort=False):
        colour, marker = look[series]
        plain = own.index.isin(best.index) | (colour != NEUTRAL)
        for mine, alpha, label in ((own[plain], 1.0, series), (own[~plain], 0.35, None)):
            style = {"color": colour, "marker": marker, "ms": 6, "alpha": alpha}
            ax.plot(mine[cost.column], mine["average"], ls="none", label=label, **style)
    ax.plot(best[cost.column], best["average"], color="#8A8A8A", lw=1.1, zorder=1, drawstyle="steps-post")
    if cost.column == "trainable":
        ax.set_xscale("log")
        if rows[cost.column].max() < 100 * rows[cost.column].min():
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep="", places=0))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(cost.label)
    ax.margins(x=0.32, y=0.14)  # room for the names, which stand left of the front and above it


PLACES = (
    *(((5, 4), "left"), ((-5, 4), "right"), ((5, -11), "left"), ((-5, -11), "right")),
    *(((-6, -5), "right"), ((6, -5), "left")),
    *(((5, 14), "left"), ((-5, 14), "right"), ((5, -21), "left"), ((-5, -21), "right")),
    *(((0, 24), "center"), ((0, -31), "center"), ((12, -31), "left"), ((-12, -31), "right")),
)
"""Where a point's name may stand (points from it), and how it is aligned; the first of those that cover least."""

FAR = 13
"""Points up or down from which on a line leads to the name."""

EDGE = 8
"""Pixels from the panel's edges that names keep: in print, letters are a few percent wider than here."""


def _name_front(ax: Axes, rows: pd.DataFrame, cost: Cost) -> None:
    """The names of the front's points, inside the panel, beside one another and not over other points."""
    known = rows[rows[cost.column].notna()]
    at = ax.transData.transform(known[[cost.column, "average"]].to_numpy(dtype=float))  # (points, 2) pixels
    points, names = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in at], []
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    panel = ax.bbox.padded(-EDGE)

    def name(row: Any, place: tuple[tuple[int, int], str]) -> Annotation:
        (right, up), side = place
        leads = {"arrowstyle": "-", "lw": 0.6, "color": NEUTRAL, "shrinkA": 0, "shrinkB": 3}
        text = ax.annotate(
            row.label,
            (getattr(row, cost.column), row.average),
            xytext=(right, up),
            textcoords="offset points",
            ha=side,
            fontsize=7.5,
            bbox={"boxstyle": "square,pad=0.05", "fc": "white", "ec": "none"},  # the front may pass behind
            arrowprops=leads if abs(up) > FAR else None,
        )
        text.set_in_layout(False)  # or the panels would move from where the places were looked for
        return text

    def where(text: Annotation) -> Bbox:
        """Its letters alone, without the line that leads to them."""
        text.update_positions(renderer)
        return Text.get_window_extent(text, renderer)

    def line(row: Any, place: tuple[tuple[int, int], str]) -> list[Bbox]:
        """Where one leads to the name, if one does."""
        right, up = (offset * ax.figure.dpi / 72 for offset in place[0])
        x, y = ax.transData.transform((getattr(row, cost.column), row.average))
        return [Bbox([[x - 1, y], [x + right + 1, y + up]])] if abs(place[0][1]) > FAR else []

    def covers(row: Any, place: tuple[tuple[int, int], str]) -> int:
        text = name(row, place)
        box = where(text)
        text.remove()
        inside = panel.x0 <= box.x0 and box.x1 <= panel.x1 and panel.y0 <= box.y0 and box.y1 <= panel.y1
        of_names = sum(one.count_overlaps(names) for one in (box, *line(row, place)))
        return box.count_overlaps(points) + 5 * of_names + 20 * (not inside)

    # From the best down: the names of those below it have the room that it leaves.
    for row in front(rows, cost.column).head(MOST_NAMED).iloc[::-1].itertuples():
        best = min(PLACES, key=lambda place: covers(row, place))
        names += [where(name(row, best)), *line(row, best)]
