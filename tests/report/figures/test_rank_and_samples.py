"""The figures of ranks and of samples: what is drawn, what published curves lie below, how the series look."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
import pytest
from helpers.judged_cells import NOTHING, judged_cells, tables_of_cells
from helpers.tables import cells_of, scores_of

from bench.report import published
from bench.report.figures import rank_vs_accuracy, samples, style
from bench.report.score_tables import published_table
from bench.store.records import PlanRecord
from bench.sweep.cell import CellData


def test_figure_has_a_line_a_method_a_dot_a_seed_and_the_untuned_line() -> None:
    rows = [
        {"method": method, "rank": rank, "seed": seed, "average": 50 + rank + seed}
        for method in ("lora", "dora")
        for rank in (2, 8)
        for seed in (0, 1)
    ]
    rows += [{"method": "base", "rank": None, "average": 40.0}, {"method": "full", "rank": None, "average": 55.0}]
    figure = rank_vs_accuracy.rank_figure(cells_of(rows), scores_of({"arc_easy"}, "loglikelihood-v1"), NOTHING)
    ax = figure.axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert {"lora", "dora", "full", "untuned"} <= set(lines)
    assert list(lines["lora"].get_ydata()) == [52.5, 58.5]
    dots = [line for line in ax.get_lines() if line.get_marker() == "." and line.get_linestyle() == "None"]
    assert sorted(len(line.get_ydata()) for line in dots) == [4, 4]
    assert ax.get_xscale() == "log"


RECIPE = {
    **{"epochs": 3.0, "batch_size": 16, "order": "random", "max_length": 256, "schedule": "linear"},
    **{"warmup_ratio": 0.1, "warmup_steps": 100, "weight_decay": 0.0, "max_grad_norm": 1.0, "loss": "all"},
    "validation": {"examples": 120, "steps": 80},
}
DATA = CellData(
    train=tuple(published.COMMONSENSE),
    format="llm_adapters",
    mix="proportional",
    subset_seed=None,
    append_eos=True,
    fingerprint="0",
)
PAPER = NOTHING.model_copy(update={"data": DATA})
EIGHT = set(published.COMMONSENSE)


def llama_cells(**change: Any) -> pd.DataFrame:
    """LoRA and DoRA at two ranks by the paper's recipe, with these columns otherwise."""
    rows = [
        {
            "method": method,
            "rank": rank,
            "average": 60.0,
            "base": "huggyllama/llama-7b",
            "samples": 170_420,
            "training": RECIPE,
            "options": {
                **{"rank": rank, "alpha": 2.0 * rank, "lr": lr, "dropout": 0.05, "rslora": None},
                "target_modules": ["down_proj", "k_proj", "q_proj", "up_proj", "v_proj"],
            },
            **change,
        }
        for method, lr in (("lora", 3e-4), ("dora", 2e-4))
        for rank in (8, 16)
    ]
    untuned = {"method": "base", "rank": None, "average": 40.0, "base": rows[0]["base"], "samples": 0, "training": None}
    return cells_of([*rows, untuned])


def overlaid(plan: PlanRecord, cells: pd.DataFrame, scores: pd.DataFrame) -> bool:
    """Whether the published curves are in the figure; the reproductions are there with them or not at all."""
    labels = [line.get_label() for line in rank_vs_accuracy.rank_figure(cells, scores, plan).axes[0].get_lines()]
    drawn = any("Table 15" in label for label in labels)
    assert any("reproductions" in label for label in labels) == drawn
    return drawn


@pytest.mark.parametrize(
    ("cells", "scores", "data", "difference"),
    [
        ({}, {}, {}, None),
        ({"base": "smollm2-135m-instruct"}, {}, {}, "base model smollm2-135m-instruct (LLaMA-7B)"),
        ({}, {"tasks": EIGHT - {"piqa"}}, {}, "(the eight commonsense tasks)"),
        ({}, {"protocol": "loglikelihood-v1"}, {}, "protocol loglikelihood-v1 (llm-adapters-v1)"),
        ({}, {"limit": 50}, {}, "50 questions of boolq_closed (3,270)"),
        ({}, {"left_out": "boolq_closed"}, {}, "averages without boolq_closed (with all eight tasks"),
        ({}, {}, {"train": ("arc_easy",)}, "training data arc_easy (commonsense_170k)"),
        ({}, {}, {"format": "question"}, "format question (llm_adapters)"),
        ({"samples": 1000}, {}, {}, "1,000 training samples (170,420)"),
        ({"training": {**RECIPE, "epochs": 1.0}}, {}, {}, "training.epochs 1 (3)"),
        ({"training": {**RECIPE, "loss": "answer"}}, {}, {}, "training.loss answer (all)"),
        ({"training": {**RECIPE, "validation": None}}, {}, {}, "training.validation none (examples 120, steps 80)"),
        ({"options": {"rank": 8, "lr": 1e-3}}, {}, {}, "learning rate 0.001 of lora (0.0003)"),
    ],
)
def test_published_curves_are_drawn_only_over_the_same_experiment(
    cells: dict, scores: dict, data: dict, difference: str | None
) -> None:
    """The base, tasks, questions and protocol, and how the cells were trained: data, format, samples, epochs."""
    frame = llama_cells(**cells)
    table = scores_of(scores.get("tasks", EIGHT), scores.get("protocol", "llm-adapters-v1"))
    table["n"] = table["n"].clip(upper=scores.get("limit"))
    table["counted"] = table["task"] != scores.get("left_out")
    plan = PAPER.model_copy(update={"data": DATA.model_copy(update=data)})
    differences = published.rank_differences(plan, frame, table)
    assert overlaid(plan, frame, table) is (difference is None)
    assert (differences == []) if difference is None else any(difference in text for text in differences)
    results = dataclasses.replace(tables_of_cells(frame), scores=table)
    (below,) = published_table(results, plan)
    drawn = "The same experiment as here, drawn in the figure of ranks."
    assert below.note.startswith(drawn) if difference is None else f"{difference}" in below.note


def test_published_curves_are_in_the_panel_of_their_sample_count_alone() -> None:
    frame = pd.concat([llama_cells(samples=1000), llama_cells()], ignore_index=True)
    figure = rank_vs_accuracy.rank_figure(frame, scores_of(EIGHT, "llm-adapters-v1"), PAPER)
    drawn = [any("Table 15" in line.get_label() for line in ax.get_lines()) for ax in figure.axes]
    assert drawn == [False, True]


def test_an_older_plan_does_not_name_its_data_and_gets_no_curves() -> None:
    assert not overlaid(NOTHING, llama_cells(), scores_of(EIGHT, "llm-adapters-v1"))


def test_heat_maps_need_two_ranks_and_two_counts() -> None:
    names = [one.name for one in samples.draw(judged_cells(), [])]
    assert names == ["samples_vs_accuracy"]
    several = samples.draw(judged_cells({"lora": (4, 8), "dora": (4, 8)}), [])
    assert [one.name for one in several] == ["samples_vs_accuracy", "rank_by_samples"]
    one_count = judged_cells()
    assert samples.draw(one_count[one_count["samples"].isin((0, 100))], []) == []


def test_looks_repeat_nothing_and_keep_the_known_methods() -> None:
    found = style.series_looks(iter(["x", "dora", *(f"m{i}" for i in range(30)), "lora", "loreft"]))
    assert len(set(found.values())) == 34
    for method in ("lora", "dora", "loreft"):
        place = style.FIXED[method]
        assert found[method] == (style.COLOURS[place], style.MARKERS[place])
