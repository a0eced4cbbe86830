"""Whether a model has an embedding of each token of a text. A tokenizer may have tokens that were added to it alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bench.errors import CellProblem
from bench.models.hooks import causal_lm

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def check_embedded(model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Iterable[Sequence[int]]) -> None:
    """Raises CellProblem if a text holds a token that the model has no embedding of. On a GPU the lookup would end all
    that the process does later, too."""
    rows = getattr(causal_lm(model).get_input_embeddings(), "num_embeddings", None)
    largest = max((max(ids) for ids in texts if ids), default=0)
    if isinstance(rows, int) and largest >= rows:
        raise CellProblem(
            f"a text of the data has the token {tokenizer.convert_ids_to_tokens(largest)!r} with the id {largest}, and "
            f"the model has embeddings of {rows} tokens",
            "Take the token out of the data, remove it from the tokenizer, or give the model with its embedding.",
        )
