"""The figures. A method has the same colour and marker everywhere (Okabe and Ito's colour-blind-safe palette)."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.result_tables import averaged_scores, majority_average, trained_cells
from bench.analysis.series import setting_labels
from bench.report import published

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5B5B5B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FIXED = {"lora": 0, "dora": 1, "full": 2, "vera": 3, "dvora": 4, "loreft": 5}
"""Places in the palette of the methods that every report compares."""
GREY = "#666666"
NEUTRAL = "#3C4A52"
"""Of the methods that have no place of their own, where their label stands beside them."""
DASHES = ("--", (0, (9, 2)), (0, (6, 2, 2, 2)), (0, (3, 4)))
"""Of the untuned bases, where there are several."""
NAMES = ("rank_vs_accuracy", "accuracy_by_method")
"""The figures' files."""
LINES = 8
"""More series than this in the rank figure, and only those with a line are in it."""

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "svg.hashsalt": "bench",
    "svg.fonttype": "path",
    # Labels are names, not formulas.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Drawn:
    """A figure as the report holds it."""

    name: str
    title: str
    says: str
    """What it shows, for who cannot see it."""
    caption: str
    svg: str
    png: bytes


def draw(cells: pd.DataFrame, scores: pd.DataFrame) -> list[Drawn]:
    """The figures that these results can fill."""
    found = []
    scores = averaged_scores(scores)
    figure = rank_vs_accuracy(cells, scores)
    if figure:
        left = trained_cells(cells)["series"].nunique() - len(_in_rank_figure(cells))
        caption = _caption(cells, "small dots are seeds, lines their means", "one seed a point")
        if left:
            caption += f" Series without two ranks ({left}) are in the next figure only."
        says = "Average accuracy against rank, one line a method"
        found.append(drawn(NAMES[0], "Rank against accuracy", says, caption, figure))
    figure = accuracy_by_method(cells, scores)
    if figure:
        caption = _caption(cells, "large dots are means over seeds, small ones the seeds", "one seed a point")
        if majority_average(scores) is not None:
            caption += " Dotted: answering every task with its majority class."
        caption += " Where bars overlap, the order of the rows is no ranking of the methods."
        says = "Average accuracy of each method, one row each, the best on top"
        found.append(drawn(NAMES[1], "Accuracy by method", says, caption, figure))
    return found


def drawn(name: str, title: str, says: str, caption: str, figure: Figure) -> Drawn:
    """A figure, set; it is laid out once, which takes as long as drawing it."""
    page = svg(figure, name)
    figure.set_layout_engine("none")
    return Drawn(name, title, says, caption, page, png(figure))


