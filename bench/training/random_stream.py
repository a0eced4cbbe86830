"""The random numbers of a member of a group: the same as if it were trained alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.models.device import compute_device


class RandomStream:
    """The states of torch's random generators, of the host and of the device, as one training would have left them.

    It starts with the present states: make it where the training alone would begin.
    """

    def __init__(self) -> None:
        self.states = _states()

    @contextmanager
    def active(self) -> Iterator[None]:
        """While entered, whatever draws random numbers draws those of this stream."""
        before = _states()
        _set_states(self.states)
        try:
            yield
        finally:
            self.states = _states()
            _set_states(before)


def _states() -> list[torch.Tensor]:
    """Of the host and, if it is another device, of the device: no value of the device is read."""
    device = compute_device()
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(getattr(torch, device.type).get_rng_state())
    return states


def _set_states(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        getattr(torch, compute_device().type).set_rng_state(state)
