"""The LoRA family: parameter counts against the papers, DoRA's norm, PiSSA, LoRA+, QLoRA."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.committed import committed
from helpers.sweeps import make_tiny_model
from helpers.training import EXAMPLES, cell_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import methods
from bench.costs import model_bytes
from bench.errors import UserError
from bench.evaluation.merge_check import probe
from bench.methods.lora import INITIAL, Lora
from bench.methods.parameter_count import count_parameters
from bench.methods.target_modules import linear_layers
from bench.models.dtype import computing_in
from bench.models.hooks import causal_lm, drop_prompt_mask
from bench.models.load import load_config, load_model, load_skeleton
from bench.models.locate import find_base
from bench.progress import ignore_progress
from bench.report import published
from bench.sweep.sections import TrainingConfig
from bench.training.trainer import train

# ../shared/published/README.md: per cent of base and adapter together, LLaMA-7B, q k v up down.
EXACT = {
    "lora": {4: 0.104, 8: 0.208, 16: 0.415, 32: 0.826, 64: 1.638},
    "dora": {4: 0.117, 8: 0.221, 16: 0.427, 32: 0.838, 64: 1.650},
}


@pytest.mark.parametrize("method", EXACT)
def test_llama_7b_parameter_counts_are_the_papers(method: str) -> None:
    table = published.read("dora_table15_rank").set_index(["method", "rank"])["params_pct"]
    for rank, exact in EXACT[method].items():
        base = load_skeleton("huggyllama/llama-7b")
        cell = cell_of(method, base, rank=rank, target_modules="llm_adapters")
        parameters = list(methods.get(method).attach(base, cell).parameters())
        assert all(one.is_meta for one in parameters)
        share = 100 * sum(p.numel() for p in parameters if p.requires_grad) / sum(p.numel() for p in parameters)
        assert share == pytest.approx(exact, abs=5e-4)
        # The paper truncates or rounds to two digits.
        assert abs(share - table[method, rank]) < 0.01


# Of LLaMA-7B, all seven linear layers (the same file); of the others, printed in DoRA's Table 1 for r = 32 and 16.
MORE = [
    ("huggyllama/llama-7b", "lora", 64, "auto", 2.318, 5e-4),
    ("huggyllama/llama-7b", "dora", 64, "auto", 2.337, 5e-4),
    ("huggyllama/llama-13b", "lora", 32, "llm_adapters", 0.67, 0.01),
    ("huggyllama/llama-13b", "dora", 32, "llm_adapters", 0.68, 0.01),
    ("huggyllama/llama-13b", "dora", 16, "llm_adapters", 0.35, 0.01),
    ("meta-llama/Llama-2-7b-hf", "lora", 32, "llm_adapters", 0.83, 0.01),
    ("meta-llama/Llama-2-7b-hf", "dora", 32, "llm_adapters", 0.84, 0.01),
    ("meta-llama/Meta-Llama-3-8B", "lora", 32, "llm_adapters", 0.70, 0.01),
    ("meta-llama/Meta-Llama-3-8B", "dora", 32, "llm_adapters", 0.71, 0.01),
]


@pytest.mark.parametrize(("base", "method", "rank", "modules", "expected", "tolerance"), MORE)
def test_parameter_counts_of_other_llamas(
    base: str, method: str, rank: int, modules: str, expected: float, tolerance: float
) -> None:
    cell = cell_of(method, load_skeleton(base), rank=rank, target_modules=modules)
    trainable, total = count_parameters(cell, load_config(base))
    assert 100 * trainable / total == pytest.approx(expected, abs=tolerance)


def test_auto_targets_every_linear_layer_but_the_head(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert linear_layers(model) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_algebraic_norm_is_pefts_dora(dropout: float, tiny_model: Path) -> None:
    """Forward and every gradient equal PEFT's own (fp32, 1e-5), away from the start and with dropout."""
    results = []
    for norm in ("algebraic", "peft"):
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        torch.manual_seed(1)
        model = methods.get("dora").attach(base, cell_of("dora", base, rank=4, norm=norm, dropout=dropout))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        torch.manual_seed(2)
        ids = torch.arange(24).reshape(2, 12) + 5
        out = model.train()(input_ids=ids, labels=ids)
        out.loss.backward()
        results.append((out.logits, {n: p.grad for n, p in model.named_parameters() if p.requires_grad}))
    (ours, mine), (theirs, other) = results
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert mine.keys() == other.keys()
    for name, gradient in other.items():
        assert torch.allclose(mine[name], gradient, atol=1e-5), name


