"""Validation in training: examples of the cell's own that it is not trained on, and the weights of their lowest loss.

As LLM-Adapters' and DoRA's released scripts do it (120 examples held out, every 80 steps, `load_best_model_at_end`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import TrainerCallback

from bench.errors import Diverged

Row = TypeVar("Row")
Loss = Callable[[nn.Module, Sequence[Any]], tuple[float, int]]
"""Of a model and some examples: the sum of the losses of their supervised tokens, and how many these are."""


def split(rows: Sequence[Row], held_out: int, seed: int) -> tuple[list[Row], list[Row]]:
    """What is trained on, in its order, and what is held out: as many as asked, drawn by the seed alone."""
    chosen = set(random.Random(f"{seed}:validation").sample(range(len(rows)), held_out))
    return [one for at, one in enumerate(rows) if at not in chosen], [rows[at] for at in sorted(chosen)]


class Validator(TrainerCallback):
    """Every so many steps, and after the last one: the mean loss of the supervised tokens of `rows`; keeps a copy of
    what is trained (in the processor's memory) where it was lowest."""

    def __init__(
        self,
        rows: Sequence[Any],
        steps: int,
        batch_size: int,
        loss: Loss,
        log: Callable[[dict[str, Any]], None],
    ) -> None:
        self.rows, self.steps, self.batch_size, self.loss, self.log = rows, steps, batch_size, loss, log
        self.best_loss, self.best_step = math.inf, 0
        self.best: dict[str, torch.Tensor] = {}

    @property
    def so_far(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, beside the tensors of `best`."""
        return {"best_loss": self.best_loss if self.best else None, "best_step": self.best_step}

    def go_on(self, so_far: Mapping[str, Any], best: Mapping[str, torch.Tensor]) -> None:
        """From what a checkpoint kept."""
        if so_far["best_loss"] is not None:
            self.best_loss, self.best_step, self.best = so_far["best_loss"], so_far["best_step"], dict(best)

    def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        if state.global_step % self.steps and state.global_step != state.max_steps:
            return
        loss = self._mean(model)
        self.log({"step": state.global_step, "validation_loss": loss})
        if loss < self.best_loss:  # never where it is not a number
            self.best_loss, self.best_step = loss, state.global_step
            self.best = {name: one.detach().to("cpu", copy=True) for name, one in _trained(model).items()}

    def _mean(self, model: nn.Module) -> float:
        was_training = model.training
        model.eval()
        with torch.no_grad():
            parts = [
                self.loss(model, self.rows[at : at + self.batch_size])
                for at in range(0, len(self.rows), self.batch_size)
            ]
        model.train(was_training)
        return sum(total for total, _ in parts) / max(1, sum(count for _, count in parts))

    def restore(self, model: nn.Module) -> None:
        """Put the best weights in place of the last ones.

        Raises Diverged where no validation gave a number.
        """
        if not self.best:
            raise Diverged("no validation loss was a number")
        with torch.no_grad():
            for name, place in _trained(model).items():
                place.copy_(self.best[name])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}
