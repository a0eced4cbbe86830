"""In which order a training sees its examples: batches of like length, so that little is computed for padding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

MEGA_BATCH = 50
"""Batches within which examples are sorted by length: enough that a batch has hardly any padding, and few enough that
batches of one task alone, whose rows are all short or all long, stay rare."""


class ByLength(Sampler[int]):
    """Indices of examples, batch after batch: shuffled, sorted by length within mega-batches, the batches shuffled.

    A function of the lengths (tokens), the batch size, the seed and the epoch alone, so that all methods see the same
    batches in the same order, however a batch is split in micro-batches (the longest first, which are of like length).
    Each epoch begins with the batch of its longest example, so that what does not fit in memory fails at once, and
    ends with the one that is not full.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # Seeded by a text: Python seeds from it by hashing, the same on every machine and version since 3.2.
        chance = random.Random(f"{self.seed}:order:{self.epoch}")
        order = list(range(len(self)))
        chance.shuffle(order)
        size = self.batch_size
        batches: list[list[int]] = []
        for begin in range(0, len(order), MEGA_BATCH * size):
            part = sorted(order[begin : begin + MEGA_BATCH * size], key=lambda index: -self.lengths[index])
            batches += [part[at : at + size] for at in range(0, len(part), size)]
        rest = [batches.pop()] if batches and len(batches[-1]) < size else []
        chance.shuffle(batches)
        longest = max(range(len(batches)), key=lambda at: self.lengths[batches[at][0]], default=None)
        if longest is not None:
            batches.insert(0, batches.pop(longest))
        return iter([index for batch in [*batches, *rest] for index in batch])
