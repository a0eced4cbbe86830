"""What `bench plan` expects of cells: from recorded ones where there are any, else from arithmetic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import matching
from helpers.sweeps import bench, sweep_file

from bench.planning import memory
from bench.store.folder import CellFolder


@pytest.fixture
def alone(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A finished sweep whose cells had the machine to themselves, whatever the tests beside them did."""
    path, results = finished
    shutil.copytree(results, tmp_path / "tiny")
    for file in matching(tmp_path / "tiny", "cells/*/metrics.json"):
        metrics = json.loads(file.read_text())
        metrics["costs"]["shared"] = False
        file.write_text(json.dumps(metrics))
    return path, tmp_path


def planned(path: Path, results: Path, *settings: str) -> dict[str, dict[str, Any]]:
    arguments = [part for one in settings for part in ("--set", one)]
    done = bench("plan", path, "--results", results, "--json", *arguments)
    assert done.exit_code == 0, done.output
    return {one["name"]: one for one in json.loads(done.stdout)["cells"]}


def test_times_come_from_recorded_cells_of_the_setting(alone: tuple[Path, Path]) -> None:
    path, results = alone
    cells = planned(path, results, "seeds=[0, 1]", "methods.0.rank=[2, 8]")
    assert {name: one["source"] for name, one in cells.items() if one["state"] == "todo"} == {
        "lora-r2-n32-s1": "this setting",
        "lora-r8-n32-s0": "this method",
        "lora-r8-n32-s1": "this method",
        "dora-r2-n32-s1": "this setting",
        "dora-r4-n32-s1": "this setting",
        "full-n32-s1": "this setting",
    }
    records = [json.loads(file.read_text()) for file in (results / "tiny").glob("cells/*/metrics.json")]
    own = json.loads(next((results / "tiny").glob("cells/lora-r2-*/metrics.json")).read_text())
    others = ("training_seconds", "merging_seconds", "evaluation_seconds")
    once = sorted(one["costs"]["wall_seconds"] - sum(one["costs"].get(part, 0.0) for part in others) for one in records)
    tasks = {row["task"] for row in own["evaluations"].values()}
    scoring = 0.0
    for task in tasks:
        paces = sorted(
            row["seconds"] / row["n"] for one in records for row in one["evaluations"].values() if row["task"] == task
        )
        scoring += 6 * (paces[2] + paces[3]) / 2
    training = sorted(one["costs"]["training_tokens"] for one in records if one["costs"].get("training_tokens"))[2]
    lora = (results / "tiny").glob("cells/lora-*/metrics.json")
    merging = [json.loads(file.read_text())["costs"]["merging_seconds"] for file in lora]
    assert len(merging) == 2
    expected = training / own["costs"]["tokens_per_second"] + scoring + (once[2] + once[3]) / 2 + sum(merging) / 2
    assert cells["lora-r2-n32-s1"]["seconds"] == pytest.approx(expected, abs=0.11)
    assert cells["lora-r2-n32-s1"]["memory_source"] == "recorded"
    assert cells["lora-r8-n32-s1"]["memory_source"] == "at least"


def test_merging_and_timing_answers_are_expected_of_those_that_do(alone: tuple[Path, Path]) -> None:
    path, results = alone
    for file in matching(results / "tiny", "cells/*/metrics.json"):
        metrics = json.loads(file.read_text())
        metrics["costs"] |= {"merging_seconds": 50.0, "wall_seconds": metrics["costs"]["wall_seconds"] + 50.0}
        if file.parent.name.startswith("base-"):
            metrics["costs"] |= {"inference": {"base": {}}, "inference_seconds": 30.0}
            metrics["costs"]["wall_seconds"] += 30.0
        file.write_text(json.dumps(metrics))
    cells = planned(path, results, "seeds=[2, 3]", "costs.inference=true")
    # Its own and merged; the base is timed in its own cell.
    assert cells["lora-r2-n32-s2"]["seconds"] - cells["lora-r2-n32-s3"]["seconds"] == pytest.approx(60, abs=0.2)
    assert 50 < cells["lora-r2-n32-s3"]["seconds"] < 90
    tune = "tune={trials: 2, lr: {lora: [1e-3, 1e-2], dora: [1e-3, 1e-2], full: [1e-3, 1e-2]}}"
    trials = planned(path, results, tune, "methods=[lora, dora, full]", "costs.inference=true")
    trials = {name: one for name, one in trials.items() if name.endswith("-s7919")}
    assert trials and all(one["seconds"] < 50 for one in trials.values())


