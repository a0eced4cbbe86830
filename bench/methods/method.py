"""The interface of a fine-tuning method.

A method turns a base model into a model that is trained and scored like any other causal language model. The training
loop, evaluator and store never ask which method they hold. Importing a method must not import torch: `bench plan` and
`bench methods` read only the facts and the settings.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypedDict

from pydantic import JsonValue, ValidationError

from bench.errors import SettingsError, UserError
from bench.sweep.cell import Cell, Settings
from bench.sweep.schema import describe
from bench.sweep.sections import LearningRate, Strict

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from torch.optim import Optimizer
    from transformers import BitsAndBytesConfig, PreTrainedModel


SharedPrefix = Literal["none", "context", "any"]
ExportSource = Literal["files", "skeleton", "model"]
"""What an adapter is exported from: its files alone, these and the base without weights, or the base with the adapter
loaded."""


@dataclass(frozen=True)
class MethodFacts:
    """Properties of a method that do not depend on its settings."""

    summary: str
    rank: str | None
    """What `rank` means for it; None for a method without a rank."""
    shared_prefix: SharedPrefix
    """The part of a question's texts that may be run once for all of its choices: any common prefix ("any"), only a
    whole context ("context": the method acts on positions counted within the prompt), or nothing ("none": PEFT
    prepends virtual tokens)."""
    lr_center: float | None
    """The centre of the learning rates that tuning tries, one for a family: its published rate. None for a method
    without one."""
    source: str
    """The paper, with the section or table that the defaults come from."""
    pads_left: bool = True
    """Prompts of a batch may be padded on the left in generation. False where PEFT puts virtual tokens before the text
    as embeddings: it counts the padding between them and the text as positions, which moves the logits."""
    cannot_merge: str = ""
    """Why its change cannot be merged into the base's weights; empty if it can."""
    no_weight_decay: str = ""
    """Why weight decay must be 0; empty if it may be set."""
    no_checkpointing: str = ""
    """Why `training.gradient_checkpointing` must be off; empty if it may be on."""
    no_packing: str = ""
    """Why `training.packed` must be off; empty if several examples may share a row."""
    no_validation: str = ""
    """Why `training.validation` must be off; empty if the weights of an earlier step can be restored."""
    no_checkpoint: str = ""
    """Why a training that was stopped must start again; empty if it resumes from a checkpoint
    (`bench.training.checkpoint`)."""
    requires: str = ""
    """What it needs of a base's architecture, as a sentence; said where the method fails on a base."""
    quantizes: bool = False
    """The base is loaded quantized."""
    needs: Mapping[str, str] | None = None
    """Packages that it imports beyond the main dependencies, each with the extra that installs it."""

    @property
    def mergeable(self) -> bool:
        return not self.cannot_merge


class MethodOptions(Strict):
    """The settings that every trained method has."""

    lr: LearningRate
    """Peak learning rate."""


class LoadingKeywords(TypedDict, total=False):
    """How the base model must be loaded: the `method_kwargs` of `bench.models.load.load_model`."""

    dtype: str
    """The name of a torch dtype."""
    quantization_config: BitsAndBytesConfig


