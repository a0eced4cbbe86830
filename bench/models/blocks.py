"""The blocks of a causal language model: the layers that its hidden states pass, one after another."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn
from transformers import PreTrainedModel


class Blocks(NamedTuple):
    """The blocks of a model."""

    path: str
    """Where the list of blocks is in the model: ``model.layers``."""
    decoder: nn.Module
    """The module that runs them."""
    layers: nn.ModuleList


def find_blocks(model: PreTrainedModel) -> Blocks | None:
    """The blocks of the text model; None if no list of modules is as long as the configuration says.

    Encoders of images or sound in a model have blocks, too: they are modules with a configuration of their own.
    """
    text = model.config.get_text_config()
    depth = getattr(text, "num_hidden_layers", None)
    other = [
        f"{path}."
        for path, module in model.named_modules()
        if isinstance(module, PreTrainedModel) and type(module.config) not in (type(text), type(model.config))
    ]
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth and not path.startswith(tuple(other))
    }
    if not lists:
        return None
    path = max(lists, key=lambda path: sum(parameter.numel() for parameter in lists[path].parameters()))
    return Blocks(path, model.get_submodule(path.rpartition(".")[0]), lists[path])