def test_a_cell_that_shared_its_device_says_nothing_of_time(alone: tuple[Path, Path]) -> None:
    path, results = alone
    for file in matching(results / "tiny", "cells/*/metrics.json"):
        metrics = json.loads(file.read_text())
        metrics["costs"]["shared"] = True
        file.write_text(json.dumps(metrics))
    cells = planned(path, results, "seeds=[1]")
    assert {one["source"] for name, one in cells.items() if name != "base"} == {"arithmetic"}


def test_longer_trainings_take_longer_in_proportion(alone: tuple[Path, Path]) -> None:
    path, results = alone
    one, ten, hundred = (
        planned(path, results, f"training.epochs={epochs}", "seeds=[1]")["lora-r2-n32-s1"] for epochs in (1, 10, 100)
    )
    growth = (hundred["seconds"] - one["seconds"]) / (ten["seconds"] - one["seconds"])
    assert growth == pytest.approx(11, rel=0.15)
    assert hundred["training_flops"] == pytest.approx(100 * one["training_flops"], rel=0.01)


def test_flops_are_those_that_the_cell_then_records(alone: tuple[Path, Path]) -> None:
    """Up to the shares of tokens at the head and of attention, which a plan can only guess."""
    path, results = alone
    for name, cell in planned(path, results).items():
        folder = next((results / "tiny").glob(f"cells/{name}-*"))
        costs = json.loads((folder / "metrics.json").read_text())["costs"]
        if "training_flops" in costs:
            assert cell["training_flops"] == pytest.approx(costs["training_flops"], rel=0.35), name


@pytest.mark.slow
def test_calibration_runs_small_cells_of_each_setting(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    settings = ("--set", "samples=1600", "--set", "methods=[{method: lora, rank: [2, 4], lr: [1e-3, 1e-2]}]")
    done = bench("plan", path, "--results", tmp_path, "--calibrate", *settings, "--set", "evaluation.limit=40")
    assert done.exit_code == 0, done.output
    small = sorted((tmp_path / "tiny" / "calibration").glob("cells/*/cell.json"))
    assert len(small) == 3  # untuned, and one for each rank
    samples = {json.loads(file.read_text())["samples"] for file in small}
    assert samples == {0, 5 * 8}
    # Each lies under its own identity, and not under that of the cell that it stands for.
    assert all(CellFolder(file.parent).cell().folder == file.parent.name for file in small)
    rows = [
        one["n"]
        for file in small
        for one in json.loads((file.parent / "metrics.json").read_text())["evaluations"].values()
    ]
    assert set(rows) == {16}
    assert not (tmp_path / "tiny" / "cells").exists()
    again = bench("plan", path, "--results", tmp_path, "--calibrate", *settings, "--set", "evaluation.limit=40")
    assert "3 recorded already, 0 to run" in again.output, again.output


def test_what_cannot_fit_is_refused_by_name(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device of 150 kB: the tiny model's 26,880 weights take 108, and their gradients as much again."""
    path = sweep_file(tmp_path, tiny_model)
    monkeypatch.setattr(memory, "memory_of_device", lambda: 150_000)
    done = bench("run", path, "--results", tmp_path / "r")
    assert done.exit_code == 2 and "1 cell cannot fit this device: full-n32-s0" in done.output, done.output
    assert not (tmp_path / "r").exists()
    done = bench("plan", path, "--results", tmp_path / "r")  # for another machine, it may be
    assert done.exit_code == 0 and "bench run would refuse: 1 cell cannot fit" in done.output, done.output


@pytest.mark.parametrize("names", [["lora", "qlora"], ["qlora", "lora"]])
def test_the_estimate_of_a_method_does_not_depend_on_those_before_it(names: list[str]) -> None:
    """Both have as many parameters, and what is read to generate a token is eight times less for four bits."""
    from bench.planning.build import make_plan
    from bench.planning.estimate import make_estimator
    from bench.store.folder import Results
    from bench.sweep.schema import Sweep

    sweep = Sweep.model_validate(
        {
            "name": "order",
            "base_model": {"id": "huggyllama/llama-7b", "dtype": "bfloat16"},
            "methods": [{"method": name, "rank": 8} for name in names],
            "samples": 16,
            "data": {"format": "llm_adapters"},
            "evaluation": {"protocol": "llm-adapters-v1", "merge": "never", "limit": 50},
        }
    )
    plan = make_plan(sweep, elsewhere=True)
    estimator = make_estimator(plan, Results(Path("none")), tflops=312)
    seconds = {cell.cell.method: estimator.estimate(cell).seconds for cell in plan.cells}
    assert seconds["qlora"] < 0.7 * seconds["lora"]
