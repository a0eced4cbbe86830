"""What a model does to texts that share a row or a batch, tried on a tiny copy of it.

A mask can keep texts in one row apart where a token's output follows from its position and from what it attends to
alone. In other models (sliding windows, recurrent layers, ALiBi) they leak into one another. Padding on the left is
seen by models that count positions from the row's beginning, and by windows that reach over it to virtual tokens.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    Pair = tuple[torch.Tensor, torch.Tensor]

VOCABULARY = 256
"""Tokens of the copy."""
LONG, SHORT, PREFIX, NEW = 40, 5, 8, 3
"""Tokens of a text that is longer than the copy's windows, of a short one, of what stands before a text, and of an
answer."""
TOLERANCE = 1e-5
"""By which logits may differ, as a share of the largest one. In float32 they are within 1e-6 of one another, or differ
by 8e-5 and more."""


@dataclass(frozen=True)
class RowSharing:
    """What a model's texts may share without changing one another."""

    rows: bool
    """Several texts may share one row, under a mask that keeps them apart."""
    left_padding: bool
    """Prompts of different lengths may share a batch in generation."""
    padding_after_prefix: bool
    """The same if keys and values of virtual tokens stand before the padding."""


NOTHING = RowSharing(rows=False, left_padding=False, padding_after_prefix=False)


def row_sharing(config: PretrainedConfig) -> RowSharing:
    """What texts may share in models of this configuration; nothing where no tiny copy can be made. Leaves the state of
    torch's random generator as it is."""
    return _row_sharing(config.to_json_string(use_diff=False), _Configuration(config))


class _Configuration:
    """A configuration that takes no part in the key of a cache."""

    def __init__(self, config: PretrainedConfig) -> None:
        self.config = config

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Configuration)

    def __hash__(self) -> int:
        return 0


@functools.cache
def _row_sharing(key: str, configuration: _Configuration) -> RowSharing:
    import torch

    from bench.models.load import build_model
    from bench.models.tiny_copy import tiny_copy

    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        try:
            with torch.device("meta"):
                skeleton = build_model(configuration.config)
            model = tiny_copy(skeleton, VOCABULARY)
        except Exception:  # an architecture may raise anything for sizes that it was not made for
            return NOTHING
        if model is None:
            return NOTHING
        model = model.eval()
        texts = torch.randint(8, VOCABULARY - 8, (3, LONG))
        return RowSharing(
            rows=_equal(_in_one_row, model, texts),
            left_padding=_equal(_in_a_batch, model, texts),
            padding_after_prefix=_equal(_after_a_prefix, model, texts),
        )


def _equal(
    compare: Callable[[PreTrainedModel, torch.Tensor], Pair], model: PreTrainedModel, texts: torch.Tensor
) -> bool:
    """Whether two ways to compute the same logits agree; False for a way that the model does not take."""
    try:
        logits, expected = compare(model, texts)
    except Exception:  # an architecture may raise anything
        return False
    return bool((logits - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _in_one_row(model: PreTrainedModel, texts: torch.Tensor) -> Pair:
    """Logits of the second of two branches of a text, and of that branch alone."""
    import torch

    text, first, second = texts[0], texts[1, :SHORT], texts[2, :SHORT]
    length = LONG + 2 * SHORT
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    visible[LONG + SHORT :, LONG : LONG + SHORT] = False
    mask = torch.zeros(length, length, dtype=torch.float32).masked_fill(~visible, torch.finfo(torch.float32).min)
    ends = torch.arange(LONG, LONG + SHORT)
    row = {
        "input_ids": torch.cat([text, first, second])[None],
        "position_ids": torch.cat([torch.arange(LONG), ends, ends])[None],
        "attention_mask": mask[None, None],
    }
    logits = model(**row, use_cache=False).logits[0, -SHORT:]
    return logits, model(input_ids=torch.cat([text, second])[None], use_cache=False).logits[0, -SHORT:]


def _in_a_batch(model: PreTrainedModel, texts: torch.Tensor) -> Pair:
    """Logits of the answer to a short prompt in a batch with a long one, and to the short one alone."""
    import torch

    short = texts[1, :SHORT]
    padded = torch.cat([torch.zeros(LONG - SHORT, dtype=torch.long), short])
    mask = torch.ones(2, LONG, dtype=torch.long)
    mask[1, : LONG - SHORT] = 0
    logits = _answer(model, torch.stack([texts[0], padded]), mask)[1]
    return logits, _answer(model, short[None], torch.ones(1, SHORT, dtype=torch.long))[0]


def _answer(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Logits (rows, NEW, vocabulary) of greedy generation."""
    import torch
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=False, max_new_tokens=NEW, pad_token_id=0, output_logits=True, return_dict_in_generate=True
    )
    config.eos_token_id = None
    model.generation_config = config
    output: Any = model.generate(  # type: ignore[operator]  # a method that torch declares to be a tensor
        input_ids=ids, attention_mask=mask, generation_config=config
    )
    return torch.stack(list(output.logits), dim=1)


def _after_a_prefix(model: PreTrainedModel, texts: torch.Tensor) -> Pair:
    """Logits of a text whose prefix is in the cache, with padding between the two and without."""
    import torch

    text, prefix = texts[1, :SHORT], texts[0, :PREFIX]
    logits = []
    for padding in (LONG, 0):
        cache = model(input_ids=prefix[None], use_cache=True).past_key_values
        assert cache is not None
        mask = torch.ones(1, PREFIX + padding + SHORT, dtype=torch.long)
        mask[:, PREFIX : PREFIX + padding] = 0
        positions = torch.cat([torch.zeros(padding, dtype=torch.long), torch.arange(PREFIX, PREFIX + SHORT)])
        ids = torch.cat([torch.zeros(padding, dtype=torch.long), text])
        output = model(
            input_ids=ids[None],
            attention_mask=mask,
            position_ids=positions[None],
            past_key_values=cache,
            use_cache=True,
        )
        logits.append(output.logits[0, -SHORT:])
    return logits[0], logits[1]
