"""One step of transformers' decoding loop, for a decoder that `generate(custom_generate=...)` calls.

`generate` prepares the inputs, the positions and the key-value cache; how they change from step to step is private to
`GenerationMixin`.

B rows of a batch, T tokens of its longest row, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Protocol, cast

import torch
from transformers import Cache, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from bench.models.compat import require

UPSTREAM = "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/generation/utils.py"

_prepare = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
require(
    {"next_sequence_length", "is_first_iteration"} <= _prepare.keys(),
    "transformers",
    "GenerationMixin.prepare_inputs_for_generation with next_sequence_length and is_first_iteration",
    UPSTREAM,
)
require(
    hasattr(GenerationMixin, "_update_model_kwargs_for_generation"),
    "transformers",
    "GenerationMixin._update_model_kwargs_for_generation",
    UPSTREAM,
)


class GenerativeModel(Protocol):
    """The parts of a model that a decoder calls."""

    def __call__(self, **inputs: object) -> CausalLMOutputWithPast: ...

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        *,
        next_sequence_length: int | None,
        is_first_iteration: bool,
        **kwargs: object,
    ) -> dict[str, object]: ...

    def _update_model_kwargs_for_generation(
        self, outputs: CausalLMOutputWithPast, model_kwargs: dict[str, object]
    ) -> dict[str, object]: ...


class DecodingState:
    """The tokens (B, T) of a batch of texts and what `generate` carries from one step to the next."""

    def __init__(self, model: GenerativeModel, input_ids: torch.Tensor, kwargs: Mapping[str, object]) -> None:
        """`kwargs` are those that `generate` passes to its decoder."""
        self.model, self.input_ids, self.kwargs = model, input_ids, dict(kwargs)
        self.first = True

    def forward(self) -> torch.Tensor:
        """One forward pass; returns the float32 logits (B, V) of the next token."""
        length = 1 if self.kwargs.get("use_cache") and not self.first else None
        inputs = self.model.prepare_inputs_for_generation(
            self.input_ids,
            next_sequence_length=length,
            is_first_iteration=self.first,
            **self.kwargs,
        )
        outputs = self.model(**inputs, return_dict=True)
        self.first = False
        self.kwargs = self.model._update_model_kwargs_for_generation(outputs, self.kwargs)
        assert outputs.logits is not None
        return outputs.logits[:, -1].float()

    def append(self, tokens: torch.Tensor) -> None:
        """Append a token (B,) to each row."""
        self.input_ids = torch.cat([self.input_ids, tokens[:, None]], dim=1)

    def keep_rows(self, indices: list[int]) -> None:
        """Remove the other rows from the tokens, the masks, the positions and the cache."""
        rows = len(self.input_ids)
        index = torch.tensor(indices, device=self.input_ids.device)
        self.kwargs = {name: _select(value, index, rows) for name, value in self.kwargs.items()}
        self.input_ids = self.input_ids[index]


def _select(value: object, index: torch.Tensor, rows: int) -> object:
    if isinstance(value, torch.Tensor) and value.dim() and value.shape[0] == rows:
        return value[index]
    if isinstance(value, list):  # the states of RWKV
        return [_select(part, index, rows) for part in value]
    if isinstance(value, Cache):
        value.reorder_cache(
            cast(torch.LongTensor, index)
        )  # meant for beam search; every kind of cache has it; in place
    return value
