"""DVoRA as a tuner of PEFT: VeRA (arXiv 2310.11454) as the directional update of DoRA (arXiv 2402.09353).

    W' = diag(m / |W + D|) (W + D),    D = diag(b) B diag(d) A       (|.| : the norm of each row, over its inputs)

W (out, in) is the base's weight, A (r, in) and B (out, r) are VeRA's random projections, frozen and shared by all
layers. Trained are b (out,), d (r,) and m (out,), which starts as the row norms of W; b starts at zero, so that W' = W.
The norm is detached from the gradient (DoRA, section 4.3) and kept in float32, as is m: m / |W| is exactly 1 at the
start in half precision, too. The base's bias is not scaled. Projections, initial values of b and d, saving and loading
are VeRA's, in PEFT's code; `get_peft_model` and `PeftModel.from_pretrained` accept DVoRA once this module is imported.

No code for DVoRA was published. This one follows the DoRA paper's sentence that VeRA takes LoRA's place, and the share
of trained parameters in its Table 11. Letters: out, in, r as above; k = min(r, in).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.tuners.vera import VeraConfig
from peft.utils import register_peft_method
from torch import nn
from transformers.pytorch_utils import Conv1D

from bench.models.compat.peft import (
    BufferDict,
    VeraLinear,
    VeraModel,
    add_peft_type,
    check_adapters_to_merge,
    dequantize_module_weight,
    is_adapted_by_vera,
    transpose,
)
from bench.models.compat.torch_parameters import TensorState, tensor_state
from bench.models.dtype import without_autocast

DVORA = add_peft_type("DVORA")


@dataclass
class DvoraConfig(VeraConfig):
    """The settings are VeRA's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = DVORA


class Products(NamedTuple):
    """The terms of the norm that depend on W and A alone, which are frozen; A = R Q^T with orthonormal columns of Q
    (in, k)."""

    squared: torch.Tensor
    """|w|^2 (out,), float32."""
    cross: torch.Tensor
    """W Q (out, k), in the base's dtype."""
    factor: torch.Tensor
    """R (r, k), in the base's dtype."""


