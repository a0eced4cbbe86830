"""What a report is asked for is checked against what the sweep trains and scores, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.sweeps import sweep_file

from bench.errors import UserError
from bench.planning.build import make_plan
from bench.sweep.load import load_sweep

SEEDS = "seeds=[0, 1, 2]"
ENTRIES = "methods=[{method: lora, rank: [2, 4]}, {method: dora, rank: 2}]"


def plan(tmp_path: Path, model: Path, *settings: str) -> object:
    return make_plan(load_sweep(sweep_file(tmp_path, model), (ENTRIES, SEEDS, *settings)))


@pytest.mark.parametrize("average", ["auto", "all", "[world_two]", "[world_two, world_ending]"])
def test_averages_over_tasks_that_are_scored_are_planned(average: str, tmp_path: Path, tiny_model: Path) -> None:
    assert plan(tmp_path, tiny_model, f"report.average={average}")


def test_an_average_over_a_task_that_is_not_scored_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"report\.average names boolq, and this sweep scores world_two") as refused:
        plan(tmp_path, tiny_model, "report.average=[world_two, boolq]")
    assert "give all, or auto" in refused.value.fix


@pytest.mark.parametrize("average", ["everything", "[]", "3"])
def test_an_average_that_is_none_is_refused(average: str, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(UserError, match="average"):
        plan(tmp_path, tiny_model, f"report.average={average}")


@pytest.mark.parametrize(
    ("contrast", "problem"),
    [
        ("{of: dora, against: lora, at_ranks: [4]}", "rank 4 of dora and lora is not in this sweep"),
        ("{of: dora, against: lora, at_samples: [999]}", "samples 999"),
        ("{of: {method: lora, rank: 8}, against: dora}", "no cell of this sweep is lora r8; rank is 2, 4"),
        ("{of: {method: lora, init: olora}, against: dora}", "no cell of this sweep is lora init=olora"),
        ("{of: dora, per_doubling: rank}", "needs two values of it"),
    ],
)
def test_a_contrast_of_what_is_not_trained_is_refused(
    contrast: str, problem: str, tmp_path: Path, tiny_model: Path
) -> None:
    with pytest.raises(UserError, match=problem):
        plan(tmp_path, tiny_model, f"contrasts=[{contrast}]")
