"""The two ends of the scale: the untuned base model, and every weight trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from bench.errors import UserError
from bench.methods.method import LoadingKeywords, Method, MethodFacts, MethodOptions
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import LearningRate, Strict

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Base(Method):
    """The untuned base model: part of every sweep, never trained."""

    name = "base"
    facts = MethodFacts(
        summary="the untuned base model",
        rank=None,
        shared_prefix="any",
        lr_center=None,
        source="-",
    )
    Options = Strict

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        return model.requires_grad_(False)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes nothing: nothing was trained."""

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        return model

    def merge(self, model: nn.Module) -> nn.Module:
        return model


CHANGED_BY_LOADING = {
    "youtu": "transformers zeroes the padding token's weights of a youtu model whenever it loads it, so trained ones "
    "are not loaded as they were saved"
}
"""Model types whose weights `from_pretrained` changes (modeling_youtu._init_weights), each with what it does."""


class FullOptions(MethodOptions):
    """The settings of full fine-tuning."""

    lr: LearningRate = 1e-5
    """Peak learning rate."""


class Full(Method):
    """Every weight is trained, in float32: AdamW's small steps would be lost to rounding in bfloat16."""

    name = "full"
    facts = MethodFacts(
        summary="every weight of the base",
        rank=None,
        shared_prefix="any",
        lr_center=1e-5,
        source="-",
    )
    Options: ClassVar[type[MethodOptions]] = FullOptions

    def resolve(self, settings: Settings, model: PreTrainedModel) -> Settings:
        if reason := CHANGED_BY_LOADING.get(model.config.model_type):
            raise UserError(
                f"method {self.name}: {reason}", "Take a method that leaves the base's weights as they are."
            )
        return super().resolve(settings, model)

    def load_kwargs(self, cell: Cell) -> LoadingKeywords:
        return {"dtype": "float32"}

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        return model.requires_grad_(True)

    def save(self, model: nn.Module, folder: Path) -> None:
        cast("PreTrainedModel", model).save_pretrained(folder)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        """transformers translates the names of many architectures when it saves, so only `from_pretrained` reads what
        `save_pretrained` wrote. The weights are read on the CPU and copied into the model.

        Raises ValueError if they do not fit the base.
        """
        from bench.models.weights import loading_problems, read_model

        trained, info = read_model(type(model), folder, dtype=model.dtype, use_safetensors=True)
        if problems := loading_problems(info):
            raise ValueError(f"{folder.name} does not fit the base: {problems}")
        model.load_state_dict(trained.state_dict())
        return model

    def merge(self, model: nn.Module) -> nn.Module:
        return model
