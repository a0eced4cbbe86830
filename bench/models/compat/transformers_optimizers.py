"""transformers: the optimizers and the parameter groups that its Trainer would make, without a Trainer.

Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/trainer.py
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from bench.models.compat import require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn
    from torch.optim import Optimizer
    from transformers import PreTrainedModel, Trainer, TrainingArguments

    from bench.models.compat.galore_torch import ProjectedGroup

LINK = "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/"


@dataclass(frozen=True)
class GaloreOptimizer:
    """What transformers makes of `optim="galore_adamw"`."""

    kind: Callable[..., Optimizer]
    """The class."""
    rest: list[nn.Parameter]
    """The parameters that are not projected."""
    projected: ProjectedGroup
    keywords: Mapping[str, object]
    """The other arguments of the class, including the learning rate."""


def galore_optimizer(arguments: TrainingArguments, model: PreTrainedModel) -> GaloreOptimizer:
    """The class and the parameter groups of transformers' GaLore AdamW. The untargeted group comes first."""
    from transformers import Trainer

    kind, keywords = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    groups = keywords.pop("params", None)
    require(
        isinstance(groups, list) and len(groups) == 2 and set(groups[0]) == {"params"} and "rank" in groups[1],
        "transformers",
        "the two parameter groups of galore_adamw",
        LINK + "trainer_optimizer.py",
    )
    rest, projected = groups
    return GaloreOptimizer(kind, rest["params"], projected, keywords)


def decaying_parameters(model: nn.Module) -> set[str]:
    """The names of the parameters to which Trainer applies weight decay: not the biases, not the norms."""
    from transformers import Trainer

    method = Trainer.get_decay_parameter_names
    require(
        "self." not in inspect.getsource(method),
        "transformers",
        "Trainer.get_decay_parameter_names, which needs no trainer",
        LINK + "trainer.py",
    )
    return set(method(cast("Trainer", None), model))
