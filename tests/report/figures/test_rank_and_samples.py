"""The figures of ranks and of samples: what is drawn, what published curves lie below, how the series look."""

from __future__ import annotations

import pytest
from helpers.judged_cells import NOTHING, judged_cells
from helpers.tables import cells_of, scores_of

from bench.report import published
from bench.report.figures import rank_vs_accuracy, samples, style


def test_figure_has_a_line_a_method_a_dot_a_seed_and_the_untuned_line() -> None:
    rows = [
        {"method": method, "rank": rank, "seed": seed, "average": 50 + rank + seed}
        for method in ("lora", "dora")
        for rank in (2, 8)
        for seed in (0, 1)
    ]
    rows += [{"method": "base", "rank": None, "average": 40.0}, {"method": "full", "rank": None, "average": 55.0}]
    figure = rank_vs_accuracy.rank_figure(cells_of(rows), scores_of({"arc_easy"}, "loglikelihood-v1"))
    ax = figure.axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert {"lora", "dora", "full", "untuned"} <= set(lines)
    assert list(lines["lora"].get_ydata()) == [52.5, 58.5]
    dots = [line for line in ax.get_lines() if line.get_marker() == "." and line.get_linestyle() == "None"]
    assert sorted(len(line.get_ydata()) for line in dots) == [4, 4]
    assert ax.get_xscale() == "log"


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
    figure = rank_vs_accuracy.rank_figure(cells_of(rows), scores_of(tasks, protocol))
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert any("Table 15" in label for label in labels) == drawn
    assert any("reproductions" in label for label in labels) == drawn


def test_heat_maps_need_two_ranks_and_two_counts() -> None:
    names = [one.name for one in samples.draw(judged_cells(), [], NOTHING)]
    assert names == ["samples_vs_accuracy"]
    several = samples.draw(judged_cells({"lora": (4, 8), "dora": (4, 8)}), [], NOTHING)
    assert [one.name for one in several] == ["samples_vs_accuracy", "rank_by_samples"]
    one_count = judged_cells()
    assert samples.draw(one_count[one_count["samples"].isin((0, 100))], [], NOTHING) == []


def test_looks_repeat_nothing_and_keep_the_known_methods() -> None:
    found = style.series_looks(iter(["x", "dora", *(f"m{i}" for i in range(30)), "lora", "loreft"]))
    assert len(set(found.values())) == 34
    for method in ("lora", "dora", "loreft"):
        place = style.FIXED[method]
        assert found[method] == (style.COLOURS[place], style.MARKERS[place])
