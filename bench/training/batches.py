"""The batches of a training: one per optimizer step, in the order of the seed, as micro-batches on the device.

B rows, T tokens of the longest row, N supervised positions of a micro-batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from bench.data.collator import Collator
from bench.data.encoding import Encoded
from bench.training.samplers import EMPTY, EpochSampler, share_of


@dataclass(frozen=True)
class MicroBatch:
    """The examples of one forward pass."""

    inputs: dict[str, torch.Tensor]
    """Arguments of the model: input_ids, attention_mask or (packed) position_ids, prompt_mask (B, T each)."""
    supervised: torch.Tensor  # (2, N)
    """Rows and columns of the positions that predict a supervised token."""
    targets: torch.Tensor  # (N,)
    padded: bool
    """Whether any row has padding."""
    tokens: int
    """Without padding."""


@dataclass(frozen=True)
class Batch:
    """The examples of one optimizer step that this process has."""

    micro_batches: Sequence[MicroBatch]
    epoch: float
    """Passes over the examples when the step is done."""

    @property
    def tokens(self) -> int:
        """Without padding."""
        return sum(part.tokens for part in self.micro_batches)

    @property
    def places(self) -> int:
        """Tokens with padding."""
        return sum(part.inputs["input_ids"].numel() for part in self.micro_batches)

    @property
    def supervised(self) -> int:
        """Tokens at which the loss is computed."""
        return sum(part.targets.numel() for part in self.micro_batches)


class Batches:
    """The examples of a training, batch after batch.

    An epoch is the whole `order`, cut into batches of `batch_size`; the last may have fewer. Each batch is divided over
    the processes, and the share of a process into micro-batches (`share_of`).
    """

    def __init__(
        self,
        rows: Sequence[Encoded],
        order: EpochSampler,
        collate: Collator,
        batch_size: int,
        micro_batch: int,
        epochs: float,
        device: torch.device,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.rows, self.order, self.collate, self.device = rows, order, collate, device
        self.batch_size, self.micro_batch = batch_size, micro_batch
        self.process, self.processes = process, processes
        self.steps_per_epoch = math.ceil(len(rows) / batch_size)
        self.steps = math.ceil(self.steps_per_epoch * epochs)
        """Of the training."""

    def after(self, step: int) -> Iterator[Batch]:
        """The batches of all later steps. With the random generators as they were after `step`, a resumed training is
        the same as one that was never stopped."""
        indices: list[int] = []
        for number in range(step, self.steps):
            epoch, position = divmod(number, self.steps_per_epoch)
            if position == 0:
                # torch's DataLoader, which made the batches of earlier versions, draws a seed for each epoch. Without
                # this draw, dropout would have other masks than in the cells recorded then.
                torch.empty((), dtype=torch.int64).random_()
            if position == 0 or not indices:
                self.order.set_epoch(epoch)
                indices = list(self.order)
            yield self._batch(indices, epoch, position)

    def _batch(self, indices: Sequence[int], epoch: int, position: int) -> Batch:
        start = position * self.batch_size
        share = share_of(indices[start : start + self.batch_size], self.micro_batch, self.process, self.processes)
        passes_before = position * self.batch_size // (self.micro_batch * self.processes)
        passes_in_epoch = math.ceil(len(indices) / (self.micro_batch * self.processes))
        return Batch(
            [self.micro_batch_of([self._filler if i == EMPTY else self.rows[i] for i in part]) for part in share],
            epoch + (passes_before + len(share)) / passes_in_epoch,
        )

    @cached_property
    def _filler(self) -> Encoded:
        """The row of an empty place: a real one without supervision, so that all that a method does to it has a
        gradient (of zeros)."""
        return dataclasses.replace(min(self.rows, key=lambda row: len(row.ids)), supervised=False)

    def micro_batch_of(self, rows: Sequence[Encoded]) -> MicroBatch:
        """Some examples on the device. Rows without supervision count as padding."""
        batch = self.collate(rows)
        names = ("input_ids", "attention_mask", "position_ids", "prompt_mask")
        return MicroBatch(
            inputs={name: self.on_device(batch[name]) for name in names if name in batch},
            supervised=self.on_device(batch["supervised"]),
            targets=self.on_device(batch["targets"]),
            padded=batch["padded"],
            tokens=sum(len(row.ids) for row in rows if row.supervised),
        )

    def on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the host, copied without waiting for the device."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()  # a copy from other memory would wait for earlier work of the device
        return tensor.to(self.device, non_blocking=True)
