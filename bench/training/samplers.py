"""The order of the examples in a training: batches of examples of similar length, so that little padding is computed,
and how the examples of a batch are distributed over several processes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Protocol

from torch.utils.data import Sampler

MEGA_BATCH = 50
"""Batches within which examples are sorted by length: enough that a batch has hardly any padding, and few enough that
batches of a single task, whose rows are all short or all long, stay rare."""


EMPTY = -1
"""The index of a place without an example."""


class EpochSampler(Protocol):
    """A sampler of a known length whose order depends on the epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]: ...

    def set_epoch(self, epoch: int) -> None: ...


class LengthGroupedSampler(Sampler[int]):
    """Indices of examples, batch after batch: shuffled, sorted by length within mega-batches, the batches shuffled.

    The order depends on the lengths (tokens), the batch size, the seed and the epoch only. All methods therefore see
    the same batches in the same order, however a batch is split into micro-batches (of similar lengths, the longest
    first). Each epoch starts with the batch of its longest example, so that what does not fit in memory fails at once,
    and ends with the batch that is not full.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # Python hashes a text to a seed, in the same way on every machine and version since 3.2.
        generator = random.Random(f"{self.seed}:order:{self.epoch}")
        order = list(range(len(self)))
        generator.shuffle(order)
        size = self.batch_size
        batches: list[list[int]] = []
        for begin in range(0, len(order), MEGA_BATCH * size):
            part = sorted(order[begin : begin + MEGA_BATCH * size], key=lambda index: -self.lengths[index])
            batches += [part[start : start + size] for start in range(0, len(part), size)]
        rest = [batches.pop()] if batches and len(batches[-1]) < size else []
        generator.shuffle(batches)
        longest = max(range(len(batches)), key=lambda index: self.lengths[batches[index][0]], default=None)
        if longest is not None:
            batches.insert(0, batches.pop(longest))
        return iter([index for batch in [*batches, *rest] for index in batch])


def share_of(batch: Sequence[int], micro_batch: int, process: int = 0, processes: int = 1) -> list[list[int]]:
    """The micro-batches of one of several processes that share a batch of indices.

    Each round of a batch is a micro-batch for every process. Its examples are divided evenly (the numbers of two
    processes differ by at most one), and the micro-batches of several processes are filled up with EMPTY places.
    """
    size = micro_batch * processes
    shares = []
    for part in (batch[start : start + size] for start in range(0, len(batch), size)):
        share = part[len(part) * process // processes : len(part) * (process + 1) // processes]
        empty = micro_batch - len(share) if processes > 1 else 0
        shares.append([*share, *[EMPTY] * empty])
    return shares
