"""What all methods that come from PEFT share: attaching, saving, loading and merging through PEFT's own code."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.methods.method import Method
from bench.sweep.cell import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel


class PeftMethod(Method):
    """A method whose adapter is a PEFT configuration. Subclasses say which (`config`)."""

    @property
    def changes_weights(self) -> bool:
        """Whether it works on the weights of layers (and not through virtual tokens or attention of its own)."""
        return True

    def config(self, cell: Cell) -> PeftConfig:
        """The configuration of a cell, complete."""
        raise NotImplementedError

    def attach(self, model: PreTrainedModel, cell: Cell) -> nn.Module:
        return self._adapted(model, self.config(cell), cell)

    def save(self, model: nn.Module, folder: Path) -> None:
        # Without the flag PEFT asks the hub whether the vocabulary was resized.
        model.save_pretrained(folder, save_embedding_layers=False)

    def load(self, model: PreTrainedModel, folder: Path, cell: Cell) -> nn.Module:
        """As PeftModel.from_pretrained, but into float32 weights: what was trained in float32 is not rounded."""
        from peft import PeftConfig
        from peft.utils import load_peft_weights, set_peft_model_state_dict

        with quiet():
            config = self.loading_config(PeftConfig.from_pretrained(folder))
            config.inference_mode = False
            adapted = self._adapted(model, config, cell)
            found = set_peft_model_state_dict(adapted, load_peft_weights(folder, device="cpu"))
        if config.is_prompt_learning:
            # Prompts are saved as they are used; what made them (p-tuning's network) is not there any more.
            config.inference_mode = True
        elif found.unexpected_keys:
            raise ValueError(f"{folder.name} does not fit the base: {sorted(found.unexpected_keys)[:3]}")
        return adapted

    def cannot_load_in_peft(self, options: Mapping[str, Any]) -> str:
        return ""

    def loading_config(self, config: PeftConfig) -> PeftConfig:
        """The configuration with which to load: the saved one."""
        return config

    def merge(self, model: nn.Module) -> nn.Module:
        with quiet():
            return model.float().merge_and_unload()

    def _adapted(self, model: PreTrainedModel, config: PeftConfig, cell: Cell) -> PeftModel:
        """The model with its adapter, whether fresh or about to be loaded; what is trained is in float32."""
        from peft import get_peft_model

        with quiet():
            adapted = get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad and parameter.dtype.itemsize == 2:
                parameter.data = parameter.data.float()
        return adapted


@contextmanager
def quiet() -> Iterator[None]:
    """PEFT's warnings about its own choices: each is in the registry or the docs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
