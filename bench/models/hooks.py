"""Hooks at a model's input and output: the prompt mask of a batch, and logits at chosen positions only.

A method may need to know which tokens are the prompt: every call of the model has `prompt_mask` (B, T), true on prompt
tokens. The output head is a fifth of a small model's work, so it runs at the needed positions only.

B rows, T tokens of the longest row, N chosen positions, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Args = tuple[Any, ...]
"""Positional arguments of a forward pass, whatever the model takes."""

Kwargs = dict[str, Any]
"""Its keyword arguments."""


def output_head(model: nn.Module) -> nn.Linear:
    """The output head (H -> V) of a causal language model, or of a PEFT model around it."""
    head: nn.Linear = model.get_output_embeddings()  # type: ignore[operator]  # a method of transformers and of PEFT
    return head


class HeadAt:
    """While entered, the model's output head computes logits (N, V) at chosen positions only.

    The hook selects from the head's input, so every method keeps its own forward pass. If a method puts virtual tokens
    before the text, the positions are counted from the end.
    """

    def __init__(self, model: nn.Module, positions: torch.Tensor, length: int) -> None:
        self.head = output_head(model)
        self.positions = positions  # (2, N)
        self.length = length  # T

    def __enter__(self) -> None:
        def hook(module: nn.Module, args: Args) -> Args:
            hidden = args[0]  # (B, T, H), or (B, virtual + T, H)
            rows, columns = self.positions
            return (hidden[rows, columns + hidden.shape[1] - self.length], *args[1:])  # (N, H)

        self.handle = self.head.register_forward_pre_hook(hook)

    def __exit__(self, *exception: object) -> None:
        self.handle.remove()


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """The causal language model inside a PEFT model, or the model itself."""
    inner = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", inner() if inner else model)


def on_prompt_mask(model: nn.Module, take: Callable[[torch.Tensor], None]) -> None:
    """Call `take(prompt_mask)` at the start of each forward pass that is given a prompt mask (B, T).

    The mask is removed from the call. Training and scoring call the model itself; generation calls the inner model of
    a PEFT model. Both get the hook.
    """

    def hook(module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        mask = kwargs.pop("prompt_mask", None)
        if mask is not None:
            take(mask)
        return args, kwargs

    for module in {id(module): module for module in (model, causal_lm(model))}.values():
        module.register_forward_pre_hook(hook, with_kwargs=True)


def drop_prompt_mask(model: nn.Module) -> None:
    """Let a model be called with `prompt_mask`. A method that needs the mask has registered its own hook before."""
    on_prompt_mask(model, lambda mask: None)


class PromptMaskInGeneration:
    """While entered, every forward pass of `model.generate` carries `prompt_mask`.

    `prompt_mask` (B, T) is the mask of the prompts; `generate` itself refuses unknown arguments. Beams are copies of
    their row. With a key-value cache later passes hold new tokens only, and their mask is all false.
    """

    def __init__(self, model: nn.Module, prompt_mask: torch.Tensor) -> None:
        self.inner = causal_lm(model)
        self.mask = prompt_mask
        self.first = True
        """Whether the next forward pass is the first."""

    def __enter__(self) -> None:
        def hook(module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
            tokens = kwargs.get("input_ids")
            tokens = kwargs["inputs_embeds"] if tokens is None else tokens
            rows, length = tokens.shape[:2]
            mask = torch.zeros(rows, length, dtype=torch.bool, device=tokens.device)
            # Later passes hold one token each, or without a cache the whole text again.
            if self.first or length > self.mask.shape[1]:
                prompt = self.mask.repeat_interleave(rows // self.mask.shape[0], dim=0)
                mask[:, : prompt.shape[1]] = prompt
            self.first = False
            kwargs["prompt_mask"] = mask
            return args, kwargs

        self.first = True
        # Before the method's own hook.
        self.handle = self.inner.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)

    def __exit__(self, *exception: object) -> None:
        self.handle.remove()
