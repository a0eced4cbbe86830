"""The log of a training: its rows, its progress, and the check for divergence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.errors import Diverged
from bench.store.records import TrainingLogRow
from bench.training.events import Logged, Validated

if TYPE_CHECKING:
    from bench.progress import Advance
    from bench.training.checkpoint import TrainingProgress


class TrainingLog:
    """Writes the rows of a training's log, shows its progress, and raises Diverged for a loss that is not finite.

    `tokens_per_step` is the mean, for the progress alone. `skips_overflows`: a float16 scaler skips steps whose
    gradient overflows and lowers its scale, so that a gradient that is not finite is no divergence.
    """

    def __init__(
        self,
        write: Callable[[TrainingLogRow], None],
        advance: Advance,
        steps: int,
        tokens_per_step: float,
        skips_overflows: bool,
    ) -> None:
        self.write, self.advance, self.steps, self.tokens_per_step = write, advance, steps, tokens_per_step
        self.skips_overflows = skips_overflows
        self.start = time.perf_counter()
        self.last_loss = math.nan
        self.rows: list[TrainingLogRow] = []

    def resume(self, progress: TrainingProgress) -> None:
        """Repeat the rows of the parts of the training before this one."""
        self.start -= progress.cost.seconds
        for row in progress.log:
            self._add(row)

    def show_progress(self, step: int) -> None:
        """Show that a step is done, with the last logged loss."""
        rate = self.tokens_per_step * step / (time.perf_counter() - self.start)
        loss = "" if math.isnan(self.last_loss) else f"loss {self.last_loss:.3f}, "
        self.advance(step, self.steps, f"{loss}{rate:,.0f} tokens/s")

    def add_validation(self, event: Validated) -> None:
        """Add the row of a validation."""
        self._add_now(TrainingLogRow(step=event.step, validation_loss=event.loss))

    def add_losses(self, event: Logged) -> None:
        """Add the row of some steps. Raises Diverged, after it is added, if it holds a value that is not finite."""
        row = TrainingLogRow(
            step=event.step, epoch=round(event.epoch, 4), loss=event.loss, lr=event.lr, grad_norm=event.grad_norm
        )
        self._add_now(row)
        checked = {"loss": event.loss} if self.skips_overflows else {"loss": event.loss, "grad_norm": event.grad_norm}
        for name, value in checked.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} at step {event.step} of {self.steps}")

    def _add_now(self, row: TrainingLogRow) -> None:
        self._add(row.model_copy(update={"seconds": round(time.perf_counter() - self.start, 2)}))

    def _add(self, row: TrainingLogRow) -> None:
        self.last_loss = self.last_loss if row.loss is None else row.loss
        self.rows.append(row)
        self.write(row)
