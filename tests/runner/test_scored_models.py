"""A score is of the model that was trained: through merges that change it, adapters that do nothing, damaged files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.sweeps import bench, sweep_file

from bench.analysis.result_tables import read_results
from bench.store.folder import CellFolder, Results

ODD_METHODS = '''
import os
from pathlib import Path
import torch
from bench.methods.lora import Lora

TINY_COPY = 257  # tokens; these faults are those of a base, which its tiny copy in the plan does not have

class Wrong(Lora):
    """LoRA whose merge turns the output head around."""
    name = "wrong"

    def merge(self, model):
        merged = super().merge(model)
        if merged.config.vocab_size != TINY_COPY:
            with torch.no_grad():
                merged.model.norm.weight.neg_()
        return merged

class Stopped(Lora):
    """LoRA whose training is stopped once, at its third step."""
    name = "stopped"

    def after_step(self, model, cell, step):
        mark = Path(os.environ["MARK"])
        if step == 3 and not mark.exists():
            mark.touch()
            raise KeyboardInterrupt

class Idle(Lora):
    """LoRA that is loaded as if nothing had been trained."""
    name = "idle"

    def load(self, model, folder, cell):
        if model.config.vocab_size == TINY_COPY:
            return super().load(model, folder, cell)
        return self.attach(model, cell)

class Large(Lora):
    """LoRA of which no more than 400 tokens fit into memory at once."""
    name = "large"

    def load(self, model, folder, cell):
        loaded = super().load(model, folder, cell)
        loaded.register_forward_pre_hook(self._fits, with_kwargs=True)
        return loaded

    @staticmethod
    def _fits(module, args, kwargs):
        if kwargs["input_ids"].numel() > 400:
            raise torch.OutOfMemoryError("CUDA out of memory.")
'''
TASKS = ("--set", "evaluation.tasks=[world_two, world_blank]", "--set", "evaluation.merge=always")


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    (tmp_path / "odd_methods.py").write_text(ODD_METHODS)
    monkeypatch.setenv("MARK", str(tmp_path / "stopped"))
    monkeypatch.syspath_prepend(tmp_path)
    path = sweep_file(tmp_path, tiny_model)

    def run(methods: str, *more: str, verb: str = "run") -> Any:
        entry = ("--set", f"methods=[{methods}]", "--set", "run.keep_adapters=all", "--workers", "0")
        return bench(verb, path, "--results", tmp_path / "r", *entry, *TASKS, *more)

    run.results = Results(tmp_path / "r" / "tiny")
    return run


def cell_named(results: Results, start: str) -> CellFolder:
    (folder,) = [folder for folder in results.folders() if folder.path.name.startswith(start)]
    return folder


def rows(folder: CellFolder) -> dict[str, pd.DataFrame]:
    """The rows of all evaluations of a cell, by task."""
    return {one.task: folder.items(one.file) for one in folder.record().evaluations.values()}


def test_a_merge_that_changes_answers_is_not_scored(run: Callable[..., Any]) -> None:
    """The record and the report say so, and a second run finds nothing to do."""
    done = run("{method: 'odd_methods:Wrong', rank: 2, lr: 1e-2}")
    assert done.exit_code == 0 and "the scores are of the unmerged model" in done.output, done.output
    wrong = cell_named(run.results, "odd_methods")
    record = wrong.record()
    assert record.merge_flips is not None and record.merge_flips.flips_above_margin > 0
    assert "the scores are of the unmerged model" in record.merge_reason
    assert not any(one.merged for one in record.evaluations.values())
    read = read_results(run.results)
    assert any("its scores are those of the unmerged model" in text for text in read.problems), read.problems
    assert "2 recorded already, 0 to run" in run("{method: 'odd_methods:Wrong', rank: 2, lr: 1e-2}").output


def test_one_seed_of_a_setting_is_compared_in_full(run: Callable[..., Any]) -> None:
    """Of the other one a few logits are, and its answers only if merging moves those."""
    methods = "{method: 'odd_methods:Wrong', rank: 2, lr: 1e-2}, {method: lora, rank: 2, lr: 1e-2}"
    done = run(methods, "--set", "seeds=[0, 1]")
    assert done.exit_code == 0, done.output
    records = {(of.cell().method, of.cell().seed): of.record() for of in run.results.folders()}
    compared = {of: record.merge_flips.n if record.merge_flips else 0 for of, record in records.items()}
    assert compared["lora", 0] > 0 and compared["lora", 1] == 0
    assert compared["odd_methods:Wrong", 0] == compared["odd_methods:Wrong", 1] > 0
    for (method, _), record in records.items():
        assert record.development is not None and (record.development.acc or 0) > 0
        assert all(of.merged == (method != "odd_methods:Wrong") for of in record.evaluations.values())
    differences = records["lora", 1].merge_max_abs_diff
    assert differences is not None and set(differences) == {"float32"} and (differences["float32"] or 0) < 1e-4


@pytest.mark.slow
def test_its_rows_and_development_accuracy_are_those_of_a_sweep_without_merging(run: Callable[..., Any]) -> None:
    run("{method: 'odd_methods:Wrong', rank: 2, lr: 1e-2}")
    wrong = cell_named(run.results, "odd_methods")
    plain = bench("run", *_unmerged(run, "{method: 'odd_methods:Wrong', rank: 2, lr: 1e-2}"))
    assert plain.exit_code == 0, plain.output
    expected = cell_named(Results(run.results.path.parent / "unmerged" / "tiny"), "odd_methods")
    for task, table in rows(expected).items():
        pd.testing.assert_frame_equal(table, rows(wrong)[task])
    assert wrong.record().development == expected.record().development


def _unmerged(run: Callable[..., Any], methods: str) -> tuple[object, ...]:
    folder = run.results.path.parent.parent
    settings = ("--set", f"methods=[{methods}]", *TASKS[:2], "--set", "evaluation.merge=never", "--workers", "0")
    return (folder / "tiny.yaml", "--results", folder / "r" / "unmerged", *settings)


def test_an_adapter_that_is_not_applied_is_flagged(run: Callable[..., Any]) -> None:
    done = run("{method: 'odd_methods:Idle', rank: 2, lr: 1e-2}, {method: lora, rank: 2, lr: 1e-2}")
    assert done.exit_code == 0, done.output
    idle, lora = cell_named(run.results, "odd_methods"), cell_named(run.results, "lora")
    assert any("bit for bit" in text for text in idle.record().warnings)
    assert not any("bit for bit" in text for text in lora.record().warnings)
    problems = [text for text in read_results(run.results).problems if "bit for bit" in text]
    assert len(problems) == 1 and problems[0].startswith("odd_methods"), problems


def test_batches_of_another_size_are_recorded_and_said(run: Callable[..., Any]) -> None:
    methods = "{method: 'odd_methods:Large', rank: 2, lr: 1e-2}, {method: lora, rank: 2, lr: 1e-2}"
    done = run(methods, "--set", "evaluation.merge=never")
    assert done.exit_code == 0, done.output
    large, lora = (
        [one.batch_tokens for one in cell_named(run.results, name).record().evaluations.values()]
        for name in ("odd_methods", "lora")
    )
    assert set(lora) == {(1024,)}
    assert len(large) == 2 and all(0 < size <= 400 for sizes in large for size in sizes)  # halved before the first one
    said = [text for text in read_results(run.results).problems if "tokens a forward pass" in text]
    assert len(said) == 1 and said[0].startswith("odd_methods") and "1,024" in said[0], said


def truncate(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:200])


def without_tensors(adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file(dict(list(tensors.items())[1:]), path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": shutil.rmtree,
    "cut off": truncate,
    "a tensor missing": without_tensors,
    "no configuration": lambda adapter: (adapter / "adapter_config.json").unlink(),
    "a configuration cut off": lambda adapter: (adapter / "adapter_config.json").write_text('{"peft'),
}
LORA = "{method: lora, rank: 2, lr: 1e-2}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A results folder whose cells are trained and scored."""
    folder = tmp_path_factory.mktemp("whole")
    settings = ("--set", f"methods=[{LORA}]", "--set", "run.keep_adapters=all", "--workers", "0")
    done = bench("run", sweep_file(folder, tiny_model), "--results", folder / "r", *settings, *TASKS)
    assert done.exit_code == 0, done.output
    return folder / "r"


