"""What goes on beside a training: its pace is taken, its log written, its progress shown, its checkpoints kept, and a
training that has diverged is stopped."""

from __future__ import annotations

import dataclasses
import logging
import math
import operator
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback

from bench.costs import Meter, Reading
from bench.errors import Diverged
from bench.models.device import compute_device, synchronize
from bench.training import checkpoint
from bench.training.validation import Validator

if TYPE_CHECKING:
    from bench.progress import Advance


class Pace:
    """Counts tokens as they are trained on and takes the time after the first step, in which kernels are chosen and
    memory is found."""

    def __init__(self, so_far: Mapping[str, Any] | None = None) -> None:
        """`so_far`: of the part of the training that this one goes on from."""
        so_far = so_far or {}
        self.tokens: int = so_far.get("tokens", 0)
        self.places, self.supervised = so_far.get("places", 0), so_far.get("supervised", 0)
        self.paced_tokens, self.paced_seconds = so_far.get("paced_tokens", 0), so_far.get("paced_seconds", 0.0)
        self.warm_tokens = self.tokens
        self.warmed = self.begun = time.perf_counter()

    def so_far(self) -> dict[str, Any]:
        """What another part of the training goes on from."""
        tokens, seconds = self._paced()
        counted = {"tokens": self.tokens, "places": self.places, "supervised": self.supervised}
        return {**counted, "paced_tokens": tokens, "paced_seconds": seconds}

    def _paced(self) -> tuple[int, float]:
        """Tokens after the first step of each part, and the seconds that they took."""
        since = time.perf_counter() - self.warmed
        return self.paced_tokens + self.tokens - self.warm_tokens, self.paced_seconds + since

    def saw(self, tokens: int, places: int, supervised: int) -> None:
        """One more forward pass: the real tokens of its batch, those with padding, and how many the loss is taken
        at."""
        self.tokens += tokens
        self.places += places
        self.supervised += supervised

    def warm(self) -> None:
        """The first step is over; the only time that the device is waited for."""
        synchronize(compute_device())
        self.warm_tokens, self.warmed = self.tokens, time.perf_counter()

    def tokens_per_second(self) -> float:
        """Called when the last step is over."""
        tokens, seconds = self._paced()
        if not tokens:
            tokens, seconds = self.tokens, time.perf_counter() - self.begun
        return tokens / max(seconds, 1e-9)


class Keeper:
    """Keeps checkpoints of a training in its folder, one after so many minutes, and has found the last one there."""

    def __init__(self, folder: Path, minutes: float | None, watch: Watch, meter: Meter) -> None:
        self.folder, self.watch, self.meter = folder, watch, meter
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.found = checkpoint.latest(folder)
        self.kept = time.perf_counter()
        self.resumed = self.found.so_far["resumed"] + 1 if self.found else 0

    def due(self) -> bool:
        return time.perf_counter() - self.kept >= self.seconds

    def keep(self, trainer: Trainer, pace: Pace, validator: Validator | None) -> None:
        """Write a checkpoint. Where the optimizer holds what cannot be written there will be none, which is said."""
        so_far = {
            "resumed": self.resumed,
            "micro_batch": trainer.args.per_device_train_batch_size,
            "pace": pace.so_far(),
            "cost": dataclasses.asdict(self.cost(self.meter.read())),
            "log": self.watch.rows,
            "validation": validator.so_far if validator else None,
        }
        best = validator.best if validator else {}
        holds = (trainer.optimizer, trainer.lr_scheduler, trainer.accelerator.scaler, trainer.state)
        try:
            checkpoint.save(self.folder, trainer.state.global_step, trainer.model, *holds, so_far, best)
        except checkpoint.NotKept as error:
            logging.getLogger(__name__).warning("no checkpoint of %s: %s", trainer.args.run_name, error)
            self.seconds = math.inf
        self.kept = time.perf_counter()

    def cost(self, reading: Reading) -> Reading:
        """Of this part of the training and those before it."""
        if self.found is None:
            return reading
        before = Reading(**self.found.so_far["cost"])

        def both(how: Callable[[Any, Any], Any], name: str) -> Any:
            pair = getattr(before, name), getattr(reading, name)
            return None if None in pair else how(*pair)

        return Reading(
            seconds=before.seconds + reading.seconds,
            peak_bytes=both(max, "peak_bytes"),
            reserved_bytes=both(max, "reserved_bytes"),
            joules=both(operator.add, "joules"),
        )


class Watch(TrainerCallback):
    """Writes training.jsonl, shows progress, says when a checkpoint is due, and stops a training that has diverged."""

    def __init__(self, log: Callable[[dict[str, Any]], None], advance: Advance, tokens_per_step: float) -> None:
        self.log, self.advance, self.tokens_per_step = log, advance, tokens_per_step
        self.pace: Pace | None = None
        self.keeper: Keeper | None = None
        self.begun = time.perf_counter()
        self.first_step = 0
        self.last_loss = math.nan
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begun, self.first_step = time.perf_counter(), state.global_step
        if self.keeper is not None and self.keeper.found is not None:
            so_far = self.keeper.found.so_far
            self.begun -= so_far["cost"]["seconds"]
            for row in so_far["log"]:
                self._log(row)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.first_step + 1 and state.max_steps > state.global_step:
            self.pace.warm()
        if state.global_step == state.max_steps:
            control.should_log = True  # so that the last steps are looked at, too
        elif self.keeper is not None and control.should_log and self.keeper.due():
            control.should_save = True  # when a line of the log has been closed: Trainer's mean loss begins anew there
        rate = self.tokens_per_step * state.global_step / (time.perf_counter() - self.begun)
        loss = "" if math.isnan(self.last_loss) else f"loss {self.last_loss:.3f}, "
        self.advance(state.global_step, state.max_steps, f"{loss}{rate:,.0f} tokens/s")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        row: dict[str, Any] = {"step": state.global_step, "epoch": round(state.epoch, 4), "loss": logs["loss"]}
        row |= {"lr": logs.get("learning_rate"), "grad_norm": logs.get("grad_norm")}
        self.note(row)
        # A float16 scaler skips steps whose gradient overflows, and lowers its scale: that is no divergence.
        for name in ("loss",) if args.fp16 else ("loss", "grad_norm"):
            if row[name] is not None and not math.isfinite(row[name]):
                raise Diverged(f"{name} is {row[name]} at step {state.global_step} of {state.max_steps}")

    def note(self, row: dict[str, Any]) -> None:
        """Another line of the log, with the time."""
        self._log(row | {"seconds": round(time.perf_counter() - self.begun, 2)})

    def _log(self, row: dict[str, Any]) -> None:
        self.last_loss = row.get("loss", self.last_loss)
        self.rows.append(row)
        self.log(row)
