"""FSDP: each process holds a part of every parameter; a layer is put together while it is computed.

accelerate supports FSDP on accelerators only. Here layers are sharded with torch's `fully_shard`, which is the same on
a CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import nn

from bench.costs import release_memory
from bench.errors import CellProblem
from bench.models.compat.torch_parameters import has_gradient_hook
from bench.models.compat.transformers_models import layers_of
from bench.models.device import compute_device
from bench.models.hooks import causal_lm


def shard_model(model: nn.Module, devices: int, method: str) -> None:
    """Leave this process its part of every parameter: one group for each decoder layer, and one for the rest
    (embeddings, norm, head, and what a method has added outside of the layers).

    Raises CellProblem, naming the method, if the method has changed parameters in a way that is lost in their parts.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    layers = layers_of(model, causal_lm(model))
    uses = Counter(id(parameter) for layer in layers for parameter in layer.parameters())
    if any(uses[id(parameter)] > 1 for parameter in model.parameters()):
        raise cannot_shard(method, "has parameters that layers share")
    if any(has_gradient_hook(parameter) for parameter in model.parameters() if parameter.requires_grad):
        raise cannot_shard(method, "changes the gradients of whole parameters (by hooks, which their parts lose)")
    mesh = init_device_mesh(compute_device().type, (devices,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def gather_model(sharded: nn.Module, make: Callable[[], nn.Module], rank: int) -> nn.Module | None:
    """In the first process, a model of `make` with the trained parameters and the buffers of all parts; None in the
    others, all of which must call this."""
    tensors: dict[str, torch.Tensor] = {
        name: parameter for name, parameter in sharded.named_parameters() if parameter.requires_grad
    }
    tensors |= dict(sharded.named_buffers())
    values: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach()
        value = value.full_tensor() if hasattr(value, "full_tensor") else value
        if rank == 0:
            values[name] = value.cpu()
    if rank != 0:
        return None
    release_memory()
    model = make()
    targets: dict[str, torch.Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(value)
    return model


def cannot_shard(method: str, reason: str) -> CellProblem:
    """The error of a method that needs whole weights."""
    return CellProblem(f"method {method} cannot be trained sharded: it {reason}", "Set training.parallel: ddp.")