def unscored(results: Results) -> CellFolder:
    """The trained cell as a kill between training and scoring leaves it."""
    lora = cell_named(results, "lora")
    content = json.loads((lora.path / "metrics.json").read_text())
    kept = {key: content[key] for key in ("schema", "costs")}
    (lora.path / "metrics.json").write_text(json.dumps({**kept, "status": "trained"}))
    shutil.rmtree(lora.path / "items")
    return lora


@pytest.mark.parametrize(
    "damage", [name if name == "cut off" else pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES]
)
def test_a_cell_with_a_damaged_adapter_is_trained_again(damage: str, run: Callable[..., Any], whole: Path) -> None:
    shutil.copytree(whole, run.results.path.parent)
    expected = rows(cell_named(run.results, "lora"))
    lora = unscored(run.results)
    DAMAGES[damage](lora.adapter)
    done = run(LORA)
    assert done.exit_code == 0 and "the cell is trained again from the beginning" in done.output, done.output
    assert lora.record().status == "done"
    assert (lora.path / "adapter.damaged").is_dir() == (damage != "missing")
    for task, table in rows(lora).items():
        pd.testing.assert_frame_equal(table, expected[task])


def test_evaluating_does_not_train(run: Callable[..., Any], whole: Path) -> None:
    shutil.copytree(whole, run.results.path.parent)
    lora = cell_named(run.results, "lora")
    truncate(lora.adapter)
    done = bench("evaluate", run.results.path, "--tasks", "world_ending", "--workers", "0")
    assert done.exit_code == 1, done.output
    assert "`bench run` trains the cell again" in lora.record().reason
    assert lora.adapter.is_dir() and len(lora.record().evaluations) == 2


