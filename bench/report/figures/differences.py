"""The paired differences as a forest plot: a row a comparison, its interval, and the margin of a tie."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.comparison import PairedDifference, difference_rows
from bench.report.figures.rendering import ReportFigure, render_figure
from bench.report.figures.style import GREY, method_look, styled
from bench.report.finding import points_text, verdict_text

NAME = "differences"
ADJUSTED = (
    "95 %, at the level of the verdict: a bar that leaves out zero is better or worse, one within the margin a tie "
    "(the table has the interval that is not adjusted for the number of comparisons); an arrowhead: the bar goes on"
)
SHOWN = 1.5
"""Bars are drawn to so many times the ends of the intervals before they are adjusted."""
MOST = 60
"""Rows of the figure; beyond them the table has all."""


def draw(differences: pd.DataFrame, tie_margin: float) -> list[ReportFigure]:
    """The figure, where anything was compared."""
    if differences.empty:
        return []
    over_seeds = differences["low"].notna()
    bars = {
        (True, True): f"Thick bars: {ADJUSTED}; thin ones, of fewer than three seeds: 95 % over questions alone.",
        (True, False): f"Bars: {ADJUSTED}.",
        (False, True): "Thin bars: 95 % over questions alone, which knows nothing of seeds.",
        (False, False): "No interval could be computed.",
    }[bool(over_seeds.any()), bool((~over_seeds & differences["question_low"].notna()).any())]
    caption = f"Points of average accuracy over the baseline, paired by seed. {bars} " + (
        f"Grey band: a tie, within {points_text(tie_margin)} of zero." if tie_margin > 0 else "No margin for ties."
    )
    if len(differences) > MOST:
        caption += f" The first {MOST} of {len(differences)} comparisons; the table has all."
    says = "Difference to the baseline of each comparison, one row each, with its interval and its verdict"
    return [render_figure(NAME, "Paired differences", says, caption, _figure(differences.head(MOST), tie_margin))]


def _figure(rows: pd.DataFrame, tie_margin: float) -> Figure:
    compared = difference_rows(rows)
    names = [_name(row, rows) for row in compared]
    with styled():
        figure = Figure(
            figsize=(4.2 + 0.075 * max(map(len, names)) + 1.1, 1.1 + 0.27 * len(rows)), layout="constrained"
        )
        ax = figure.subplots()
        ax.axvspan(-tie_margin, tie_margin, color="#EFEFEF", lw=0, zorder=0)
        ax.axvline(0, color=GREY, lw=1, zorder=1)
        reach = _reach(compared)
        for place, row in enumerate(compared):
            colour, marker = method_look(row.series.partition(" ")[0])
            if row.adjusted_low is not None and row.adjusted_high is not None:
                _bar(ax, (row.adjusted_low, row.adjusted_high), place, colour, reach)
            elif row.question_low is not None and row.question_high is not None:
                ax.plot([row.question_low, row.question_high], [place, place], color=colour, lw=0.9, alpha=0.7)
            ax.plot(row.difference, place, color=colour, marker=marker, ms=6, ls="none")
            ax.annotate(
                # The bound of the table is that of the interval before it is adjusted.
                "inconclusive" if row.verdict == "unresolved" else verdict_text(row),
                (1.02, place),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8.5,
                color=GREY,
            )
        ax.set_yticks(range(len(rows)), names)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("difference (points)")
        ax.margins(x=0.08)
    return figure


def _reach(rows: Sequence[PairedDifference]) -> tuple[float, float]:
    """The ends (points) that bars are drawn to: of few seeds and many comparisons, adjusted intervals are many times as
    wide as the differences are apart, and the whole of them would leave nothing to see of these."""
    ends = [end for row in rows for end in (row.low, row.high, row.question_low, row.question_high) if end is not None]
    ends += [0.0, *(row.difference for row in rows)]
    return SHOWN * min(ends), SHOWN * max(ends)


def _bar(ax: Axes, ends: tuple[float, float], place: int, colour: str, reach: tuple[float, float]) -> None:
    """A bar, with an arrowhead at an end that lies beyond the reach of the figure."""
    shown = max(ends[0], reach[0]), min(ends[1], reach[1])
    ax.plot(shown, [place, place], color=colour, lw=2.4, solid_capstyle="butt")
    for end, at, marker in zip(ends, shown, ("<", ">"), strict=True):
        if end != at:
            ax.plot(at, place, color=colour, marker=marker, ms=5, ls="none")


def _name(row: PairedDifference, rows: pd.DataFrame) -> str:
    """What is compared, and where, as far as the rows differ in it."""
    rank = f"r{row.rank:g}" if row.rank is not None else ""
    against = row.baseline_label
    if against == row.baseline:
        parts = [f"{row.series} - {against}", rank]
    else:
        parts = [f"{row.series} {rank}".strip() + f" - {against}"]
    if rows["samples"].nunique() > 1:
        parts.append(f"n={row.samples:,}")
    return "  ".join(filter(None, parts))
