"""Exported cells answer as the harness scored them, in the hands of PEFT and transformers alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.sweeps import bench
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import methods
from bench.export import export
from bench.models.load import load_model
from bench.models.locate import find_base
from bench.store.folder import CellFolder
from bench.store.records import CellRecord
from bench.sweep.cell import BaseIdentity, Cell, CellData

TEXTS = ["Question: what is 3?\nAnswer: it is 21", "Anna put the"]


def logits(model: torch.nn.Module, tokenizer: AutoTokenizer) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.eval()(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS]


@pytest.mark.parametrize("name", ["lora-r4", "dora-r4"])
def test_an_adapter_is_pefts(name: str, finished: tuple[Path, Path], tiny_model: Path, tmp_path: Path) -> None:
    cell = next(finished[1].glob(f"cells/{name}-*"))
    done = bench("export", cell, "--to", tmp_path / "out")
    assert done.exit_code == 0, done.output
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path / "out")
    record = CellFolder(cell).cell()
    base = load_model(find_base(str(tiny_model), None), dtype="float32", attn_implementation="sdpa")
    ours = methods.get(record.method).load(base, cell / "adapter", record)
    for a, b in zip(logits(theirs, tokenizer), logits(ours, tokenizer), strict=True):
        assert (a - b).abs().max() < 1e-5
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: tiny-llama" in card and "library_name: peft" in card and f"`{record.id}`" in card
    metrics = json.loads((cell / "metrics.json").read_text())
    for one in metrics["evaluations"].values():
        assert (
            f"| {one['task']} | loglikelihood-v1 | {one['primary']} | {100 * one['score']:.1f} | {one['n']} |" in card
        )
    assert not [path for path in (tmp_path / "out").rglob("*") if str(tiny_model.parent) in path.read_text("latin-1")]


@pytest.mark.parametrize("name", ["dora-r4", "full"])
def test_a_merged_model_is_transformers(
    name: str, finished: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    cell = next(finished[1].glob(f"cells/{name}-*"))
    done = bench("export", cell, "--to", tmp_path / "out", "--merged", "--base", tiny_model)
    assert done.exit_code == 0, done.output
    record = CellFolder(cell).cell()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = load_model(find_base(str(tiny_model), None), dtype="float32", attn_implementation="sdpa")
    ours = methods.get(record.method).load(base, cell / "adapter", record)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for a, b in zip(logits(merged, tokenizer), logits(ours, tokenizer), strict=True):
        assert (a - b).abs().max() < 1e-4


@pytest.mark.parametrize("settings", [{"init": "pissa"}, {"init": "olora"}, {"init": "pissa_niter_4", "rslora": True}])
def test_an_adapter_that_changed_the_base_is_exported_as_plain_lora(
    settings: dict, tiny_model: Path, tmp_path: Path
) -> None:
    """By PEFT's own conversion: PEFT reads it on the unchanged base, with the outputs that were scored."""
    method, folder = methods.get("lora"), CellFolder(tmp_path / "cells" / "converted")
    base = load_model(find_base(str(tiny_model), None), dtype="float32")
    given = {"rank": 4, "lr": 1e-3, "dropout": 0.0, **settings}
    cell = Cell(
        base=BaseIdentity(id=str(tiny_model), revision="-", dtype="float32"),
        method="lora",
        method_version=method.version,
        options=method.resolve(given, base),
        samples=1,
        seed=0,
        data=CellData(train=("t",), format="question", mix="equal", append_eos=True, fingerprint="0"),
        training={},
    )
    trained = method.attach(base, cell)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in trained.named_parameters():
            if "lora_" in name:
                value.add_(0.05 * torch.randn_like(value))
    folder.write_cell(cell)
    folder.write_record(CellRecord())
    folder.save_adapter(lambda part: method.save(trained, part))
    export(folder, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    untuned = logits(plain, tokenizer)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "out")
    config = theirs.peft_config["default"]
    assert config.r == 8 and config.init_lora_weights is True
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "adapter_config.json", "adapter_model.safetensors")
    }
    for a, b, before in zip(logits(theirs, tokenizer), logits(trained, tokenizer), untuned, strict=True):
        assert (a - b).abs().max() < 1e-4 < 1e-2 < (a - before).abs().max()


def test_what_cannot_be_exported_says_so(finished: tuple[Path, Path], tmp_path: Path) -> None:
    cells = finished[1] / "cells"
    for arguments, problem in (
        ((next(cells.glob("base-*")),), "untuned base model"),
        ((next(cells.glob("full-*")),), "PEFT cannot load"),
        ((cells / "none",), "is not a cell"),
        ((next(cells.glob("lora-r2-*")), "--to", tmp_path), "exists already"),
    ):
        done = bench("export", *arguments)
        assert done.exit_code == 2 and problem in done.output, done.output
