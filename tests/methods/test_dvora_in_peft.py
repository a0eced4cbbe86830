"""DVoRA as a type of PEFT: saving, loading, adapters, counts."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.dvora import ALL, IN, adapted, base_of, layers, logits, one_layer, stir
from helpers.paths import ROOT
from peft import PeftConfig, PeftModel, PeftType, VeraConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

from bench.methods import dvora
from bench.methods.dvora import DvoraConfig, DvoraModel
from bench.models.load import load_skeleton

RELOAD = """
import sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
import bench.methods.dvora
base, adapter, out = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
with torch.no_grad():
    torch.save(model(input_ids=torch.arange(20).reshape(2, 10) + 5).logits, out)
"""


@pytest.mark.slow
def test_saved_and_loaded_in_a_new_process_answers_alike(tiny_model: Path, tmp_path: Path) -> None:
    """Bit for bit; the file holds the projections once, and b, d and m of each layer."""
    model = adapted(base_of(tiny_model))
    stir(model)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    assert sorted(name for name in names if "vera_A" in name or "vera_B" in name) == [
        "base_model.vera_A",
        "base_model.vera_B",
    ]
    assert len(names) == 2 + 3 * len(layers(model))
    arguments = [str(tiny_model), str(tmp_path / "adapter"), str(tmp_path / "logits.pt")]
    subprocess.run([sys.executable, "-c", RELOAD, *arguments], check=True, timeout=300, cwd=ROOT)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), logits(model))


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_loaded_onto_a_bfloat16_base_it_keeps_its_magnitudes(
    tiny_model: Path, tmp_path: Path, low_cpu_mem_usage: bool
) -> None:
    model = adapted(base_of(tiny_model, dtype=torch.bfloat16))
    with torch.no_grad():
        for layer in layers(model):
            layer.vera_lambda_m["default"].mul_(1.2345)  # not representable in bfloat16
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    base = base_of(tiny_model, dtype=torch.bfloat16)
    loaded = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage).eval()
    for ours, theirs in zip(layers(model), layers(loaded), strict=True):
        assert torch.equal(ours.vera_lambda_m["default"], theirs.vera_lambda_m["default"])
    assert torch.equal(logits(loaded), logits(model))


def test_adapter_left_in_the_base_dtype_still_starts_as_the_base(tiny_model: Path) -> None:
    base = base_of(tiny_model, dtype=torch.bfloat16).eval()
    before = logits(base)
    config = DvoraConfig(r=8, target_modules=ALL)
    model = get_peft_model(base, config, autocast_adapter_dtype=False).eval()
    assert layers(model)[0].vera_lambda_b["default"].dtype == torch.bfloat16
    assert torch.equal(logits(model), before)


def test_one_adapter_acts_at_a_time() -> None:
    model, layer = one_layer("linear", 4)
    x = torch.randn(5, IN)
    ours = model(x)
    model.add_adapter("other", DvoraConfig(r=4, target_modules=["0"]))
    torch.testing.assert_close(model(x), ours)
    model.set_adapter("other")
    assert torch.equal(model(x), layer.get_base_layer()(x))
    model.base_model.set_adapter(["default", "other"])
    for call in (lambda: model(x), model.merge_adapter):
        with pytest.raises(ValueError, match="one DVoRA adapter acts at a time, not default, other"):
            call()
    model.merge_adapter(["default"])
    with pytest.raises(ValueError, match="one DVoRA adapter"), pytest.warns(match="additionally merging other"):
        model.merge_adapter(["other"])


def test_llama_7b_parameter_counts_are_the_papers() -> None:
    """Per cent trained of base and trained together, all seven linear layers, r = 1024; DoRA's Table 11 rounds them
    to 0.02 and 0.04."""
    for config, exact in ((VeraConfig, 0.0236), (DvoraConfig, 0.0437)):
        base = load_skeleton("huggyllama/llama-7b")
        parameters = list(get_peft_model(base, config(r=1024, target_modules=ALL)).parameters())
        assert all(parameter.is_meta for parameter in parameters)
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        assert 100 * trained / sum(parameter.numel() for parameter in parameters) == pytest.approx(exact, abs=5e-5)


def test_peft_knows_it_once(tmp_path: Path) -> None:
    members = list(PeftType)
    dvora.register()
    assert list(PeftType) == members
    assert len(set(members)) == len(members)
    kind = PeftType("DVORA")
    assert kind is PeftType.DVORA is PeftType["DVORA"] is pickle.loads(pickle.dumps(kind))
    assert kind == "DVORA" and kind in PeftType and kind.name == kind.value == "DVORA"
    assert PEFT_TYPE_TO_TUNER_MAPPING[kind] is DvoraModel
    assert PEFT_TYPE_TO_CONFIG_MAPPING[PeftType.VERA] is VeraConfig
    DvoraConfig(r=8, target_modules=ALL).save_pretrained(tmp_path)
    assert type(PeftConfig.from_pretrained(tmp_path)) is DvoraConfig


def test_only_linear_layers_are_adapted() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(TypeError, match="not Embedding"):
        adapted(model, target_modules=["embed_tokens", "q_proj"])
