"""Two methods on one base: an edit of hidden states over a change of weights, such as `loreft+lora`.

Settings of a part stand under its name (`{method: loreft+lora, loreft: {rank: 4}, lora: {rank: 16}}`); `rank` and
`lr` beside them are those of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import Field

from bench.errors import UserError, unknown
from bench.methods.method import Method, MethodFacts, SharedPrefix
from bench.methods.peft_base import PeftMethod
from bench.sweep.cell import Cell
from bench.sweep.sections import Strict

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


class StackedOptions(Strict):
    """What both parts share; the rest is theirs."""

    lr: float | None = Field(None, gt=0)
    """Peak learning rate of both parts. Default: each its own."""
    rank: int | None = Field(None, ge=1)
    """Rank of both parts. Default: each its own."""


class Stacked(Method):
    """`edit` on top of `weights`: trained, saved and loaded together."""

    Options = StackedOptions

    def __init__(self, edit: Method, weights: Method) -> None:
        if not (isinstance(weights, PeftMethod) and weights.changes_weights):
            raise UserError(
                f"{edit.name} cannot be stacked on {weights.name}",
                "It goes on what PEFT puts on weights: lora and its kin, vera, loha, ...",
            )
        self.edit, self.weights = edit, weights
        self.name = f"{edit.name}+{weights.name}"
        self.version = f"{edit.version}+{weights.version}"
        self.facts = self._combined(edit.facts, weights.facts)

    def facts_for(self, options: Mapping[str, Any]) -> MethodFacts:
        return self._combined(*(part.facts_for(options[part.name]) for part in self._parts))

    def check_machine(self, options: Mapping[str, Any]) -> None:
        for part in self._parts:
            part.check_machine(options[part.name])

    def resolve(self, settings: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
        names = [part.name for part in self._parts]
        for key, value in settings.items():
            if key in names and not isinstance(value, dict):
                raise UserError(f"method {self.name}: {key} is {value!r}", f"Give its settings: {key}: {{rank: 8}}.")
            if key not in {*StackedOptions.model_fields, *names}:
                raise UserError(
                    f"method {self.name}: {unknown('setting', key, [*StackedOptions.model_fields, *names])}"
                )
        shared = super().resolve({key: value for key, value in settings.items() if key not in names}, model)
        shared = {key: value for key, value in shared.items() if value is not None}
        options = {part.name: part.resolve({**shared, **settings.get(part.name, {})}, model) for part in self._parts}
        of_weights = options[self.weights.name]
        return {"lr": of_weights["lr"], "rank": of_weights.get("rank"), **options}

    def load_kwargs(self, cell: Cell) -> dict[str, Any]:
        edit, weights = (part.load_kwargs(self._cell(cell, part)) for part in self._parts)
        return {**edit, **weights}

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        changed = self.weights.attach(model, self._cell(cell, self.weights))
        known = {id(parameter) for parameter in changed.parameters() if parameter.requires_grad}
        both = self.edit.attach(changed, self._cell(cell, self.edit))
        trained = {name: id(one) in known for name, one in both.named_parameters() if one.requires_grad}
        # By name: where the model is sharded, its parameters become others.
        both.names_of = {
            self.weights.name: [name for name, of_weights in trained.items() if of_weights],
            self.edit.name: [name for name, of_weights in trained.items() if not of_weights],
        }
        return both

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer:
        """AdamW with each part's own rates. Without weight decay, which no edit can bear."""
        from torch.optim import AdamW

        groups = []
        parameters = dict(model.named_parameters())
        for part in self._parts:
            own = part.optimizer(model, self._cell(cell, part))
            mine = [parameters[name] for name in model.names_of[part.name]]
            if own is None:
                groups.append({"params": mine, "lr": cell.options[part.name]["lr"]})
                continue
            known = {id(parameter) for parameter in mine}
            for group in own.param_groups:
                kept = [parameter for parameter in group["params"] if id(parameter) in known]
                groups += [{"params": kept, "lr": group["lr"]}] if kept else []
        return AdamW(groups, weight_decay=0.0, fused=True)

    def penalty(self, model: nn.Module, cell: Cell) -> torch.Tensor | None:
        terms = [part.penalty(model, self._cell(cell, part)) for part in self._parts]
        terms = [term for term in terms if term is not None]
        return sum(terms[1:], start=terms[0]) if terms else None

    def after_step(self, model: nn.Module, cell: Cell, step: int) -> None:
        for part in self._parts:
            part.after_step(model, self._cell(cell, part), step)

    def save(self, model: nn.Module, folder: Path) -> None:
        for part in self._parts:
            (folder / part.name).mkdir()
            part.save(model, folder / part.name)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        changed = self.weights.load(model, folder / self.weights.name, self._cell(cell, self.weights))
        return self.edit.load(changed, folder / self.edit.name, self._cell(cell, self.edit))

    @property
    def _parts(self) -> tuple[Method, Method]:
        return self.edit, self.weights

    def _cell(self, cell: Cell, part: Method) -> Cell:
        return cell.model_copy(update={"method": part.name, "options": cell.options[part.name]})

    def _combined(self, edit: MethodFacts, weights: MethodFacts) -> MethodFacts:
        return MethodFacts(
            summary=f"{self.edit.name} on top of {self.weights.name}",
            rank="of both parts",
            shared_prefix=min(edit.shared_prefix, weights.shared_prefix, key=get_args(SharedPrefix).index),
            pads_left=edit.pads_left and weights.pads_left,
            lr_grid=weights.lr_grid,
            source=f"{edit.source}; {weights.source}",
            cannot_merge=edit.cannot_merge or weights.cannot_merge,
            no_weight_decay=edit.no_weight_decay or weights.no_weight_decay,
            no_checkpointing=edit.no_checkpointing or weights.no_checkpointing,
            no_packing=edit.no_packing or weights.no_packing,
            no_validation=edit.no_validation or weights.no_validation,
            quantizes=edit.quantizes or weights.quantizes,
            needs={**(edit.needs or {}), **(weights.needs or {})},
        )
