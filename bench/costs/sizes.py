"""Bytes that a model and an optimizer's state occupy, counted in the tensors themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import nn
from torch.optim import Optimizer

Address = tuple[torch.device, int]
"""A device and the address of a tensor's storage: equal for tensors that share memory."""


def optimizer_state_bytes(optimizer: Optimizer) -> int:
    """Bytes of memory that the optimizer's state occupies; 0 before the first step.

    Finds every tensor, also in dicts, lists, tuples, sets and the attributes of plain objects (GaLore keeps its
    projection in one). Counts the memory that a tensor keeps alive, once for all tensors that share it: a slice of four
    rows of a matrix keeps the whole matrix. Does not count the parameters and their gradients, Python numbers, and the
    allocator's rounding.
    """
    storages: dict[Address, int] = {}
    for state in optimizer.state.values():
        storages |= _storages(_tensors(state, set()))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            storages.pop(_address(parameter), None)
            if parameter.grad is not None:
                storages.pop(_address(parameter.grad), None)
    return sum(storages.values())


def model_bytes(model: nn.Module) -> int:
    """Bytes of memory that a model's parameters and buffers occupy, once for all that share memory. Of a quantized base
    these are the packed weights and their scales."""
    storages: dict[Address, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        # bitsandbytes keeps scales and code books in an attribute of the packed weight.
        storages |= _storages([tensor, *_tensors(vars(tensor), set())])
    return sum(storages.values())


def _storages(tensors: Iterable[torch.Tensor]) -> dict[Address, int]:
    """The bytes of each storage behind the tensors."""
    return {_address(tensor): _local(tensor).untyped_storage().nbytes() for tensor in tensors}


def _address(tensor: torch.Tensor) -> Address:
    return tensor.device, _local(tensor).untyped_storage().data_ptr()


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor sharded over several processes (DTensor) that this process holds."""
    local: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local


def _tensors(value: object, visited: set[int]) -> Iterator[torch.Tensor]:
    """The tensors inside `value`. `visited` are the ids of the objects seen before: an object may refer to itself."""
    if id(value) in visited:
        return
    visited.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    for part in parts:
        yield from _tensors(part, visited)
