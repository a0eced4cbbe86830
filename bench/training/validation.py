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

from bench.errors import Diverged

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


class Validator(Generic[Row]):
    """Computes the mean loss of the supervised tokens of `rows`, and keeps a copy of the trained parameters (in the
    processor's memory) at the lowest loss. Called every `steps` steps and after the last one.

    `loss(rows)` returns the sum of the losses of the supervised tokens of up to `batch_size` rows, and their number.
    """

    def __init__(
        self, rows: Sequence[Row], steps: int, batch_size: int, loss: Callable[[Sequence[Row]], tuple[float, int]]
    ) -> None:
        self.rows, self.steps, self.batch_size, self.loss = rows, steps, batch_size, loss
        self.best_loss, self.best_step = math.inf, 0
        self.best: dict[str, torch.Tensor] = {}

    def state(self) -> ValidationState:
        """For a checkpoint, which also holds the tensors of `best`."""
        return ValidationState(best_loss=self.best_loss if self.best else None, best_step=self.best_step)

    def resume(self, state: ValidationState, best: Mapping[str, torch.Tensor]) -> None:
        """Continue from a checkpoint."""
        if state.best_loss is not None:
            self.best_loss, self.best_step, self.best = state.best_loss, state.best_step, dict(best)

    def validate(self, model: nn.Module, step: int) -> float:
        """The mean loss of a model in training after so many steps."""
        was_training = model.training
        model.eval()
        with torch.no_grad():
            starts = range(0, len(self.rows), self.batch_size)
            parts = [self.loss(self.rows[start : start + self.batch_size]) for start in starts]
        model.train(was_training)
        loss = sum(total for total, _ in parts) / max(1, sum(count for _, count in parts))
        if loss < self.best_loss:  # false for NaN
            self.best_loss, self.best_step = loss, step
            self.best = {name: value.detach().to("cpu", copy=True) for name, value in _trained(model).items()}
        return loss

    def restore(self, model: nn.Module) -> None:
        """Replace the last weights by the best ones. Raises Diverged if every validation loss was NaN."""
        if not self.best:
            raise Diverged("no validation loss was a number")
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                parameter.copy_(self.best[name])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
