"""The models of several cells on one base: adapters of their own, and the base's weights in the same memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.methods.method import Method
from bench.sweep.cell import Cell
from bench.training.stacking import kind_of, tensors_of


def attach_on_shared_base(
    method: Method, cells: Sequence[Cell], load: Callable[[Cell], PreTrainedModel]
) -> list[nn.Module]:
    """The model of each cell. `load` loads a base and sets the seeds, as for a cell that is trained alone.

    Shared are the base's own frozen weights and buffers where the method has left them alike in all models: what it
    trains or has changed, and whatever it has added, stays each model's own. At most two bases are in memory at a time.
    """
    models: list[nn.Module] = []
    first: dict[str, torch.Tensor] = {}
    for cell in cells:
        base = load(cell)
        of_base = {id(tensor) for tensor in tensors_of(base).values()}
        model = method.attach(base, cell)
        tensors = tensors_of(model)
        frozen = {
            name: tensor for name, tensor in tensors.items() if id(tensor) in of_base and not tensor.requires_grad
        }
        if not models:
            first = frozen
        for name in frozen.keys() & first.keys():
            if kind_of(frozen[name]) == kind_of(first[name]) and torch.equal(frozen[name], first[name]):
                frozen[name].data = first[name].data
        models.append(model)
    return models
