"""`bench evaluate`: more tasks and protocols for cells that are trained, and lm-eval's own tasks among them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from helpers.paths import matching
from helpers.sweeps import bench, sweep_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.evaluation import protocols
from bench.planning.build import make_plan
from bench.sweep.load import load_sweep

ROWS = [{"ask": f"Is {n} even?", "options": ["yes", "no", "perhaps"], "right": n % 2} for n in range(12)]
TASK = """
task: parity_of_numbers
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{ask}}}}\nAnswer:"
doc_to_choice: options
doc_to_target: right
num_fewshot: 2
fewshot_split: test
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
metadata: {{version: 1.5}}
"""


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of lm-eval in a file of its own, with its data."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = tmp_path / "parity.yaml"
    path.write_text(TASK.format(rows=rows))
    return path


@pytest.fixture
def folder(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    """A finished sweep to be changed."""
    return Path(shutil.copytree(finished[1], tmp_path / "tiny"))


def metrics_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("cells/*/metrics.json")}


def training(costs: dict[str, Any]) -> dict[str, Any]:
    """Costs without those of scoring, and of the run that it was done in."""
    of_the_run = ("evaluation_", "merging_", "inference", "wall_", "shared", "others_cpu")
    return {key: value for key, value in costs.items() if not key.startswith(of_the_run)}


def test_more_tasks_without_training(folder: Path, task_file: Path) -> None:
    before, asked = metrics_of(folder), (folder / "sweep.yaml").read_text()
    done = bench("evaluate", folder, "--tasks", f"world_three,lm_eval:{task_file}")
    assert done.exit_code == 0, done.output
    after = metrics_of(folder)
    assert after.keys() == before.keys()
    for name, metrics in after.items():
        tasks = [one["task"] for one in metrics["evaluations"].values()]
        assert tasks[-2:] == ["world_three", f"lm_eval:{task_file}"] and len(tasks) == 6
        assert training(metrics["costs"]) == training(before[name]["costs"])
        assert metrics["evaluations"].items() >= before[name]["evaluations"].items()
        assert metrics["status"] == "done"
    assert "world_three" in (folder / "report" / "report.md").read_text()
    assert bench("evaluate", folder).exit_code == 0  # nothing is left to do
    assert metrics_of(folder) == after
    (folder / "before.yaml").write_text(asked)
    again = bench("run", folder / "before.yaml", "--results", folder.parent)
    said = f"lm_eval:{task_file}, world_three: scored in this folder, but not part of this sweep"
    assert again.exit_code == 0 and said in " ".join(again.output.split()), again.output
    assert metrics_of(folder) == after


@pytest.mark.slow
def test_a_task_of_lm_eval_scores_as_in_lm_eval_alone(folder: Path, task_file: Path, tiny_model: Path) -> None:
    """The untuned base: every log-likelihood (fp32, 1e-4 nats) and both accuracies are those of lm-eval's own run."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    assert bench("evaluate", folder, "--tasks", f"lm_eval:{task_file}", "--set", "evaluation.limit=12").exit_code == 0
    items = [pd.read_parquet(path) for path in folder.glob("cells/*/items/lm_eval*")]
    assert len(items) == 6 and len({tuple(one["prompt_hash"]) for one in items}) == 1  # one prompt for all cells
    (cell,) = folder.glob("cells/base-*")
    recorded = list(json.loads((cell / "metrics.json").read_text())["evaluations"].values())[-1]
    items = pd.read_parquet(cell / "items" / recorded["file"])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    stock = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, logits_cache=False)
    tasks = TaskManager(include_defaults=False).load([str(task_file)])
    tasks["tasks"]["parity_of_numbers"].set_fewshot_seed(1234)  # as simple_evaluate does
    theirs = lm_eval.evaluate(stock, tasks, log_samples=True, bootstrap_iters=0)
    samples = sorted(theirs["samples"]["parity_of_numbers"], key=lambda one: one["doc_id"])
    assert len(items) == len(samples) == 12
    for row, sample in zip(items.itertuples(), samples, strict=True):
        expected = [float(response[0]) for response in sample["filtered_resps"]]
        assert list(row.loglikelihoods) == pytest.approx(expected, abs=1e-4)
        assert row.gold == sample["target"]
    scores = theirs["results"]["parity_of_numbers"]
    assert (recorded["acc"], recorded["acc_norm"]) == (scores["acc,none"], scores["acc_norm,none"])
    assert (recorded["primary"], recorded["task_version"]) == ("acc_norm", "1.5")


def test_what_cannot_be_added_is_refused(folder: Path, tmp_path: Path) -> None:
    plan = (folder / "plan.json").read_text()
    for tasks, problem in (
        ("nonsense", "unknown task"),
        ("lm_eval:missing.yaml", "there is no file missing.yaml"),
    ):
        done = bench("evaluate", folder, "--tasks", tasks)
        assert done.exit_code == 2 and problem in done.output, done.output
    for adapter in matching(folder, "cells/*/adapter"):
        shutil.rmtree(adapter)
    done = bench("evaluate", folder, "--tasks", "world_three")
    assert done.exit_code == 2 and "5 of 5 trained cells have not kept" in done.output
    assert (folder / "plan.json").read_text() == plan


