"""A model's layers under `torch.compile`, and plain again afterwards."""

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

    Of each layer and not of the model: like layers share what was compiled, so that it is done a few times whatever the
    depth (the first layer's input may need no gradient; batches without padding have no mask), and the hooks stay
    outside. That of the output head has other positions at each pass, and the model around it would be compiled anew
    for every batch. Raises CellProblem where no layers are found.
    """
    # Whatever the architecture calls them, transformers marks its layers so.
    layers = [one for one in causal_lm(model).modules() if isinstance(one, GradientCheckpointingLayer)]
    if not layers:
        raise CellProblem("training.compile finds no decoder layers in the base model", "Set it to false.")
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's is found again
        # What was compiled belongs to the code of all cells together, and beyond a number of variants there (8) torch
        # compiles no more: the next cell starts with none.
        torch.compiler.reset()