def _caption(cells: pd.DataFrame, several: str, one: str) -> str:
    dots = several if cells[cells["method"] != "base"]["seed"].nunique() > 1 else one
    return (
        f"Average of the tasks' primary metrics; {dots}. Thin bars: 95 % from the sampling of questions alone, which "
        "knows nothing of seeds. Dashed grey: the untuned base model."
    )


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each series, no two alike among 64; the well-known methods keep theirs in every report."""
    names = list(names)
    found: dict[str, tuple[str, str]] = {}
    taken = {FIXED[name] for name in names if name in FIXED}
    free = [place for place in range(len(COLOURS) * len(MARKERS)) if place not in taken]
    for name in names:
        place = FIXED[name] if name in FIXED else free.pop(0) if free else len(found)
        turn, at = divmod(place, len(COLOURS))
        found[name] = (COLOURS[at], MARKERS[(at + 3 * turn) % len(MARKERS)])
    return found


def look_beside_its_name(method: str) -> tuple[str, str]:
    """(colour, marker) of a method whose name stands beside it: its own, or those of all that have no place."""
    place = FIXED.get(method)
    return (NEUTRAL, "o") if place is None else (COLOURS[place], MARKERS[place])


def _in_rank_figure(cells: pd.DataFrame) -> list[str]:
    """The series of the rank figure: all, or those with a line where they are many; none where no series has two
    ranks to draw a line between."""
    trained = trained_cells(cells)
    series = list(dict.fromkeys(trained["series"]))
    ranks = trained.groupby(["series", "samples"])["rank"].nunique()
    lines = {name for name, _ in ranks[ranks > 1].index}
    if not lines:
        return []
    return series if len(series) <= LINES else [name for name in series if name in lines]


def rank_vs_accuracy(cells: pd.DataFrame, scores: pd.DataFrame) -> Figure | None:
    """Average accuracy (points) against rank: a line a series (its mean over seeds), a dot a seed, the untuned base
    as a line; one panel a sample count. None where no series has two ranks."""
    shown = _in_rank_figure(cells)
    if not shown:
        return None
    done = cells[(cells["status"] == "done") & cells["average"].notna()]
    trained = done[done["series"].isin(shown)]
    ranked = trained[trained["rank"].notna()]
    with matplotlib.rc_context(STYLE):
        panels = sorted(ranked["samples"].unique())
        # Not through pyplot, which keeps every figure that it makes.
        figure = Figure(layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)
        look = looks(shown)
        for ax, samples in zip(axes[0], panels, strict=True):
            _panel(ax, ranked[ranked["samples"] == samples], look)
            for series, rows in trained[trained["rank"].isna() & (trained["samples"] == samples)].groupby("series"):
                ax.axhline(rows["average"].mean(), color=look[series][0], ls="-.", lw=1.3, label=series)
            for place, (base, rows) in enumerate(done[done["method"] == "base"].groupby("base")):
                label = "untuned" if cells["base"].nunique() == 1 else f"untuned {base}"
                dashes = DASHES[place % len(DASHES)]
                ax.axhline(rows["average"].mean(), color=GREY, ls=dashes, lw=1.2, label=label)
            _overlay(ax, done, scores, look)
            if len(panels) > 1:
                ax.set_title(f"{samples:,} training samples", fontsize=10)
            ax.set_xlabel("rank")
        axes[0][0].set_ylabel("average accuracy (%)")
        legend(figure, list(axes[0]))
    return figure


def legend(figure: Figure, axes: list[Axes]) -> None:
    """What the panels show, each once, to their right; the figure grows with it."""
    entries = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(_wrapped(label, 34), handle)
    lines = [line for label in entries for line in label.split("\n")]
    columns = math.ceil(len(lines) / 48)
    axes[-1].legend(
        entries.values(), entries, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, ncols=columns
    )
    width = columns * max(1.2, 0.75 + 0.075 * max(len(line) for line in lines))
    figure.set_size_inches(max(5.6, 4.2 * len(axes) + width), max(3.9, 0.8 + 0.21 * len(lines) / columns))


def _wrapped(label: str, width: int) -> str:
    """A label in lines of this width; a word is broken only where it is longer than 60."""
    longest = max((len(word) for word in label.split()), default=0)
    return "\n".join(textwrap.wrap(label, max(width, min(longest, 60)), break_on_hyphens=False))


def accuracy_by_method(cells: pd.DataFrame, scores: pd.DataFrame) -> Figure | None:
    """Average accuracy (points) of each method at its rank and samples, a row each, the best on top; the untuned base
    and the majority class as lines. None without a trained cell, and where two methods are told by the rank figure."""
    trained = trained_cells(cells)
    in_rank_figure = set(_in_rank_figure(cells))
    if trained.empty or (trained["method"].nunique() < 3 and set(trained["series"]) == in_rank_figure):
        return None
    trained = trained.assign(label=setting_labels(trained))
    rows = [(label, mine["average"].mean(), mine) for label, mine in trained.groupby("label")]
    rows.sort(key=lambda row: -row[1])
    with matplotlib.rc_context(STYLE):
        figure = Figure(layout="constrained")
        ax = figure.subplots()
        for place, (_, mean, mine) in enumerate(rows):
            colour, marker = look_beside_its_name(mine["method"].iloc[0])
            noise = mine["question_noise"].mean()
            ax.errorbar(mean, place, xerr=noise, color=colour, fmt="none", lw=0.9, capsize=2, alpha=0.55)
            ax.plot(mean, place, color=colour, marker=marker, ms=6, ls="none")
            if len(mine) > 1:
                ax.plot(mine["average"], [place] * len(mine), color=colour, marker=".", ms=5, ls="none", alpha=0.55)
        labels = [_wrapped(label, 44) for label, _, _ in rows]
        ax.set_yticks(range(len(rows)), labels)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlabel("average accuracy (%)")
        longest = max(len(line) for label in labels for line in label.split("\n"))
        tallest = max(label.count("\n") + 1 for label in labels)
        width = 4.6 + 0.075 * longest
        lines = _references(ax, cells, scores)
        # Beside one another where they are short.
        columns = len(lines) if sum(0.8 + 0.075 * len(line.get_label()) for line in lines) < width else 1
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


def _panel(ax: Axes, rows: pd.DataFrame, look: dict[str, tuple[str, str]]) -> None:
    names = [name for name in look if name in set(rows["series"])]
    for place, name in enumerate(names):
        mine = rows[rows["series"] == name]
        # Side by side, so that intervals of one rank do not cover one another.
        shift = 2 ** (min(0.05, 0.6 / len(names)) * (place - (len(names) - 1) / 2))
        means = mine.groupby("rank")["average"].mean()
        noise = mine.groupby("rank")["question_noise"].mean()
        colour, marker = look[name]
        at = [rank * shift for rank in means.index]
        ax.errorbar(at, means, yerr=noise, color=colour, fmt="none", lw=0.9, capsize=2, alpha=0.55)
        ax.plot(at, means, color=colour, marker=marker, ms=6, lw=1.6, label=name)
        if mine.groupby("rank").size().max() > 1:
            ax.plot(mine["rank"] * shift, mine["average"], color=colour, marker=".", ms=5, ls="none", alpha=0.55)
    ranks = sorted(rows["rank"].unique())
    ax.set_xscale("log", base=2)
    said: list[float] = []
    for rank in rows["rank"].value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable").index:
        # Of ranks too near one another for two numbers, that of the most cells.
        if all(abs(math.log(rank / other)) > 0.07 * math.log(ranks[-1] / ranks[0]) for other in said):
            said.append(rank)
    ax.set_xticks(ranks, [f"{rank:g}" if rank in said else "" for rank in ranks])
    ax.minorticks_off()
    ax.margins(x=0.12)


def _overlay(ax: Axes, done: pd.DataFrame, scores: pd.DataFrame, look: dict[str, tuple[str, str]]) -> None:
    """The published curves, dashed, and others' reproductions, as open markers - where they are the same experiment."""
    if not published.comparable(set(done["base"]), set(scores["task"]), set(scores["protocol"])):
        return
    for method, rows in published.read("dora_table15_rank").groupby("method"):
        colour, marker = look.get(method, (GREY, "o"))
        label = f"{method}, {published.RANK_SOURCE}"
        ax.plot(rows["rank"], rows["average"], color=colour, ls="--", marker=marker, ms=4, alpha=0.7, label=label)
    for method, rows in published.read("dora_reproductions").groupby("method"):
        colour, marker = look.get(method, (GREY, "o"))
        label = f"{method}, reproductions by others"
        ax.plot(rows["rank"], rows["average"], color=colour, ls="none", marker=marker, mfc="none", label=label)


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element, without the file's head and metadata (they name addresses). Its ids begin with
    `name`: several stand in one page."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    markup = text.getvalue()
    return re.sub(r'( id="|="#|url\(#)', rf"\g<1>{name}-", markup[markup.index("<svg") :])


def png(figure: Figure) -> bytes:
    """The figure as a PNG at print size."""
    data = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format="png", dpi=200, metadata={"Software": None})
    return data.getvalue()
