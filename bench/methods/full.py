"""The two ends of the scale: the untuned base, and every weight trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.methods.method import Method, MethodFacts, MethodOptions
from bench.sweep.cell import Cell
from bench.sweep.sections import Strict

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Base(Method):
    """The untuned base model: in every sweep, never trained."""

    name = "base"
    facts = MethodFacts(
        summary="the untuned base model",
        rank=None,
        shared_prefix="any",
        lr_grid=(),
        source="-",
    )
    Options = Strict

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        return model.requires_grad_(False)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Nothing was trained."""

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        return model

    def merge(self, model: nn.Module) -> nn.Module:
        return model


class Full(Method):
    """Every weight is trained, in float32: rounding AdamW's small steps to bfloat16 would lose most of them."""

    name = "full"
    facts = MethodFacts(
        summary="every weight of the base",
        rank=None,
        shared_prefix="any",
        lr_grid=(3e-6, 1e-5, 3e-5, 1e-4),
        source="-",
    )

    class Options(MethodOptions):
        lr: float = 1e-5

    def load_kwargs(self, cell: Cell) -> dict[str, Any]:
        return {"dtype": "float32"}

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        return model.requires_grad_(True)

    def save(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        from safetensors.torch import load_file

        weights = {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}
        missing, unexpected = model.load_state_dict(weights, strict=False)
        missing = set(missing) - set(model._tied_weights_keys or ())  # tied weights are written once
        if missing or unexpected:
            raise ValueError(f"{folder.name} does not fit the base: {sorted(missing)[:3]} {sorted(unexpected)[:3]}")
        return model

    def merge(self, model: nn.Module) -> nn.Module:
        return model
