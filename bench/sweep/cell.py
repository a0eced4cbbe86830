"""A cell: one training and its evaluation, as a value. Frozen, hashable, JSON, with every hyperparameter resolved.

`Cell.id` is the training hash: it covers what changes the trained weights, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import cached_property
from typing import Any

from bench.sweep.sections import Strict

RECIPE = 1
"""Raised when the harness itself comes to train differently from the same settings; part of the identity."""


class BaseIdentity(Strict):
    """Which weights a cell starts from, and what it computes in."""

    id: str
    revision: str
    dtype: str


class CellData(Strict):
    """Which examples a cell learns from."""

    train: tuple[str, ...]
    format: str
    mix: str
    subset_seed: int | None
    append_eos: bool
    fingerprint: str
    """Hash of the training pools as they stand after the development split and the removal of duplicates."""
    template: str | None = None
    """How instructions are put into words; None where there are none."""


def _without_null(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that are set, also within the parts of a stacked method."""
    return {
        key: _without_null(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if value is not None
    }


class Cell(Strict):
    """One training and its evaluation: base x method (+ settings) x samples x seed."""

    base: BaseIdentity
    method: str
    method_version: str
    """The method's own version; of a user's class, the hash of its source."""
    options: dict[str, Any]
    """The method's settings, every one resolved."""
    samples: int
    seed: int
    data: CellData | None = None
    """None for the untuned base, which learns from nothing."""
    training: dict[str, Any] | None = None
    recipe: int = RECIPE
    tuned_by: tuple[str, ...] = ()
    """The trials that chose the learning rate. No part of the identity: whoever chose it, the weights are the same."""

    @cached_property
    def id(self) -> str:
        """The training hash, 8 hex digits."""
        content = self.model_dump(mode="json", exclude={"tuned_by"})
        # What is null is off: a method may come to know another setting without its old cells becoming others.
        content["options"] = _without_null(content["options"])
        if self.training and self.training.get("order") == "random":  # the only one there was, before it had a name
            del content["training"]["order"]
        if self.data and self.data.template is None:  # nor had data without instructions a template
            del content["data"]["template"]
        content = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    @property
    def trained_on(self) -> int:
        """Examples of an epoch: the samples but those that are held out for validation."""
        return self.samples - ((self.training or {}).get("validation") or {}).get("examples", 0)

    @property
    def steps(self) -> int:
        """Optimizer steps of the training."""
        return math.ceil(math.ceil(self.trained_on / self.training["batch_size"]) * self.training["epochs"])

    @property
    def rank(self) -> int | None:
        return self.options.get("rank")

    @property
    def name(self) -> str:
        """The folder's name without the hash, e.g. ``dora-r16-n1000-s0``."""
        if self.data is None:
            return self.method
        rank = f"-r{self.rank}" if self.rank is not None else ""
        return f"{self.method.replace(':', '.')}{rank}-n{self.samples}-s{self.seed}"

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.id}"

    def __hash__(self) -> int:
        return hash(self.id)
