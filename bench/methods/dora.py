"""DoRA's forward without building B A: the same function as PEFT's, at about LoRA's cost.

PEFT multiplies A and B against an identity matrix at every forward, only to take the norm of the rows of
W + s B A. The rows' squared norms follow from small products:

    |w + s b A|^2  =  |w|^2  +  2 s (W A^T * B)  +  s^2 (B A A^T * B)      (summed along each row)

W (out, in) is frozen, so |w|^2 is computed once; A (rank, in) and B (out, rank) are small. Sums are in float32, so
that in half precision the factor is exactly 1 at the start, which PEFT's rounded norm is not. The norm is detached
from the gradient, as in the DoRA paper's section 4.3 (arXiv 2402.09353).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from bench.models.compat.peft import DoraLinearLayer, dequantize_module_weight, replace_classes, transpose
from bench.models.compat.torch_parameters import TensorState, tensor_state
from bench.models.dtype import without_autocast

if TYPE_CHECKING:
    from collections.abc import Sequence


class AlgebraicDoraLinear(DoraLinearLayer):
    """PEFT's DoRA layer with the norm from small products. Saving, loading and merging are PEFT's own."""

    _frozen: tuple[TensorState, torch.Tensor] | None = None
    """The squared norms of W's rows, and the state of W for which they hold."""

    def forward(
        self,
        x: torch.Tensor,
        *,
        lora_A: nn.Linear,
        lora_B: nn.Linear,
        scaling: float,
        base_layer: nn.Module,
        base_result: torch.Tensor | None = None,
        adapter_name: str = "default",
    ) -> torch.Tensor:
        """The term to add to the base layer's output: (m / norm - 1) W x + (m / norm) s B A x."""
        stored = weight_of(base_layer)
        weight = stored
        if type(weight) is not nn.Parameter or type(base_layer) not in (nn.Linear, Conv1D):
            weight = dequantize_module_weight(base_layer)  # `torch.compile` cannot trace it
        with torch.no_grad(), without_autocast(x.device):
            norm = self.row_norms(weight, lora_A.weight, lora_B.weight, scaling, stored)
        factor = (self.weight / norm).view(1, -1)
        if base_result is None:  # dropout: the base's part is of the dropped-out input, too
            base_result = nn.functional.linear(x, transpose(weight, self.fan_in_fan_out).to(x.dtype))
        elif isinstance(bias := base_layer.bias, torch.Tensor):
            base_result = base_result - bias
        update = lora_B(lora_A(x)) * scaling
        return (factor - 1) * base_result + factor * update

    def row_norms(
        self, weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float, stored: torch.Tensor
    ) -> torch.Tensor:
        """Row norms (out,) of W + s B A, in float32. `stored` is the tensor that the base holds for `weight`: the same
        one, or its quantized form."""
        weight = transpose(weight, self.fan_in_fan_out)
        a, b = a.detach(), b.detach().float()
        cross = (weight @ a.T.to(weight.dtype)).float()  # (out, rank)
        a = a.float()
        adapter = (2 * scaling * cross * b + scaling**2 * (b @ (a @ a.T)) * b).sum(dim=1)
        squared = self._squared_norms(weight, stored) + adapter
        return squared.clamp_min(torch.finfo(torch.float32).tiny).sqrt()

    def _squared_norms(self, weight: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
        """Squared row norms (out,) of W, computed once."""
        if torch.compiler.is_compiling():  # the state of a tensor cannot be traced
            return torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square()
        state = tensor_state(stored)
        if self._frozen is None or self._frozen[0] != state:
            self._frozen = state, torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square()
        return self._frozen[1]


def weight_of(layer: nn.Module) -> torch.Tensor:
    """The weight of a linear layer as it is stored: of a quantized layer, its packed form."""
    return cast("torch.Tensor", layer.weight)


def use_algebraic_norm(model: nn.Module) -> None:
    """Give every DoRA layer of linear modules in a PEFT model the faster forward, in place."""
    replace_classes(model, {DoraLinearLayer: AlgebraicDoraLinear})


def set_exact_magnitudes(model: nn.Module) -> None:
    """Set each fresh magnitude to the float32 norm of its base row, in place: PEFT rounds it to the base's dtype,
    so that in half precision its DoRA is not the identity at the start."""
    for module in model.modules():
        if not isinstance(module, LoraLayer):
            continue
        for adapter, layer in module.lora_magnitude_vector.items():
            if isinstance(layer, AlgebraicDoraLinear) and not layer.weight.is_meta:
                base = module.get_base_layer()
                a, b = weight_of(module.lora_A[adapter]), weight_of(module.lora_B[adapter])
                with torch.no_grad():
                    weight, stored = dequantize_module_weight(base), weight_of(base)
                    layer.weight.copy_(layer.row_norms(weight, a, b, module.scaling[adapter], stored))


def zero_rows(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Targeted modules whose weight has a row of zeros: DoRA divides by its norm (peft issue 2049)."""
    names = []
    for name, module in model.named_modules():
        linear = isinstance(module, (nn.Linear, Conv1D))
        if linear and any(f".{name}".endswith(f".{target}") for target in targets) and not weight_of(module).is_meta:
            weight = transpose(dequantize_module_weight(module), isinstance(module, Conv1D))
            if bool((weight == 0).all(dim=1).any()):
                names.append(name)
    return names
