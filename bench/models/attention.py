"""Which attention implementation a model runs with: the one that is asked for, or eager where it has no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class AttentionChoice:
    """A resolved attention implementation and, where it is not the one that was asked for, the reason."""

    value: str
    """As transformers calls it: `sdpa`, `eager`, `flash_attention_2`."""
    reason: str = ""


def resolve_attention(requested: str, model: PreTrainedModel, elsewhere: bool = False) -> AttentionChoice:
    """`sdpa` becomes `eager` for a model without it; `model` needs no weights.

    With `elsewhere` the choice is for another machine, whose packages are not known. Raises UserError for another
    implementation that the model, or this machine, does not have.
    """
    from transformers import PreTrainedModel

    if elsewhere and requested.startswith("flash"):
        return AttentionChoice(requested)
    try:
        for part in model.modules():
            if isinstance(part, PreTrainedModel):
                part.get_correct_attn_implementation(requested, is_init_check=True)
    except (ValueError, ImportError) as error:
        kind = model.config.model_type
        if requested == "sdpa":
            return AttentionChoice("eager", f"transformers has no sdpa attention for models of the type {kind}")
        raise UserError(
            f"attn_implementation {requested} does not work for models of the type {kind}: {first_line(error)}",
            "Set training.attn_implementation to sdpa or eager.",
        ) from error
    return AttentionChoice(requested)
