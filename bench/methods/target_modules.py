"""The modules of a base model that an adapter is put on."""

from __future__ import annotations

import functools
import inspect
import re
from typing import TYPE_CHECKING, cast

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


def adaptable_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear layers of the text model that an adapter can be put on, by path.

    Left out are the output head, linear layers that do not return one tensor (`returns_one_tensor`), those that an
    adapter would not act on (`_is_never_called`) and, in a model that wraps a text model (to read images, say),
    everything outside the text model's blocks.
    """
    from bench.models.blocks import find_blocks

    head = model.get_output_embeddings()
    blocks = find_blocks(model) if model.config.sub_configs else None
    return {
        path: module
        for path, module in model.named_modules()
        if is_linear(module)
        and module is not head
        and (blocks is None or path.startswith(f"{blocks.path}."))
        and not _is_never_called(model, path)
        and returns_one_tensor(module)
    }


def is_linear(module: nn.Module) -> bool:
    """Whether it is torch's linear layer, or GPT-2's."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D))


def returns_one_tensor(layer: nn.Module) -> bool:
    """Whether a linear layer maps (..., in) to (..., out), as adapters assume.

    The routers of some mixtures of experts are subclasses of `nn.Linear` and return scores and choices. A layer of
    such a class is tried on the meta device.
    """
    import torch
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if type(layer).forward in (nn.Linear.forward, Conv1D.forward) or not isinstance(layer, nn.Linear):
        return True
    if layer.weight.device.type != "meta":  # a quantized layer, or one that was checked in the plan
        return True
    try:
        output = layer(torch.empty(2, 3, layer.in_features, dtype=layer.weight.dtype, device="meta"))
    except Exception:  # its forward may want anything
        return False
    return isinstance(output, torch.Tensor) and output.shape == (2, 3, layer.out_features)


def _is_never_called(model: PreTrainedModel, path: str) -> bool:
    """Whether an adapter on this layer would do nothing, or get no gradient.

    Some modules read a layer's weight instead of calling the layer: mixers of state-space models, whose kernels take
    it, and some routers. Indexers choose the positions of sparse attention, which has no gradient.
    """
    parent, _, name = path.rpartition(".")
    kind = type(model.get_submodule(parent))
    return "indexer" in parent.split(".") or name in _weights_read(kind)  # type: ignore[arg-type]  # classes have a hash


@functools.cache
def _weights_read(kind: type[object]) -> frozenset[str]:
    """The attributes of a class of modules whose whole weight its code uses: ``self.out_proj.weight``."""
    try:
        lines = inspect.getsource(kind).splitlines()
    except (OSError, TypeError):  # a class without source
        return frozenset()
    uses = (re.findall(r"self\.(\w+)\.weight\b(?!\[|\.(?:data|dtype|device|shape)\b)", line) for line in lines)
    return frozenset(name for line, names in zip(lines, uses, strict=True) for name in names if "init." not in line)


def linear_layers(model: PreTrainedModel) -> list[str]:
    """The names of the layers that can be adapted, sorted: ``["down_proj", ...]``, each the last part of a path.

    Where other modules have the same name (an image encoder's layers, a number that also counts blocks), it is the
    whole path.
    """
    layers = adaptable_layers(model)
    others = {path.rpartition(".")[2] for path, _ in model.named_modules() if path not in layers}
    names = {path: path.rpartition(".")[2] for path in layers}
    return sorted({path if name in others or name.isdigit() else name for path, name in names.items()})


def targeted_weights(model: nn.Module, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The weights of the linear layers that `names` (ends of module paths) stand for, by full path."""
    return {
        path: cast("torch.Tensor", module.weight)
        for path, module in model.named_modules()
        if is_linear(module) and is_named(path, names)
    }


def resolve_target_modules(setting: str | list[str], model: PreTrainedModel, method: str) -> list[str]:
    """`auto`, `llm_adapters` or a list, as a sorted list of module names that the model has.

    Raises UserError for a module that the model lacks, listing its linear layers, and for one that no adapter can be
    put on.
    """
    layers = linear_layers(model)
    if setting == "auto":
        if not layers:
            raise UserError(f"method {method}: the base model has no linear layer", "Name modules in target_modules.")
        return layers
    names = LLM_ADAPTERS if setting == "llm_adapters" else [setting] if isinstance(setting, str) else setting
    modules = dict(model.named_modules())
    missing = [name for name in names if not any(is_named(path, [name]) for path in modules)]
    if missing:
        raise UserError(
            f"method {method}: the base model has no module {', '.join(missing)}",
            f"Its linear layers: {', '.join(layers)}. Or give target_modules: auto.",
        )
    for path, module in modules.items():
        if path and is_named(path, names) and (reason := _not_adaptable(module)):
            raise UserError(
                f"method {method}: {path} is a {type(module).__name__}, {reason}",
                f"Give the path of a linear layer. Those that can be adapted: {', '.join(layers)}.",
            )
    return sorted(names)


def expert_parameters(model: PreTrainedModel) -> list[str]:
    """The names of the 3-D weights of mixtures of experts, sorted: ``["experts.down_proj", ...]``."""
    names = set()
    for path, module in model.named_modules():
        end = path.rpartition(".")[2]
        if "experts" in type(module).__name__.lower() or end.endswith("experts"):
            names |= {f"{end}.{name}" for name, weight in module.named_parameters(recurse=False) if weight.ndim == 3}
    return sorted(names)


def resolve_target_parameters(setting: str | list[str], model: PreTrainedModel, method: str) -> list[str]:
    """`experts`, or names of parameters, as a sorted list of names that the model has. Raises UserError else."""
    experts = expert_parameters(model)
    paths = [path for path, _ in model.named_parameters()]
    names = experts if setting == "experts" else [setting] if isinstance(setting, str) else setting
    missing = [name for name in names if not any(is_named(path, [name]) for path in paths)]
    if missing or not names:
        raise UserError(
            f"method {method}: target_parameters: the base model has no parameter {', '.join(missing) or 'of experts'}",
            f"Its experts: {', '.join(experts)}." if experts else "Leave target_parameters out for this base.",
        )
    return sorted(names)


def _not_adaptable(module: nn.Module) -> str:
    """Why no adapter can be put on a module; empty if there is no such reason."""
    from torch import nn

    if next(module.children(), None) is not None and not isinstance(module, nn.MultiheadAttention):
        return "which has several layers"
    if is_linear(module) and not returns_one_tensor(module):
        return "which does not return one tensor"
    return ""
