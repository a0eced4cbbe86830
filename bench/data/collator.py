"""Encoded examples to batches, in the same way for every method, in training and in scoring.

B rows, T tokens of the longest row, N supervised positions of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from bench.data.encoding import IGNORED, Encoded


class Collator:
    """Encoded examples to a right-padded batch or, packed, to one row (B = 1) of all examples end to end.

    A batch has input_ids; attention_mask or, packed, position_ids, which start at 0 with each example; labels, IGNORED
    where nothing is supervised; prompt_mask, true on prompt tokens (B, T each). For the output head it has `supervised`
    (2, N), the rows and columns of the positions that predict a supervised token, and their `targets` (N,); `padded`
    says whether any row has padding (a bool), `tokens` how many tokens are not padding. All are computed here, on the
    CPU, so that the training loop never waits for the device.
    """

    def __init__(self, pad_token_id: int, loss: str, packed: bool = False) -> None:
        self.pad_token_id = pad_token_id
        self.loss = loss
        self.packed = packed

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, Any]:
        lengths = [len(row.ids) for row in rows]
        ids = [torch.tensor(row.ids) for row in rows]
        prompt = [torch.arange(len(row.ids)) < row.prompt_length for row in rows]
        labels = [self._labels(row) for row in rows]
        if self.packed:
            batch = {
                "input_ids": torch.cat(ids)[None],
                "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
                "prompt_mask": torch.cat(prompt)[None],
                "labels": torch.cat(labels)[None],
            }
        else:
            batch = {
                "input_ids": pad_sequence(ids, True, self.pad_token_id),
                "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], True),
                "prompt_mask": pad_sequence(prompt, True),
                "labels": pad_sequence(labels, True, IGNORED),
            }
        at_row, at_column = (batch["labels"][:, 1:] != IGNORED).nonzero(as_tuple=True)
        return {
            **batch,
            "supervised": torch.stack([at_row, at_column]),  # (2, N)
            "targets": batch["labels"][:, 1:][at_row, at_column],  # (N,)
            "padded": not self.packed and min(lengths) < max(lengths),
            "tokens": sum(lengths),
        }

    def _labels(self, row: Encoded) -> torch.Tensor:
        """(T,) The first token is never supervised: nothing predicts it or, packed, the example before it would."""
        labels = torch.full((len(row.ids),), IGNORED)
        start = row.prompt_length if self.loss == "answer" else 1
        if row.supervised:
            labels[start:] = torch.tensor(row.ids[start:], dtype=torch.long)
        return labels
