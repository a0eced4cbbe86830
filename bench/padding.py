"""Whether a batch has padding, told to transformers' attention masks by the host, which has made the batch.

transformers asks the mask itself, once or twice a forward pass, and the host waits until the device has answered.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask


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
