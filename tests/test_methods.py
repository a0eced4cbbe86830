"""Methods: parameter counts against the papers, saving and loading, merging."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_training import cell_of, trained
from transformers import AutoModelForCausalLM

from bench import base_models, methods
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
        loaded = methods.get(method).load(base, folder).eval()
        assert torch.equal(loaded(input_ids=ids).logits, ours)
        merged = methods.get(method).merge(loaded)
        assert type(merged).__name__ == "LlamaForCausalLM"
        assert torch.allclose(merged(input_ids=ids).logits, ours, atol=1e-5)


def test_alpha_follows_rank_and_every_setting_is_resolved(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    options = methods.get("dora").resolve({"rank": 4}, model)
    assert options["alpha"] == 8
    assert None not in options.values() and "auto" not in map(str, options.values())


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_registry_says_what_a_reader_needs(name: str) -> None:
    facts = methods.METHODS[name].facts
    assert facts.summary and facts.source
    assert (facts.rank is None) == ("rank" not in methods.METHODS[name].Options.model_fields)
