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
        """Called by the data loader before each epoch."""
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


class DistributedSampler(Sampler[int]):
    """An order from which accelerate gives several processes, together, the batches that one process would have.

    accelerate cuts an order into micro-batches, gives them to the processes in turn, and fills the end up with examples
    from the beginning, which would be trained on twice. Here, each batch of `order` is laid out as complete rounds of
    `processes` micro-batches. Its examples are divided evenly (the numbers of two processes differ by at most one), and
    an empty place has the index `padding_index`, the one after the last example: the data set must have a row there
    without supervised tokens.
    """

    def __init__(self, order: EpochSampler, batch_size: int, micro_batch: int, processes: int) -> None:
        self.order, self.batch_size, self.micro_batch, self.processes = order, batch_size, micro_batch, processes
        self.padding_index = len(order)

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

    def empty_places(self, process: int) -> int:
        """Places without an example that a process has in an epoch, all in the last batch."""
        last = self._rounds(range(len(self.order) % self.batch_size))
        return sum(micro_batch.count(self.padding_index) for micro_batch in last[process :: self.processes])

    def _rounds(self, batch: Sequence[int]) -> list[list[int]]:
        """A batch as micro-batches, those of all processes in turn."""
        rounds = []
        size, n = self.micro_batch * self.processes, self.processes
        for part in (batch[start : start + size] for start in range(0, len(batch), size)):
            for process in range(n):
                share = part[len(part) * process // n : len(part) * (process + 1) // n]
                rounds.append([*share, *[self.padding_index] * (self.micro_batch - len(share))])
        return rounds
