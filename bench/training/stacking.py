"""The tensors of models of the same structure, stacked along a new first axis.

K models, each with tensors of its own. A parameter of a model becomes a row of a stacked one (K, ...), in the same
memory: a forward pass of the stacked parameters gives gradients of all, and each model's optimizer moves its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from bench.models.compat.torch_parameters import tensor_state


class CannotGroup(Exception):
    """Some members cannot be trained together; the message says why, as a clause."""


class StackedTensors:
    """The parameters and buffers of K models.

    Those that lie in the same memory in all models are shared: they are frozen, and are used as they are. All others
    are stacked.

    Raises CannotGroup if the models differ in names, shapes, dtypes or in what is trained.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        tables = [tensors_of(model) for model in models]
        own_names = set(owned_names(models))
        self.stacks: dict[str, torch.Tensor] = {}
        """By name, (K, ...); of trained parameters with a gradient."""
        self.owned: dict[str, list[torch.Tensor]] = {}
        """The models' own tensors by name, K of each: the rows of the stack."""
        self.shared: list[torch.Tensor] = []
        for name, first in tables[0].items():
            tensors = [table.get(name) for table in tables]
            owned = [tensor for tensor in tensors if tensor is not None and kind_of(tensor) == kind_of(first)]
            if len(owned) < len(models) or any(len(table) != len(tables[0]) for table in tables):
                raise CannotGroup(f"their models differ in the shape of {name}")
            if name in own_names:
                self.owned[name] = owned
                self.stacks[name] = torch.stack([tensor.detach() for tensor in owned])
            else:
                self.shared.append(first)
        self._point_to_rows()
        for name, owned in self.owned.items():
            self.stacks[name].requires_grad_(owned[0].requires_grad)
        self.states = [tensor_state(tensor) for tensor in self.shared]
        names = {id(owned[0]): name for name, owned in self.owned.items()}
        self.places = {place: names[key] for place, key in _places(models[0]) if key in names}
        """Where the first model has the stacked tensors: modules share some (tied weights), under one name."""

    def by_place(self) -> dict[str, torch.Tensor]:
        """The stacks under every name by which the first model's modules hold them, for `functional_call`."""
        return {place: self.stacks[name] for place, name in self.places.items()}

    def hand_out_gradients(self) -> None:
        """Give each model's parameters their rows of the gradients of the stacks, and clear those."""
        for name, stack in self.stacks.items():
            if stack.grad is not None:
                for tensor, gradient in zip(self.owned[name], stack.grad.unbind(), strict=True):
                    tensor.grad = gradient
                stack.grad = None

    def refresh(self) -> None:
        """Take over the values of tensors whose memory was replaced (by a method, after a step).

        Raises RuntimeError if a shared tensor was written to, which concerns all models.
        """
        for tensor, state in zip(self.shared, self.states, strict=True):
            if tensor_state(tensor) != state:
                raise RuntimeError("a step of a member has changed a frozen tensor that all members of its group share")
        self._point_to_rows()

    def release(self) -> None:
        """Give each model memory of its own again."""
        for owned in self.owned.values():
            for tensor in owned:
                tensor.data = tensor.data.clone()

    def _point_to_rows(self) -> None:
        for name, owned in self.owned.items():
            for tensor, row in zip(owned, self.stacks[name].detach().unbind(), strict=True):
                if tensor.data_ptr() != row.data_ptr():
                    row.copy_(tensor.data)
                    tensor.data = row


def _places(model: nn.Module) -> Iterator[tuple[str, int]]:
    """The full name and the identity of each tensor of each module; a module with two names counts once."""
    for path, module in model.named_modules():
        for tensors in (
            module.named_parameters(recurse=False, remove_duplicate=False),
            module.named_buffers(recurse=False, remove_duplicate=False),
        ):
            for name, tensor in tensors:
                yield f"{path}.{name}" if path else name, id(tensor)


def owned_names(models: Sequence[nn.Module]) -> list[str]:
    """The names of the tensors that are not in the same memory in all models, or are trained."""
    tables = [tensors_of(model) for model in models]
    return [
        name
        for name, first in tables[0].items()
        if first.requires_grad or len({table[name].data_ptr() for table in tables if name in table}) > 1
    ]


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, each once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def kind_of(tensor: torch.Tensor) -> tuple[torch.Size, torch.dtype, torch.device, bool]:
    """What the tensors of one name have in common in all models."""
    return tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad
