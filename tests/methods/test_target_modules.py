"""Which modules `target_modules: auto` stands for, on the decoder families of the installed transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.families import FAMILIES, FAST_FAMILIES, tiny_config, tiny_family
from transformers import PreTrainedModel

from bench import methods
from bench.errors import UserError
from bench.methods.parameter_count import adapted_share
from bench.methods.target_modules import expert_parameters, linear_layers, resolve_target_modules, targeted_weights
from bench.models.load import build_model
from bench.sweep.cell import BaseIdentity, Cell

WITHOUT_GRADIENT = {
    "deepseek_v4": "its compressor acts on longer texts",
    "reformer": "trains on texts of one length only",
    "xlstm": "its own backward pass fails in the installed transformers",
    "zamba2": "some of its adapters belong to blocks that a tiny model has not",
}
MERGES_INEXACTLY = {"zamba": "blocks share weights", "zamba2": "blocks share weights"}


def skeleton_of(family: str) -> PreTrainedModel:
    with torch.device("meta"):
        return build_model(tiny_config(family))


def cell_of(family: str, method: str = "lora", **settings: Any) -> Cell:
    options = methods.get(method).resolve(settings, skeleton_of(family))
    return Cell(
        base=BaseIdentity(id=family, revision="", dtype="float32"),
        method=method,
        method_version=methods.get(method).version,
        options=options,
        samples=8,
        seed=0,
        training={"batch_size": 2, "epochs": 1},
    )


def text() -> dict[str, torch.Tensor]:
    ids = torch.arange(3, 35)[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def reloads_and_merges(cell: Cell, folder: Path) -> tuple[float, float]:
    """The largest differences of logits after loading and after merging, once every trained weight was changed."""
    method = methods.get(cell.method)
    adapted = method.attach(tiny_family(cell.base.id), cell).eval()
    with torch.no_grad():
        before = adapted(**text()).logits
        torch.manual_seed(1)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        expected = adapted(**text()).logits
        assert not torch.allclose(before, expected, atol=1e-4)
        method.save(adapted, folder)
        loaded = method.load(tiny_family(cell.base.id), folder, cell).eval()
        from_file = (loaded(**text()).logits - expected).abs().max()
        merged = (method.merge(loaded)(**text()).logits - expected).abs().max()
    return float(from_file), float(merged)


def of_families(names: tuple[str, ...], left_out: Any = ()) -> list[Any]:
    return [
        name if name in FAST_FAMILIES else pytest.param(name, marks=pytest.mark.slow)
        for name in names
        if name not in left_out
    ]


@pytest.mark.parametrize("family", of_families(FAMILIES, WITHOUT_GRADIENT))
def test_every_default_target_is_trained(family: str) -> None:
    cell = cell_of(family)
    adapted = methods.get("lora").attach(tiny_family(family), cell).train()
    adapted(**text()).logits.logsumexp(-1).mean().backward()
    trained = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_a_default_lora_reloads_and_merges_exactly(family: str, tmp_path: Path) -> None:
    from_file, merged = reloads_and_merges(cell_of(family), tmp_path)
    assert from_file == 0
    if family not in MERGES_INEXACTLY:
        assert merged < 1e-4


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_next", pytest.param("glm4_moe", marks=pytest.mark.slow)])
def test_dora_adapts_the_dense_and_shared_layers_of_a_mixture_of_experts(family: str, tmp_path: Path) -> None:
    cell = cell_of(family, "dora")
    assert "gate_proj" in cell.options["target_modules"]  # type: ignore[operator]
    from_file, merged = reloads_and_merges(cell, tmp_path)
    assert from_file == 0
    assert merged < 1e-4
    # PEFT alone would put such an adapter on the experts.
    assert "as the experts" in methods.get("dora").cannot_export(cell.options, tmp_path)


@pytest.mark.parametrize(
    "family", [*of_families(tuple(name for name in FAMILIES if expert_parameters(skeleton_of(name))))]
)
def test_experts_are_adapted_by_a_setting(family: str, tmp_path: Path) -> None:
    cell = cell_of(family, target_parameters="experts", dropout=0.0)
    adapted = methods.get("lora").attach(tiny_family(family), cell)
    without = methods.get("lora").attach(tiny_family(family), cell_of(family, dropout=0.0))
    count = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (adapted, without)]
    assert count[0] > count[1]
    from_file, merged = reloads_and_merges(cell, tmp_path)
    assert from_file == 0
    assert merged < 1e-4


def test_settings_that_do_not_go_with_target_parameters_are_refused() -> None:
    lora, mixture = methods.get("lora"), skeleton_of("mixtral")
    for settings, part in (
        ({}, "dropout: 0"),
        ({"dropout": 0.0, "norm": "algebraic"}, "DoRA"),
        ({"dropout": 0.0, "init": "pissa"}, "pissa"),
    ):
        with pytest.raises(UserError, match=part):
            lora.resolve({"target_parameters": "experts", **settings}, mixture)
    with pytest.raises(UserError, match="no parameter of experts"):
        lora.resolve({"target_parameters": "experts", "dropout": 0.0}, skeleton_of("llama"))
    with pytest.raises(UserError, match="no parameter nothing"):
        lora.resolve({"target_parameters": ["nothing"], "dropout": 0.0}, mixture)


@pytest.mark.parametrize(("family", "router"), [("llama4_text", "router"), ("phimoe", "router"), ("phimoe", "gate")])
def test_a_router_that_returns_a_tuple_is_left_out(family: str, router: str) -> None:
    model = skeleton_of(family)
    assert router not in linear_layers(model)
    if any(path.endswith(f".{router}") for path, _ in model.named_modules()):
        with pytest.raises(UserError, match="does not return one tensor"):
            resolve_target_modules([router], model, "lora")


@pytest.mark.parametrize("family", ["gemma3n_text", "zamba2", "ctrl"])
def test_a_layer_named_by_a_number_is_targeted_by_its_path(family: str) -> None:
    model = skeleton_of(family)
    names = linear_layers(model)
    assert any(name.rpartition(".")[2].isdigit() for name in names)
    assert not any(name.isdigit() for name in names)
    assert methods.get("lora").attach(tiny_family(family), cell_of(family))
    with pytest.raises(UserError, match="several layers"):
        resolve_target_modules(["0"], model, "lora")


@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("gemma3", "vision"),
        ("got_ocr2", "vision"),
        ("git", "image_encoder"),
        ("fuyu", "vision"),
        ("phi4_multimodal", "embed_tokens_extend"),
        ("moss_transcribe_diarize", "audio"),
    ],
)
def test_of_a_model_that_reads_images_or_sound_the_text_model_alone_is_adapted(family: str, other: str) -> None:
    model = skeleton_of(family)
    assert any(other in path for path, _ in model.named_modules())
    targeted = targeted_weights(model, linear_layers(model))
    assert targeted
    assert not [path for path in targeted if other in path]


@pytest.mark.parametrize(
    ("family", "names"),
    [("mamba", {"in_proj"}), ("jamba", {"out_proj", "in_proj", "x_proj"}), ("deepseek_v32", {"q_b_proj", "o_proj"})],
)
def test_layers_whose_adapter_would_do_nothing_are_left_out(family: str, names: set[str]) -> None:
    layers = set(linear_layers(skeleton_of(family)))
    assert names <= layers
    assert not {"dt_proj", "weights_proj"} & layers
    if family == "mamba":
        assert layers == names


def test_names_of_a_plain_model_are_short() -> None:
    names = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert linear_layers(skeleton_of("llama")) == names
    assert linear_layers(skeleton_of("gpt2")) == ["c_attn", "c_fc", "c_proj"]


@pytest.mark.parametrize("family", ["llama", "mixtral", "gemma3", "gpt2"])
def test_the_share_of_the_blocks_weights_that_an_adapter_acts_on(family: str) -> None:
    """Counted from the model itself: linear layers and experts over all matrices of its text blocks."""
    model = tiny_family(family)
    matrices = {
        name: p.numel()
        for name, p in model.named_parameters()
        if p.ndim > 1 and any(part in name for part in (".layers.", ".h.")) and "vision" not in name
    }
    linear = sum(count for name, count in matrices.items() if "experts" not in name and "gate.weight" not in name)
    share = adapted_share(cell_of(family), model.config)
    assert share == pytest.approx(linear / sum(matrices.values()))
    assert (share == 1) == (family != "mixtral")
    if family == "mixtral":
        with_experts = adapted_share(cell_of(family, target_parameters="experts", dropout=0.0), model.config)
        router = sum(count for name, count in matrices.items() if "gate.weight" in name)
        assert with_experts == pytest.approx(1 - router / sum(matrices.values()))
    assert adapted_share(cell_of(family, "prefix"), model.config) is None
    assert adapted_share(cell_of(family, "full"), model.config) is None
