"""Sharding a model by layers as transformers does when it loads one, and telling Trainer that it is sharded."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig

from bench.models.compat import require

UPSTREAM = "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/modeling_utils.py"

for _name in ("_no_split_modules", "_is_distributed_loading_by_transformers"):
    require(hasattr(PreTrainedModel, _name), "transformers", f"PreTrainedModel.{_name}", UPSTREAM)


def layers_of(model: nn.Module, causal_lm: PreTrainedModel) -> list[nn.Module]:
    """The modules of `model` that the architecture says must not be split over devices."""
    names = causal_lm._no_split_modules or ()
    return [module for module in model.modules() if type(module).__name__ in names]


def mark_as_sharded(causal_lm: PreTrainedModel, devices: int) -> None:
    """Have Trainer leave the model as it is, without DDP around it, as if transformers had sharded it when loading."""
    causal_lm._is_distributed_loading_by_transformers = True
    causal_lm.config.distributed_config = DistributedConfig(fsdp_size=devices, dp_replicate_size=1)
