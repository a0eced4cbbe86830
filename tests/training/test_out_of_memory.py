"""Memory that runs out in training: the same cell with fewer examples at a time, and `oom` where one is too many."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.sweeps import bench, sweep_file
from safetensors.torch import load_file

from bench.training.trainer import micro_batches

METHOD = """
import os
import weakref

import torch
from bench.methods.lora import Lora


class Scarce(Lora):
    '''Trains as many rows at a time as ROWS says, and no more, but for its first pass: by then weights have moved and
    random numbers were drawn.'''

    before = []

    def load_kwargs(self, cell):
        assert not any(one() for one in self.before), "the model before is still in memory"
        return super().load_kwargs(cell)

    def attach(self, model, cell):
        model = super().attach(model, cell)
        if model.device.type == "meta" or "bench-dry-run" in model.name_or_path:  # the plan's
            return model
        model.passes = 0
        self.before.append(weakref.ref(model.get_base_model()))
        model.register_forward_pre_hook(self._look, with_kwargs=True)
        return model

    @staticmethod
    def _look(module, args, kwargs):
        module.passes += module.training
        if module.training and module.passes > 1 and len(kwargs["input_ids"]) > int(os.environ["ROWS"]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
"""

ENTRY = ("--set", "methods=[{method: 'scarce_method:Scarce', rank: 2, lr: 1e-2, dropout: 0.1}]")


@pytest.mark.parametrize(
    ("batch", "first", "tried"),
    [
        (16, None, [16, 8, 4, 2, 1]),
        (12, None, [12, 6, 3, 1]),
        (15, None, [15, 5, 1]),
        (1, None, [1]),
        (16, 4, [4, 2, 1]),
        (12, 4, [4, 2, 1]),
    ],
)
def test_each_size_divides_the_batch_and_is_at_most_half_of_the_last(
    batch: int, first: int | None, tried: list[int]
) -> None:
    assert micro_batches(batch, first) == tried


def run(folder: Path, model: Path, rows: int, monkeypatch: pytest.MonkeyPatch, *settings: str) -> tuple[Any, Path]:
    folder.mkdir(exist_ok=True)
    (folder.parent / "scarce_method.py").write_text(METHOD)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("ROWS", str(rows))
    done = bench("run", sweep_file(folder, model), "--results", folder, *ENTRY, *settings)
    return done, next((folder / "tiny").glob("cells/scarce*"))


@pytest.mark.slow
def test_the_micro_batch_is_halved_and_nothing_else_changes(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit the cell that was told to take two at a time, dropout and all; one model in memory at a time."""
    found, cell = run(tmp_path / "found", tiny_model, 2, monkeypatch)
    assert found.exit_code == 0, found.output
    assert "out of memory with micro-batches of 8;" in found.output and "micro-batches of 4;" in found.output
    told, twin = run(tmp_path / "told", tiny_model, 99, monkeypatch, "--set", "training.micro_batch=2")
    assert told.exit_code == 0 and "out of memory" not in told.output
    assert cell.name == twin.name
    for one in (cell, twin):
        costs = json.loads((one / "metrics.json").read_text())["costs"]
        assert (costs["micro_batch"], costs["steps"]) == (2, 4)
    mine, other = (load_file(one / "adapter" / "adapter_model.safetensors") for one in (cell, twin))
    assert mine.keys() == other.keys() and all(mine[name].equal(other[name]) for name in mine)
    mine, other = ((one / "training.jsonl").read_text().splitlines() for one in (cell, twin))
    assert [json.loads(row)["loss"] for row in mine] == [json.loads(row)["loss"] for row in other]


@pytest.mark.slow
def test_a_cell_of_which_no_example_fits_is_out_of_memory(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, cell = run(tmp_path / "none", tiny_model, 0, monkeypatch)
    assert done.exit_code == 1
    metrics = json.loads((cell / "metrics.json").read_text())
    assert metrics["status"] == "oom" and "out of memory" in metrics["reason"]
    untuned = json.loads(next(cell.parent.glob("base*/metrics.json")).read_text())
    assert untuned["status"] == "done"


SCARCE = """
import resource, sys
from pathlib import Path

from helpers.sweeps import bench, sweep_file

folder, model = Path(sys.argv[1]), Path(sys.argv[2])
arguments = ("run", sweep_file(folder, model), "--results", folder, "--workers", "0")
arguments += ("--set", "methods=[{method: lora, rank: 2, lr: 1e-2}]", "--set", "training.batch_size=1024")
arguments += ("--set", "samples=1024", "--set", "training.attn_implementation=eager")
assert bench(*arguments, "--set", "methods=[{method: lora, rank: 1, lr: 1e-2}]", "--set", "samples=8").exit_code == 0
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[3]) * 1_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
done = bench(*arguments)
print(done.output)
sys.exit(done.exit_code)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's address space as Linux does")
def test_real_memory_that_runs_out(tmp_path: Path, tiny_model: Path) -> None:
    """A process that may take 150 MB more than it has after a first small cell: 1,024 examples at once need more."""
    command = [sys.executable, "-c", SCARCE, str(tmp_path), str(tiny_model), "150"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "out of memory with micro-batches of 1024;" in done.stdout
    metrics = json.loads(next((tmp_path / "tiny").glob("cells/lora-r2-n1024*/metrics.json")).read_text())
    assert metrics["status"] == "done" and metrics["costs"]["micro_batch"] < 1024
