"""The work that a cell's mathematics takes, whatever computes it, and how fast this device multiplies matrices.

Counted are products of matrices: two FLOPs for each weight that a token meets. Not counted are norms, rotations,
activations, what a method computes from weights alone, and what an implementation computes for padding or twice.
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


@dataclass(frozen=True)
class Work:
    """What a token meets in a model, in numbers of weights."""

    body: int
    """Of the base's linear layers but the output head."""
    head: int
    """Of the output head, which only the tokens that are scored or supervised meet."""
    added: int
    """Of what the method has put beside the base."""
    trained: int
    """Of those that get a gradient at every token; neither embeddings and vectors, whose gradient is no product, nor
    the head."""
    trained_head: int
    attention: int
    """Numbers of a query in all layers (layers x heads x their size)."""

    @classmethod
    def of(cls, base: PreTrainedModel, model: nn.Module | None = None, total: int | None = None) -> Work:
        """`base` is the model before the method was attached (without weights is enough, and needed where the real one
        is quantized), `model` what is trained, and `total` how many parameters that has."""
        head = base.get_output_embeddings()
        linear = [one for one in base.modules() if isinstance(one, (nn.Linear, Conv1D)) and one is not head]
        config = base.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        trained = trained_head = 0
        if model is not None:
            tables = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
            own_head = model.get_output_embeddings().weight
            trained_head = own_head.numel() if own_head.requires_grad else 0
            trained = sum(
                one.numel()
                for one in model.parameters()
                if one.requires_grad and one.dim() > 1 and one is not own_head and id(one) not in tables
            )
        return cls(
            body=sum(one.weight.numel() for one in linear),
            head=head.weight.numel(),
            added=max(0, total - sum(one.numel() for one in base.parameters())) if total else 0,
            trained=trained,
            trained_head=trained_head,
            attention=config.num_hidden_layers * config.num_attention_heads * size,
        )

    def forward(self, tokens: int, at_head: int, pairs: float) -> float:
        """FLOPs of a forward pass over `tokens`, `at_head` of which go through the head; `pairs` (see `seen`) is how
        many tokens all tokens attend to."""
        return 2.0 * ((self.body + self.added) * tokens + self.head * at_head) + 4.0 * self.attention * pairs

    def training(self, tokens: int, at_head: int, pairs: float) -> float:
        """FLOPs of a forward pass and the backward pass through all of it, with the gradients of what is trained."""
        gradients = 2.0 * (self.trained * tokens + self.trained_head * at_head)
        # Backward, each product is done once more for its input; of attention both sides are activations.
        return 2 * self.forward(tokens, at_head, pairs) + 4.0 * self.attention * pairs + gradients


def seen(lengths: Iterable[int]) -> float:
    """How many tokens the tokens of rows attend to in all, themselves included, under a causal mask."""
    return sum(length * (length + 1) / 2 for length in lengths)


@functools.cache
def matmul_speed(dtype: str) -> float:
    """FLOP/s of one square product in this dtype on the device, the best of ten, or of as many as a second has room for
    (a dtype that is emulated takes seconds a product); measured once a process."""
    where = compute_device()
    size = 1024 if where.type == "cpu" else 8192
    a = torch.randn(size, size, device=where).to(getattr(torch, dtype))
    b = torch.randn(size, size, device=where).to(getattr(torch, dtype))
    best, first = float("inf"), time.perf_counter()
    for _ in range(10):
        synchronize(where)
        begun = time.perf_counter()
        a @ b
        synchronize(where)
        best = min(best, time.perf_counter() - begun)
        if time.perf_counter() - first > 1:
            break
    return 2 * size**3 / best
