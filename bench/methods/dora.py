"""DoRA's forward without building B A: the same function as PEFT's, at about LoRA's cost.

PEFT multiplies A and B against an identity matrix at every forward, only to take the norm of the rows of
W + s B A. The rows' squared norms follow from small products:

    |w + s b A|^2  =  |w|^2  +  2 s (W A^T * B)  +  s^2 (B A A^T * B)      (summed along each row)

W (out, in) is frozen, so |w|^2 is computed once; A (rank, in) and B (out, rank) are small. Sums are in float32, so
that in half precision the factor is exactly 1 at the start, which PEFT's rounded norm is not. The norm is detached
from the gradient, as the DoRA paper's section 4.3 has it (arXiv 2402.09353).
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import transpose
from torch import nn
from transformers.pytorch_utils import Conv1D


class AlgebraicDoraLinear(DoraLinearLayer):
    """PEFT's DoRA layer with the norm from small products. Saving, loading and merging are PEFT's own."""

    def forward(
        self,
        x: torch.Tensor,
        *,
        lora_A: nn.Module,
        lora_B: nn.Module,
        scaling: float,
        base_layer: nn.Module,
        base_result: torch.Tensor | None = None,
        adapter_name: str = "default",
    ) -> torch.Tensor:
        """What is to be added to the base layer's output: (m / norm - 1) W x + (m / norm) s B A x."""
        weight = base_layer.weight
        if type(weight) is not nn.Parameter or type(base_layer) not in (nn.Linear, Conv1D):
            weight = dequantize_module_weight(base_layer)  # which `torch.compile` cannot look into
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            norm = self._norm(weight, lora_A.weight, lora_B.weight, scaling, stored=base_layer.weight)
        factor = (self.weight / norm).view(1, -1)
        if base_result is None:  # dropout: the base's part is of the dropped-out input, too
            base_result = nn.functional.linear(x, transpose(weight, self.fan_in_fan_out).to(x.dtype))
        elif base_layer.bias is not None:
            base_result = base_result - base_layer.bias
        update = lora_B(lora_A(x)) * scaling
        return (factor - 1) * base_result + factor * update

    def _norm(
        self, weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float, stored: torch.Tensor
    ) -> torch.Tensor:
        """Row norms (out,) of W + s B A, in float32. `stored` is what the base keeps of `weight`: the same tensor, or
        its quantized form."""
        weight = transpose(weight, self.fan_in_fan_out)
        a, b = a.detach(), b.detach().float()
        across = (weight @ a.T.to(weight.dtype)).float()  # (out, rank)
        a = a.float()
        squared = self._squared(weight, stored) + (2 * scaling * across * b + scaling**2 * (b @ (a @ a.T)) * b).sum(
            dim=1
        )
        return squared.clamp_min(torch.finfo(torch.float32).tiny).sqrt()

    def _squared(self, weight: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
        """Squared row norms (out,) of W, computed once."""
        if torch.compiler.is_compiling():  # what W is known by below cannot be traced
            return torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square()
        version = 0 if stored.is_inference() else stored._version
        key = (stored.data_ptr(), stored.dtype, stored.device, version)
        if self._dora_cache.get("key") != key:
            self._dora_cache["key"] = key
            self._dora_cache["squared"] = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square()
        return self._dora_cache["squared"]

    def train(self, mode: bool = True) -> AlgebraicDoraLinear:
        # PEFT's own empties the cache, which here holds the frozen weight's norm.
        return nn.Module.train(self, mode)


def use_algebraic_norm(model: nn.Module) -> None:
    """Give every DoRA layer of linear modules in a PEFT model the faster forward, in place."""
    for module in model.modules():
        if type(module) is DoraLinearLayer:
            module.__class__ = AlgebraicDoraLinear


def set_exact_magnitudes(model: nn.Module) -> None:
    """Set each fresh magnitude to the float32 norm of its base row, in place: PEFT rounds it to the base's dtype,
    so that in half precision its DoRA is not the identity at the start."""
    for module in model.modules():
        if not isinstance(module, LoraLayer):
            continue
        for adapter, layer in module.lora_magnitude_vector.items():
            if isinstance(layer, AlgebraicDoraLinear) and not layer.weight.is_meta:
                weight = dequantize_module_weight(module.get_base_layer())
                a, b = module.lora_A[adapter].weight, module.lora_B[adapter].weight
                with torch.no_grad():
                    stored = module.get_base_layer().weight
                    layer.weight.copy_(layer._norm(weight, a, b, module.scaling[adapter], stored))


def zero_rows(model: nn.Module, targets: list[str]) -> list[str]:
    """Targeted modules whose weight has a row of zeros: DoRA divides by its norm (peft issue 2049)."""
    found: list[Any] = []
    for name, module in model.named_modules():
        linear = isinstance(module, (nn.Linear, Conv1D)) and any(f".{name}".endswith(f".{one}") for one in targets)
        if linear and not module.weight.is_meta:
            weight = transpose(dequantize_module_weight(module), isinstance(module, Conv1D))
            if bool((weight == 0).all(dim=1).any()):
                found.append(name)
    return found
