"""Validation during training on held-out examples of the cell, and the weights with the lowest validation loss.

As in the released scripts of LLM-Adapters and DoRA (120 held-out examples, every 80 steps, `load_best_model_at_end`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from bench.errors import Diverged
from bench.store.records import TrainingLogRow

Row = TypeVar("Row")


def split_validation(rows: Sequence[Row], held_out: int, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows to train on, in their order, and `held_out` rows drawn by the seed alone."""
    indices = set(random.Random(f"{seed}:validation").sample(range(len(rows)), held_out))
    return [row for index, row in enumerate(rows) if index not in indices], [rows[index] for index in sorted(indices)]


class ValidationState(BaseModel):
    """What a checkpoint records of the validation so far, besides the best weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    best_loss: float | None
    """None before the first validation."""
    best_step: int


class Validator(TrainerCallback, Generic[Row]):
    """Every `steps` steps and after the last one, computes the mean loss of the supervised tokens of `rows`; keeps a
    copy of the trained parameters (in the processor's memory) at the lowest loss.

    `loss(model, rows)` returns the sum of the losses of the rows' supervised tokens, and their number.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        steps: int,
        batch_size: int,
        loss: Callable[[nn.Module, Sequence[Row]], tuple[float, int]],
        log: Callable[[TrainingLogRow], None],
    ) -> None:
        self.rows, self.steps, self.batch_size, self.loss, self.log = rows, steps, batch_size, loss, log
        self.best_loss, self.best_step = math.inf, 0
        self.best: dict[str, torch.Tensor] = {}

    def state(self) -> ValidationState:
        """For a checkpoint, which also holds the tensors of `best`."""
        return ValidationState(best_loss=self.best_loss if self.best else None, best_step=self.best_step)

    def resume(self, state: ValidationState, best: Mapping[str, torch.Tensor]) -> None:
        """Continue from a checkpoint."""
        if state.best_loss is not None:
            self.best_loss, self.best_step, self.best = state.best_loss, state.best_step, dict(best)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: nn.Module
    ) -> None:
        model = kwargs["model"]
        if state.global_step % self.steps and state.global_step != state.max_steps:
            return
        loss = self._mean(model)
        self.log(TrainingLogRow(step=state.global_step, validation_loss=loss))
        if loss < self.best_loss:  # false for NaN
            self.best_loss, self.best_step = loss, state.global_step
            self.best = {name: value.detach().to("cpu", copy=True) for name, value in _trained(model).items()}

    def _mean(self, model: nn.Module) -> float:
        was_training = model.training
        model.eval()
        with torch.no_grad():
            parts = [
                self.loss(model, self.rows[start : start + self.batch_size])
                for start in range(0, len(self.rows), self.batch_size)
            ]
        model.train(was_training)
        return sum(total for total, _ in parts) / max(1, sum(count for _, count in parts))

    def restore(self, model: nn.Module) -> None:
        """Replace the last weights by the best ones. Raises Diverged if every validation loss was NaN."""
        if not self.best:
            raise Diverged("no validation loss was a number")
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                parameter.copy_(self.best[name])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
