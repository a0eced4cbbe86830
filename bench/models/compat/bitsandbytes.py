"""bitsandbytes: how 4-bit layers store their weights.

Upstream: https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.50.2/bitsandbytes/nn/modules.py
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from bench.models.compat import require

if TYPE_CHECKING:
    from torch import nn

LINK = "https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.50.2/bitsandbytes/nn/modules.py"


def keep_packing(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first evaluation on a CPU with AVX-512, in place.

    Code that dequantizes a repacked weight (the norm of PEFT's DoRA and of ours) reads noise: with bitsandbytes 0.50.2
    a trained QDoRA scored like an untrained one. Evaluation would also use another arithmetic than training.
    """
    from bitsandbytes.nn.modules import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    if not layers:
        return
    # A release under which the flag has another name would repack again, without an error.
    forward = inspect.getsource(Linear4bit.forward)
    require("self.support_avx512bf16_for_cpu" in forward, "bitsandbytes", "the flag of Linear4bit's repacking", LINK)
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
