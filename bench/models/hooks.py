"""A model's two ends: the prompt mask at its entrance, and logits only where they are needed at its head.

The output head is a fifth of a small model's work. What a method needs to know of a batch beyond `input_ids` and
`attention_mask` comes one way only: `prompt_mask` (B, T), true on prompt tokens, is in every call.

B rows, T tokens of the longest row, N chosen positions, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """The causal language model inside a PEFT model, or the model itself."""
    inner = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", inner() if inner else model)


def at_entrance(model: nn.Module, take: Callable[[torch.Tensor], None]) -> None:
    """Call `take(prompt_mask)` at the beginning of each forward pass that carries a prompt mask (B, T).

    The mask is taken out of the call. It enters by the model itself in training and scoring and, in PEFT models, by
    the inner model in generation, so both doors are watched.
    """

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        mask = kwargs.pop("prompt_mask", None)
        if mask is not None:
            take(mask)
        return args, kwargs

    for door in {id(one): one for one in (model, causal_lm(model))}.values():
        door.register_forward_pre_hook(hook, with_kwargs=True)


def drop_prompt_mask(model: nn.Module) -> None:
    """Let a model be called with `prompt_mask`: a method that needs it has taken it at the entrance before this."""
    at_entrance(model, lambda mask: None)


class PromptMaskInGeneration:
    """While entered, every forward pass of `model.generate` carries `prompt_mask`.

    `prompt_mask` (B, T) is that of the prompts; `generate` itself refuses arguments that it does not know. Beams are
    copies of their row. With a key-value cache later passes hold new tokens only, and their mask is all false.
    """

    def __init__(self, model: nn.Module, prompt_mask: torch.Tensor) -> None:
        self.door = causal_lm(model)
        self.mask = prompt_mask

    def __enter__(self) -> None:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            tokens = kwargs.get("input_ids")
            tokens = kwargs["inputs_embeds"] if tokens is None else tokens
            rows, length = tokens.shape[:2]
            cache = kwargs.get("past_key_values")
            mask = torch.zeros(rows, length, dtype=torch.bool, device=tokens.device)
            if cache is None or cache.get_seq_length() == 0:
                prompt = self.mask.repeat_interleave(rows // self.mask.shape[0], dim=0)
                mask[:, : prompt.shape[1]] = prompt
            kwargs["prompt_mask"] = mask
            return args, kwargs

        # Before the method's own hook at this door.
        self.handle = self.door.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)

    def __exit__(self, *exception: object) -> None:
        self.handle.remove()
