"""FLOPs of a cell's mathematics, whatever implements it, and how fast this device multiplies matrices.

Matrix products are counted: two FLOPs for each weight that processes a token. Norms, rotations, activations, what a
method computes from weights alone, and what an implementation computes for padding or twice are not.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bench.models.device import compute_device, synchronize
from bench.models.hooks import output_head


@dataclass(frozen=True)
class ModelFlops:
    """The numbers of weights that process a token, from which the FLOPs of a pass follow."""

    body: int
    """Weights of the base's linear layers without the output head."""
    head: int
    """Weights of the output head, which processes scored or supervised tokens only."""
    added: int
    """Parameters that the method adds to the base."""
    trained: int
    """Weights that get a gradient at every token: not embeddings and vectors, whose gradient is no matrix product, and
    not the head."""
    trained_head: int
    """Weights of the head, if it is trained; else 0."""
    attention: int
    """Elements of a query in all layers (layers x heads x head size)."""

    @classmethod
    def of(cls, base: PreTrainedModel, model: nn.Module | None = None, total: int | None = None) -> ModelFlops:
        """`base` is the model before the method is attached (a skeleton without weights is enough, and is needed if the
        real base is quantized), `model` the model that is trained, and `total` its number of parameters."""
        head = output_head(base)
        linear = [module for module in base.modules() if isinstance(module, (nn.Linear, Conv1D)) and module is not head]
        config = base.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        trained = trained_head = 0
        if model is not None:
            tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
            head_weight = output_head(model).weight
            trained_head = head_weight.numel() if head_weight.requires_grad else 0
            trained = sum(
                weight.numel()
                for weight in model.parameters()
                if weight.requires_grad and weight.dim() > 1 and weight is not head_weight and id(weight) not in tables
            )
        return cls(
            body=sum(module.weight.numel() for module in linear),
            head=head.weight.numel(),
            added=max(0, total - sum(weight.numel() for weight in base.parameters())) if total else 0,
            trained=trained,
            trained_head=trained_head,
            attention=config.num_hidden_layers * config.num_attention_heads * size,
        )

    def forward(self, tokens: int, at_head: int, pairs: float) -> float:
        """FLOPs of a forward pass over `tokens` tokens, of which `at_head` go through the output head; `pairs` as
        `attended_pairs` counts them."""
        return 2.0 * ((self.body + self.added) * tokens + self.head * at_head) + 4.0 * self.attention * pairs

    def training(self, tokens: int, at_head: int, pairs: float) -> float:
        """FLOPs of a forward pass and its backward pass, with the gradients of the trained weights."""
        gradients = 2.0 * (self.trained * tokens + self.trained_head * at_head)
        # The backward pass repeats each product for its input. In attention both factors are activations.
        return 2 * self.forward(tokens, at_head, pairs) + 4.0 * self.attention * pairs + gradients


def attended_pairs(lengths: Iterable[int]) -> float:
    """Pairs of tokens (a token and one that it attends to, itself included) in rows of these lengths, under a causal
    mask."""
    return sum(length * (length + 1) / 2 for length in lengths)


@functools.cache
def matmul_speed(dtype: str) -> float:
    """FLOP/s of a square matrix product in this dtype on the device: the best of ten, or of as many as fit into one
    second (a product in an emulated dtype takes seconds). Measured once per process."""
    device = compute_device()
    size = 1024 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    b = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    best, first = float("inf"), time.perf_counter()
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - first > 1:
            break
    return 2 * size**3 / best
