"""The dtype that a model computes in: how `auto` is resolved, and the forward pass's arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DtypeChoice:
    """A resolved dtype and the reason for it."""

    value: str
    """Name of a torch dtype: `bfloat16`, `float16` or `float32`."""
    reason: str


def resolve_dtype(requested: str, elsewhere: bool = False) -> DtypeChoice:
    """`auto` becomes bfloat16 if the device computes in it natively, else float32. The reason says where a named
    bfloat16 is emulated, which is slow.

    With `elsewhere` the choice is for another machine's GPU of the last years, not for this machine's device.
    Raises UserError for float16 without a CUDA device.
    """
    if elsewhere:
        if requested == "auto":
            return DtypeChoice("bfloat16", "estimated for another device")
        return DtypeChoice(requested, AS_NAMED)
    from bench.models.device import compute_device

    device = compute_device()
    if requested == "float16" and device.type != "cuda":
        raise UserError(f"dtype float16 needs a CUDA device; this is {device.type}", "Set dtype: auto or bfloat16.")
    if requested not in ("auto", "bfloat16"):
        return DtypeChoice(requested, AS_NAMED)
    device_name, support = _bfloat16_support(device)
    if requested == "auto":
        reasons = {
            "native": f"{device_name} multiplies bfloat16 matrices natively",
            "emulated": f"{device_name} has no native bfloat16",
            "unknown": f"bfloat16 is not relied upon on {device_name}",
        }
        return DtypeChoice("bfloat16" if support == "native" else "float32", reasons[support])
    if support == "emulated":
        slow = f"{device_name} emulates bfloat16, which takes several times as long as float32"
        return DtypeChoice(requested, f"{AS_NAMED}; {slow}; for speed set dtype: float32, which makes other cells")
    return DtypeChoice(requested, AS_NAMED)


AS_NAMED = "as the sweep says"


def _bfloat16_support(device: torch.device) -> tuple[str, Literal["native", "emulated", "unknown"]]:
    """The device's name in a sentence, and whether it multiplies bfloat16 matrices natively."""
    import torch

    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_name(), "native" if native else "emulated"
    if device.type == "cpu":
        capability = torch.cpu.get_capabilities()
        native = any(capability.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return "this processor", "native" if native else "emulated"
    return device.type, "unknown"


def computing_in(dtype: str, device: torch.device) -> torch.autocast:
    """A context in which forward passes compute in `dtype`, whatever dtype the weights have, as in training. float32
    changes nothing."""
    import torch

    half = dtype != "float32"
    return torch.autocast(device.type, dtype=getattr(torch, dtype) if half else None, enabled=half)


def without_autocast(device: torch.device) -> torch.autocast:
    """A context in which nothing is cast. It can be entered for tensors on the meta device, too."""
    import torch

    return torch.autocast("cpu" if device.type == "meta" else device.type, enabled=False)
