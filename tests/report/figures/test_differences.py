"""The forest plot of paired differences: its bars and its labels agree."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pytest
from helpers.paths import RESULTS
from helpers.tables import cells_of, compared

from bench.analysis.contrasts import compare_sweep
from bench.analysis.result_tables import read_results
from bench.analysis.tie_margin import tie_margin
from bench.report.figures import differences
from bench.store.folder import Results
from bench.store.recorded_sweep import recorded_plan

COMPARED = ["rank_smollm2", "samples_smollm2", "methods_smollm2"]
"""The committed sweeps of three seeds."""


@cache
def committed(name: str) -> tuple[pd.DataFrame, float]:
    """The paired differences of a committed sweep, and its margin of a tie."""
    results = Results(RESULTS / name)
    tables, plan = read_results(results), recorded_plan(results)
    margin = tie_margin(tables.cells, plan.baseline, plan.report).points
    return compare_sweep(tables, plan, margin).differences, margin


def bars(rows: pd.DataFrame, margin: float) -> list[tuple[str, float, float]]:
    """The label of each row of the figure, and the ends of its bar."""
    ax = differences._figure(rows, margin).axes[0]
    ends = {}
    for line in ax.get_lines():
        x, y = list(line.get_xdata()), list(line.get_ydata())
        if len(x) == 2 and y[0] == y[1] and x != [0, 0]:
            ends[y[0]] = (min(x), max(x))
    labels = {text.xy[1]: text.get_text() for text in ax.texts}
    return [(label, *ends[place]) for place, label in sorted(labels.items())]


@pytest.mark.parametrize("name", COMPARED)
def test_no_bar_leaves_out_zero_where_the_comparison_is_inconclusive(name: str) -> None:
    rows, margin = committed(name)
    drawn = bars(rows, margin)
    assert len(drawn) == len(rows)
    for label, low, high in drawn:
        assert label in ("inconclusive", "tie", "better", "worse", "tie, exploratory")
        if label == "inconclusive":
            assert low <= 0 <= high and not (-margin <= low and high <= margin)
        elif label in ("better", "worse"):
            assert low > 0 or high < 0
        else:
            assert -margin <= low and high <= margin


def test_intervals_that_are_not_adjusted_would_leave_out_zero() -> None:
    """Which is why they are not the bars: eight of 59 comparisons looked told, and were not."""
    rows = pd.concat([committed(name)[0] for name in COMPARED])
    open_rows = rows[rows["verdict"] == "unresolved"]
    assert ((open_rows["low"] > 0) | (open_rows["high"] < 0)).sum() > 4


def test_a_bar_beyond_the_reach_of_the_figure_ends_in_an_arrowhead() -> None:
    rows = [
        {"method": method, "rank": 4, "seed": seed, "average": 50.0 + shift + spread * (seed - 1)}
        for method, shift, spread in [("lora", 0, 0), *((f"m{place}", 1, 0.3) for place in range(20))]
        for seed in range(3)
    ]
    table = compared(cells_of(rows))
    ax = differences._figure(table, 1.0).axes[0]
    arrows = [line for line in ax.get_lines() if line.get_marker() in ("<", ">")]
    reach = differences.SHOWN * table["high"].max()
    assert arrows and all(line.get_xdata()[0] <= reach for line in arrows if line.get_marker() == ">")
    assert (table["adjusted_high"] > reach).sum() == sum(line.get_marker() == ">" for line in arrows)


def test_runs_without_seeds_have_thin_bars_over_questions() -> None:
    (figure,) = differences.draw(committed_runs(), 1.0)
    assert "Thin bars: 95 % over questions alone" in figure.caption


def committed_runs() -> pd.DataFrame:
    results = Results(RESULTS / "rank_real_small")
    return compare_sweep(read_results(results), recorded_plan(results), 1.0).differences
