"""Quality against cost: what no other setting beats in both, by each of four costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from bench.analysis.result_tables import trained_cells
from bench.analysis.series import setting_labels
from bench.report.figures.rendering import ReportFigure, render_figure
from bench.report.figures.style import NEUTRAL, legend, series_looks, styled
from bench.statistics import ROUNDING

NAME = "quality_vs_cost"
KEYED = 12
"""More series than this, and their markers cannot be distinguished: they have no legend."""
MOST_NAMED = 8
"""Points of a front that are named in the figure; the sentences below it name all."""


@dataclass(frozen=True)
class CostAxis:
    """An axis of the figure."""

    column: str
    """Of `setting_costs`."""
    label: str
    words: str
    """What a front is said to be of."""


COSTS = (
    CostAxis("trainable", "trainable parameters", "trainable parameters"),
    CostAxis("memory", "peak memory of training (MB)", "peak memory of training"),
    CostAxis("seconds", "training (s)", "training time"),
    CostAxis("latency", "64 tokens, one prompt (s)", "time to answer"),
)


def setting_costs(cells: pd.DataFrame) -> pd.DataFrame:
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
    aggregates = dict.fromkeys(("average", *(axis.column for axis in COSTS)), "mean")
    rows = done.groupby("label", sort=False).agg({"series": "first", **aggregates})
    return rows.reset_index()


def front(rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows that none beats: none is better at no more cost, or as good at less. By rising cost."""
    measured = rows[rows[cost].notna()].sort_values([cost, "average"], ascending=[True, False], kind="stable")
    best, places = -math.inf, []
    for place, score in measured["average"].items():
        if score > best + ROUNDING:
            best = score
            places.append(place)
    return measured.loc[places]


def front_sentences(cells: pd.DataFrame) -> list[str]:
    """The cells of each front, cheapest first."""
    rows = setting_costs(cells)
    sentences = []
    for cost in COSTS:
        if rows[cost.column].notna().sum() > 1:
            labels = ", ".join(front(rows, cost.column)["label"])
            sentences.append(f"On the front of quality against {cost.words}, the cheapest first: {labels}.")
    return sentences


def draw(cells: pd.DataFrame) -> list[ReportFigure]:
    """A panel a cost that two settings have; none where there are no two."""
    rows = setting_costs(cells)
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
    return [render_figure(NAME, "Quality against cost", says, caption, _figure(rows, costs))]


def _figure(rows: pd.DataFrame, costs: list[CostAxis]) -> Figure:
    names = dict.fromkeys(rows["series"])
    look = series_looks(names) if len(names) <= KEYED else dict.fromkeys(names, (NEUTRAL, "o"))
    columns = len(costs) if len(costs) != 4 else 2
    lines = math.ceil(len(costs) / columns)
    with styled():
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


def _panel(ax: Axes, rows: pd.DataFrame, cost: CostAxis, look: dict[str, tuple[str, str]]) -> None:
    best = front(rows, cost.column)
    for series, runs in rows.groupby("series", sort=False):
        colour, marker = look[series]
        plain = runs.index.isin(best.index) | (colour != NEUTRAL)
        for points, alpha, label in ((runs[plain], 1.0, series), (runs[~plain], 0.35, None)):
            x, y = points[cost.column], points["average"]
            ax.plot(x, y, ls="none", label=label, color=colour, marker=marker, ms=6, alpha=alpha)
    ax.plot(best[cost.column], best["average"], color="#8A8A8A", lw=1.1, zorder=1, drawstyle="steps-post")
    if cost.column == "trainable":
        ax.set_xscale("log")
        if rows[cost.column].max() < 100 * rows[cost.column].min():
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep="", places=0))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(cost.label)
    ax.margins(x=0.32, y=0.14)  # room for the names, which stand left of the front and above it


FAR = 13
"""Typographic points up or down from which on a line leads to the name."""

EDGE = 8
"""Pixels from the panel's edges that names keep: in print, letters are a few percent wider than here."""