class Method:
    """Base class of all methods. Subclasses set `name`, `facts` and `Options`, and override the functions below."""

    name: str
    version: str = "1"
    """Raised when the method trains differently with the same settings; part of a cell's identity."""
    facts: MethodFacts
    Options: ClassVar[type[Strict]]
    """The settings and their defaults."""
    export_library: str = "PEFT"
    """The library that loads an exported adapter, as a person writes its name."""
    preset: Mapping[str, JsonValue] = {}
    """Settings that this name sets; those of the sweep file override them."""

    @classmethod
    def named(cls, name: str, preset: Mapping[str, JsonValue] | None = None, facts: MethodFacts | None = None) -> Self:
        """This method under another name, with some settings preset and other facts."""
        method = cls()
        method.name, method.preset, method.facts = name, preset or {}, facts or cls.facts
        return method

    def facts_for(self, options: Settings) -> MethodFacts:
        """The facts under these resolved settings (a quantized LoRA, for example, cannot merge)."""
        return self.facts

    def explain(self, options: Settings, error: str) -> str:
        """Why the method fails on a base: what it needs of a base's architecture, if that is known, and then the error
        of a library."""
        requires = self.facts_for(options).requires
        return f"{requires} ({error})" if requires else error

    @property
    def default_lr(self) -> float | None:
        """The learning rate if a sweep gives none; None if it depends on other settings."""
        field = self.Options.model_fields.get("lr")
        if field is None:
            return None
        rate = self.preset.get("lr", field.default)
        return float(rate) if isinstance(rate, (int, float)) else None

    def check_machine(self, options: Settings) -> None:
        """Called before anything is loaded. Raises UserError if this machine cannot run the method."""
        self.check_packages(self.facts_for(options))

    def check_packages(self, facts: MethodFacts | None = None) -> None:
        """Raises UserError if a package that the method needs is not installed."""
        for module, extra in ((facts or self.facts).needs or {}).items():
            if importlib.util.find_spec(module) is None:
                raise UserError(
                    f"method {self.name} needs {module}, which is not installed", f"pip install 'bench-peft[{extra}]'"
                )

    def resolve(self, settings: Settings, model: PreTrainedModel) -> Settings:
        """The settings with every default filled in, checked against the base (here a model on the meta device).

        Raises UserError, naming the method, for a setting that is unknown or impossible for this base.
        """
        try:
            return self.Options.model_validate({**self.preset, **settings}).model_dump(mode="json")
        except ValidationError as error:
            text = describe(error)
            if self.facts.rank is None and {"rank", "r"} & set(settings):
                text = f"rank: {self.name} has no rank; leave it out"
            raise SettingsError(f"method {self.name}: {text}") from None

    def virtual_tokens(self, options: Settings) -> int:
        """How many positions before a text the method takes up."""
        return 0

    def load_kwargs(self, cell: Cell) -> LoadingKeywords:
        """How the base must be loaded, where this differs from the cell's own settings."""
        return {}

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        """The model to train, with the call signature of a causal language model. Only trained parameters require a
        gradient. Seeds are set before the call. A method that needs to know which tokens are the prompt reads
        `prompt_mask` (B, T) on entry (`bench.models.hooks.on_prompt_mask`)."""
        raise NotImplementedError

    def optimizer(self, model: nn.Module, cell: Cell) -> Optimizer | None:
        """The method's optimizer, or None for AdamW over all parameters that require a gradient."""
        return None

    def penalty(self, model: nn.Module, cell: Cell) -> torch.Tensor | None:
        """A scalar that is added to the loss of each forward pass, or None."""
        return None

    def after_step(self, model: nn.Module, cell: Cell, step: int) -> None:
        """Called after optimizer step number `step` (from 1), before the gradients are cleared."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the trained parameters, as safetensors, into an existing folder."""
        raise NotImplementedError

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        """Apply the parameters that `save` wrote to a freshly loaded base."""
        raise NotImplementedError

    def export_source(self, options: Settings) -> ExportSource:
        """What `export` needs beside the files that `save` wrote."""
        return "files"

    def cannot_export(self, options: Settings, folder: Path) -> str:
        """Why `export_library` cannot load what `save` wrote into this folder in any form; empty if it can."""
        return "it is in a form of its own"

    def export(self, adapter: Path, to: Path, cell: Cell, model: nn.Module | None) -> None:
        """Write what `save` wrote into `adapter` as `export_library` loads it on the unchanged base, into a new folder.

        `model` is what `export_source` asks for, None for "files". Raises UserError for a base that the library does
        not know.
        """
        shutil.copytree(adapter, to)

    def export_notes(self, cell: Cell) -> list[str]:
        """Lines of Markdown for the model card of an exported adapter: how it is used, where the library's own pages do
        not say it."""
        return []

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain causal language model with the same outputs, computed in float32. Called only if the facts say that
        the method can merge; may take `model` apart."""
        raise NotImplementedError
