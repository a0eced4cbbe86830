"""The check that decides whether members are trained together, and the table of what it says of each method."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
from helpers.groups import compared, members_of, train_alone, train_together, weights
from helpers.methods import SETTINGS, TRAINED
from helpers.paths import ROOT
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from bench.methods.lora import Lora
from bench.sweep.cell import Cell
from bench.training.parity import why_alone

DOCS = runpy.run_path(str(ROOT / "docs" / "generate_together_table.py"))
TEXT = DOCS["PAGE"].read_text(encoding="utf-8")
TABLE = DOCS["read_table"](TEXT)
TOLERANCE = 1e-5
"""Of losses and of final weights, after 20 steps in float32 without dropout."""

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries


def check_row(name: str, tiny: Path) -> None:
    """What is found is what the page says; the differences themselves are rounding, and vary between machines."""
    comparison = compared(tiny, name, SETTINGS.get(name))
    assert without_numbers(comparison.alone) == without_numbers(TABLE[name].alone)
    if comparison.alone is None:
        assert comparison.moved > 10 * TOLERANCE
        for result in (comparison, TABLE[name]):
            assert result.loss <= TOLERANCE and result.weight <= TOLERANCE


def without_numbers(reason: str | None) -> str | None:
    return reason and re.sub(r"\d[\d.e-]*", "…", reason)


@pytest.mark.parametrize("name", ["lora", "dora", "vera", "ia3"])
def test_a_method_is_trained_as_the_page_says(name: str, tiny_model: Path) -> None:
    check_row(name, tiny_model)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_is_trained_as_the_page_says(name: str, tiny_model: Path) -> None:
    check_row(name, tiny_model)


def test_the_page_has_a_row_for_each_method_and_is_what_the_command_writes() -> None:
    assert list(TABLE) == TRAINED
    assert DOCS["page"](TEXT, TABLE) == TEXT


def test_the_check_changes_nothing(tiny_model: Path) -> None:
    """With dropout, so that random numbers are drawn in it."""
    checked, unchecked = (members_of(tiny_model, "dora", {"rank": 4}, dropout=True) for _ in range(2))
    for _ in range(2):
        assert why_alone(checked) is None
    assert all(parameter.grad is None for peer in checked for parameter in peer.member.parameters)
    assert all(torch.equal(weights(one), weights(other)) for one, other in zip(checked, unchecked, strict=True))
    assert train_together(checked) == train_together(unchecked)


class ScaledBySeed(Lora):
    """A LoRA whose scale is in a plain attribute, which the group takes from its first model."""

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        adapted = super().attach(model, cell)
        for module in adapted.modules():
            if isinstance(module, LoraLayer):
                module.scaling = {"default": 1.0 + cell.seed}
        return adapted


class CountingPasses(Lora):
    """A LoRA that replaces a buffer in each forward pass."""

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        adapted = super().attach(model, cell)
        adapted.register_buffer("passes", torch.zeros(()))

        def count(module: nn.Module, args: object) -> None:
            module.passes = module.passes + 1

        adapted.register_forward_pre_hook(count)
        return adapted


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (ScaledBySeed(), "the gradient differs by .* of its norm"),
        (CountingPasses(), "its forward pass changes the buffer passes"),
        ("cpt", "the method has hooks on the gradients of its parameters"),
        ("loha", "its forward pass draws random numbers other than dropout's"),
        ("oft", "torch cannot vmap its forward pass: index_put_"),
    ],
    ids=["plain attribute", "replaced buffer", "cpt", "loha", "oft"],
)
def test_what_differs_or_cannot_be_computed_together_is_trained_alone(
    method: str | Lora, reason: str, tiny_model: Path
) -> None:
    """The check leaves the members as they are: training them alone comes to the same as without it."""
    checked, unchecked = (members_of(tiny_model, method, SETTINGS.get(str(method))) for _ in range(2))
    assert re.fullmatch(f"{reason}.*", str(why_alone(checked)))
    assert train_alone(checked[:1]) == train_alone(unchecked[:1])
    assert torch.equal(weights(checked[0]), weights(unchecked[0]))


def test_packed_and_half_precision_trainings_are_alone(tiny_model: Path) -> None:
    assert why_alone(members_of(tiny_model, "lora", packed=True)) == "packed rows are not padded to a common length"
    members = members_of(tiny_model, "lora", dtype="bfloat16")
    assert why_alone(members) == "they compute in bfloat16, and only float32 is compared"


def test_a_base_whose_frequencies_change_with_the_length_is_alone(tiny_model: Path) -> None:
    members = members_of(tiny_model, "lora")
    config = members[0].member.model.config
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert why_alone(members) == "the base's rotary frequencies change with the length of the longest text"


def test_members_of_other_structure_or_length_are_alone(tiny_model: Path) -> None:
    ranks = [members_of(tiny_model, "lora", {"rank": rank}, members=1)[0] for rank in (2, 4)]
    assert str(why_alone(ranks)).startswith("their models differ in the shape of base_model.")
    lengths = [members_of(tiny_model, "lora", members=1, epochs=epochs)[0] for epochs in (1, 2)]
    assert why_alone(lengths) == "they differ in their number of steps or examples"
    batches = [members_of(tiny_model, "lora", members=1, micro_batch=size)[0] for size in (2, 4)]
    assert why_alone(batches) == "they differ in the size of their batches"