@dataclass(frozen=True)
class FrontPoint:
    """A point of a front, in the units of its panel."""

    label: str
    cost: float
    average: float


@dataclass(frozen=True)
class LabelPlace:
    """Where a point's name may stand."""

    right: int
    """Typographic points from the point."""
    up: int
    align: Literal["left", "right", "center"]

    @property
    def needs_line(self) -> bool:
        """Whether a line leads to the name."""
        return abs(self.up) > FAR


def _name_front(ax: Axes, rows: pd.DataFrame, cost: CostAxis) -> None:
    """The names of the front's points, inside the panel, beside one another and not over other points."""
    measured = rows[rows[cost.column].notna()]
    at = ax.transData.transform(measured[[cost.column, "average"]].to_numpy(dtype=float))  # (points, 2) pixels
    points = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in at]
    figure = ax.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()
    panel = ax.bbox.padded(-EDGE)
    taken: list[Bbox] = []

    def overlaps(point: FrontPoint, place: LabelPlace) -> int:
        """How much a name would cover there: points, other names (5 each), the panel's edge (20)."""
        text = _label(ax, point, place)
        box = _letters(text, renderer)
        text.remove()
        inside = panel.x0 <= box.x0 and box.x1 <= panel.x1 and panel.y0 <= box.y0 and box.y1 <= panel.y1
        names = sum(part.count_overlaps(taken) for part in (box, *_leading_line(ax, point, place, figure.dpi)))
        return int(box.count_overlaps(points) + 5 * names + 20 * (not inside))

    # From the best down: the names of those below it have the room that it leaves.
    for row in front(rows, cost.column).head(MOST_NAMED).iloc[::-1].itertuples():
        point = FrontPoint(row.label, getattr(row, cost.column), row.average)
        best = min(PLACES, key=partial(overlaps, point))
        taken += [_letters(_label(ax, point, best), renderer), *_leading_line(ax, point, best, figure.dpi)]


def _label(ax: Axes, point: FrontPoint, place: LabelPlace) -> Annotation:
    leads = {"arrowstyle": "-", "lw": 0.6, "color": NEUTRAL, "shrinkA": 0, "shrinkB": 3}
    text = ax.annotate(
        point.label,
        (point.cost, point.average),
        xytext=(place.right, place.up),
        textcoords="offset points",
        ha=place.align,
        fontsize=7.5,
        bbox={"boxstyle": "square,pad=0.05", "fc": "white", "ec": "none"},  # the front may pass behind
        arrowprops=leads if place.needs_line else None,
    )
    text.set_in_layout(False)  # or the panels would move from where the places were looked for
    return text


def _letters(text: Annotation, renderer: RendererAgg) -> Bbox:
    """The box of a name's letters alone, without the line that leads to them."""
    text.update_positions(renderer)
    return Text.get_window_extent(text, renderer)


def _leading_line(ax: Axes, point: FrontPoint, place: LabelPlace, dpi: float) -> list[Bbox]:
    """The box of the line that leads to a name, if one does."""
    if not place.needs_line:
        return []
    right, up = place.right * dpi / 72, place.up * dpi / 72
    x, y = ax.transData.transform((point.cost, point.average))
    return [Bbox([[x - 1, y], [x + right + 1, y + up]])]


PLACES = (
    *(LabelPlace(5, 4, "left"), LabelPlace(-5, 4, "right"), LabelPlace(5, -11, "left"), LabelPlace(-5, -11, "right")),
    *(LabelPlace(-6, -5, "right"), LabelPlace(6, -5, "left")),
    *(LabelPlace(5, 14, "left"), LabelPlace(-5, 14, "right"), LabelPlace(5, -21, "left"), LabelPlace(-5, -21, "right")),
    *(LabelPlace(0, 24, "center"), LabelPlace(0, -31, "center")),
    *(LabelPlace(12, -31, "left"), LabelPlace(-12, -31, "right")),
)
"""The places in order of preference; the first of those that cover least is taken."""
