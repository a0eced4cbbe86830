"""QLoRA and QDoRA: bases in 4 and 8 bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.sweeps import make_tiny_model
from helpers.training import EXAMPLES, append_to, cell_of
from transformers import AutoTokenizer

from bench import methods
from bench.costs import model_bytes
from bench.errors import UserError
from bench.evaluation.merge_check import probe
from bench.models.dtype import computing_in
from bench.models.hooks import drop_prompt_mask
from bench.models.load import load_model
from bench.models.locate import find_base
from bench.progress import ignore_progress
from bench.sweep.sections import TrainingConfig
from bench.training.trainer import train


@pytest.mark.parametrize(
    ("method", "quantization"),
    [("qlora", "nf4"), ("qlora", "fp4"), ("qlora", "int8"), ("qdora", "nf4"), ("vera", "nf4"), ("dvora", "nf4")],
)
def test_a_quantized_base_trains_saves_and_loads(method: str, quantization: str, tmp_path: Path) -> None:
    """Through the cell's own loading; the loaded adapter answers alike, bit for bit, and the base is smaller."""
    pytest.importorskip("bitsandbytes")
    folder = make_tiny_model(tmp_path / "model", hidden=64)  # bitsandbytes wants rows of whole blocks of 64
    tested = methods.get(method)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = find_base(str(folder))
    dropout = {"dropout": 0} if method.startswith("q") else {}
    cell = cell_of(method, load_model(base, "float32"), rank=4, quantization=quantization, lr=1e-2, **dropout)
    tested.check_machine(cell.options)

    def load() -> Any:
        return load_model(base, "float32", method_kwargs=tested.load_kwargs(cell))

    fresh = load()
    assert model_bytes(fresh) < model_bytes(load_model(base, "float32"))
    packed = {name: value.clone() for name, value in fresh.named_parameters()}
    torch.manual_seed(0)
    model = tested.attach(fresh, cell)
    log: list[dict] = []
    config = TrainingConfig(batch_size=4, epochs=2, logging_steps=1)
    train(model, tokenizer, tested, cell, config, EXAMPLES, tmp_path, append_to(log), ignore_progress)
    assert sum(row["loss"] for row in log[-3:]) < sum(row["loss"] for row in log[:3])
    for name, value in model.named_parameters():
        if not value.requires_grad:
            assert torch.equal(value, packed[name.removeprefix("base_model.model.").replace(".base_layer", "")]), name
    folder = tmp_path / "adapter"
    folder.mkdir()
    tested.save(model, folder)
    loaded = tested.load(load(), folder, cell).eval()
    ids = torch.arange(20).reshape(2, 10) + 5
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
    assert tested.facts_for(cell.options).quantizes and not tested.facts_for(cell.options).mergeable


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["qlora", "qdora", "loreft+qdora"])
def test_a_quantized_base_is_evaluated_as_it_is_trained(method: str, dtype: str, tmp_path: Path) -> None:
    """The adapter is the identity at the start also in evaluation, where bitsandbytes would repack its weights on some
    CPUs, and evaluation gives the logits of a pass with gradients (fp32: 1e-5; bfloat16: its rounding)."""
    pytest.importorskip("bitsandbytes")
    base = find_base(str(make_tiny_model(tmp_path / "model", hidden=64)))
    tested = methods.get(method)
    settings = {"rank": 4} if "+" in method else {"rank": 4, "dropout": 0}
    cell = cell_of(method, load_model(base, "float32"), **settings)
    cell = cell.model_copy(update={"base": cell.base.model_copy(update={"dtype": dtype})})
    inputs = {"input_ids": torch.arange(20).reshape(2, 10) + 5, "attention_mask": torch.ones(2, 10, dtype=torch.long)}
    inputs["prompt_mask"] = inputs["input_ids"] < 0  # no prompt: LoReFT edits nothing

    def load() -> Any:
        return load_model(base, dtype, method_kwargs=tested.load_kwargs(cell))

    plain = load().train()  # in training mode nothing is repacked
    drop_prompt_mask(plain)
    expected = probe(plain, inputs, dtype)
    model = tested.attach(load(), cell)
    drop_prompt_mask(model)
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for _ in range(2):  # what the first evaluation does to the weights shows in the second
        assert torch.allclose(probe(model.eval(), inputs, dtype), expected, atol=tolerance)
    with computing_in(dtype, torch.device("cpu")):
        learning = model.train()(**inputs).logits.float().flatten(0, 1)
    assert torch.allclose(learning.detach(), expected, atol=tolerance)


def test_a_machine_without_bitsandbytes_is_told_so_before_anything_is_loaded(tmp_path: Path) -> None:
    """A bitsandbytes whose native library is not there, as it is on a machine that it does not support."""
    broken = tmp_path / "bitsandbytes"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "functional.py").write_text("raise RuntimeError('native library not found\\nlong trace')")
    script = (
        "from bench.errors import UserError\nfrom bench import methods\n"
        "try: methods.get('qlora').check_machine({'quantization': 'nf4'})\n"
        "except UserError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert "method qlora: bitsandbytes cannot quantize to nf4 on this machine's" in done.stdout
    assert "native library not found" in done.stdout and "long trace" not in done.stdout
    assert methods.get("qlora").facts_for({"quantization": "nf4"}).needs == {"bitsandbytes": "quant"}


def test_a_type_without_quantized_layers_is_refused(tiny_model: Path) -> None:
    model = load_model(find_base(str(tiny_model)), "float32")
    with pytest.raises(UserError, match=r"LOHA with quantization is not supported\n.*vera, dvora can"):
        methods.get("loha").resolve({"quantization": "nf4"}, model)
    with pytest.raises(UserError, match="double_quantization belongs to"):
        methods.get("vera").resolve({"double_quantization": True}, model)
    assert "quantization" not in methods.get("vera").resolve({}, model)  # the identity of older cells
