"""Compiled layers train as uncompiled ones."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.sweeps import bench, sweep_file
from helpers.training import trained
from torch import nn
from torch._dynamo.utils import counters

from bench.errors import CellProblem
from bench.training.compilation import compiled


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # by dynamo itself
@pytest.mark.slow
def test_compiled_layers_train_alike_once_for_all_lengths(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA and DoRA from the sweep file to the scores: losses within 1e-4, a plain model behind, and two graphs a cell
    (the first layer's input needs no gradient) for batches of several lengths. Traced in full, but not generated as
    C++, which takes minutes; below it is."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    counters.clear()
    lines = {}
    for compile in ("false", "true"):
        sets = ["methods=[{method: lora, rank: 2, lr: 1e-2}, {method: dora, rank: 2, lr: 1e-2}]"]
        sets += ["evaluation.tasks=[world_two]", f"training.compile={compile}"]
        arguments = [part for one in sets for part in ("--set", one)]
        where = ("--results", tmp_path / compile, "--workers", "0")
        done = bench("run", sweep_file(tmp_path, tiny_model), *where, *arguments)
        assert done.exit_code == 0, done.output
        if compile == "false":
            assert not counters["stats"]
        for cell in (tmp_path / compile / "tiny" / "cells").glob("*-r2-*"):
            lines[compile, cell.name] = [json.loads(one) for one in (cell / "training.jsonl").read_text().splitlines()]
            metrics = json.loads((cell / "metrics.json").read_text())
            assert metrics["status"] == "done" and metrics["merge_max_abs_diff"]["float32"] < 1e-5
    assert counters["stats"]["unique_graphs"] == counters["frames"]["ok"] == 2 * 2 and not counters["graph_break"]
    plain = {name: rows for (compile, name), rows in lines.items() if compile == "false"}
    assert len(plain) == 2
    for name, rows in plain.items():  # a cell's name holds its identity, which compiling is no part of
        again = lines["true", name]
        assert [one["loss"] for one in again] == pytest.approx([one["loss"] for one in rows], abs=1e-4)
        assert [one["grad_norm"] for one in again] == pytest.approx([one["grad_norm"] for one in rows], abs=1e-3)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
def test_generated_code_trains_alike(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DoRA on one module of a model of one layer, to be quick. Generated code draws dropout otherwise: without it."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(tiny_model, tmp_path / "shallow")
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "shallow" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    losses = []
    with torch._inductor.config.patch({"compile_threads": 1, "cpp.simdlen": 0}):
        for compile in (False, True):
            settings = {"batch_size": 4, "compile": compile}
            options = {"lr": 1e-2, "target_modules": ["q_proj"], "dropout": 0}
            model, log = trained(tmp_path, tmp_path / "shallow", "dora", settings, **options)
            losses.append([row["loss"] for row in log])
            assert not any("_orig_mod" in name for name in model.state_dict())
            assert not any("forward" in vars(one) for one in model.modules())
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_a_model_without_layers_is_not_compiled() -> None:
    with pytest.raises(CellProblem, match="no decoder layers"), compiled(nn.Linear(2, 2)):
        pass
