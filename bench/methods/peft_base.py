"""The common part of all methods that come from PEFT: attaching, saving, loading and merging through PEFT's code."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.methods.method import Method
from bench.sweep.cell import Cell, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel


class PeftMethod(Method):
    """A method whose adapter is a PEFT configuration, which subclasses give (`config`)."""

    @property
    def changes_weights(self) -> bool:
        """Whether it acts on the weights of layers (and not through virtual tokens or attention of its own)."""
        return True

    def config(self, cell: Cell) -> PeftConfig:
        """The complete configuration of a cell."""
        raise NotImplementedError

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        return self._adapted(model, self.config(cell), cell)

    def save(self, model: nn.Module, folder: Path) -> None:
        # Without the flag PEFT asks the hub whether the vocabulary was resized.
        cast("PeftModel", model).save_pretrained(str(folder), save_embedding_layers=False)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> PeftModel:
        """As PeftModel.from_pretrained, but into float32 weights: parameters trained in float32 are not rounded.

        Raises ValueError if the file lacks parameters of the method, or holds others.
        """
        from peft import PeftConfig
        from peft.utils import load_peft_weights, set_peft_model_state_dict

        with no_warnings():
            config = self.loading_config(PeftConfig.from_pretrained(str(folder)))
            config.inference_mode = False
            adapted = self._adapted(model, config, cell)
            result = set_peft_model_state_dict(adapted, load_peft_weights(str(folder), device="cpu"))
        unexpected: list[str] = getattr(result, "unexpected_keys", [])
        missing: list[str] = getattr(result, "missing_keys", [])
        absent = _unloaded_parameters(adapted, set(missing))
        if config.is_prompt_learning:
            # Prompts are saved as they are used, without the network that made them (p-tuning's).
            config.inference_mode = True
        elif unexpected or absent:
            raise ValueError(f"{folder.name} does not fit the base: {[*sorted(unexpected), *sorted(absent)][:3]}")
        return adapted

    def cannot_export(self, options: Settings, folder: Path) -> str:
        return ""

    def export(self, adapter: Path, to: Path, cell: Cell, model: nn.Module | None) -> None:
        """The base model is named as the cell does it, instead of by a path of this machine."""
        super().export(adapter, to, cell, model)
        write_base_name(to, cell.base.id)

    def loading_config(self, config: PeftConfig) -> PeftConfig:
        """The configuration with which to load: the saved one."""
        return config

    def merge(self, model: nn.Module) -> nn.Module:
        from bench.models.hooks import causal_lm
        from bench.models.tied_weights import untie_adapted_weights

        untie_adapted_weights(model, causal_lm(model))
        with no_warnings():
            merged: nn.Module = cast("PeftModel", model.float()).merge_and_unload()
        return merged

    def _adapted(self, model: PreTrainedModel, config: PeftConfig, cell: Cell) -> PeftModel:
        """The model with its adapter, fresh or about to be loaded; trained parameters are in float32."""
        from peft import get_peft_model

        with no_warnings():
            adapted = get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad and parameter.dtype.itemsize == 2:
                parameter.data = parameter.data.float()
        return cast("PeftModel", adapted)


def write_base_name(folder: Path, base: str) -> None:
    """Name the base model in an adapter's configuration."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _unloaded_parameters(model: nn.Module, missing: set[str]) -> set[str]:
    """The names of trained parameters of which no name was loaded.

    Layers may share a parameter (VB-LoRA's bank, Uni-LoRA's theta): its file has it once, under the name that PEFT
    gives it.
    """
    names: dict[int, list[str]] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        if value.requires_grad:
            names.setdefault(id(value), []).append(name)
    return {shared[0] for shared in names.values() if missing.issuperset(shared)}


_collected: ContextVar[list[str] | None] = ContextVar("_collected", default=None)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Keeps PEFT's warnings from the terminal; `collect_warnings` has them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts = _collected.get()
    if texts is not None:
        texts += [str(warning.message) for warning in caught if not issubclass(warning.category, OF_VERSIONS)]


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """The texts of the warnings that PEFT gives within it, each once, without those that say nothing to a user."""
    texts: list[str] = []
    token = _collected.set(texts)
    try:
        yield texts
    finally:
        _collected.reset(token)
        texts[:] = dict.fromkeys(text for text in texts if not any(part in text for part in CORRECTED))


OF_VERSIONS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
CORRECTED = ("fan_in_fan_out is set to",)
"""In warnings of what PEFT itself sets right: how gpt2 and its kin lay out their weights."""
