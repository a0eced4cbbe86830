"""Sweep files: what they mean, what they refuse, and a cell's identity."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.evaluation import lm_eval_tasks
from bench.planning.build import make_plan
from bench.sweep.load import load_sweep

SWEEP = """
name: test
base_model: {{id: {model}, dtype: float32}}
methods:
  - {{method: lora, rank: [2, 4], lr: 1e-3}}
  - {{method: dora, rank: 2}}
  - full
samples: [10, 20]
seeds: [0, 1]
evaluation: {{limit: 4}}
"""


def write(folder: Path, model: Path, text: str = SWEEP) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text.format(model=model))
    return path


def test_cells_are_the_product_and_one_untuned(tmp_path: Path, tiny_model: Path) -> None:
    names = [one.cell.name for one in make_plan(load_sweep(write(tmp_path, tiny_model))).cells]
    assert names.count("base") == 1
    assert len(names) == len(set(names)) == 1 + (2 + 1 + 1) * 2 * 2
    assert {"lora-r4-n20-s1", "dora-r2-n10-s0", "full-n20-s0"} <= set(names)


def test_same_cell_same_hash_and_a_changed_rate_another(tmp_path: Path, tiny_model: Path) -> None:
    path = write(tmp_path, tiny_model)

    def ids(*overrides: str) -> dict[str, str]:
        return {one.cell.name: one.cell.id for one in make_plan(load_sweep(path, overrides)).cells}

    first = ids()
    assert ids() == first
    changed = ids("methods.0.lr=2e-3")
    assert all((changed[name] != first[name]) == name.startswith("lora") for name in first)
    # What changes no trained weight changes no hash ...
    run_time = ("training.micro_batch=2", "training.devices=2", "training.parallel=fsdp", "training.logging_steps=1")
    assert ids(*run_time, "evaluation.limit=2", "name=other") == first
    # ... a default written out is no change, and what changes the weights is one, for every trained cell.
    assert ids("training.epochs=1.0", "methods.0.dropout=0.05", "methods.0.target_modules=auto") == first
    for override in (
        "training.epochs=2",
        "training.max_length=64",
        "data.append_eos=false",
        "base_model.dtype=bfloat16",
    ):
        changed = ids(override)
        assert all(changed[name] != first[name] for name in first if name != "base"), override


def test_training_lists_make_cells(tmp_path: Path, tiny_model: Path) -> None:
    plan = make_plan(load_sweep(write(tmp_path, tiny_model), ("training.epochs=[1,2]", "methods=[full]", "seeds=0")))
    assert len(plan.cells) == 1 + 2 * 2


def test_extends_and_set(tmp_path: Path, tiny_model: Path) -> None:
    write(tmp_path, tiny_model)
    child = tmp_path / "child.yaml"
    child.write_text("extends: sweep.yaml\nname: child\nevaluation: {merge: never}\n")
    sweep = load_sweep(child, ("samples=[5]",))
    assert (sweep.name, sweep.samples, sweep.evaluation.merge, sweep.evaluation.limit) == ("child", (5,), "never", 4)
    child.write_text("extends: child.yaml\nname: child\n")
    with pytest.raises(UserError, match="extends itself"):
        load_sweep(child)


BAD = {
    "unknown key": ("epoch_s=2", "Allowed:.*training"),
    "key of a section": ("epochs=2", r"'epochs' has no meaning here.*training: \{epochs: \.\.\.\}"),
    "learning rate at the top level": ("learning_rate=1e-4", r"methods: \[\{method: lora, lr: \.\.\.\}\]"),
    "PEFT's name of the rank": ("methods=[{method: lora, r: 8}]", "Did you mean 'rank'"),
    "rank of the untuned model": ("methods=[{method: base, rank: 8}]", "base has no setting rank"),
    "unknown nested key, nearest": ("training.epoch=2", "Did you mean 'epochs'"),
    "rate in the wrong place": ("training.lr=1e-4", "set per method"),
    "unknown method": ("methods=[lorra]", "Did you mean 'lora'"),
    "unknown setting of a method": ("methods.0.ranks=4", "Did you mean 'rank'"),
    "unknown task": ("evaluation.tasks=[arc_esy]", "Did you mean 'arc_easy'"),
    "unknown training set": ("data.train=wrld", "Did you mean 'world'"),
    "rank beyond the matrices": (
        "methods=[{method: lora, rank: 64}]",
        "cells lora-r64 on .*: method lora: rank 64 is more than the targeted matrices",
    ),
    "layer that is not there": (
        "methods=[{method: loreft, layers: [0, 2]}]",
        "cells loreft on .*method loreft: .*2",
    ),
    "layer of an adapter": (
        "methods=[{method: llama_adapter, adapter_layers: 3}]",
        "cell llama_adapter-r10-n10-s0 is impossible on .*more adapter layers '3' than the model has '2'",
    ),
    "module of any type": ("methods=[{method: loha, target_modules: [qq]}]", "cells loha on .*no module qq"),
    "rank of any type": (
        "methods=[{method: miss, rank: 64}]",
        "cell miss-r64-n10-s0 is impossible on .*less than or equal to in_features",
    ),
    "nothing to train": ("methods=[trainable_tokens]", "cell trainable_tokens-n10-s0 would train nothing"),
    "weight decay that a method cannot bear": (
        "methods=[{method: loreft}]",
        "loreft does not support training.weight_decay 0.1: .*rotation",
    ),
    "stacked the wrong way": ("methods=[lora+loreft]", "cannot be stacked"),
    "stacked on all weights": ("methods=[loreft+full]", "loreft cannot be stacked on full"),
    "stacked on virtual tokens": ("methods=[loreft+prompt]", "loreft cannot be stacked on prompt"),
    "part without settings": ("methods=[{method: loreft+lora, lora: 8}]", "lora is 8"),
    "schedule longer than the training": (
        "methods=[{method: adalora, tinit: 30, tfinal: 30}]",
        "cell adalora-r8-n10-s0 is impossible on .*tinit",
    ),
    "setting of a part": ("methods=[{method: loreft+lora, lora: {ranks: 4}}]", "Did you mean 'rank'"),
    "setting of a pair": ("methods=[{method: loreft+lora, first: 3}]", "unknown setting 'first'"),
    "rank 0": ("methods.0.rank=0", "rank.*greater than or equal to 1.*got 0"),
    "rank of a method without one": ("methods=[{method: full, rank: 8}]", "full has no rank"),
    "missing module": (
        "methods.0.target_modules=[q_proj, qq_proj]",
        "no module qq_proj[^q]*Its linear layers: down_proj",
    ),
    "too many samples": ("samples=1000000", r"1000000 samples asked for, \d+ exist"),
    "rows beyond the base's positions": ("training.max_length=513", "m?.*reads 512 tokens.*at most 512"),
    "rows and virtual tokens beyond them": (
        "methods=[{method: prompt, rank: 300}]",
        "max_length 256 and the 300 virtual tokens of prompt.*at most 212",
    ),
    "folder of data that is not used": ("data.dir=/nonexistent", "data.dir: there is no folder /nonexistent"),
    "abstract method": ("methods=['bench.methods.method:Method']", "is abstract: it has no facts and no Options"),
    "own class without a module": ("methods=[':x']", "cannot import"),
    "an empty list": ("methods.0.rank=[]", "methods.0.rank is an empty list"),
    "an empty list in a training field": ("training.epochs=[]", "training.epochs is an empty list"),
    "a task that lm-eval does not have": ("evaluation.tasks=['lm_eval:arc_easyy']", "Did you mean arc_easy"),
    "no samples": ("samples=0", "samples.*greater than or equal to 1"),
    "micro-batch": ("training.micro_batch=3", "does not divide"),
    "devices": ("training.devices=3", "cannot share a batch_size of"),
    "micro-batch of a device": ("training={batch_size: 8, devices: 4, micro_batch: 4}", "2 examples that each"),
    "sharding of one device": ("training.parallel=fsdp", "set devices to 2"),
    "no such model": ("base_model.id=smollm2", "Did you mean 'smollm2-135m-instruct'"),
    "no such folder": ("base_model.id=./nowhere/model", "no folder"),
    "set without value": ("epochs", "not key=value"),
    "name with a slash": ("name=a/b", "name"),
    "dtype": ("base_model.dtype=float8", "dtype"),
    "own class that is none": ("methods=['json:loads']", "no bench.methods.Method"),
    "own class that is not there": ("methods=['nowhere:Lora']", "cannot import"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_message(case: str, tmp_path: Path, tiny_model: Path) -> None:
    override, message = BAD[case]
    overrides = (override, "training.weight_decay=0.1") if "weight decay" in case else (override,)
    with pytest.raises(UserError, match=f"(?s){message}"):
        make_plan(load_sweep(write(tmp_path, tiny_model), overrides), strict=True)


def test_folder_that_is_no_model(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"is not a model: it has no config\.json"):
        make_plan(load_sweep(write(tmp_path, tmp_path)))


@pytest.mark.parametrize("text", ["- a\n- b\n", "name: [unclosed", ""])
def test_no_sweep_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError):
        load_sweep(path)


def test_users_own_method(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("from bench.methods.lora import Lora\nclass Mine(Lora):\n    name = 'mine'\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan = make_plan(load_sweep(write(tmp_path, tiny_model), ("methods=[{method: 'mine:Mine', rank: 3}]",)))
    assert plan.cells[-1].cell.name == "mine.Mine-r3-n20-s1"


def test_a_program_may_give_tuples_paths_and_numbers_of_numpy() -> None:
    import numpy as np

    from bench.sweep.schema import Sweep

    method = {"method": "lora", "rank": (np.int64(4), 8), "target_modules": ("q_proj",), "alpha": np.float64(8)}
    sweep = Sweep.model_validate(
        {
            "name": "program",
            "base_model": Path("models/base"),
            "methods": [method],
            "training": {"report_to": ()},
            "samples": 16,
        }
    )
    assert sweep.base_model[0].id == "models/base"
    assert sweep.methods[0] == {"method": "lora", "rank": [4, 8], "target_modules": ["q_proj"], "alpha": 8.0}


def test_samples_beyond_the_data_name_the_number_that_there_is(tmp_path: Path, tiny_model: Path) -> None:
    path = write(tmp_path, tiny_model)
    with pytest.raises(UserError) as caught:
        make_plan(load_sweep(path, ("samples=100000", "data.train=[world_two]")))
    text = str(caught.value)
    most = int(text.split(" exist under")[0].rpartition(" ")[2])
    assert f"at most {most} (or all)." in text and "proportional" not in text  # one set: the mix changes nothing


@pytest.mark.parametrize("parent", ["5", "[a.yaml]", "{a: b}", "true"])
def test_extends_names_one_file(parent: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"extends: {parent}\nname: x\n")
    with pytest.raises(UserError, match="extends names no file"):
        load_sweep(path)


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    path = write(tmp_path, tiny_model, SWEEP + "samples: 5\n")
    with pytest.raises(UserError, match="the key samples is given twice"):
        load_sweep(path)


def test_a_name_that_lm_eval_does_not_have_is_refused_without_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of all its tasks takes half a minute to build."""

    def build(include_defaults: bool) -> None:
        raise AssertionError("the index was built")

    monkeypatch.setattr(lm_eval_tasks, "_task_manager", build)
    with pytest.raises(UserError, match=r"(?s)no task 'hellaswagg'.*Did you mean hellaswag"):
        lm_eval_tasks.load_lm_eval_task("lm_eval:hellaswagg", 0, 2)


@pytest.mark.slow
def test_a_task_of_lm_eval_without_a_hub_is_refused_in_a_sentence(tmp_path: Path, tiny_model: Path) -> None:
    path = write(tmp_path, tiny_model)
    command = [sys.executable, "-m", "bench.cli", "plan", str(path), "--set", "evaluation.tasks=['lm_eval:arc_easy']"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=offline)
    assert done.returncode == 2 and "the data of lm_eval:arc_easy cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr
