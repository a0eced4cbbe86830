"""DVoRA as a tuner of PEFT: VeRA (arXiv 2310.11454) as the directional update of DoRA (arXiv 2402.09353).

    W' = diag(m / |W + D|) (W + D),    D = diag(b) B diag(d) A       (|.| : the norm of each row, over its inputs)

W (out, in) is the base's weight, A (r, in) and B (out, r) are VeRA's random projections, frozen and shared by all
layers. Trained are b (out,), d (r,) and m (out,), which starts as the row norms of W; b starts at zero, so that W' = W.
The norm is detached from the gradient (DoRA, section 4.3) and kept in float32, as is m: m / |W| is exactly 1 at the
start in half precision, too. The base's bias is not scaled. Projections, initial values of b and d, saving and loading
are VeRA's own, as PEFT has them; `get_peft_model` and `PeftModel.from_pretrained` know DVoRA once this is imported.

Nobody published code for DVoRA. What pins it is the DoRA paper's sentence that VeRA takes LoRA's place, and the share
of trained parameters in its Table 11. Letters: out, in, r as above; k = min(r, in).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from peft.tuners.vera import Linear, VeraConfig, VeraModel
from peft.tuners.vera.model import _get_tuner_layer_class
from peft.utils import PeftType, register_peft_method
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import transpose
from torch import nn
from transformers.pytorch_utils import Conv1D


@dataclass
class DvoraConfig(VeraConfig):
    """The settings are VeRA's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType("DVORA")


class Products(NamedTuple):
    """What the norm needs of W and A, which are frozen; A = R Q^T, the columns of Q (in, k) being orthonormal."""

    squared: torch.Tensor
    """|w|^2 (out,), float32."""
    across: torch.Tensor
    """W Q (out, k), in the base's dtype."""
    root: torch.Tensor
    """R (r, k), in the base's dtype."""


class DvoraLinear(Linear):
    """PEFT's VeRA layer with a trained magnitude `vera_lambda_m` (out,) beside b and d. One adapter acts at a time."""

    # By VeRA's prefix `vera_lambda_` PEFT knows the magnitude as trained and as a part of what is saved.
    adapter_layer_names = (*Linear.adapter_layer_names, "vera_lambda_m")

    def update_layer(self, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "vera_lambda_m"):  # called by VeRA's __init__, too early for one of our own
            self.vera_lambda_m = nn.ParameterDict({})
            self._products_of: dict[str, tuple[Any, Products]] = {}  # with the stamps of what they were made of
            self._norm_of: dict[str, tuple[Any, torch.Tensor]] = {}
        self._norm_of.pop(adapter_name, None)
        self.vera_lambda_m[adapter_name] = nn.Parameter(torch.empty(self.out_features, dtype=torch.float32))
        super().update_layer(adapter_name, *args, **kwargs)
        magnitude = self.vera_lambda_m[adapter_name]
        if not magnitude.is_meta:  # else there is nothing to fill: a skeleton, or a checkpoint is about to be assigned
            with torch.no_grad():
                magnitude.copy_(_root(_squared_rows(self._rows())))

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # PEFT casts to the base's dtype as well, and back to float32 later: that would round the magnitude.
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
            # As PEFT's DoRA: what the magnitude changes in the base's part is of the dropped-out input, too.
            inputs = dropout(x)
            base = self.base_layer(inputs, *args, **kwargs)
        if self.bias is not None:
            base = base - self.bias.to(base.dtype)
        b, d = self.vera_lambda_b[adapter], self.vera_lambda_d[adapter]
        a = self.vera_A[adapter][:, : self.in_features].to(x.device)
        projection = self.vera_B[adapter][: self.out_features].to(x.device)
        inputs = self._cast_input_dtype(inputs, d.dtype)
        update = b * nn.functional.linear(d * nn.functional.linear(inputs, a), projection)
        factor = self.vera_lambda_m[adapter] / self._norm(adapter)
        return (result + (factor - 1) * base + factor * update).to(x.dtype)

    def _rows(self) -> torch.Tensor:
        """The base's weight (out, in), dequantized where it is quantized."""
        return transpose(dequantize_module_weight(self.get_base_layer()).detach(), self.fan_in_fan_out)

    def _norm(self, adapter: str) -> torch.Tensor:
        """Row norms (out,) of W + D, in float32 and without gradient; D (out, in) is not built.

        A row of D is v Q^T, v (k,) being the row of diag(b) B diag(d) R; so |w + v Q^T|^2 = |w|^2 + (2 w Q + v) . v
        """
        b, d, projection = self.vera_lambda_b[adapter], self.vera_lambda_d[adapter], self.vera_B[adapter]
        stamp = _stamp(self.weight, self.vera_A[adapter], projection, b, d)
        # Not while training: some optimizers (bitsandbytes') write past the version counter that the stamp holds, so
        # that only a change of mode is sure to show.
        if not self.training and adapter in self._norm_of and self._norm_of[adapter][0] == stamp:
            return self._norm_of[adapter][1]
        # Never inference tensors, which a later forward with gradients could not use.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.weight.device.type, enabled=False):
            squared, across, root = self._products(adapter)
            scaled = (d.float().unsqueeze(1) * root).to(root.dtype)
            v = b.float().unsqueeze(1) * (projection[: self.out_features].to(root) @ scaled)
            norm = _root(squared + ((2 * across + v) * v).sum(dim=1))
        self._norm_of[adapter] = (stamp, norm)
        return norm

    def _products(self, adapter: str) -> Products:
        """For r < in, W Q is kept: r / in of the base's memory (LLaMA-7B, bfloat16, all linear layers, r = 1024: 2.8
        beside 13 GB). To make it, or D, at each forward would cost a batch as much as 1024 more tokens, and a
        dequantization where the base is quantized. For r >= in, Q is the identity and W Q is W itself, not a copy
        (unless dequantized).
        """
        a = self.vera_A[adapter][:, : self.in_features]
        stamp = _stamp(self.weight, a)
        if adapter not in self._products_of or self._products_of[adapter][0] != stamp:
            self._products_of.pop(adapter, None)  # frees the old one's memory first
            rows = self._rows()
            basis, root = self._factors(adapter, a, rows)
            across = rows if basis is None else rows @ basis
            self._products_of[adapter] = (stamp, Products(_squared_rows(rows), across, root))
        return self._products_of[adapter][1]

    def _factors(self, adapter: str, a: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Q (in, r), or None for the identity, and R (r, k), in the dtype and on the device of `like`."""
        # Kept on what all layers share, one for each width, so that they live and die with the projection.
        shared = self.vera_A.__dict__.setdefault("_dvora_factors", {})
        key, stamp = (adapter, self.in_features, like.dtype, like.device), _stamp(a)
        if key not in shared or shared[key][0] != stamp:
            basis, root = None, a
            if a.shape[0] < self.in_features:
                basis, upper = torch.linalg.qr(a.T.float().cpu())  # once; not every device has it
                basis, root = basis.to(like), upper.T
            shared[key] = (stamp, basis, root.to(like))
        return shared[key][1:]

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
            raise ValueError(f"merging adapter {adapter} gives weights that are not finite; it seems to be broken")
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
        self._products_of.clear()  # PEFT writes through `.data`, which a stamp may not show
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
        if _get_tuner_layer_class(base) is None:
            raise TypeError(f"DVoRA adapts linear layers, also quantized ones, and Conv1D; not {type(base).__name__}")
        # The layer tells which it is; VeRA warns where the setting says otherwise.
        vera_config.fan_in_fan_out = kwargs["is_target_conv_1d_layer"] = isinstance(base, Conv1D)
        return DvoraLinear(target, vera_A, vera_B, adapter_name, config=vera_config, **kwargs)


def _stamp(*tensors: torch.Tensor) -> tuple[Any, ...]:
    """Changes when one of the tensors is replaced, moved, cast or written to (other than through `.data`)."""
    return tuple((one.data_ptr(), one.dtype, one.device, one._version) for one in tensors)


def _squared_rows(rows: torch.Tensor) -> torch.Tensor:
    """Squared norms (out,) of the rows of (out, in), in float32 at least."""
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.promote_types(rows.dtype, torch.float32)).square()


def _root(squared: torch.Tensor) -> torch.Tensor:
    """The square root of squared norms, never 0: a row of zeros is to give no NaN."""
    return squared.clamp_min(torch.finfo(torch.float32).tiny).sqrt()


def _single(adapters: list[str]) -> str:
    """The one adapter. Two have no meaning together: each one's norm would be of a weight that the other changes."""
    if len(adapters) > 1:
        raise ValueError(f"one DVoRA adapter acts at a time, not {', '.join(adapters)}: merge or activate one of them")
    return adapters[0]


def register() -> None:
    """Make DVoRA known to PEFT; a second call does nothing."""
    if "DVORA" not in PeftType.__members__:
        # `register_peft_method` takes only what this enumeration lists, and Python's enumerations are closed: the
        # member is put where `enum` itself would have put it. By value it is found again after pickling and in JSON.
        member = str.__new__(PeftType, "DVORA")
        member._name_ = member._value_ = "DVORA"
        member.__objclass__, member._sort_order_ = PeftType, len(PeftType)
        PeftType.DVORA = member  # first: afterwards the enumeration refuses to be assigned to
        PeftType._member_names_.append("DVORA")
        PeftType._member_map_["DVORA"] = PeftType._value2member_map_["DVORA"] = member
    if PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType("DVORA")) is not DvoraModel:
        register_peft_method(name="dvora", config_cls=DvoraConfig, model_cls=DvoraModel, prefix=VeraModel.prefix)


register()
