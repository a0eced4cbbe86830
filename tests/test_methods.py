"""Methods: parameter counts against the papers, saving and loading, merging."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_training import cell_of, trained
from transformers import AutoModelForCausalLM

from bench import base_models, methods
from bench.errors import UserError
from bench.methods.targets import linear_layers
from bench.report import published

# ../shared/published/README.md: per cent of base and adapter together, LLaMA-7B, q k v up down.
EXACT = {
    "lora": {4: 0.104, 8: 0.208, 16: 0.415, 32: 0.826, 64: 1.638},
    "dora": {4: 0.117, 8: 0.221, 16: 0.427, 32: 0.838, 64: 1.650},
}


@pytest.mark.parametrize("method", EXACT)
def test_llama_7b_parameter_counts_are_the_papers(method: str) -> None:
    table = published.read("dora_table15_rank").set_index(["method", "rank"])["params_pct"]
    for rank, exact in EXACT[method].items():
        base = base_models.skeleton("huggyllama/llama-7b")
        cell = cell_of(method, base, rank=rank, target_modules="llm_adapters")
        parameters = list(methods.get(method).attach(base, cell).parameters())
        assert all(one.is_meta for one in parameters)
        share = 100 * sum(p.numel() for p in parameters if p.requires_grad) / sum(p.numel() for p in parameters)
        assert share == pytest.approx(exact, abs=5e-4)
        # The paper truncates or rounds to two digits.
        assert abs(share - table[method, rank]) < 0.01


def test_auto_targets_every_linear_layer_but_the_head(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert linear_layers(model) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_saved_loaded_and_merged_answer_alike(method: str, tmp_path: Path, tiny_model: Path) -> None:
    """fp32: loaded bit for bit, merged within rounding (1e-5)."""
    model, _ = trained(tmp_path, tiny_model, method, {"epochs": 2, "batch_size": 4}, lr=1e-2)
    ids = torch.arange(20).reshape(2, 10) + 5
    model.eval()
    with torch.no_grad():
        ours = model(input_ids=ids).logits
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        assert not torch.allclose(ours, base(input_ids=ids).logits, atol=1e-2)
        folder = tmp_path / "adapter"
        folder.mkdir()
        methods.get(method).save(model, folder)
        assert not [p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pkl"}]
        loaded = methods.get(method).load(base, folder, cell_of(method, base)).eval()
        assert torch.equal(loaded(input_ids=ids).logits, ours)
        merged = methods.get(method).merge(loaded)
        assert type(merged).__name__ == "LlamaForCausalLM"
        assert torch.allclose(merged(input_ids=ids).logits, ours, atol=1e-5)


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
        "init",
        "lr_ratio",
        "quantization",
        "double_quantization",
    }


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_registry_says_what_a_reader_needs(name: str, tiny_model: Path) -> None:
    method = methods.METHODS[name]
    assert method.name == name and method.facts.summary and method.facts.source
    if method.facts.rank is None:
        with pytest.raises(UserError, match="has no rank"):
            method.resolve({"rank": 8}, AutoModelForCausalLM.from_pretrained(tiny_model))
