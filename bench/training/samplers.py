"""In which order a training sees its examples: batches of like length, so that little is computed for padding; and
how a batch is dealt out to several processes."""

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


class Dealt(Sampler[int]):
    """An order as accelerate needs it so that several processes train on the batches of one.

    accelerate cuts what a sampler yields into micro-batches and gives them to the processes in turn; what is short at
    the end it fills up with examples from the beginning, which would be trained on twice. So each batch of `order` is
    laid out here as whole rounds of `processes` micro-batches, its examples divided evenly (the numbers of two
    processes differ by one at most), and a place that is left is `nothing`, the index after the last example: the data
    set must have a row there that nothing is supervised at.
    """

    def __init__(self, order: Sampler[int], batch_size: int, micro_batch: int, processes: int) -> None:
        self.order, self.batch_size, self.micro_batch, self.processes = order, batch_size, micro_batch, processes
        self.nothing = len(order)

    def __len__(self) -> int:
        last = self._rounds(range(len(self.order) % self.batch_size))
        return len(self.order) // self.batch_size * self.batch_size + sum(map(len, last))

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        order = list(self.order)
        for begin in range(0, len(order), self.batch_size):
            for micro_batch in self._rounds(order[begin : begin + self.batch_size]):
                yield from micro_batch

    def places_left(self, process: int) -> int:
        """Places without an example that a process has in an epoch, all of them in its last batch."""
        last = self._rounds(range(len(self.order) % self.batch_size))
        return sum(micro_batch.count(self.nothing) for micro_batch in last[process :: self.processes])

    def _rounds(self, batch: Sequence[int]) -> list[list[int]]:
        """A batch as micro-batches, those of all processes in turn."""
        found = []
        size, n = self.micro_batch * self.processes, self.processes
        for part in (batch[at : at + size] for at in range(0, len(batch), size)):
            for process in range(n):
                mine = part[len(part) * process // n : len(part) * (process + 1) // n]
                found.append([*mine, *[self.nothing] * (self.micro_batch - len(mine))])
        return found
