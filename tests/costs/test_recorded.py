"""What a finished cell's record says it cost, and what the report makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.sweeps import bench, sweep_file
from transformers import AutoTokenizer

from bench.data.encoding import encode
from bench.data.prepare import prepare_data
from bench.sweep.load import load_sweep
from bench.training.samplers import LengthGroupedSampler

GREEDY = """
import torch
from bench.methods.lora import Lora


class Greedy(Lora):
    '''Holds 300 MB for a moment in every forward pass of training.'''

    def attach(self, model, cell):
        model = super().attach(model, cell)
        model.register_forward_pre_hook(self._hold)
        return model

    @staticmethod
    def _hold(module, args):
        if module.training:
            torch.ones(75_000_000).sum()
"""


def costs_of(folder: Path, cell: str) -> dict[str, Any]:
    return json.loads(next(folder.glob(f"cells/{cell}*/metrics.json")).read_text())["costs"]


def change_costs(folder: Path, cell: str, change: dict[str, Any]) -> None:
    paths = list(folder.glob(f"cells/{cell}*/metrics.json"))
    assert paths
    for path in paths:
        metrics = json.loads(path.read_text())
        metrics["costs"] |= change
        path.write_text(json.dumps(metrics))


def test_tokens_add_up_to_the_datas(finished: tuple[Path, Path], tiny_model: Path) -> None:
    """Tokenized and batched again, example by example."""
    data, tokenizer = prepare_data(load_sweep(finished[0])), AutoTokenizer.from_pretrained(tiny_model)
    rows = [encode(tokenizer, one, 256, True) for one in data.subset(32, 0)]
    order = list(LengthGroupedSampler([len(row.ids) for row in rows], 8, seed=0))
    batches = [[len(rows[i].ids) for i in order[at : at + 8]] for at in range(0, 32, 8)]
    for cell in ("lora-r2", "dora-r4", "full"):
        costs = costs_of(finished[1], cell)
        assert costs["training_tokens"] == sum(map(sum, batches))
        assert costs["training_padding_tokens"] == sum(max(one) * 8 - sum(one) for one in batches)
        assert (costs["steps"], costs["micro_batch"]) == (4, 8)


def test_training_and_scoring_are_measured_apart_and_nothing_is_left_out(finished: tuple[Path, Path]) -> None:
    paths = list(finished[1].glob("cells/*/metrics.json"))
    assert paths
    for path in paths:
        metrics = json.loads(path.read_text())
        costs, evaluations = metrics["costs"], metrics["evaluations"].values()
        assert costs["evaluation_seconds"] == pytest.approx(sum(one["seconds"] for one in evaluations), abs=0.01)
        assert costs["evaluation_tokens"] == sum(one["tokens"] for one in evaluations) > 0
        assert costs["evaluation_peak_bytes"] == max(one["peak_bytes"] for one in evaluations)
        assert costs["evaluation_flops"] > 2 * 18_000 * costs["evaluation_tokens"]  # the linear layers' weights
        parts = ("training_seconds", "evaluation_seconds", "merging_seconds")
        assert sum(costs.get(part, 0) for part in parts) < costs["wall_seconds"]
        assert isinstance(costs["shared"], bool) and 0 <= costs["others_cpu"] <= 1
        assert "inference" not in costs  # as its sweep file says
        if costs["trainable"]:
            assert costs["percent_of_base"] == pytest.approx(100 * costs["trainable"] / costs["base_parameters"])
            assert costs["percent_of_total"] == pytest.approx(100 * costs["trainable"] / costs["total"], abs=1e-5)
            assert 0 < costs["training_utilisation"] < 1 and costs["tokens_per_second"] > 0


@pytest.mark.slow
def test_the_peak_of_training_is_not_that_of_scoring(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "greedy_method.py").write_text(GREEDY)
    monkeypatch.syspath_prepend(tmp_path)
    entry = "methods=[{method: 'greedy_method:Greedy', rank: 2, lr: 1e-3}]"
    settings = ("--set", entry, "--set", "costs.inference=true", "--set", "samples=[16, 8]", "--set", "seeds=[1, 0]")
    done = bench("run", sweep_file(tmp_path, tiny_model), "--results", tmp_path, *settings)
    assert done.exit_code == 0, done.output
    costs = costs_of(tmp_path / "tiny", "greedy_method.Greedy-r2-n16-s1")
    assert costs["training_peak_bytes"] > 299e6 and costs["evaluation_peak_bytes"] < 150e6
    assert set(costs["inference"]) == {"unmerged", "merged"} and costs["inference_seconds"] > 0  # the base: once
    assert set(costs_of(tmp_path / "tiny", "base")["inference"]) == {"base"}
    # Neither samples nor seed matter to how long an answer takes.
    others = [costs_of(tmp_path / "tiny", f"greedy_method.Greedy-r2-{one}") for one in ("n16-s0", "n8-s1", "n8-s0")]
    assert not any("inference" in one for one in others)
    change_costs(tmp_path / "tiny", "", {"shared": False})  # whatever else this machine does while tests run
    assert bench("report", tmp_path / "tiny").exit_code == 0
    page = (tmp_path / "tiny" / "report" / "report.md").read_text()
    assert "merged, 8 at once" in page
    row = next(line for line in page.split("Time to answer")[1].splitlines() if "| greedy_method" in line)
    base = costs_of(tmp_path / "tiny", "base")["inference"]["base"]["1"]["seconds"]
    assert f"| {base:.2f} |" in row and f"({costs['inference']['merged']['1']['seconds'] / base:.2f}x)" in row


def test_a_shared_cells_costs_are_left_out_of_comparisons(finished: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished[1], tmp_path / "tiny"))
    changed = {"training_seconds": 87_654.0, "tokens_per_second": 87_655.0, "training_peak_bytes": 87_656_000_000}
    change_costs(folder, "lora-r2", {**changed, "shared": True})
    change_costs(folder, "dora-r2", {**changed, "shared": False})
    assert bench("report", folder).exit_code == 0
    page = (folder / "report" / "report.md").read_text().split("## Costs")[1].split("##")[0]
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    kept, left_out = rows["dora-r2-n32-s0"], rows["lora-r2-n32-s0 (shared)"]
    for figure in ("87,654", "87,655", "87,656.0"):
        assert figure in kept and figure not in left_out
    trainable = costs_of(folder, "lora-r2")["trainable"]
    assert f"{trainable:,}" in left_out and "had not its device to itself" in page
