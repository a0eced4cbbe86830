"""A model's two ends: the prompt mask at its entrance, and logits only where they are needed at its head.

The output head is a fifth of a small model's work.

B rows, T tokens of the longest row, N chosen positions, H hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import nn


class HeadAt:
    """While entered, the model's output head computes logits (N, V) at chosen positions only.

    Through the head's input, so that every method keeps its own forward. Where a method has put virtual tokens
    before the text, the positions are counted from the end.
    """

    def __init__(self, model: nn.Module, positions: torch.Tensor, length: int) -> None:
        self.head = model.get_output_embeddings()
        self.positions = positions  # (2, N)
        self.length = length  # T

    def __enter__(self) -> None:
        def hook(module: nn.Module, args: tuple) -> tuple:
            hidden = args[0]  # (B, T, H), or (B, virtual + T, H)
            rows, columns = self.positions
            return (hidden[rows, columns + hidden.shape[1] - self.length], *args[1:])  # (N, H)

        self.handle = self.head.register_forward_pre_hook(hook)

    def __exit__(self, *exception: object) -> None:
        self.handle.remove()


def drop_prompt_mask(model: nn.Module) -> None:
    """Let a model be called with `prompt_mask`: a method that needs it takes it at the entrance, before this."""

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        kwargs.pop("prompt_mask", None)
        return args, kwargs

    model.register_forward_pre_hook(hook, with_kwargs=True)
