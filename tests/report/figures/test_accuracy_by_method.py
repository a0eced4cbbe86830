"""Accuracy by method, and which of the two figures of accuracy is drawn."""

from __future__ import annotations

import pytest
from helpers.judged_cells import NOTHING
from helpers.tables import ONE_SETTING, cells_of, scores_of
from matplotlib.axes import Axes

from bench.report.figures import accuracy_by_method, rank_vs_accuracy, style
from bench.report.figures.rendering import ReportFigure


def drawn(rows: list[dict]) -> dict[str, ReportFigure]:
    cells, scores = cells_of(rows), scores_of({"arc_easy"}, "x")
    figures = [*rank_vs_accuracy.draw(cells, scores, NOTHING), *accuracy_by_method.draw(cells, scores)]
    return {figure.name: figure for figure in figures}


def axes_of(rows: list[dict]) -> Axes:
    return accuracy_by_method.method_figure(cells_of(rows), scores_of({"arc_easy"}, "x")).axes[0]


def test_every_method_has_a_row_the_best_on_top() -> None:
    ax = axes_of(ONE_SETTING)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert len(labels) == 31
    assert labels[0] == "peft27 r27" and labels[-1] == "peft0 r32"
    assert {"full", "lora r32", "vera r256"} <= set(labels)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    dots = [line for line in ax.get_lines() if line.get_marker() in style.MARKERS]
    values = [float(line.get_xdata()[0]) for line in dots]
    assert len(values) == 31 and values == sorted(values, reverse=True)
    assert dots[labels.index("lora r32")].get_color() == style.COLOURS[0]
    assert dots[0].get_color() == style.NEUTRAL
    assert [line.get_label() for line in ax.get_lines() if line.get_linestyle() in ("--", ":")] == [
        "untuned base 42.0",
        "majority class 50.0",
    ]


def test_a_row_shows_its_seeds_and_says_its_samples() -> None:
    rows = [
        {"method": method, "rank": 4, "samples": samples, "seed": seed, "average": 50.0 + samples / 100 + seed}
        for method in ("lora", "dora", "vera")
        for samples in (100, 2000)
        for seed in (0, 1)
    ]
    ax = axes_of(rows)
    assert {label.get_text() for label in ax.get_yticklabels()} >= {"lora r4 n=100", "lora r4 n=2,000"}
    seeds = [line for line in ax.get_lines() if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in seeds] == [2] * 6
    means = [line for line in ax.get_lines() if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert [float(line.get_xdata()[0]) for line in means] == [70.5, 51.5]


@pytest.mark.parametrize(
    ("methods", "ranks", "names"),
    [
        (("lora", "dora"), (4, 8), ["rank_vs_accuracy"]),
        (("lora", "dora", "vera"), (4, 8), ["rank_vs_accuracy", "accuracy_by_method"]),
        (("lora", "dora"), (4,), ["accuracy_by_method"]),
        (("lora",), (4,), ["accuracy_by_method"]),
        ((), (), []),
    ],
)
def test_which_figures_are_drawn(methods: tuple, ranks: tuple, names: list[str]) -> None:
    rows = [{"method": method, "rank": rank, "average": 50.0} for method in methods for rank in ranks]
    assert list(drawn([*rows, {"method": "base", "rank": None, "average": 40.0}])) == names


def test_many_methods_at_one_rank_have_no_rank_figure_and_fit() -> None:
    # Warnings are errors here: matplotlib's that the axes collapsed among them.
    assert list(drawn(ONE_SETTING)) == ["accuracy_by_method"]


def test_many_series_with_ranks_are_all_told_apart() -> None:
    rows = [
        {"method": "lora", "series": f"lora lr={i} target_modules=['down_proj', 'gate_proj', 'k_proj']", "rank": rank}
        for i in range(16)
        for rank in (4, 8)
    ]
    rows = [{**row, "average": 50.0 + i} for i, row in enumerate(rows)]
    alone = {"method": "vera", "rank": 256, "average": 50.0}
    found = drawn([*rows, alone])
    assert "Series without two ranks (1) are in the next figure only." in found["rank_vs_accuracy"].caption
    assert "accuracy_by_method" in found
    figure = rank_vs_accuracy.rank_figure(cells_of([*rows, alone]), scores_of({"arc_easy"}, "x"), NOTHING)
    lines = [line for line in figure.axes[0].get_lines() if line.get_label().startswith(("lora", "vera"))]
    assert len(lines) == 16
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 16


def test_labels_are_names_and_not_formulas() -> None:
    rows = [{"method": "a:$x_{1$" + "y" * 90, "rank": 4, "average": 50.0}, {"method": "$<b>$", "rank": 4, "average": 5}]
    assert "<b>" not in drawn(rows)["accuracy_by_method"].svg
