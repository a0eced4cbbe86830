"""A base whose output head and embedding are one matrix, with an adapter on one of the two ends.

The merged model must answer as the unmerged one: the adapter changes its own end, and the other end stays.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.families import tiny_family
from helpers.methods import batch
from helpers.training import cell_of
from transformers import AutoModelForCausalLM

from bench import methods
from bench.evaluation.merge_check import probe
from bench.models.hooks import drop_prompt_mask

ENDS = ["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head"], ["q_proj", "lm_head"]
BY_CONFIGURATION: dict[str, dict[str, Any]] = {
    "lora": {"peft_type": "LORA", "r": 4, "lora_alpha": 64},
    "dora": {"peft_type": "LORA", "r": 4, "lora_alpha": 64, "use_dora": True},
    "loha": {"peft_type": "LOHA", "r": 4, "alpha": 64},
}


@pytest.fixture(scope="module")
def tied(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, without the row of zeros that DoRA cannot divide by."""
    folder = tmp_path_factory.mktemp("tied")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        model.model.embed_tokens.weight[2] = 0.01
    model.save_pretrained(folder)
    return folder


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every trained weight changed."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    drop_prompt_mask(model)
    return model.eval()


def difference_by_merging(method: str, tiny: Path, **options: Any) -> float:
    """The largest change of a logit, as a share of how far the adapter moved one."""
    model = AutoModelForCausalLM.from_pretrained(tiny)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    drop_prompt_mask(model)
    base = probe(model, batch(tiny), "float32")
    cell = cell_of(method, model, **options)
    adapted = moved(methods.get(method).attach(model, cell))
    before = probe(adapted, batch(tiny), "float32")
    merged = methods.get(method).merge(adapted).eval()
    after = probe(merged, batch(tiny), "float32")
    assert (before - base).abs().max() > 0.1
    return float((after - before).abs().max() / (before - base).abs().max())


@pytest.mark.parametrize("targets", ENDS, ids="+".join)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_merge_into_tied_weights_changes_only_the_adapted_end(method: str, targets: list[str], tied: Path) -> None:
    assert difference_by_merging(method, tied, rank=4, alpha=64, target_modules=targets) < 1e-4


@pytest.mark.parametrize("targets", ENDS, ids="+".join)
@pytest.mark.parametrize("kind", BY_CONFIGURATION)
def test_also_by_a_peft_configuration(kind: str, targets: list[str], tied: Path) -> None:
    if kind == "loha" and "embed_tokens" in targets:
        pytest.skip("PEFT's LoHa adapts no embedding")
    peft = {**BY_CONFIGURATION[kind], "target_modules": targets}
    assert difference_by_merging("peft", tied, peft=peft, lr=1e-3) < 1e-4


def test_layers_that_share_their_weights_are_merged_each_for_itself() -> None:
    """Zamba2's blocks are one set of weights at several depths; each depth has an adapter of its own."""
    model = tiny_family("zamba2")
    shared = {target for target in model.all_tied_weights_keys if "shared_transformer" in target}
    if not shared:
        pytest.skip("this transformers shares the blocks in another way")
    cell = cell_of("lora", model, rank=4, alpha=64)
    adapted = moved(methods.get("lora").attach(model, cell))
    text = torch.arange(3, 43)[None]
    with torch.no_grad():
        before = adapted(input_ids=text).logits
        after = methods.get("lora").merge(adapted).eval()(input_ids=text).logits
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_a_merged_model_whose_ends_differ_is_saved_as_not_tied(tied: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tied)
    cell = cell_of("lora", model, rank=4, alpha=64, target_modules=["lm_head"])
    merged = methods.get("lora").merge(moved(methods.get("lora").attach(model, cell))).eval()
    merged.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    drop_prompt_mask(loaded)
    assert not loaded.config.tie_word_embeddings
    assert torch.equal(probe(loaded, batch(tied), "float32"), probe(merged, batch(tied), "float32"))


def test_a_merge_elsewhere_leaves_the_weights_tied(tied: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tied)
    cell = cell_of("lora", model, rank=4, target_modules=["q_proj"])
    merged = methods.get("lora").merge(moved(methods.get("lora").attach(model, cell)))
    assert merged.lm_head.weight is merged.model.embed_tokens.weight and merged.config.tie_word_embeddings
