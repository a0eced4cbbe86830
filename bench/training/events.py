"""What a training reports while it runs, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepDone:
    """An optimizer step was taken. The counts are of this process."""

    step: int
    """From 1."""
    tokens: int
    """Without padding."""
    places: int
    """With padding."""
    supervised: int
    """Tokens at which the loss was computed."""


@dataclass(frozen=True)
class Validated:
    """The loss of the held-out examples was computed."""

    step: int
    loss: float
    """Mean over their supervised tokens."""


@dataclass(frozen=True)
class Logged:
    """The losses since the last such event were read from the device. The next mean starts anew."""

    step: int
    epoch: float
    """Passes over the examples so far."""
    loss: float
    """Mean over the steps, and over the processes."""
    lr: float
    """The learning rate of the step."""
    grad_norm: float
    """Of the step, before clipping."""


Event = StepDone | Validated | Logged
