"""What a training step works with: the optimizer, the schedule, and what the method says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training import cell_of
from torch import nn
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, set_seed

from bench import methods
from bench.errors import CellProblem
from bench.methods.lora import Lora
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training.member import Member, make_accelerator, prepare_member


def member_of(tiny: Path, method: str, kind: type[Lora] | None = None, **settings: Any) -> tuple[Member, nn.Module]:
    """A member of the method, and the model."""
    base = AutoModelForCausalLM.from_pretrained(tiny)
    cell, config = cell_of(method, base, lr=1e-3), TrainingConfig(**settings)
    set_seed(0)
    implementation = kind() if kind else methods.get(method)
    model = implementation.attach(base, cell)
    accelerator = make_accelerator(model, cell, config, [])
    return prepare_member(model, implementation, cell, config, 40, accelerator), model


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_the_optimizer_is_the_stock_trainers(method: str, tiny_model: Path, tmp_path: Path) -> None:
    """The same parameters in the same groups with the same settings; norms and biases do not decay."""
    member, model = member_of(tiny_model, method, weight_decay=0.3)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        learning_rate=1e-3,
        weight_decay=0.3,
        optim="adamw_torch_fused",
        use_cpu=True,
        report_to="none",
    )
    stock = Trainer(model=model, args=arguments).create_optimizer()
    assert isinstance(member.optimizer.optimizer, type(stock))  # type: ignore[attr-defined]  # accelerate's wrapper
    assert len(member.optimizer.param_groups) == len(stock.param_groups) == 2
    for mine, other in zip(member.optimizer.param_groups, stock.param_groups, strict=True):
        assert [id(parameter) for parameter in mine["params"]] == [id(parameter) for parameter in other["params"]]
        keys = set(other) - {"params", "lr"}  # the schedule has set the rate of the first step
        assert {key: mine[key] for key in keys} == {key: other[key] for key in keys}
        assert mine["initial_lr"] == other["lr"] == 1e-3
    assert len(member.parameters) == sum(len(group["params"]) for group in stock.param_groups)


@pytest.mark.parametrize("settings", [{"warmup_ratio": 0.13}, {"warmup_steps": 0}, {"warmup_steps": 3}, {}], ids=str)
def test_warmup_is_rounded_as_the_stock_trainer_does(
    settings: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    config = TrainingConfig(**settings)
    given = config.warmup_ratio if config.warmup_steps is None else config.warmup_steps
    warmup = TrainingArguments(output_dir=str(tmp_path), warmup_steps=given, use_cpu=True).get_warmup_steps(40)
    member, _ = member_of(tiny_model, "lora", **settings)  # arguments made later would reset its accelerator
    rates = []
    for _ in range(warmup + 1):
        rates.append(member.schedule.get_last_lr()[0])
        member.optimizer.step()
        member.schedule.step()
    assert rates == pytest.approx([1e-3 * step / max(1, warmup) for step in range(warmup)] + [1e-3])


class OfAnEarlierModel(Lora):
    """Its optimizer holds what the model held once."""

    def optimizer(self, model: nn.Module, cell: Cell) -> torch.optim.Optimizer:
        return torch.optim.AdamW([nn.Parameter(parameter.detach().clone()) for parameter in model.parameters()])


def test_an_optimizer_of_other_parameters_is_refused(tiny_model: Path) -> None:
    with pytest.raises(CellProblem, match=r"lora: its optimizer holds parameters that are not the model's"):
        member_of(tiny_model, "lora", OfAnEarlierModel)
