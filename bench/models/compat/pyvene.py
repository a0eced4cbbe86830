"""pyvene: the folder that `IntervenableModel.load` reads, and the base models that it knows the blocks of.

Upstream: https://github.com/stanfordnlp/pyvene/blob/v0.1.8/pyvene/models/intervenable_base.py (`save`, `load`) and
https://github.com/stanfordnlp/pyvene/blob/v0.1.8/pyvene/models/intervenable_modelcard.py (its tables of base models).

The loader builds each intervention from the fields of `RepresentationConfig` alone, so it makes linear layers in
bfloat16 and then copies float32 values into them, which rounds them. A state dict whose metadata asks torch to assign
its tensors keeps their dtype (`assign_to_params_buffers`, what `load_state_dict(assign=True)` sets).
"""

from __future__ import annotations

import contextlib
import inspect
import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.models.compat import require

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LINK = "https://github.com/stanfordnlp/pyvene/blob/v0.1.8/pyvene/models/"
OUTPUT = "block_output"
"""pyvene's name of what a block returns."""

require(
    "assign_to_params_buffers" in inspect.getsource(nn.Module.load_state_dict)
    and "assign_to_params_buffers" in inspect.getsource(nn.Module._load_from_state_dict),
    "torch",
    "how load_state_dict is told to assign",
    "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/nn/modules/module.py",
)


@dataclass(frozen=True)
class LayerIntervention:
    """A low-rank intervention on what a block returns."""

    layer: int
    """The block's number, from 0."""
    rank: int
    values: dict[str, torch.Tensor]
    """The intervention's own state dict, in the dtypes that it is to have when it is loaded."""


def unknown_blocks(model: PreTrainedModel, layers: Sequence[nn.Module]) -> str:
    """Why pyvene's loader does not find these blocks of a base model; empty if it does."""
    with contextlib.redirect_stdout(io.StringIO()):  # pyvene prints at import
        from pyvene.models import intervenable_modelcard as tables
        from pyvene.models.modeling_utils import getattr_for_torch_module

    modules, sizes = tables.type_to_module_mapping, tables.type_to_dimension_mapping
    require(
        isinstance(modules, dict) and isinstance(sizes, dict),
        "pyvene",
        "the tables of base models",
        LINK + "intervenable_modelcard.py",
    )
    if OUTPUT not in modules.get(type(model), {}) or OUTPUT not in sizes.get(type(model), {}):
        return f"pyvene, which it loads with, has no {type(model).__name__} among its base models"
    path = modules[type(model)][OUTPUT][0]
    try:
        theirs = [getattr_for_torch_module(model, path % index) for index in range(len(layers))]
    except (AttributeError, IndexError):
        theirs = []
    if any(a is not b for a, b in zip(theirs, layers, strict=False)) or len(theirs) != len(layers):
        return f"pyvene, which it loads with, looks for the blocks of a {type(model).__name__} in another place"
    return ""


def write_interventions(folder: Path, kind: type[nn.Module], interventions: Sequence[LayerIntervention]) -> None:
    """Write interventions of one class into a folder that `IntervenableModel.load` and `ReftModel.load` read, in the
    order in which they take their positions. The tensors are in torch's own format, which `torch.load` reads with
    `weights_only`."""
    with contextlib.redirect_stdout(io.StringIO()):
        from pyvene import IntervenableConfig, RepresentationConfig

    fields = {"layer", "component", "unit", "max_number_of_units", "low_rank_dimension"}
    require(
        fields <= set(RepresentationConfig._fields),
        "pyvene",
        "the fields of RepresentationConfig",
        LINK + "configuration_intervenable_model.py",
    )
    keys, seen = [], dict.fromkeys((item.layer for item in interventions), 0)
    for item in interventions:
        keys.append(f"layer_{item.layer}_comp_{OUTPUT}_unit_pos_nunit_1#{seen[item.layer]}")
        seen[item.layer] += 1
        torch.save(_assigned(item.values), folder / f"intkey_{keys[-1]}.bin")
    IntervenableConfig(
        representations=[
            RepresentationConfig(
                layer=item.layer, component=OUTPUT, unit="pos", max_number_of_units=1, low_rank_dimension=item.rank
            )
            for item in interventions
        ],
        intervention_types=[str(kind)] * len(interventions),
        sorted_keys=keys,
        intervention_dimensions=[None] * len(interventions),  # the hidden size of the base
        intervention_constant_sources=[True] * len(interventions),
    ).save_pretrained(folder)


def _assigned(values: dict[str, torch.Tensor]) -> OrderedDict[str, torch.Tensor]:
    """A state dict whose tensors are assigned when it is loaded, and not copied into others of another dtype."""
    state = OrderedDict(values)
    modules = {"", *(name.rpartition(".")[0] for name in values)}
    vars(state)["_metadata"] = OrderedDict(
        (name, {"version": 1, "assign_to_params_buffers": True}) for name in sorted(modules)
    )
    return state