def test_a_cell_whose_scores_are_kept_without_its_adapter_is_not_trained_for_one_more(
    run: Callable[..., Any], whole: Path
) -> None:
    shutil.copytree(whole, run.results.path.parent)
    lora = cell_named(run.results, "lora")
    shutil.rmtree(lora.adapter)
    done = run(LORA, "--set", "evaluation.tasks=[world_two, world_blank, world_ending]")
    assert done.exit_code == 1 and len(lora.record().evaluations) == 2, done.output
    assert "its adapter was not kept" in lora.record().reason


def test_a_damaged_checkpoint_costs_its_own_steps_alone(run: Callable[..., Any]) -> None:
    stopped = "{method: 'odd_methods:Stopped', rank: 2, lr: 1e-2}"
    always = ("--set", "training.checkpoint_minutes=0")
    assert run(stopped, *always).exit_code == 130
    work = cell_named(run.results, "odd_methods").work
    (work / "checkpoint-2" / "state.json").write_text("{}")
    done = run(stopped, *always)
    assert done.exit_code == 0, done.output
    assert "checkpoint-2 is damaged (" in done.output and "the training starts from its beginning" in done.output
    record = cell_named(run.results, "odd_methods").record()
    assert record.status == "done" and record.costs is not None and record.costs.resumed == 0


def test_an_adapter_that_is_damaged_is_not_exported(run: Callable[..., Any], whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, run.results.path.parent)
    lora = cell_named(run.results, "lora")
    truncate(lora.adapter)
    for form in ((), ("--merged",)):
        done = bench("export", lora.path, "--to", tmp_path / "out", *form)
        assert done.exit_code == 2 and "bytes of weights where" in done.output, done.output
