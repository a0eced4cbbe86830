"""The figures: what is drawn, and what stands where."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tables import ONE_SETTING, cells_of, scores_of

from bench.report import published
from bench.report.figures import accuracy


def drawn(rows: list[dict]) -> dict[str, accuracy.Drawn]:
    return {one.name: one for one in accuracy.draw(cells_of(rows), scores_of({"arc_easy"}, "x"))}


def axes_of(rows: list[dict]):
    return accuracy.accuracy_by_method(cells_of(rows), scores_of({"arc_easy"}, "x")).axes[0]


def test_figure_has_a_line_a_method_a_dot_a_seed_and_the_untuned_line() -> None:
    rows = [
        {"method": method, "rank": rank, "seed": seed, "average": 50 + rank + seed}
        for method in ("lora", "dora")
        for rank in (2, 8)
        for seed in (0, 1)
    ]
    rows += [{"method": "base", "rank": None, "average": 40.0}, {"method": "full", "rank": None, "average": 55.0}]
    figure = accuracy.rank_vs_accuracy(cells_of(rows), scores_of({"arc_easy"}, "loglikelihood-v1"))
    ax = figure.axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert {"lora", "dora", "full", "untuned"} <= set(lines)
    assert list(lines["lora"].get_ydata()) == [52.5, 58.5]
    dots = [line for line in ax.get_lines() if line.get_marker() == "." and line.get_linestyle() == "None"]
    assert sorted(len(line.get_ydata()) for line in dots) == [4, 4]
    assert ax.get_xscale() == "log"


def test_every_method_has_a_row_the_best_on_top() -> None:
    ax = axes_of(ONE_SETTING)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert len(labels) == 31
    assert labels[0] == "peft27 r27" and labels[-1] == "peft0 r32"
    assert {"full", "lora r32", "vera r256"} <= set(labels)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    dots = [line for line in ax.get_lines() if line.get_marker() in accuracy.MARKERS]
    values = [float(line.get_xdata()[0]) for line in dots]
    assert len(values) == 31 and values == sorted(values, reverse=True)
    assert dots[labels.index("lora r32")].get_color() == accuracy.COLOURS[0]
    assert dots[0].get_color() == accuracy.NEUTRAL
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
    figure = accuracy.rank_vs_accuracy(cells_of([*rows, alone]), scores_of({"arc_easy"}, "x"))
    lines = [line for line in figure.axes[0].get_lines() if line.get_label().startswith(("lora", "vera"))]
    assert len(lines) == 16
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 16


def test_looks_repeat_nothing_and_keep_the_known_methods() -> None:
    found = accuracy.looks(iter(["x", "dora", *(f"m{i}" for i in range(30)), "lora", "loreft"]))
    assert len(set(found.values())) == 34
    for method in ("lora", "dora", "loreft"):
        place = accuracy.FIXED[method]
        assert found[method] == (accuracy.COLOURS[place], accuracy.MARKERS[place])


def test_labels_are_names_and_not_formulas() -> None:
    rows = [{"method": "a:$x_{1$" + "y" * 90, "rank": 4, "average": 50.0}, {"method": "$<b>$", "rank": 4, "average": 5}]
    assert "<b>" not in drawn(rows)["accuracy_by_method"].svg


@pytest.mark.parametrize(
    ("base", "tasks", "protocol", "drawn"),
    [
        ("huggyllama/llama-7b", published.COMMONSENSE, "llm-adapters-v1", True),
        ("huggyllama/llama-7b", published.COMMONSENSE, "loglikelihood-v1", False),
        ("huggyllama/llama-7b", published.COMMONSENSE - {"piqa"}, "llm-adapters-v1", False),
        ("smollm2-135m-instruct", published.COMMONSENSE, "llm-adapters-v1", False),
    ],
)
def test_published_curves_only_over_the_same_experiment(base: str, tasks: set, protocol: str, drawn: bool) -> None:
    rows = [
        {"method": method, "rank": rank, "average": 60.0, "base": base}
        for method in ("lora", "dora")
        for rank in (8, 16)
    ]
    figure = accuracy.rank_vs_accuracy(cells_of(rows), scores_of(tasks, protocol))
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert any("Table 15" in label for label in labels) == drawn
    assert any("reproductions" in label for label in labels) == drawn


def test_published_files_are_the_shared_ones(shared: Path) -> None:
    for name in published.SOURCES:
        assert (published.FOLDER / f"{name}.csv").read_bytes() == (shared / "published" / f"{name}.csv").read_bytes()
