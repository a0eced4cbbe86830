"""A cell: one training and its evaluation, as a value. Frozen, hashable, JSON, with every hyperparameter resolved.

`Cell.id` is the training hash: it covers everything that changes the trained weights, and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Self

from pydantic import JsonValue, SerializerFunctionWrapHandler, field_validator, model_serializer

from bench.hashing import short_hash
from bench.sweep.sections import Strict, TrainingConfig, json_values

Settings = dict[str, JsonValue]
"""Settings of a method or of the training, as JSON has them."""

RECIPE = 1
"""Raised when the harness itself trains differently with the same settings; part of the identity."""


class BaseIdentity(Strict):
    """The weights that a cell starts from, and the dtype of its forward passes."""

    id: str
    revision: str
    dtype: str
    trust_remote_code: bool = False
    """Whether the model's own code was run, which may compute otherwise than transformers'."""

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        """Cells from before `trust_remote_code` existed have no key for it, and keep their identity."""
        content: dict[str, JsonValue] = handler(self)
        if not self.trust_remote_code:
            del content["trust_remote_code"]
        return content


class CellData(Strict):
    """The examples that a cell learns from."""

    train: tuple[str, ...]
    format: str
    mix: str
    subset_seed: int | None = None
    append_eos: bool
    fingerprint: str
    """Hash of the training pools after the development split and the removal of duplicates."""
    template: str | None = None
    """How instructions are formatted; None where there are none."""


def _without_null(settings: Settings) -> Settings:
    """The settings that are not null, also within the parts of a stacked method."""
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
    """The method's own version; for a user's class, the hash of its source."""
    options: Settings
    """The method's settings, all resolved."""
    samples: int
    seed: int
    data: CellData | None = None
    """None for the untuned base, which is not trained."""
    training: Settings | None = None
    """The settings of `TrainingConfig` that change the trained weights; None for the untuned base."""
    recipe: int = RECIPE
    tuned_by: tuple[str, ...] = ()
    """Folders of the trials that chose the learning rate. Not part of the identity: the weights are the same however
    the learning rate was chosen."""

    @field_validator("options", "training", mode="before")
    @classmethod
    def _as_json_has_them(cls, settings: object) -> object:
        """A user's method may resolve its settings to tuples."""
        return json_values(settings)

    @cached_property
    def id(self) -> str:
        """The training hash, 8 hex digits."""
        content = self.model_dump(mode="json", exclude={"tuned_by"})
        # A null setting is off: a method can gain a setting without changing the identity of its older cells.
        content["options"] = _without_null(content["options"])
        if self.training and self.training.get("order") == "random":  # the only order before the setting existed
            del content["training"]["order"]
        if self.data and self.data.template is None:  # data without instructions had no template either
            del content["data"]["template"]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return short_hash(text, digits=8)

    @cached_property
    def training_config(self) -> TrainingConfig:
        """The settings of the training. Raises ValueError for the untuned base, which has none."""
        if self.training is None:
            raise ValueError(f"{self.name} is not trained")
        return TrainingConfig.model_validate({"order": "random", **self.training})  # older cells do not name the order

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """A copy with other values, which are not validated, and an id of its own."""
        copy = super().model_copy(update=update, deep=deep)
        for name in ("id", "training_config"):  # cached for the values of before
            copy.__dict__.pop(name, None)
        return copy

    @property
    def trained_on(self) -> int:
        """Examples in an epoch: the samples without those that are held out for validation."""
        if self.training is None or not self.training.get("validation"):
            return self.samples
        validation = self.training_config.validation
        return self.samples - (validation.examples if validation is not None else 0)

    @property
    def steps(self) -> int:
        """Optimizer steps of the training."""
        config = self.training_config
        return math.ceil(math.ceil(self.trained_on / config.batch_size) * config.epochs)

    @property
    def rank(self) -> int | None:
        """The rank; None for a method without one."""
        rank = self.options.get("rank")
        return rank if isinstance(rank, int) else None

    @property
    def lr(self) -> float | None:
        """The peak learning rate; None for the untuned base."""
        rate = self.options.get("lr")
        return float(rate) if isinstance(rate, (int, float)) else None

    @property
    def name(self) -> str:
        """The folder's name without the hash, e.g. ``dora-r16-n1000-s0``."""
        if self.data is None:
            return self.method
        rank = f"-r{self.rank}" if self.rank is not None else ""
        return f"{self.method.replace(':', '.')}{rank}-n{self.samples}-s{self.seed}"

    @property
    def folder(self) -> str:
        """The name of the cell's folder."""
        return f"{self.name}-{self.id}"

    def __hash__(self) -> int:
        return hash(self.id)
