"""Parameters counted on models of two layers are those of the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.methods import FAMILIES
from transformers import LlamaConfig, PretrainedConfig, Qwen2MoeConfig

from bench import methods
from bench.errors import UserError
from bench.methods import Method, parameter_count
from bench.methods.parameter_count import count_parameters, layers_alike
from bench.models.load import build_model, load_config
from bench.sweep.cell import BaseIdentity, Cell
from bench.sweep.sections import BaseModelConfig

BASE = "smollm2-135m-instruct"


def cell_of(method: str, options: dict[str, Any]) -> Cell:
    base = BaseIdentity(id=BASE, revision="", dtype="float32")
    training = {"batch_size": 1, "epochs": 1}
    version = methods.get(method).version
    return Cell(base=base, method=method, method_version=version, options=options, samples=1, seed=0, training=training)


def skeleton_of(config: PretrainedConfig) -> Any:
    with torch.device("meta"):
        return build_model(config)


@pytest.mark.parametrize(
    ("names", "least"),
    [(FAMILIES, 4), pytest.param(tuple(methods.METHODS), 30, marks=pytest.mark.slow)],
    ids=["families", "all"],
)
def test_two_layers_tell_what_every_method_trains_in_five(names: tuple[str, ...], least: int) -> None:
    config = load_config(BASE)
    config.num_hidden_layers = 5
    skeleton = skeleton_of(config)
    assert layers_alike(skeleton)
    compared = 0
    for name in names:
        method = methods.get(name)
        try:
            method.check_packages()
            cell = cell_of(name, method.resolve({}, skeleton))
            all_layers = count_parameters(cell, config, exact=False)
        except UserError:  # a package that is not here, a type that must be named, a count that needs weights
            continue
        assert count_parameters(cell, config, exact=False, alike=True) == all_layers, name
        compared += 1
    assert compared >= least


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "loreft", "layers": [4]},
        {"method": "peft", "peft": {"peft_type": "LORA", "layers_to_transform": [3, 4], "layers_pattern": "layers"}},
        {"method": "lora", "target_modules": ["model.layers.4.self_attn.q_proj"]},
        {"method": "peft", "peft": {"peft_type": "LOHA", "target_modules": ["4.self_attn.q_proj", "k_proj"]}},
    ],
)
def test_settings_that_pick_layers_are_counted_on_all(settings: dict[str, Any]) -> None:
    config = load_config(BASE)
    config.num_hidden_layers = 5
    method = methods.get(settings.pop("method"))
    cell = cell_of(method.name, method.resolve(settings, skeleton_of(config)))
    assert count_parameters(cell, config, alike=True) == count_parameters(cell, config) > (0, 0)


class FourthNorm(Method):
    """Trains a norm of the fourth layer, which no setting names."""

    facts = methods.METHODS["full"].facts
    Options = methods.MethodOptions

    def attach(self, model: Any, cell: Cell) -> Any:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("layers.3.input_layernorm" in name)
        return model


def test_a_method_of_ones_own_sees_the_whole_model() -> None:
    config = load_config(BASE)
    config.num_hidden_layers = 5
    cell = cell_of(f"{__name__}:FourthNorm", {"lr": 1e-3})
    assert count_parameters(cell, config, alike=True)[0] == config.hidden_size


def test_layers_that_differ_are_told() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    experts = {"vocab_size": 50, "num_experts": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}
    assert layers_alike(skeleton_of(LlamaConfig(**sizes, vocab_size=50, num_hidden_layers=3)))
    for step, alike in ((1, True), (2, False)):
        config = Qwen2MoeConfig(**sizes, **experts, num_hidden_layers=6, decoder_sparse_step=step)
        assert layers_alike(skeleton_of(config)) == alike


def test_a_learning_rate_needs_no_other_count(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(
        parameter_count, "count_parameters", lambda cell, *_, **__: counted.append(cell.options) or (1, 2)
    )
    base = parameter_count.ParameterCounter(BaseModelConfig(id=BASE))
    for name, settings in (
        ("lora", {"rank": 4}),
        ("lora", {"rank": 8}),
        ("loreft+lora", {"rank": 4}),
        ("loreft+lora", {"rank": 4, "lora": {"alpha": 1.0}}),
    ):
        for lr in (1e-4, 1e-3):
            options = base.resolve(methods.get(name), {**settings, "lr": lr})
            assert base.count(cell_of(name, options)) == (1, 2)
    assert len(counted) == 4
