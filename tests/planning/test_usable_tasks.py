"""A task of lm-eval that cannot be read costs its own evaluations, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.sweeps import bench, sweep_file

from bench.planning.build import make_plan
from bench.sweep.load import load_sweep

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


@pytest.mark.parametrize("content", ["{", '{"question": "Is it?", "choices": ["a", "b"]}'], ids=["broken", "no label"])
def test_a_bad_task_of_the_sweep_s_data_is_an_error_that_says_why(
    content: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Without its questions other rows would be trained on."""
    path = sweep_file(tmp_path, tiny_model)
    (tmp_path / "more.jsonl").write_text(content + "\n")
    tasks = ("--set", f"evaluation.tasks=[world_two, '{tmp_path / 'more.jsonl'}']", "--results", tmp_path / "r")
    refused = bench("plan", path, *tasks)
    said = " ".join(refused.output.split())
    assert refused.exit_code == 2, said
    why = "training rows that ask the same as its questions are removed (data.deduplicate)"
    assert "The sweep does not go on without more" in said and why in said, said
    assert "leave more out of evaluation.tasks" in said
    kept = bench("plan", path, *tasks, "--set", "data.deduplicate=false")
    assert "development questions are drawn that are not among its questions" in " ".join(kept.output.split())


def test_a_question_of_a_task_that_is_only_evaluated_changes_what_is_trained_on(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Why a bad one is an error of the sweep, and not of its evaluations alone."""
    path = sweep_file(tmp_path, tiny_model)
    without = make_plan(load_sweep(path, ("evaluation.tasks=[world_two]", "data.train=world_two")))
    asked = without.data.pools["world_two"][0]
    rows = {"question": asked.text, "choices": list(asked.choices), "answer": asked.choices[asked.label]}
    (tmp_path / "more.jsonl").write_text(json.dumps(rows) + "\n")
    tasks = f"evaluation.tasks=[world_two, '{tmp_path / 'more.jsonl'}']"
    scored = make_plan(load_sweep(path, (tasks, "data.train=world_two")))
    assert asked.key not in {row.key for row in scored.data.pools["world_two"]}
    assert {cell.cell.id for cell in scored.cells if cell.cell.data}.isdisjoint(
        cell.cell.id for cell in without.cells if cell.cell.data
    )
