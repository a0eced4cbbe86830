"""What attention may see: which models take rows in which tokens do not all see one another, and whether a batch has
padding, told to transformers' masks by the host, which has made the batch.

transformers asks the mask itself, once or twice a forward pass, and the host waits until the device has answered.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PLAIN_CAUSAL = {"llama", "olmo", "olmo2", "qwen2", "qwen3", "granite", "smollm3"}
"""Architectures in which a token's output follows from what it attends to and its position alone. In others (sliding
windows, recurrent layers, ALiBi) texts that share a row could leak into one another."""


def shares_rows(config: PretrainedConfig) -> bool:
    """Whether several texts in one row of such a model can be kept from seeing one another."""
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return config.model_type in PLAIN_CAUSAL and not windowed


class Padding:
    """While entered, masks for torch's scaled dot product attention are made as transformers makes them, without a look
    at their values: with padding written out, without it left to the kernel (`is_causal`).

    `padded` is true where some row of the batch is shorter than others. Tokens that a method puts before the text are
    seen by all.
    """

    def __init__(self, padded: bool) -> None:
        self.padded = padded

    def __enter__(self) -> None:
        # On transformers' own instance and not its class: what `AttentionMaskInterface.register` adds is untouched.
        ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] = functools.partial(_mask, self.padded)

    def __exit__(self, *exception: object) -> None:
        del ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]


def _mask(padded: bool, *args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
    """`sdpa_mask` of an attention mask (B, keys) of which is known whether it masks anything."""
    if not padded:
        return sdpa_mask(*args, attention_mask=None, **kwargs)
    return sdpa_mask(
        *args,
        attention_mask=attention_mask,
        **{**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False},
    )
