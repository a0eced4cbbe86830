"""A training that was stopped goes on from its checkpoint to the very same end: weights bit for bit, and the log.

Each method is trained on the tiny llama (fp32, dropout as it is by default) for two epochs, with a checkpoint after
each step. Stopped in the first epoch, a second start goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import SETTINGS, TRAINED, slow_beyond_families
from helpers.sweeps import bench, sweep_file
from helpers.training import EXAMPLES, cell_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState, set_seed
from transformers.trainer import TRAINER_STATE_NAME

from bench import methods
from bench.progress import ignore_progress
from bench.store.records import TrainingLogRow
from bench.sweep.sections import TrainingConfig
from bench.training.checkpoint import (
    STATE,
    TENSORS,
    DamagedCheckpoint,
    latest_checkpoint,
    remove_damaged,
    restore_model,
)
from bench.training.trainer import TrainingResult, train

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")  # FRoD


class Stopped(Exception):
    """What ends a training here as a kill would."""


def trained(
    method: str, tiny: Path, folder: Path, minutes: float | None, stop: int | None = None, **settings: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], TrainingResult | None]:
    """Weights, the log and the result; with `stop`, the log alone up to the line that it was stopped at."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    config = TrainingConfig(batch_size=8, epochs=2, logging_steps=1, checkpoint_minutes=minutes, **settings)
    options = {"rank": 4, **SETTINGS.get(method, {})}
    options = {key: one for key, one in options.items() if key != "rank" or methods.get(method).facts.rank}
    cell = cell_of(method, model, batch_size=8, epochs=2, **options)
    set_seed(0)
    model = methods.get(method).attach(model, cell)
    log: list[dict[str, Any]] = []

    def hear(row: TrainingLogRow) -> None:
        log.append(row.model_dump(include={"step", "loss", "lr", "grad_norm"}))
        if row.step == stop:
            raise Stopped

    try:
        result = train(model, tokenizer, methods.get(method), cell, config, EXAMPLES, folder, hear, ignore_progress)
    except Stopped:
        return {}, log, None
    kept = {name: one.detach().clone() for name, one in model.named_parameters()}
    return kept | {name: one.clone() for name, one in model.named_buffers()}, log, result


