"""Attention masks of transformers, made without asking the device what is in them.

transformers looks at the mask's values once or twice in a forward pass to see whether it can be left out, and the host
waits until the device has answered. The host has made the batch and knows whether it holds padding.

On the meta device, where tensors have no values, it does not look if it takes the pass for a traced one.

Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/masking_utils.py (`sdpa_mask`).
"""

from __future__ import annotations

import functools
import inspect
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import masking_utils
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from bench.models.compat import replaced, require

LINK = "https://github.com/huggingface/transformers/blob/main/src/transformers/masking_utils.py"

require(
    {"attention_mask", "allow_is_causal_skip", "allow_is_bidirectional_skip"}
    <= set(inspect.signature(sdpa_mask).parameters),
    "transformers",
    "the signature of masking_utils.sdpa_mask",
    LINK,
)
require(
    ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask,
    "transformers",
    "the entry `sdpa` of masking_utils.ALL_MASK_ATTENTION_FUNCTIONS",
    LINK,
)
require(hasattr(masking_utils, "is_tracing"), "transformers", "the function is_tracing that masking_utils calls", LINK)


class KnownPadding:
    """While entered, masks for torch's scaled dot product attention equal transformers' own, but their values are not
    read: with padding the mask is written out, without padding it is left to the kernel (`is_causal`).

    `padded` is true if some row of the batch is shorter than others. All tokens see those that a method puts before
    the text.
    """

    def __init__(self, padded: bool) -> None:
        self.padded = padded

    def __enter__(self) -> None:
        # On transformers' own instance and not its class: what `AttentionMaskInterface.register` adds is untouched.
        ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] = functools.partial(_mask, self.padded)

    def __exit__(self, *exception: object) -> None:
        del ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]


def masks_without_values() -> AbstractContextManager[None]:
    """While entered, masks are made without looking at the values of any, as when a model is traced: for passes on the
    meta device."""
    return replaced(masking_utils, is_tracing=lambda tensor=None: True)


def _mask(padded: bool, *args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
    """`sdpa_mask` of an attention mask (B, keys) if it is known whether it masks anything."""
    if padded:
        kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    mask: torch.Tensor | None = sdpa_mask(*args, **{**kwargs, "attention_mask": attention_mask if padded else None})
    return mask
