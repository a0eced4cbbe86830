"""The seam: what a way of fine-tuning must be able to do.

A method turns a base model into something that is trained and scored like any other causal language model.
Trainer, evaluator and store never ask which method they hold. Importing a method must not import torch:
`bench plan` and `bench methods` read the facts and the settings alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, ValidationError

from bench.errors import UserError
from bench.sweep import Cell, Strict, describe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Facts:
    """What is true of a method whatever its settings."""

    summary: str
    rank: str | None
    """What `rank` means for it; None where it has none."""
    mergeable: bool
    """Its change can be folded into the base's weights."""
    shared_prefix: bool
    """A context may be run once for all of a question's choices (not so where PEFT prepends virtual tokens)."""
    quantizes: bool
    """The base is loaded quantized."""
    weight_decay: bool
    """Weight decay may be applied to what it trains."""
    lr_grid: tuple[float, ...]
    """Rates to try, log-spaced around the published one."""
    source: str
    """The paper, with the section or table that the defaults come from."""


class Options(Strict):
    """The settings that every trained method has."""

    lr: float = Field(gt=0)
    """Peak learning rate."""


class Method:
    """Base class of all methods. Subclasses set `name`, `facts` and `Options` and fill in the verbs."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    """Raised when the method comes to train differently from the same settings; part of a cell's identity."""
    facts: ClassVar[Facts]
    Options: ClassVar[type[Strict]]

    def resolve(self, settings: dict[str, Any], model: nn.Module) -> dict[str, Any]:
        """The settings with every default filled in, checked against the base (here a model on the meta device).

        Raises UserError, naming the method, for a setting that is unknown or impossible for this base.
        """
        try:
            return self.Options.model_validate(settings).model_dump(mode="json")
        except ValidationError as error:
            text = describe(error)
            if self.facts.rank is None and "rank" in settings:
                text = f"rank: {self.name} has no rank; leave it out"
            raise UserError(f"method {self.name}: {text}") from None

    def load_kwargs(self, cell: Cell) -> dict[str, Any]:
        """How the base must be loaded, as keywords of `base_models.load` (`dtype`, a name) or `from_pretrained`."""
        return {}

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        """The model to train, with the same call signature as a causal language model. Only what it trains
        requires a gradient. Seeds are set before the call."""
        raise NotImplementedError

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer | None:
        """An optimizer of its own, or None: AdamW over what requires a gradient."""
        return None

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write what was trained, as safetensors, into an existing folder."""
        raise NotImplementedError

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        """Put what `save` wrote onto a freshly loaded base."""
        raise NotImplementedError

    def merge(self, model: nn.Module) -> nn.Module | None:
        """A plain causal language model that answers alike, computed in float32; None where it cannot be."""
        return None