def test_dora_is_the_identity_at_the_start_in_bfloat16(tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    ids = torch.arange(10)[None] + 5
    before = base(input_ids=ids).logits
    model = methods.get("dora").attach(base, cell_of("dora", base)).eval()
    assert torch.equal(model(input_ids=ids).logits, before)


def test_dora_refuses_a_base_with_a_row_of_zeros(tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    cell = cell_of("dora", base)
    base.model.layers[1].mlp.up_proj.weight.data[3] = 0
    with pytest.raises(UserError, match=r"rows of zeros in model\.layers\.1\.mlp\.up_proj"):
        methods.get("dora").attach(base, cell)


def test_alpha_follows_rank_and_every_setting_is_resolved(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    options = methods.get("dora").resolve({"rank": 4}, model)
    assert options["alpha"] == 8
    assert "auto" not in map(str, options.values())
    # What is null is off, and says so in cell.json.
    assert {key for key, value in options.items() if value is None} == {
        "rslora",
        "init",
        "lr_ratio",
        "quantization",
        "double_quantization",
    }


@pytest.mark.parametrize(
    ("name", "settings", "field", "value"),
    [
        ("rslora", {}, "use_rslora", True),
        ("pissa", {}, "init_lora_weights", "pissa_niter_4"),
        ("lora", {"init": "olora"}, "init_lora_weights", "olora"),
        ("dora", {}, "use_dora", True),
        ("dora", {"rslora": True}, "use_rslora", True),
        ("lora", {}, "use_dora", False),
    ],
)
def test_names_are_settings_of_one_entry(
    name: str, settings: dict[str, Any], field: str, value: Any, tiny_model: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = methods.get(name).config(cell_of(name, model, **settings))
    assert getattr(config, field) == value


def test_a_setting_that_is_off_changes_no_identity(tiny_model: Path) -> None:
    """A method may come to know another setting without its old cells becoming others."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    cell = cell_of("lora", model, rank=4)
    old = {key: value for key, value in cell.options.items() if value is not None and value is not False}
    assert cell.model_copy(update={"options": old}).id == cell.id
    assert cell_of("lora", model, rank=4, rslora=True).id != cell.id


def test_the_committed_cells_keep_their_identity() -> None:
    folders = [folder for results in committed() for folder in results.folders()]
    assert folders
    for folder in folders:
        cell, path = folder.cell(), folder.path
        assert path.name.endswith(f"-{cell.id}"), path
        if cell.method in ("lora", "dora"):
            skeleton = load_skeleton(cell.base.id)
            given = {key: value for key, value in cell.options.items() if key != "target_modules"}
            resolved = methods.get(cell.method).resolve(given, skeleton)
            assert cell.model_copy(update={"options": resolved}).id == cell.id, path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("init", ["pissa", "pissa_niter_2", "olora"])
def test_what_the_start_took_out_of_the_base_is_taken_out_on_loading(
    init: str, dtype: torch.dtype, tmp_path: Path, tiny_model: Path
) -> None:
    """Base weights and adapter are bit for bit those of the training, although a randomized start is not repeatable."""
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype)
    cell = cell_of("lora", base, rank=4, init=init)
    torch.manual_seed(0)
    method = methods.get("lora")
    model = method.attach(base, cell)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    method.save(model, tmp_path)
    assert (tmp_path / INITIAL).is_file()
    torch.manual_seed(99)
    loaded = method.load(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype), tmp_path, cell)
    for (name, mine), other in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine, other), name


def test_pissa_starts_where_the_base_is(tiny_model: Path) -> None:
    """fp32, 1e-5: what the adapter adds is what was taken out."""
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.arange(10)[None] + 5
    before, weight = base(input_ids=ids).logits, base.model.layers[0].self_attn.q_proj.weight.clone()
    model = methods.get("lora").attach(base, cell_of("lora", base, init="pissa", rank=4, dropout=0)).eval()
    assert torch.allclose(model(input_ids=ids).logits, before, atol=1e-5)
    taken = torch.linalg.svdvals(weight) - torch.linalg.svdvals(
        causal_lm(model).model.layers[0].self_attn.q_proj.base_layer.weight
    )
    assert taken[0] > 0.01  # the largest singular values are gone


def test_lora_plus_has_a_faster_b(tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    cell = cell_of("lora_plus", base, lr=1e-3)
    model = methods.get("lora_plus").attach(base, cell)
    rates = {
        id(parameter): group["lr"]
        for group in methods.get("lora_plus").optimizer(model, cell).param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == pytest.approx(16e-3 if "lora_B" in name else 1e-3)


@pytest.mark.parametrize(
    ("method", "quantization"), [("qlora", "nf4"), ("qlora", "fp4"), ("qlora", "int8"), ("qdora", "nf4")]
)
def test_a_quantized_base_trains_saves_and_loads(method: str, quantization: str, tmp_path: Path) -> None:
    """Through the cell's own loading; the loaded adapter answers alike, bit for bit, and the base is smaller."""
    pytest.importorskip("bitsandbytes")
    folder = make_tiny_model(tmp_path / "model", hidden=64)  # bitsandbytes wants rows of whole blocks of 64
    one = methods.get(method)
    one.check_machine({"quantization": quantization})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = find_base(str(folder))
    cell = cell_of(method, load_model(base, "float32"), rank=4, quantization=quantization, lr=1e-2, dropout=0)

    def load() -> Any:
        return load_model(base, "float32", method_kwargs=one.load_kwargs(cell))

    fresh = load()
    assert model_bytes(fresh) < model_bytes(load_model(base, "float32"))
    packed = {name: value.clone() for name, value in fresh.named_parameters()}
    torch.manual_seed(0)
    model = one.attach(fresh, cell)
    log: list[dict] = []
    config = TrainingConfig(batch_size=4, epochs=2, logging_steps=1)
    train(model, tokenizer, one, cell, config, EXAMPLES, tmp_path, log.append, ignore_progress)
    assert sum(row["loss"] for row in log[-3:]) < sum(row["loss"] for row in log[:3])
    for name, value in model.named_parameters():
        if not value.requires_grad:
            assert torch.equal(value, packed[name.removeprefix("base_model.model.").replace(".base_layer", "")]), name
    folder = tmp_path / "adapter"
    folder.mkdir()
    one.save(model, folder)
    loaded = one.load(load(), folder, cell).eval()
    ids = torch.arange(20).reshape(2, 10) + 5
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
    assert one.facts_for(cell.options).quantizes and not one.facts_for(cell.options).mergeable


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["qlora", "qdora", "loreft+qdora"])
def test_a_quantized_base_is_evaluated_as_it_is_trained(method: str, dtype: str, tmp_path: Path) -> None:
    """The adapter is the identity at the start also in evaluation, where bitsandbytes would repack its weights on some
    CPUs, and evaluation gives the logits of a pass with gradients (fp32: 1e-5; bfloat16: its rounding)."""
    pytest.importorskip("bitsandbytes")
    base = find_base(str(make_tiny_model(tmp_path / "model", hidden=64)))
    one = methods.get(method)
    settings = {"rank": 4} if "+" in method else {"rank": 4, "dropout": 0}
    cell = cell_of(method, load_model(base, "float32"), **settings)
    cell = cell.model_copy(update={"base": cell.base.model_copy(update={"dtype": dtype})})
    inputs = {"input_ids": torch.arange(20).reshape(2, 10) + 5, "attention_mask": torch.ones(2, 10, dtype=torch.long)}
    inputs["prompt_mask"] = inputs["input_ids"] < 0  # no prompt: LoReFT edits nothing

    def load() -> Any:
        return load_model(base, dtype, method_kwargs=one.load_kwargs(cell))

    plain = load().train()  # in training mode nothing is repacked
    drop_prompt_mask(plain)
    expected = probe(plain, inputs, dtype)
    model = one.attach(load(), cell)
    drop_prompt_mask(model)
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for _ in range(2):  # what the first evaluation does to the weights shows in the second
        assert torch.allclose(probe(model.eval(), inputs, dtype), expected, atol=tolerance)
    with computing_in(dtype, torch.device("cpu")):
        learning = model.train()(**inputs).logits.float().flatten(0, 1)
    assert torch.allclose(learning.detach(), expected, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("qdora", {"quantization": "int8"}, "DoRA on an int8 base fails"),
        ("qlora", {"init": "pissa"}, "a quantized base cannot bear"),
        ("lora", {"double_quantization": True}, "belongs to quantization"),
        ("lora", {"init": "pisa"}, "init.*pattern"),
        ("pissa", {"rank": 32}, "rank 32 is more than the targeted matrices.*16.*from 1 to 16"),
        ("lora", {"rank": 33}, "rank 33 is more than"),
    ],
)
def test_settings_that_do_not_go_together(name: str, settings: dict[str, Any], message: str, tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with pytest.raises(UserError, match=f"(?s)method {name}.*{message}"):
        methods.get(name).resolve(settings, model)


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
    lacking = Lora.named("lacking", facts=replace(Lora.facts, needs={"a_package_that_nobody_has": "quant"}))
    with pytest.raises(UserError, match=r"lacking needs a_package_that_nobody_has.*\n.*bench-peft\[quant\]"):
        lacking.check_machine({"quantization": None})
