"""The LoRA family: parameter counts against the papers, DoRA's norm, PiSSA, LoRA+, QLoRA."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import committed
from helpers.training import cell_of
from transformers import AutoModelForCausalLM

from bench import methods
from bench.errors import UserError
from bench.methods.lora import INITIAL
from bench.methods.parameter_count import count_parameters
from bench.models.hooks import causal_lm
from bench.models.load import load_config, load_skeleton
from bench.report import published

# ../shared/published/README.md: per cent of base and adapter together, LLaMA-7B, q k v up down.
EXACT = {
    "lora": {4: 0.104, 8: 0.208, 16: 0.415, 32: 0.826, 64: 1.638},
    "dora": {4: 0.117, 8: 0.221, 16: 0.427, 32: 0.838, 64: 1.650},
}


RANKS = [16, *(pytest.param(rank, marks=pytest.mark.slow) for rank in (4, 8, 32, 64))]


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("method", EXACT)
def test_llama_7b_parameter_counts_are_the_papers(method: str, rank: int) -> None:
    table = published.read_published("dora_table15_rank").set_index(["method", "rank"])["params_pct"]
    base = load_skeleton("huggyllama/llama-7b")
    cell = cell_of(method, base, rank=rank, target_modules="llm_adapters")
    parameters = list(methods.get(method).attach(base, cell).parameters())
    assert all(parameter.is_meta for parameter in parameters)
    share = 100 * sum(p.numel() for p in parameters if p.requires_grad) / sum(p.numel() for p in parameters)
    assert share == pytest.approx(EXACT[method][rank], abs=5e-4)
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


@pytest.mark.parametrize(
    ("base", "method", "rank", "modules", "expected", "tolerance"),
    [case if case in MORE[1::7] else pytest.param(*case, marks=pytest.mark.slow) for case in MORE],
)
def test_parameter_counts_of_other_llamas(
    base: str, method: str, rank: int, modules: str, expected: float, tolerance: float
) -> None:
    cell = cell_of(method, load_skeleton(base), rank=rank, target_modules=modules)
    trainable, total = count_parameters(cell, load_config(base))
    assert 100 * trainable / total == pytest.approx(expected, abs=tolerance)


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
        "target_parameters",
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
    skeleton = functools.cache(load_skeleton)
    folders = [folder for results in committed() for folder in results.folders()]
    assert folders
    for folder in folders:
        cell, path = folder.cell(), folder.path
        assert path.name.endswith(f"-{cell.id}"), path
        if cell.method in ("lora", "dora"):
            given = {key: value for key, value in cell.options.items() if key != "target_modules"}
            resolved = methods.get(cell.method).resolve(given, skeleton(cell.base.id))
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
    for (name, actual), other in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(actual, other), name


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_2", "olora"])
def test_an_embedding_cannot_be_decomposed(init: str, tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    cell = cell_of("lora", base, init=init, rank=4, dropout=0, target_modules=["embed_tokens", "q_proj"])
    with pytest.raises(UserError, match=rf"init: {init} takes .* linear layers, and model\.embed_tokens is an emb"):
        methods.get("lora").attach(base, cell)


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
