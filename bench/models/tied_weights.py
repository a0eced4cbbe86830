"""Weights that several modules of a model share, such as those of a tied embedding and output head.

An adapter on one of these modules acts on that module alone. Merged into the shared matrix it would change the others,
too, so these get copies of their own first.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTED = "base_layer"
"""The name under which PEFT keeps the module that an adapter wraps."""


def untie_adapted_weights(model: nn.Module, causal_lm: PreTrainedModel) -> bool:
    """Give each module that shares a weight with an adapted module a weight of its own, in place; return whether there
    was one. `causal_lm` is the model within `model` that is saved: it is then saved as not tied."""
    owners: defaultdict[int, list[tuple[str, nn.Module, str]]] = defaultdict(list)
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            owners[id(parameter)].append((path, module, name))
    shared = [
        places
        for places in owners.values()
        if len(places) > 1 and any(path.rpartition(".")[2] == ADAPTED for path, _, _ in places)
    ]
    for places in shared:
        for _, module, name in places[1:]:
            parameter = module.get_parameter(name)
            setattr(module, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    if shared:
        causal_lm.all_tied_weights_keys = {}
        for config in (causal_lm.config, causal_lm.config.get_text_config()):
            config.tie_word_embeddings = False
    return bool(shared)
