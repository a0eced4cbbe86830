"""When a training writes checkpoints and resumes from one, and what the parts of a resumed training cost together."""

from __future__ import annotations

import logging
import math
import operator
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from bench.costs import Meter, Reading
from bench.data.encoding import Encoded
from bench.store.records import TrainingLogRow
from bench.training.checkpoint import (
    CannotCheckpoint,
    TrainingProgress,
    latest_checkpoint,
    restore_generators,
    restore_model,
    restore_optimizer,
    save_checkpoint,
)
from bench.training.member import Member
from bench.training.throughput import Throughput
from bench.training.validation import Validator

Number = TypeVar("Number", int, float)


class CheckpointWriter:
    """Writes checkpoints of a training into its folder, at intervals of `minutes` (None: never).

    `latest` is the checkpoint that was in the folder before: the one that the training is resumed from.
    """

    def __init__(self, folder: Path, minutes: float | None, meter: Meter) -> None:
        self.folder, self.meter = folder, meter
        self.interval = math.inf if minutes is None else 60 * minutes  # seconds
        self.latest = latest_checkpoint(folder)
        self.last_write = time.perf_counter()
        self.resumed = self.latest.progress.resumed + 1 if self.latest else 0

    def is_due(self) -> bool:
        return time.perf_counter() - self.last_write >= self.interval

    def write(
        self,
        member: Member,
        micro_batch: int,
        throughput: Throughput,
        log: Sequence[TrainingLogRow],
        validator: Validator[Encoded] | None,
    ) -> None:
        """Write a checkpoint. If the optimizer's state cannot be written, log a warning and write none from then on."""
        progress = TrainingProgress(
            resumed=self.resumed,
            micro_batch=micro_batch,
            pace=throughput.state(),
            cost=self.total_cost(self.meter.read()),
            log=tuple(log),
            validation=validator.state() if validator else None,
        )
        try:
            save_checkpoint(
                self.folder,
                member.step,
                member.model,
                member.optimizer,
                member.schedule,
                member.accelerator.scaler,
                progress,
                validator.best if validator else {},
            )
        except CannotCheckpoint as error:
            logging.getLogger(__name__).warning("no checkpoint of %s: %s", member.cell.folder, error)
            self.interval = math.inf
        self.last_write = time.perf_counter()

    def resume(self, member: Member, validator: Validator[Encoded] | None) -> None:
        """Bring a member that has taken no step to where the latest checkpoint was written, if there is one.

        Raises DamagedCheckpoint if it is of another model or optimizer.
        """
        if self.latest is None:
            return
        if validator is not None and self.latest.progress.validation is not None:
            validator.resume(self.latest.progress.validation, self.latest.tensors("best."))
        restore_model(self.latest, member.model)
        restore_optimizer(self.latest, member.optimizer, member.schedule, member.accelerator.scaler)
        restore_generators(self.latest)
        member.step = self.latest.step

    def total_cost(self, reading: Reading) -> Reading:
        """The costs of this part of the training and of the parts before it."""
        if self.latest is None:
            return reading
        before = self.latest.progress.cost
        return Reading(
            seconds=before.seconds + reading.seconds,
            peak_bytes=_combined(max, before.peak_bytes, reading.peak_bytes),
            reserved_bytes=_combined(max, before.reserved_bytes, reading.reserved_bytes),
            joules=_combined(operator.add, before.joules, reading.joules),
        )


def _combined(
    function: Callable[[Number, Number], Number], first: Number | None, second: Number | None
) -> Number | None:
    """None if one of the two was not measured."""
    return None if first is None or second is None else function(first, second)
