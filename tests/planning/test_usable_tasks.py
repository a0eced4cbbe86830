"""A task of lm-eval that cannot be read costs its own evaluations, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.sweeps import bench, sweep_file

BAD = {
    "no such file": ("lm_eval:{folder}/missing.yaml", "there is no file"),
    "no such task": ("lm_eval:no_such_task_at_all", "no_such_task_at_all"),
    "no task": ("lm_eval:{folder}/bad.yaml", "bad.yaml"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_task_costs_its_own_evaluations(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("metadata: {version: 1}\n")
    name, why = BAD[kind]
    name = name.format(folder=tmp_path)
    path = sweep_file(tmp_path, tiny_model)
    tasks = f"evaluation.tasks=[world_two, '{name}']"
    done = bench("plan", path, "--set", tasks, "--results", tmp_path / "r")
    said = " ".join(done.output.split())
    assert done.exit_code == 0 and f"cannot run: task {name}: " in said and why in said, done.output
    assert bench("plan", path, "--set", tasks, "--results", tmp_path / "r", "--strict").exit_code == 2
    alone = bench("plan", path, "--set", f"evaluation.tasks=['{name}']", "--results", tmp_path / "r")
    assert alone.exit_code == 2 and why in " ".join(alone.output.split())


def test_the_other_tasks_are_scored_and_the_report_says_so(tiny_model: Path, tmp_path: Path) -> None:
    tasks = "evaluation.tasks=[world_two, 'lm_eval:missing.yaml']"
    only = ("--set", "methods=[{method: lora, rank: 2, lr: 0.01}]")
    done = bench("run", sweep_file(tmp_path, tiny_model), "--set", tasks, *only, "--results", tmp_path / "r")
    assert done.exit_code == 0 and "task lm_eval:missing.yaml" in " ".join(done.output.split()), done.output
    (folder,) = (tmp_path / "r").glob("**/plan.json")
    assert json.loads(folder.read_text())["tasks"] == ["world_two"]
    report = (folder.parent / "report" / "report.md").read_text()
    assert "not run: task lm_eval:missing.yaml" in report
