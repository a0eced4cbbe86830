"""Which modules of a base model an adapter goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

LLM_ADAPTERS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
"""LLM-Adapters' and DoRA's choice for llama models (arXiv 2402.09353, Table 8)."""


def linear_layers(model: nn.Module) -> list[str]:
    """The last name parts of every linear layer but the output head, sorted: ``["down_proj", ...]``."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, (nn.Linear, Conv1D)) and module is not head
        }
    )


def targeted(model: nn.Module, names: list[str]) -> dict[str, torch.Tensor]:
    """The weights of the linear layers that `names` (ends of module names) stand for, by full module name."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {
        full: module.weight
        for full, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and any(f".{full}".endswith(f".{name}") for name in names)
    }


def resolve_targets(asked: str | list[str], model: nn.Module, method: str) -> list[str]:
    """`auto`, `llm_adapters` or a list, as a sorted list of module names that the model has.

    Raises UserError for a module that the model lacks, saying which linear layers it has.
    """
    layers = linear_layers(model)
    if asked == "auto":
        return layers
    names = LLM_ADAPTERS if asked == "llm_adapters" else [asked] if isinstance(asked, str) else asked
    everything = [name for name, _ in model.named_modules()]
    missing = [name for name in names if not any(f".{full}".endswith(f".{name}") for full in everything)]
    if missing:
        raise UserError(
            f"method {method}: the base model has no module {', '.join(missing)}",
            f"Its linear layers: {', '.join(layers)}. Or give target_modules: auto.",
        )
    return sorted(names)