def test_a_cell_without_its_adapter_is_left_out(folder: Path) -> None:
    (lost,) = folder.glob("cells/lora-r2-*")
    shutil.rmtree(lost / "adapter")
    plan = (folder / "plan.json").read_text()
    done = bench("evaluate", folder, "--tasks", "world_three")
    assert done.exit_code == 2 and f"1 of 5 trained cells have not kept their adapters, {lost.name[:-9]}" in done.output
    assert (folder / "plan.json").read_text() == plan  # nothing is begun
    done = bench("evaluate", folder, "--tasks", "world_three", "--skip-lost")
    assert done.exit_code == 1 and "1 of 6 cells lack scores" in done.output
    for name, metrics in metrics_of(folder).items():
        assert len(metrics["evaluations"]) == (4 if name == lost.name else 5)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"metric_list": [{"metric": "f1"}]}, "is scored by f1, in a way of its own"),
        ({"doc_to_target": "[0, 1]"}, "whose right answer is"),
        ({"doc_to_target": "maybe"}, "whose right answer is 'maybe' of 3 choices"),
        ({"output_type": "generate_until", "metric_list": [{"metric": "exact_match"}]}, "of the kind generate_until"),
    ],
)
def test_tasks_that_would_be_scored_wrongly_are_refused_in_the_plan(
    change: dict[str, Any], problem: str, folder: Path, task_file: Path
) -> None:
    task_file.write_text(yaml.safe_dump({**yaml.safe_load(task_file.read_text()), **change}))
    done = bench("evaluate", folder, "--tasks", f"lm_eval:{task_file}")
    assert done.exit_code == 2 and problem in done.output, done.output


def test_metrics_of_a_task_that_are_not_scored_are_said(tmp_path: Path, tiny_model: Path, task_file: Path) -> None:
    """In the plan and in the report; acc of such a task is scored as lm-eval does."""
    metrics = ["acc", "f1", "acc_bytes", "acc_mutual_info"]
    task_file.write_text(
        yaml.safe_dump(
            {**yaml.safe_load(task_file.read_text()), "metric_list": [{"metric": metric} for metric in metrics]}
        )
    )
    path = sweep_file(tmp_path, tiny_model)
    said = f"lm_eval:{task_file}: f1, acc_bytes, acc_mutual_info are not scored here; acc of the same answers"
    done = bench("plan", path, "--set", f"evaluation.tasks=['lm_eval:{task_file}']")
    assert done.exit_code == 0 and said in done.output, done.output
    plan = make_plan(load_sweep(path, (f"evaluation.tasks=['lm_eval:{task_file}']",)))
    assert any(note.startswith(said) for note in plan.record().notes)


@pytest.mark.slow
def test_a_task_that_fails_takes_nothing_from_a_finished_cell(
    folder: Path, task_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.evaluation import lm_eval_tasks

    def fails(*given: Any) -> None:
        raise RuntimeError("no such luck")

    before = metrics_of(folder)
    failing = dataclasses.replace(protocols.PROTOCOLS[lm_eval_tasks.PROTOCOL], evaluate=fails)
    monkeypatch.setitem(protocols.PROTOCOLS, lm_eval_tasks.PROTOCOL, failing)
    done = bench("evaluate", folder, "--tasks", f"lm_eval:{task_file}", "--workers", "0")
    assert done.exit_code == 1
    for name, metrics in metrics_of(folder).items():
        assert metrics["status"] == "trained" and "no such luck" in metrics["reason"]
        assert metrics["evaluations"] == before[name]["evaluations"]
    monkeypatch.undo()
    assert bench("evaluate", folder).exit_code == 0  # tried again
    assert all(one["status"] == "done" for one in metrics_of(folder).values())


@pytest.mark.slow
def test_a_fill_in_task_has_its_answer_where_others_have_their_text(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lm-eval writes WinoGrande: the choices stand in the contexts."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = tmp_path / "blanks.jsonl"
    blanks = [{"option": [f"Ann {n}", f"Andrew {n}"], "rest": "had come late.", "right": n % 2} for n in range(6)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in blanks))
    task = {
        "task": "blanks",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "right",
        "doc_to_choice": "option",
        "doc_to_target": "rest",
        "metric_list": [{"metric": "acc"}],
    }
    path = tmp_path / "blanks.yaml"
    path.write_text(yaml.safe_dump(task))
    done = bench("evaluate", folder, "--tasks", f"lm_eval:{path}")
    assert done.exit_code == 0, done.output
    for cell in matching(folder, "cells/*"):
        (items,) = (pd.read_parquet(one) for one in cell.glob("items/lm_eval*"))
        assert sorted(items["gold"]) == [0, 0, 0, 1, 1, 1]
