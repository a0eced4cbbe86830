"""The dtype that a model computes in: how `auto` is resolved, and the forward pass's arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """`auto` becomes bfloat16 if the device computes in it natively, else float32.

    With `elsewhere` the choice is for another machine's GPU of the last years, not for this machine's device.
    Raises UserError for float16 without a CUDA device.
    """
    if elsewhere:
        if requested == "auto":
            return DtypeChoice("bfloat16", "estimated for another device")
        return DtypeChoice(requested, "as the sweep says")
    import torch

    from bench.models.device import compute_device

    device = compute_device()
    if requested == "float16" and device.type != "cuda":
        raise UserError(f"dtype float16 needs a CUDA device; this is {device.type}", "Set dtype: auto or bfloat16.")
    if requested != "auto":
        return DtypeChoice(requested, "as the sweep says")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return DtypeChoice("bfloat16", f"{torch.cuda.get_device_name()} computes in bfloat16")
        return DtypeChoice("float32", f"{torch.cuda.get_device_name()} has no bfloat16")
    if device.type == "cpu":
        capability = torch.cpu.get_capabilities()
        if capability.get("avx512_bf16") or capability.get("amx_bf16") or capability.get("bf16"):
            return DtypeChoice("bfloat16", "this processor multiplies bfloat16 matrices natively")
        return DtypeChoice("float32", "this processor has no native bfloat16")
    return DtypeChoice("float32", f"bfloat16 is not relied upon on {device.type}")


def computing_in(dtype: str, device: torch.device) -> torch.autocast:
    """A context in which forward passes compute in `dtype`, whatever dtype the weights have, as in training. float32
    changes nothing."""
    import torch

    half = dtype != "float32"
    return torch.autocast(device.type, dtype=getattr(torch, dtype) if half else None, enabled=half)
