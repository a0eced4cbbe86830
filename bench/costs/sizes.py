"""What tensors weigh: a model and an optimizer's state, counted in the tensors themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


def optimizer_state_bytes(optimizer: Optimizer) -> int:
    """Bytes of memory that the optimizer's state holds; 0 before the first step.

    Every tensor is looked for, also in dicts, lists, tuples, sets and the attributes of plain objects (GaLore keeps
    its projection in one). What counts is the memory that a tensor keeps alive, once for all that share it: a slice
    of four rows of a matrix holds the whole matrix. Not counted: the parameters and their gradients, Python
    numbers, and the allocator's rounding.
    """
    held = {}
    for value in optimizer.state.values():
        held |= {_place(tensor): _here(tensor).untyped_storage().nbytes() for tensor in _tensors(value, set())}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            held.pop(_place(parameter), None)
            if parameter.grad is not None:
                held.pop(_place(parameter.grad), None)
    return sum(held.values())


def model_bytes(model: nn.Module) -> int:
    """Bytes of memory that a model's parameters and buffers hold, once for all that share memory; of a quantized base
    the packed weights and their scales."""
    held = {}
    for value in (*model.parameters(), *model.buffers()):
        # bitsandbytes keeps scales and code books in an attribute of the packed weight.
        tensors = [value, *_tensors(vars(value), set())]
        held |= {_place(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(held.values())


def _place(tensor: torch.Tensor) -> tuple[torch.device, int]:
    """Where the tensor's memory begins, whatever part of it the tensor shows."""
    return tensor.device, _here(tensor).untyped_storage().data_ptr()


def _here(tensor: torch.Tensor) -> torch.Tensor:
    """Of a tensor that several processes share (DTensor), what this one holds."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _tensors(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """The tensors inside `value`; `seen` are the ids of what was walked, since an object may refer to itself."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = value
    else:
        parts = getattr(value, "__dict__", {}).values()
    for part in list(parts):
        yield from _tensors(part, seen)
