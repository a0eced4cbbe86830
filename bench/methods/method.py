"""The seam: what a way of fine-tuning must be able to do.

A method turns a base model into something that is trained and scored like any other causal language model.
Trainer, evaluator and store never ask which method they hold. Importing a method must not import torch:
`bench plan` and `bench methods` read the facts and the settings alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError

from bench.errors import UserError
from bench.sweep.cell import Cell
from bench.sweep.schema import describe
from bench.sweep.sections import Strict

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


SharedPrefix = Literal["none", "context", "any"]


@dataclass(frozen=True)
class MethodFacts:
    """What is true of a method whatever its settings."""

    summary: str
    rank: str | None
    """What `rank` means for it; None where it has none."""
    shared_prefix: SharedPrefix
    """What of a question's texts may be run once for all of its choices: whatever they have in common ("any"), a whole
    context ("context": it acts on places counted within the prompt), or nothing (PEFT prepends virtual tokens)."""
    lr_grid: tuple[float, ...]
    """Rates to try, log-spaced around the published one."""
    source: str
    """The paper, with the section or table that the defaults come from."""
    pads_left: bool = True
    """Prompts of a batch in generation may be filled up on the left. Not so where PEFT puts virtual tokens before the
    text as embeddings: it counts the padding between the two as positions, which moves the logits."""
    cannot_merge: str = ""
    """Why its change cannot be folded into the base's weights; empty where it can."""
    no_weight_decay: str = ""
    """Why weight decay must be 0 for it; empty where it may be set."""
    no_checkpointing: str = ""
    """Why `training.gradient_checkpointing` must be off for it; empty where it may be on."""
    no_packing: str = ""
    """Why `training.packed` must be off for it; empty where several examples may share a row."""
    no_validation: str = ""
    """Why `training.validation` must be off for it; empty where the weights of an earlier step may be put back."""
    no_checkpoint: str = ""
    """Why a killed training must begin anew; empty where it goes on from a checkpoint (`bench.training.checkpoint`)."""
    quantizes: bool = False
    """The base is loaded quantized."""
    needs: Mapping[str, str] | None = None
    """Packages that it imports beyond the main dependencies, each with the extra that installs it."""

    @property
    def mergeable(self) -> bool:
        return not self.cannot_merge


class MethodOptions(Strict):
    """The settings that every trained method has."""

    lr: float = Field(gt=0)
    """Peak learning rate."""


class Method:
    """Base class of all methods. Subclasses set `name`, `facts` and `Options` and fill in the verbs."""

    name: str
    version: str = "1"
    """Raised when the method comes to train differently from the same settings; part of a cell's identity."""
    facts: MethodFacts
    Options: ClassVar[type[Strict]]
    preset: Mapping[str, Any] = {}
    """Settings that this name stands for; those of the sweep file win."""

    @classmethod
    def named(cls, name: str, preset: Mapping[str, Any] | None = None, **facts: Any) -> Self:
        """This method under a name of its own, with settings preset and some facts replaced."""
        method = cls()
        method.name, method.preset, method.facts = name, preset or {}, replace(cls.facts, **facts)
        return method

    def facts_for(self, options: Mapping[str, Any]) -> MethodFacts:
        """The facts under these resolved settings (a quantized LoRA, say, cannot merge)."""
        return self.facts

    @property
    def default_lr(self) -> float | None:
        """The learning rate where a sweep gives none; None where it depends on other settings."""
        field = self.Options.model_fields.get("lr")
        return self.preset.get("lr", field.default) if field is not None else None

    def check_machine(self, options: Mapping[str, Any]) -> None:
        """Called before anything is loaded. Raises UserError where this machine cannot run the method."""
        self.check_packages(self.facts_for(options))

    def check_packages(self, facts: MethodFacts | None = None) -> None:
        """Raises UserError where a package that the method needs is not installed."""
        for module, extra in ((facts or self.facts).needs or {}).items():
            if importlib.util.find_spec(module) is None:
                raise UserError(
                    f"method {self.name} needs {module}, which is not installed", f"pip install 'bench-peft[{extra}]'"
                )

    def resolve(self, settings: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
        """The settings with every default filled in, checked against the base (here a model on the meta device).

        Raises UserError, naming the method, for a setting that is unknown or impossible for this base.
        """
        try:
            return self.Options.model_validate({**self.preset, **settings}).model_dump(mode="json")
        except ValidationError as error:
            text = describe(error)
            if self.facts.rank is None and "rank" in settings:
                text = f"rank: {self.name} has no rank; leave it out"
            raise UserError(f"method {self.name}: {text}") from None

    def load_kwargs(self, cell: Cell) -> dict[str, Any]:
        """How the base must be loaded, as keywords of `load_model` (`dtype`, a name) or `from_pretrained`."""
        return {}

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        """The model to train, with the same call signature as a causal language model. Only what it trains
        requires a gradient. Seeds are set before the call. A method that needs to know which tokens are the prompt
        takes `prompt_mask` (B, T) at the entrance (`bench.models.hooks.at_entrance`)."""
        raise NotImplementedError

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer | None:
        """An optimizer of its own, or None: AdamW over what requires a gradient."""
        return None

    def penalty(self, model: nn.Module, cell: Cell) -> torch.Tensor | None:
        """A scalar added to the loss of each forward pass, or None."""
        return None

    def after_step(self, model: nn.Module, cell: Cell, step: int) -> None:
        """Called after optimizer step number `step` (from 1), before the gradients are cleared."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write what was trained, as safetensors, into an existing folder."""
        raise NotImplementedError

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        """Put what `save` wrote onto a freshly loaded base."""
        raise NotImplementedError

    def cannot_load_in_peft(self, options: Mapping[str, Any]) -> str:
        """Why PEFT alone cannot load what `save` wrote; empty where it can."""
        return "it is in a form of its own"

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain causal language model that answers alike, computed in float32. Called where the facts say that
        it can be; may take `model` apart."""
        raise NotImplementedError
