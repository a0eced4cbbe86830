"""Compiles the layers of a model with `torch.compile` for the duration of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from bench.errors import CellProblem
from bench.models.hooks import causal_lm


@contextmanager
def compiled(model: nn.Module) -> Iterator[None]:
    """While entered, the forward of each decoder layer is compiled, for rows of any length.

    Layers are compiled and not the model: equal layers share compiled code, so that compilation happens a few times
    whatever the depth (the first layer's input may need no gradient; batches without padding have no mask), and hooks
    stay outside. The hook of the output head has other positions at each pass; a compiled model around it would be
    compiled again for every batch. Raises CellProblem if there are no decoder layers.
    """
    # In every architecture, transformers' decoder layers have this class.
    layers = [module for module in causal_lm(model).modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise CellProblem("training.compile finds no decoder layers in the base model", "Set it to false.")
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class has its own
        # Compiled variants are counted for all cells of the process together, and torch stops compiling after 8 of
        # them: the next cell starts with none.
        torch.compiler.reset()