@pytest.mark.parametrize("method", slow_beyond_families(TRAINED))
def test_a_resumed_training_is_the_uninterrupted_one(method: str, tiny_model: Path, tmp_path: Path) -> None:
    reason = methods.get(method).facts.no_checkpoint
    weights, log, whole = trained(method, tiny_model, tmp_path / "whole", None)
    steps = len(log)
    assert not list((tmp_path / "whole").glob("checkpoint-*"))
    _, part, _ = trained(method, tiny_model, tmp_path / "parts", 0, stop=steps // 2 - 1)
    found = latest_checkpoint(tmp_path / "parts")
    if reason:
        assert found is None
        return
    assert found.step == steps // 2 - 2 and part == log[: steps // 2 - 1]
    again, rest, result = trained(method, tiny_model, tmp_path / "parts", 0)
    assert rest == log
    assert again.keys() == weights.keys()
    assert [name for name in weights if not weights[name].equal(again[name])] == []
    assert result.resumed == 1 and result.final_loss == whole.final_loss
    assert (result.tokens, result.padding, result.supervised) == (whole.tokens, whole.padding, whole.supervised)


@pytest.mark.parametrize(
    "settings", [{"order": "random"}, {"micro_batch": 2}, {"gradient_checkpointing": True}], ids=str
)
@pytest.mark.parametrize(
    "at", [pytest.param(0, id="in an epoch"), pytest.param(1, id="between epochs", marks=pytest.mark.slow)]
)
def test_other_orders_and_micro_batches(settings: dict[str, Any], at: int, tiny_model: Path, tmp_path: Path) -> None:
    weights, log, _ = trained("lora", tiny_model, tmp_path / "whole", None, **settings)
    half = len(log) // 2
    trained("lora", tiny_model, tmp_path / "parts", 0, stop=half + at, **settings)
    assert latest_checkpoint(tmp_path / "parts").step == half + at - 1
    again, rest, _ = trained("lora", tiny_model, tmp_path / "parts", 0, **settings)
    assert rest == log and all(weights[name].equal(again[name]) for name in weights)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_a_tensor(path: Path) -> None:
    """The second moment of the first parameter is gone; AdamW would begin it anew without a word."""
    tensors = load_file(path / TENSORS)
    for name in [name for name in tensors if name.startswith("optimizer.0.")]:
        del tensors[name]
    save_file(tensors, path / TENSORS)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no JSON": lambda path: (path / STATE).write_text("{"),
    "no fields": lambda path: (path / STATE).write_text("{}"),
    "no state": lambda path: (path / STATE).unlink(),
    "tensors cut off": lambda path: truncate(path / TENSORS),
    "no tensors": lambda path: (path / TENSORS).unlink(),
    "a tensor is missing": without_a_tensor,
    "a folder of another name": lambda path: path.rename(path.with_name("checkpoint-x")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_resumed_from(damage: str, tiny_model: Path, tmp_path: Path) -> None:
    trained("lora", tiny_model, tmp_path, 0, stop=4)
    DAMAGES[damage](latest_checkpoint(tmp_path).path)
    assert latest_checkpoint(tmp_path) is None
    (problem,) = remove_damaged(tmp_path)
    assert problem.startswith("checkpoint-") and " is damaged (" in problem
    assert not list(tmp_path.glob("checkpoint-*"))
    _weights, log, result = trained("lora", tiny_model, tmp_path, 0)
    assert result.resumed == 0 and log[0]["step"] == 1


def test_the_checkpoint_before_a_damaged_one_is_resumed_from(tiny_model: Path, tmp_path: Path) -> None:
    weights, whole, _ = trained("lora", tiny_model, tmp_path / "whole", None)
    trained("lora", tiny_model, tmp_path / "parts", 0, stop=3)
    earlier = latest_checkpoint(tmp_path / "parts").path
    shutil.copytree(earlier, tmp_path / "kept")
    trained("lora", tiny_model, tmp_path / "parts", 0, stop=4)
    later = latest_checkpoint(tmp_path / "parts").path
    shutil.move(tmp_path / "kept", earlier)
    truncate(later / TENSORS)
    assert latest_checkpoint(tmp_path / "parts").step == 2
    assert len(remove_damaged(tmp_path / "parts")) == 1
    again, log, result = trained("lora", tiny_model, tmp_path / "parts", 0)
    assert result.resumed > 0 and log == whole and all(weights[name].equal(again[name]) for name in weights)


def test_a_checkpoint_of_an_earlier_version_is_resumed_from(tiny_model: Path, tmp_path: Path) -> None:
    """It has a file more: the state of transformers' Trainer, which trained then."""
    weights, whole, _ = trained("lora", tiny_model, tmp_path / "whole", None)
    trained("lora", tiny_model, tmp_path / "parts", 0, stop=4)
    state = TrainerState(global_step=3, max_steps=len(whole), epoch=1.0)
    state.save_to_json(str(latest_checkpoint(tmp_path / "parts").path / TRAINER_STATE_NAME))
    again, log, result = trained("lora", tiny_model, tmp_path / "parts", 0)
    assert result.resumed == 1 and log == whole and all(weights[name].equal(again[name]) for name in weights)


def test_a_checkpoint_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    trained("lora", tiny_model, tmp_path, 0, stop=4)
    with pytest.raises(DamagedCheckpoint, match="is of another model"):
        restore_model(latest_checkpoint(tmp_path), AutoModelForCausalLM.from_pretrained(tiny_model))


def test_no_pickle_and_one_checkpoint_at_a_time(tiny_model: Path, tmp_path: Path) -> None:
    trained("dora", tiny_model, tmp_path, 0, stop=5)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == [f"checkpoint-4/{name}" for name in ("state.json", "tensors.safetensors")]
    so_far = json.loads((tmp_path / "checkpoint-4" / "state.json").read_text())["so_far"]
    assert [row["step"] for row in so_far["log"]] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_killed_cell_goes_on(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker killed at step 10 of 12: the cell is not begun anew, and comes to what it would have come to."""
    (tmp_path / "fatal.py").write_text(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from bench.methods.lora import Lora\n"
        "class Fatal(Lora):\n"
        "    name = 'fatal'\n"
        "    def after_step(self, model, cell, step):\n"
        "        if 'bench-dry-run' in model.name_or_path:\n"
        "            return\n"
        "        with open(os.environ['STEPS'], 'a') as file:\n"
        "            file.write(f'{step}\\n')\n"
        "        mark = Path(os.environ['STEPS'] + '.killed')\n"
        "        if step == 10 and not mark.exists():\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = sweep_file(tmp_path, tiny_model)
    common = ("--set", "methods=[{method: 'fatal:Fatal', rank: 2, lr: 1e-2}]", "--set", "training.epochs=3")
    common += ("--set", "training.checkpoint_minutes=0", "--set", "evaluation.tasks=[world_two]")
    weights = []
    for name in ("killed", "whole"):
        steps = tmp_path / f"{name}.txt"
        monkeypatch.setenv("STEPS", str(steps))
        if name == "whole":
            (tmp_path / "whole.txt.killed").touch()
        done = bench("run", path, "--results", tmp_path / name, *common)
        assert done.exit_code == 0, done.output
        cell = next((tmp_path / name / "tiny").glob("cells/fatal*"))
        weights.append(load_file(cell / "adapter" / "adapter_model.safetensors"))
        metrics = json.loads((cell / "metrics.json").read_text())
        assert metrics["costs"]["resumed"] == (name == "killed") and not (cell / "work").exists()
        expected = [*range(1, 11), *range(10, 13)] if name == "killed" else [*range(1, 13)]
        assert [int(line) for line in steps.read_text().split()] == expected
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[1])
