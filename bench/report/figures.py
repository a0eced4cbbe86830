"""The figures. A method has the same colour and marker everywhere (Okabe and Ito's colour-blind-safe palette)."""

from __future__ import annotations

import io
from collections.abc import Iterable

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import published

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5B5B5B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FIXED = {"lora": 0, "dora": 1, "full": 2, "vera": 3, "dvora": 4, "loreft": 5}
"""Places in the palette of the methods that every report compares."""
GREY = "#666666"

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
}


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each series; the well-known methods keep theirs in every report."""
    found: dict[str, tuple[str, str]] = {}
    taken = {FIXED[name] for name in names if name in FIXED}
    free = [place for place in range(len(COLOURS)) if place not in taken]
    for name in names:
        place = FIXED[name] if name in FIXED else free.pop(0) if free else len(found) % len(COLOURS)
        found[name] = (COLOURS[place], MARKERS[place])
    return found


def rank_vs_accuracy(cells: pd.DataFrame, scores: pd.DataFrame) -> Figure | None:
    """Average accuracy (points) against rank: a line a series (its mean over seeds), a dot a seed, the untuned base
    as a line; one panel a sample count. None where no series with a rank is done."""
    done = cells[(cells["status"] == "done") & cells["average"].notna()]
    trained = done[done["method"] != "base"]
    ranked = trained[trained["rank"].notna()]
    if ranked.empty:
        return None
    with matplotlib.rc_context(STYLE):
        panels = sorted(ranked["samples"].unique())
        size = (max(5.6, 4.2 * len(panels) + 1.2), 3.9)
        # Not through pyplot, which keeps every figure that it makes.
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)
        look = looks(list(dict.fromkeys(trained["series"])))
        for ax, samples in zip(axes[0], panels, strict=True):
            _panel(ax, ranked[ranked["samples"] == samples], look)
            for series, rows in trained[trained["rank"].isna() & (trained["samples"] == samples)].groupby("series"):
                ax.axhline(rows["average"].mean(), color=look[series][0], ls="-.", lw=1.3, label=series)
            for base, rows in done[done["method"] == "base"].groupby("base"):
                label = "untuned" if cells["base"].nunique() == 1 else f"untuned {base}"
                ax.axhline(rows["average"].mean(), color=GREY, ls="--", lw=1.2, label=label)
            _overlay(ax, done, scores, look)
            if len(panels) > 1:
                ax.set_title(f"{samples:,} training samples", fontsize=10)
            ax.set_xlabel("rank")
        axes[0][0].set_ylabel("average accuracy (%)")
        handles, labels = axes[0][0].get_legend_handles_labels()
        axes[0][-1].legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, look: dict[str, tuple[str, str]]) -> None:
    names = [name for name in look if name in set(rows["series"])]
    for place, name in enumerate(names):
        mine = rows[rows["series"] == name]
        # Side by side, so that intervals of one rank do not cover one another.
        shift = 2 ** (0.05 * (place - (len(names) - 1) / 2))
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
    ax.set_xticks(ranks, [f"{rank:g}" for rank in ranks])
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


def svg(figure: Figure) -> str:
    """The figure as an SVG element, without the file's head and metadata (they name addresses)."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    markup = text.getvalue()
    return markup[markup.index("<svg") :]


def png(figure: Figure) -> bytes:
    """The figure as a PNG at print size."""
    data = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format="png", dpi=200, metadata={"Software": None})
    return data.getvalue()
