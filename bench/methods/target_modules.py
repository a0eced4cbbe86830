"""The modules of a base model that an adapter is put on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn
    from transformers import PreTrainedModel

LLM_ADAPTERS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
"""The choice of LLM-Adapters and DoRA for llama models (arXiv 2402.09353, Table 8)."""


def is_named(path: str, names: Sequence[str]) -> bool:
    """Whether a module's path ends in one of the names (`q_proj`, `self_attn.q_proj`), at a dot."""
    return any(f".{path}".endswith(f".{name}") for name in names)


def linear_layers(model: PreTrainedModel) -> list[str]:
    """The last name parts of every linear layer but the output head, sorted: ``["down_proj", ...]``."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return sorted(
        {
            path.rpartition(".")[2]
            for path, module in model.named_modules()
            if isinstance(module, (nn.Linear, Conv1D)) and module is not head
        }
    )


def targeted_weights(model: nn.Module, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The weights of the linear layers that `names` (ends of module paths) stand for, by full path."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {
        path: module.weight
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and is_named(path, names)
    }


def resolve_target_modules(setting: str | list[str], model: PreTrainedModel, method: str) -> list[str]:
    """`auto`, `llm_adapters` or a list, as a sorted list of module names that the model has.

    Raises UserError for a module that the model lacks, listing its linear layers.
    """
    layers = linear_layers(model)
    if setting == "auto":
        return layers
    names = LLM_ADAPTERS if setting == "llm_adapters" else [setting] if isinstance(setting, str) else setting
    paths = [path for path, _ in model.named_modules()]
    missing = [name for name in names if not any(is_named(path, [name]) for path in paths)]
    if missing:
        raise UserError(
            f"method {method}: the base model has no module {', '.join(missing)}",
            f"Its linear layers: {', '.join(layers)}. Or give target_modules: auto.",
        )
    return sorted(names)
