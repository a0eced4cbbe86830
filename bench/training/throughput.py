"""Tokens of a training and tokens per second, over all of its parts if it was resumed."""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict

from bench.models.device import compute_device, synchronize


class ThroughputState(BaseModel):
    """What a checkpoint records of a `Throughput`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int = 0
    """Without padding."""
    places: int = 0
    """With padding."""
    supervised: int = 0
    """Tokens at which the loss was computed."""
    paced_tokens: int = 0
    """Tokens after the first step of each part."""
    paced_seconds: float = 0.0
    """The seconds that these took."""


class Throughput:
    """Counts the tokens of a training and times it from the end of the first step, which allocates memory and selects
    kernels."""

    def __init__(self, earlier: ThroughputState | None = None) -> None:
        """`earlier`: of the parts of the training before this one."""
        earlier = earlier or ThroughputState()
        self.tokens, self.places, self.supervised = earlier.tokens, earlier.places, earlier.supervised
        self.paced_tokens, self.paced_seconds = earlier.paced_tokens, earlier.paced_seconds
        self.tokens_at_warm_up = self.tokens
        self.start = self.end_of_warm_up = time.perf_counter()

    def state(self) -> ThroughputState:
        """What the next part of the training starts from."""
        tokens, seconds = self._paced()
        return ThroughputState(
            tokens=self.tokens,
            places=self.places,
            supervised=self.supervised,
            paced_tokens=tokens,
            paced_seconds=seconds,
        )

    def add_step(self, tokens: int, places: int, supervised: int) -> None:
        """Count an optimizer step: its tokens without and with padding, and its supervised tokens."""
        self.tokens += tokens
        self.places += places
        self.supervised += supervised

    def finish_warm_up(self) -> None:
        """Call after the first step. This is the only time that the training loop waits for the device."""
        synchronize(compute_device())
        self.tokens_at_warm_up, self.end_of_warm_up = self.tokens, time.perf_counter()

    def tokens_per_second(self) -> float:
        """Tokens without padding; call after the last step. If there was one step only, of this step."""
        tokens, seconds = self._paced()
        if not tokens:
            tokens, seconds = self.tokens, time.perf_counter() - self.start
        return tokens / max(seconds, 1e-9)

    def _paced(self) -> tuple[int, float]:
        since = time.perf_counter() - self.end_of_warm_up
        return self.paced_tokens + self.tokens - self.tokens_at_warm_up, self.paced_seconds + since
