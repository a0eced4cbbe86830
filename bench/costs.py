"""What a cell costs, measured: from the tensors and the clock themselves, never from a formula."""

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
        held |= {_place(tensor): tensor.untyped_storage().nbytes() for tensor in _tensors(value, set())}
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


@torch.no_grad()
def probe(model: nn.Module, batch: Mapping[str, torch.Tensor], dtype: str) -> torch.Tensor:
    """Logits (tokens, V) in float32 at the real tokens of a batch, computed in `dtype` by autocast (see
    `computing_in`). `batch` holds input_ids, attention_mask and prompt_mask (B, T)."""
    device = next(model.parameters()).device
    inputs = {name: batch[name].to(device) for name in ("input_ids", "attention_mask", "prompt_mask")}
    length = inputs["input_ids"].shape[1]
    with computing_in(dtype, device):
        logits = model(**inputs, use_cache=False).logits[:, -length:]  # virtual tokens stand before the text
    return logits[inputs["attention_mask"].bool()].float().cpu()


def computing_in(dtype: str, device: torch.device) -> torch.autocast:
    """Forward passes in `dtype` whatever the weights are kept in: the arithmetic of training; float32 is left alone."""
    half = dtype != "float32"
    return torch.autocast(device.type, dtype=getattr(torch, dtype) if half else None, enabled=half)


def _place(tensor: torch.Tensor) -> tuple[torch.device, int]:
    """Where the tensor's memory begins, whatever part of it the tensor shows."""
    return tensor.device, tensor.untyped_storage().data_ptr()


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
