"""Two methods on one base: an edit of hidden states over a change of weights, such as `loreft+lora`.

Settings of a part are written under its name (`{method: loreft+lora, loreft: {rank: 4}, lora: {rank: 16}}`); `rank`
and `lr` beside them are those of both parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from pydantic import JsonValue

from bench.errors import UserError, unknown
from bench.methods.method import LoadingKeywords, Method, MethodFacts, SharedPrefix
from bench.methods.peft_base import PeftMethod
from bench.sweep.cell import Cell, Settings
from bench.sweep.sections import LearningRate, Rank, Strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


TRAINED_NAMES = "trained_names"
"""The attribute of a model that has the names of the parameters that each part trains. Sharding a model replaces its
parameters, but not their names."""


class StackedOptions(Strict):
    """The settings that both parts share."""

    lr: LearningRate | None = None
    """Peak learning rate of both parts. Default: each part's own."""
    rank: Rank | None = None
    """Rank of both parts. Default: each part's own."""


class Stacked(Method):
    """`edit` on top of `weights`: trained, saved and loaded together."""

    Options = StackedOptions

    def __init__(self, edit: Method, weights: Method) -> None:
        if not (isinstance(weights, PeftMethod) and weights.changes_weights):
            raise UserError(
                f"{edit.name} cannot be stacked on {weights.name}",
                "It needs a PEFT method that changes weights: lora and its variants, vera, loha, ...",
            )
        self.edit, self.weights = edit, weights
        self.name = f"{edit.name}+{weights.name}"
        self.version = f"{edit.version}+{weights.version}"
        self.facts = self._combined(edit.facts, weights.facts)

    def facts_for(self, options: Settings) -> MethodFacts:
        return self._combined(*(part.facts_for(_settings_of(part, options)) for part in self._parts))

    def check_machine(self, options: Settings) -> None:
        for part in self._parts:
            part.check_machine(_settings_of(part, options))

    def resolve(self, settings: Settings, model: PreTrainedModel) -> Settings:
        names = [part.name for part in self._parts]
        for key, value in settings.items():
            if key in names and not isinstance(value, dict):
                raise UserError(f"method {self.name}: {key} is {value!r}", f"Give its settings: {key}: {{rank: 8}}.")
            if key not in {*StackedOptions.model_fields, *names}:
                raise UserError(
                    f"method {self.name}: {unknown('setting', key, [*StackedOptions.model_fields, *names])}"
                )
        common = super().resolve({key: value for key, value in settings.items() if key not in names}, model)
        common = {key: value for key, value in common.items() if value is not None}
        edit, weights = (part.resolve({**common, **_settings_of(part, settings, {})}, model) for part in self._parts)
        parts: Settings = {self.edit.name: edit, self.weights.name: weights}
        return {"lr": weights["lr"], "rank": weights.get("rank"), **parts}

    def load_kwargs(self, cell: Cell) -> LoadingKeywords:
        edit, weights = (part.load_kwargs(_cell_of(part, cell)) for part in self._parts)
        return {**edit, **weights}

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        adapted = self.weights.attach(model, _cell_of(self.weights, cell))
        of_weights = {id(parameter) for parameter in adapted.parameters() if parameter.requires_grad}
        # A PEFT model behaves like the model that it adapts.
        both = self.edit.attach(cast("PreTrainedModel", adapted), _cell_of(self.edit, cell))
        names: dict[str, list[str]] = {self.weights.name: [], self.edit.name: []}
        for name, parameter in both.named_parameters():
            if parameter.requires_grad:
                part = self.weights if id(parameter) in of_weights else self.edit
                names[part.name].append(name)
        setattr(both, TRAINED_NAMES, names)
        return both

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer:
        """AdamW with the learning rates of each part. Without weight decay, which the edits do not permit."""
        from torch.optim import AdamW

        names: dict[str, list[str]] = getattr(model, TRAINED_NAMES)
        parameters = dict(model.named_parameters())
        groups: list[dict[str, object]] = []
        for part in self._parts:
            trained = [parameters[name] for name in names[part.name]]
            optimizer = part.optimizer(model, _cell_of(part, cell))
            if optimizer is None:
                groups.append({"params": trained, "lr": _settings_of(part, cell.options)["lr"]})
                continue
            of_part = {id(parameter) for parameter in trained}
            for group in optimizer.param_groups:
                selected = [parameter for parameter in group["params"] if id(parameter) in of_part]
                groups += [{"params": selected, "lr": group["lr"]}] if selected else []
        return AdamW(groups, weight_decay=0.0, fused=True)

    def penalty(self, model: nn.Module, cell: Cell) -> torch.Tensor | None:
        total = None
        for part in self._parts:
            term = part.penalty(model, _cell_of(part, cell))
            if term is not None:
                total = term if total is None else total + term
        return total

    def after_step(self, model: nn.Module, cell: Cell, step: int) -> None:
        for part in self._parts:
            part.after_step(model, _cell_of(part, cell), step)

    def save(self, model: nn.Module, folder: Path) -> None:
        for part in self._parts:
            (folder / part.name).mkdir()
            part.save(model, folder / part.name)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        adapted = self.weights.load(model, folder / self.weights.name, _cell_of(self.weights, cell))
        edits = folder / self.edit.name
        return self.edit.load(cast("PreTrainedModel", adapted), edits, _cell_of(self.edit, cell))

    def cannot_export(self, options: Settings, folder: Path) -> str:
        return f"no library loads {self.edit.name} and {self.weights.name} together from one folder"

    @property
    def _parts(self) -> tuple[Method, Method]:
        return self.edit, self.weights

    def _combined(self, edit: MethodFacts, weights: MethodFacts) -> MethodFacts:
        return MethodFacts(
            summary=f"{self.edit.name} on top of {self.weights.name}",
            rank="of both parts",
            shared_prefix=min(edit.shared_prefix, weights.shared_prefix, key=get_args(SharedPrefix).index),
            pads_left=edit.pads_left and weights.pads_left,
            lr_center=weights.lr_center,
            source=f"{edit.source}; {weights.source}",
            cannot_merge=edit.cannot_merge or weights.cannot_merge,
            no_weight_decay=edit.no_weight_decay or weights.no_weight_decay,
            no_checkpointing=edit.no_checkpointing or weights.no_checkpointing,
            no_packing=edit.no_packing or weights.no_packing,
            no_validation=edit.no_validation or weights.no_validation,
            quantizes=edit.quantizes or weights.quantizes,
            needs={**(edit.needs or {}), **(weights.needs or {})},
        )


def _settings_of(part: Method, options: Mapping[str, JsonValue], default: JsonValue = None) -> Settings:
    """The settings of a part, under its name."""
    settings = options.get(part.name, default)
    if not isinstance(settings, dict):
        raise KeyError(part.name)
    return settings


def _cell_of(part: Method, cell: Cell) -> Cell:
    """The cell as a part sees it."""
    return cell.model_copy(update={"method": part.name, "options": _settings_of(part, cell.options)})
