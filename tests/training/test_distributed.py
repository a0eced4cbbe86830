"""One training in two processes of the CPU (gloo) is that of one process: weights, losses, counts and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sweeps import bench, sweep_file
from helpers.training import EXAMPLES, append_to, cell_of
from torch.multiprocessing import ProcessExitedException
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from bench import methods
from bench.errors import CellProblem, Diverged, out_of_memory
from bench.models.locate import find_base
from bench.planning.build import make_plan
from bench.progress import ignore_progress
from bench.store.folder import Results
from bench.store.record_json import content_of
from bench.store.records import TrainingLogRow
from bench.sweep.load import load_sweep
from bench.sweep.sections import TrainingConfig
from bench.training import distributed
from bench.training.distributed import TrainingJob
from bench.training.process_group import ProcessFailure, Send, error_of, launch
from bench.training.sharding import shard_model
from bench.training.trainer import TrainingResult, train

TRAININGS: dict[str, dict[str, Any]] = {
    # 20 examples: two batches of 8 and one of 4, which two processes share as 2 and 2.
    "lora": {"method": "lora"},
    # With accumulation; of 17 examples the last batch has one, so that the second process has none.
    "lora, one left": {"method": "lora", "examples": 17, "micro_batch": 2},
    "random order": {"method": "lora", "order": "random", "micro_batch": 1},
    "full": {"method": "full", "lr": 1e-3},
    "penalty": {"method": "adalora", "rank": 4},
    "lora, fsdp": {"method": "lora", "parallel": "fsdp"},
    "lora, one left, fsdp": {"method": "lora", "parallel": "fsdp", "examples": 17, "micro_batch": 2},
    "full, fsdp": {"method": "full", "lr": 1e-3, "parallel": "fsdp"},
    # Its optimizer has groups of its own.
    "pair, fsdp": {"method": "loreft+lora", "parallel": "fsdp", "micro_batch": 2},
}


def job_of(folder: Path, tiny: Path, name: str, devices: int) -> TrainingJob:
    asked = {"examples": len(EXAMPLES), "lr": 1e-2, **TRAININGS[name]}
    method, options = asked.pop("method"), {"lr": asked.pop("lr")}
    options |= {"dropout": 0} if method == "lora" else {}
    options |= {"lora": {"dropout": 0}, "loreft": {"dropout": 0}} if method == "loreft+lora" else {}
    options |= {"rank": asked.pop("rank")} if "rank" in asked else {}
    examples = tuple(EXAMPLES[: asked.pop("examples")])
    if devices == 1:
        asked.pop("parallel", None)
    config = TrainingConfig(batch_size=8, epochs=2, logging_steps=1, devices=devices, **asked)
    base = find_base(str(tiny))
    cell = cell_of(method, AutoModelForCausalLM.from_pretrained(tiny), epochs=2, batch_size=8, **options)
    cell = cell.model_copy(update={"samples": len(examples)})
    adapter = folder / f"{name} {devices}"
    adapter.mkdir()
    return TrainingJob(cell, config, base, examples, folder / "work", adapter)


def several(rank: int, send: Send, jobs: dict[str, TrainingJob]) -> None:
    """Trainings one after the other in the same processes: starting them takes longer than the trainings."""
    for name, job in jobs.items():
        distributed.train_share(rank, lambda message, name=name: send((name, message)), job)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, tuple[Path, list[dict], Any]]:
    """By name of a training: its adapter, its log, and its result, in two processes."""
    folder = tmp_path_factory.mktemp("two")
    jobs = {name: job_of(folder, tiny_model, name, 2) for name in TRAININGS}
    messages: dict[str, list[Any]] = {name: [] for name in jobs}

    def receive(message: Any) -> None:
        name, content = message
        messages[name].append(content)

    launch(several, 2, receive, jobs)
    return {
        name: (
            jobs[name].adapter,
            [row.model_dump(exclude_unset=True) for row in received if isinstance(row, TrainingLogRow)],
            distributed.combine_results([content for content in received if isinstance(content, TrainingResult)]),
        )
        for name, received in messages.items()
    }


def alone(folder: Path, tiny: Path, name: str) -> tuple[Path, list[dict], TrainingResult]:
    """The same in this process."""
    job, log = job_of(folder, tiny, name, 1), []
    method, tokenizer = methods.get(job.cell.method), AutoTokenizer.from_pretrained(tiny)
    model = AutoModelForCausalLM.from_pretrained(tiny)
    set_seed(job.cell.seed)
    model = method.attach(model, job.cell)
    result = train(
        model, tokenizer, method, job.cell, job.config, job.examples, job.work, append_to(log), ignore_progress
    )
    method.save(model, job.adapter)
    return job.adapter, log, result


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: one for file in folder.rglob("*.safetensors") for name, one in load_file(file).items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one(
    name: str, two: dict[str, tuple[Path, list[dict], Any]], tiny_model: Path, tmp_path: Path
) -> None:
    adapter, log, result = two[name]
    expected_adapter, expected_log, expected = alone(tmp_path, tiny_model, name)
    assert [row["step"] for row in log] == [row["step"] for row in expected_log] == list(range(1, 7))
    for key, exact in (("loss", 1e-4), ("grad_norm", 1e-3), ("lr", 1e-12)):
        assert [row[key] for row in log] == pytest.approx([row[key] for row in expected_log], abs=exact), key
    found, wanted = weights(adapter), weights(expected_adapter)
    assert found.keys() == wanted.keys()
    before = dict(AutoModelForCausalLM.from_pretrained(tiny_model).named_parameters())
    moved = 0.0
    for key, value in wanted.items():
        assert (found[key] - value).abs().max() < 1e-5, key
        moved = max(moved, (value - before[key]).abs().max() if key in before else value.abs().max())
    assert moved > 1e-3
    same = ("steps", "tokens", "supervised", "pairs", "truncated")
    assert {key: getattr(result, key) for key in same} == {key: getattr(expected, key) for key in same}
    assert result.final_loss == pytest.approx(expected.final_loss, abs=1e-4)
    if "fsdp" in name:  # half of the moments each, but for uneven shards
        assert result.optimizer_bytes < 0.6 * expected.optimizer_bytes
    else:
        assert result.optimizer_bytes == expected.optimizer_bytes


@pytest.mark.slow
def test_a_cell_on_two_devices_is_the_same_cell(tmp_path: Path, tiny_model: Path) -> None:
    path = sweep_file(tmp_path, tiny_model)
    entries = "methods=[{method: lora, rank: 2, lr: 1e-2}]"
    done = bench("run", path, "--results", tmp_path, "--set", entries, "--set", "training.devices=2")
    assert done.exit_code == 0, done.output
    cells = {one.path.name: content_of(one.record()) for one in Results(tmp_path / "tiny").folders()}
    assert cells.keys() == {one.cell.folder for one in make_plan(load_sweep(path, (entries,))).cells}
    (found,) = (one["costs"] for name, one in cells.items() if name.startswith("lora"))
    assert (found["devices"], found["micro_batch"], found["steps"]) == (2, 4, 4)
    assert found["adapter_bytes"] > 0 and found["training_peak_bytes"] > 0
    (cell,) = (tmp_path / "tiny" / "cells").glob("lora*")
    assert len((cell / "training.jsonl").read_text().splitlines()) == 4 and not (cell / "work").exists()
    assert json.loads((cell / "cell.json").read_text())["training"].keys().isdisjoint({"devices", "parallel"})


def attached(method: str, tiny: Path) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(tiny)
    return methods.get(method).attach(model, cell_of(method, model))


def test_what_sharding_would_break_is_refused(tiny_model: Path) -> None:
    """CPT and OSF change gradients by hooks, VB-LoRA's bank serves all layers; neither reaches the process group."""
    for method, why in (("cpt", "hooks"), ("osf", "hooks"), ("vblora", "layers share")):
        with pytest.raises(CellProblem, match=f"{method} cannot be trained sharded.*{why}"):
            shard_model(attached(method, tiny_model), 2, method)


def failing(rank: int, send: Send) -> None:
    if rank == 1:
        raise Diverged("loss is nan")
    torch.distributed.barrier()  # until the other process has gone


@pytest.mark.slow
def test_the_error_of_a_process_is_that_of_the_training() -> None:
    with pytest.raises(Diverged, match="loss is nan"):
        launch(failing, 2, lambda *message: None)


def test_the_first_failure_is_the_error() -> None:
    first = ProcessFailure(1, "MemoryError", "no room")
    later = ProcessFailure(0, "RuntimeError", " at x.py:3: connection closed")
    assert out_of_memory(error_of([first, later], Exception()))
    assert "process 0 at x.py:3" in str(error_of([later], Exception()))
    killed = ProcessExitedException("process 0 terminated", 0, 1, -9, "SIGKILL")
    assert out_of_memory(error_of([], killed))
