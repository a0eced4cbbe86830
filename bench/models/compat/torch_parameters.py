"""torch: the version counter of a tensor, modules that are never cast, orthogonal parametrizations.

Upstream: https://github.com/pytorch/pytorch/blob/v2.13.0/torch/nn/modules/module.py (`Module._apply`) and
https://github.com/pytorch/pytorch/blob/v2.13.0/torch/nn/utils/parametrizations.py (`_Orthogonal`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import nn

from bench.models.compat import require

LINK = "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/nn/"

require(
    list(inspect.signature(nn.Module._apply).parameters) == ["self", "fn", "recurse"],
    "torch",
    "the signature of Module._apply",
    LINK + "modules/module.py",
)
require(
    isinstance(getattr(torch.empty(0), "_version", None), int),
    "torch",
    "the version counter of a tensor",
    "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_tensor.py",
)

TensorState = tuple[int, torch.dtype, torch.device, int]
"""See `tensor_state`."""


def tensor_state(tensor: torch.Tensor) -> TensorState:
    """A value that changes when the tensor is replaced, moved, cast or written to (other than through `.data`).

    Inference tensors have no version counter; theirs counts as 0.
    """
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), tensor.dtype, tensor.device, version


class NeverCastModules(nn.ModuleList):
    """A list of modules that moves to another device with the model around it, but keeps its dtypes."""

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> NeverCastModules:
        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(move, recurse)
        return self


def set_orthogonal_columns(layer: nn.Module, columns: torch.Tensor) -> None:
    """Set the weight (H, r) of a layer under `torch.nn.utils.parametrizations.orthogonal`, bit for bit.

    torch completes the columns to a square matrix, the base of the parametrization, and rounds them in doing so: they
    are copied into it again.
    """
    columns = columns.to(layer.weight.device)  # type: ignore[arg-type]  # a parametrized weight is a tensor
    layer.weight = columns
    parametrization = layer.get_submodule("parametrizations.weight.0")
    base = getattr(parametrization, "base", None)
    require(
        isinstance(base, torch.Tensor) and base.shape[0] == columns.shape[0],
        "torch",
        "the base of an orthogonal parametrization",
        LINK + "utils/parametrizations.py",
    )
    assert isinstance(base, torch.Tensor)
    base[:, : columns.shape[1]] = columns


require(hasattr(torch.empty(0), "_backward_hooks"), "torch", "Tensor._backward_hooks", LINK + "../_tensor.py")


def has_gradient_hook(tensor: torch.Tensor) -> bool:
    """Whether `tensor.register_hook` was called."""
    return bool(tensor._backward_hooks)
