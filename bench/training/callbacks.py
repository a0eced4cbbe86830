"""Callbacks of a training: the log, the progress, the check for divergence, and the method's own step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bench.errors import Diverged
from bench.methods.method import Method
from bench.store.records import TrainingLogRow
from bench.sweep.cell import Cell
from bench.training.checkpoint_writer import CheckpointWriter
from bench.training.throughput import Throughput

if TYPE_CHECKING:
    from bench.progress import Advance


class TrainingMonitor(TrainerCallback):
    """Logs a training, shows its progress, requests checkpoints, and raises Diverged for a loss that is not finite."""

    def __init__(
        self, log: Callable[[TrainingLogRow], None], advance: Advance, tokens_per_step: float, throughput: Throughput
    ) -> None:
        self.log, self.advance, self.tokens_per_step, self.throughput = log, advance, tokens_per_step, throughput
        self.checkpoints: CheckpointWriter | None = None
        self.start = time.perf_counter()
        self.first_step = 0
        self.last_loss = math.nan
        self.rows: list[TrainingLogRow] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.start, self.first_step = time.perf_counter(), state.global_step
        if self.checkpoints is not None and self.checkpoints.latest is not None:
            progress = self.checkpoints.latest.progress
            self.start -= progress.cost.seconds
            for row in progress.log:
                self._add(row)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.global_step == self.first_step + 1 and state.max_steps > state.global_step:
            self.throughput.finish_warm_up()
        if state.global_step == state.max_steps:
            control.should_log = True  # so that divergence in the last steps is seen
        elif self.checkpoints is not None and control.should_log and self.checkpoints.is_due():
            control.should_save = True  # with a line of the log: Trainer's mean of the losses starts anew there
        rate = self.tokens_per_step * state.global_step / (time.perf_counter() - self.start)
        loss = "" if math.isnan(self.last_loss) else f"loss {self.last_loss:.3f}, "
        self.advance(state.global_step, state.max_steps, f"{loss}{rate:,.0f} tokens/s")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        row = TrainingLogRow(
            step=state.global_step,
            epoch=round(state.epoch, 4),
            loss=logs["loss"],
            lr=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
        )
        self.add_row(row)
        # A float16 scaler skips steps whose gradient overflows and lowers its scale: that is not divergence.
        values = {"loss": row.loss} if args.fp16 else {"loss": row.loss, "grad_norm": row.grad_norm}
        for name, value in values.items():
            if value is not None and not math.isfinite(value):
                raise Diverged(f"{name} is {value} at step {state.global_step} of {state.max_steps}")

    def add_row(self, row: TrainingLogRow) -> None:
        """Add a line to the log, with the time."""
        self._add(row.model_copy(update={"seconds": round(time.perf_counter() - self.start, 2)}))

    def _add(self, row: TrainingLogRow) -> None:
        self.last_loss = self.last_loss if row.loss is None else row.loss
        self.rows.append(row)
        self.log(row)


class AfterStep(TrainerCallback):
    """Calls the method's `after_step` after each optimizer step, while the gradients exist."""

    def __init__(self, method: Method, cell: Cell) -> None:
        self.method, self.cell = method, cell

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: nn.Module
    ) -> None:
        self.method.after_step(kwargs["model"], self.cell, state.global_step + 1)