class DvoraLinear(VeraLinear):
    """PEFT's VeRA layer with a trained magnitude `vera_lambda_m` (out,) beside b and d. One adapter acts at a time."""

    # By the prefix `vera_lambda_` PEFT recognises the magnitude as trained and saves it.
    adapter_layer_names = (*VeraLinear.adapter_layer_names, "vera_lambda_m")  # type: ignore[assignment]  # PEFT's annotation is of two names

    def update_layer(self, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "vera_lambda_m"):  # VeRA's __init__ calls this before an __init__ here could go on
            self.vera_lambda_m = nn.ParameterDict({})
            # By adapter, with the states of the tensors from which they were computed.
            self._products_of: dict[str, tuple[tuple[TensorState, ...], Products]] = {}
            self._norm_of: dict[str, tuple[tuple[TensorState, ...], torch.Tensor]] = {}
        self._norm_of.pop(adapter_name, None)
        self.vera_lambda_m[adapter_name] = nn.Parameter(torch.empty(self.out_features, dtype=torch.float32))
        super().update_layer(adapter_name, *args, **kwargs)
        magnitude = self.vera_lambda_m[adapter_name]
        if not magnitude.is_meta:  # else it has no values: a skeleton, or a checkpoint is about to be assigned
            with torch.no_grad():
                magnitude.copy_(_root(_squared_rows(self._rows())))

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # PEFT also casts to the base's dtype, and back to float32 later, which would round the magnitude.
        exact = self.vera_lambda_m.get(adapter_name)
        super()._move_adapter_to_device_of_base_layer(adapter_name, device)
        if exact is not None:
            moved = self.vera_lambda_m[adapter_name]
            moved.data = exact.data.to(moved.device)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(..., in) to (..., out): W x + bias + (m / norm - 1) W x + (m / norm) D x."""
        adapters = [name for name in self.active_adapters if name in self.vera_lambda_m]
        if self.disable_adapters or self.merged or not adapters:
            return super().forward(x, *args, **kwargs)
        adapter = _single(adapters)
        result = self.base_layer(x, *args, **kwargs)
        if self.quantization_backend is not None:
            result = self.quantization_backend.maybe_clone_base_result(result)
        dropout = self.vera_dropout[adapter]
        inputs, base = x, result
        if self.training and not isinstance(dropout, nn.Identity):
            # As in PEFT's DoRA: the magnitude acts on the base's output for the dropped-out input, too.
            inputs = dropout(x)
            base = self.base_layer(inputs, *args, **kwargs)
        if self.bias is not None:
            base = base - self.bias.to(base.dtype)
        b, d = self.vera_lambda_b[adapter], self.vera_lambda_d[adapter]
        a, projection = (shared.to(x.device) for shared in self._projections(adapter))
        inputs = self._cast_input_dtype(inputs, d.dtype)
        update = b * nn.functional.linear(d * nn.functional.linear(inputs, a), projection)
        factor = self.vera_lambda_m[adapter] / self._norm(adapter)
        return (result + (factor - 1) * base + factor * update).to(x.dtype)

    def _projections(self, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A (r, in) and B (out, r): this layer's parts of the shared projections."""
        a, b = cast("BufferDict", self.vera_A), cast("BufferDict", self.vera_B)  # None only within VeRA's __init__
        return a[adapter][:, : self.in_features], b[adapter][: self.out_features]

    def _rows(self) -> torch.Tensor:
        """The base's weight (out, in), dequantized where it is quantized."""
        return transpose(dequantize_module_weight(self.get_base_layer()).detach(), self.fan_in_fan_out)

    def _norm(self, adapter: str) -> torch.Tensor:
        """Row norms (out,) of W + D, in float32 and without gradient; D (out, in) is not built.

        A row of D is v Q^T, v (k,) being the row of diag(b) B diag(d) R; so |w + v Q^T|^2 = |w|^2 + (2 w Q + v) . v
        """
        b, d = self.vera_lambda_b[adapter], self.vera_lambda_d[adapter]
        a, projection = self._projections(adapter)
        state = _states(self.weight, a, projection, b, d)
        # Not while training: some optimizers (bitsandbytes') write without raising the version counter, so that only a
        # change of mode is a sure sign.
        if not self.training and adapter in self._norm_of and self._norm_of[adapter][0] == state:
            return self._norm_of[adapter][1]
        # Never inference tensors, which a later forward with gradients could not use.
        with torch.inference_mode(False), torch.no_grad(), without_autocast(self.weight.device):
            squared, cross, factor = self._products(adapter)
            scaled = (d.float().unsqueeze(1) * factor).to(factor.dtype)
            v = b.float().unsqueeze(1) * (projection.to(factor) @ scaled)
            norm = _root(squared + ((2 * cross + v) * v).sum(dim=1))
        self._norm_of[adapter] = (state, norm)
        return norm

    def _products(self, adapter: str) -> Products:
        """For r < in, W Q is kept: r / in of the base's memory (LLaMA-7B, bfloat16, all linear layers, r = 1024: 2.8
        beside 13 GB). To compute it, or D, at each forward would cost a batch as much as 1024 more tokens, and a
        dequantization where the base is quantized. For r >= in, Q is the identity and W Q is W itself, not a copy
        (unless dequantized).
        """
        a, _ = self._projections(adapter)
        state = _states(self.weight, a)
        if adapter not in self._products_of or self._products_of[adapter][0] != state:
            self._products_of.pop(adapter, None)  # frees the memory of the old products first
            rows = self._rows()
            basis, factor = self._factors(adapter, a, rows)
            cross = rows if basis is None else rows @ basis
            self._products_of[adapter] = (state, Products(_squared_rows(rows), cross, factor))
        return self._products_of[adapter][1]

    def _factors(self, adapter: str, a: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Q (in, r), or None for the identity, and R (r, k), in the dtype and on the device of `like`."""
        # Stored on the projection that all layers share, once per width, so that they are freed with it.
        shared = vars(self.vera_A).setdefault("_dvora_factors", {})
        key, state = (adapter, self.in_features, like.dtype, like.device), _states(a)
        if key not in shared or shared[key][0] != state:
            basis, factor = None, a
            if a.shape[0] < self.in_features:
                basis, upper = torch.linalg.qr(a.T.float().cpu())  # once; not every device has it
                basis, factor = basis.to(like), upper.T
            shared[key] = (state, (basis, factor.to(like)))
        factors: tuple[torch.Tensor | None, torch.Tensor] = shared[key][1]
        return factors

    def train(self, mode: bool = True) -> DvoraLinear:
        self._norm_of.clear()  # see _norm
        return super().train(mode)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Put W' in W's place; computed in float32, rounded once to the base's dtype (or quantized anew).

        Raises ValueError with `safe_merge` where W' is not finite, and for more than one adapter.
        """
        adapters = [name for name in check_adapters_to_merge(self, adapter_names) if name in self.vera_lambda_m]
        if not adapters:
            return
        adapter = _single([*self.merged_adapters, *adapters])
        with torch.no_grad():
            factor = self.vera_lambda_m[adapter] / self._norm(adapter)
            column = transpose(factor.unsqueeze(1), self.fan_in_fan_out)
            weight = self.get_base_weight()
            merged = (column * (weight.float() + self.get_delta_weight(adapter).float())).to(weight.dtype)
        if safe_merge and not torch.isfinite(merged).all():
            raise ValueError(f"merging adapter {adapter} gives weights that are not finite")
        self._replace_base(merged)
        self.merged_adapters.append(adapter)
        self._merged_column = column

    def unmerge(self) -> None:
        """Take W' out again: W up to rounding, as for VeRA."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        adapter = self.merged_adapters.pop()
        with torch.no_grad():
            weight = self.get_base_weight()
            base = weight.float() / self._merged_column - self.get_delta_weight(adapter).float()
            self._replace_base(base.to(weight.dtype))

    def _replace_base(self, weight: torch.Tensor) -> None:
        self.set_base_weight(weight)
        self._products_of.clear()  # PEFT writes through `.data`, which leaves a tensor's state as it is
        self._norm_of.clear()

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return False  # `get_delta_weight` is D, not all of W' - W


class DvoraModel(VeraModel):
    """PEFT's VeRA model with DVoRA layers."""

    @staticmethod
    def _create_new_module(
        vera_config: VeraConfig, vera_A: BufferDict, vera_B: BufferDict, adapter_name: str, target: Any, **kwargs: Any
    ) -> DvoraLinear:
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not is_adapted_by_vera(base):
            raise TypeError(f"DVoRA adapts linear layers, also quantized ones, and Conv1D; not {type(base).__name__}")
        # Set from the layer's class; VeRA warns where the setting differs.
        vera_config.fan_in_fan_out = kwargs["is_target_conv_1d_layer"] = isinstance(base, Conv1D)
        return DvoraLinear(target, vera_A, vera_B, adapter_name, config=vera_config, **kwargs)


def _states(*tensors: torch.Tensor) -> tuple[TensorState, ...]:
    return tuple(tensor_state(tensor) for tensor in tensors)


def _squared_rows(rows: torch.Tensor) -> torch.Tensor:
    """Squared norms (out,) of the rows of (out, in), in float32 at least."""
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.promote_types(rows.dtype, torch.float32)).square()


def _root(squared: torch.Tensor) -> torch.Tensor:
    """The square root of squared norms, never 0, so that a row of zeros gives no NaN."""
    return squared.clamp_min(torch.finfo(torch.float32).tiny).sqrt()


def _single(adapters: list[str]) -> str:
    """The only adapter. Two cannot act together: each norm would be that of a weight that the other one changes."""
    if len(adapters) > 1:
        raise ValueError(f"one DVoRA adapter acts at a time, not {', '.join(adapters)}: merge or activate one of them")
    return adapters[0]


def register() -> None:
    """Register DVoRA with PEFT; a second call does nothing."""
    if PEFT_TYPE_TO_TUNER_MAPPING.get(DVORA) is not DvoraModel:
        register_peft_method(name="dvora", config_cls=DvoraConfig, model_cls=DvoraModel, prefix=VeraModel.prefix)


register()
