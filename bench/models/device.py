"""The device that models are computed on."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_only_cpu: ContextVar[bool] = ContextVar("only_cpu", default=False)


@contextmanager
def on_cpu() -> Iterator[None]:
    """While entered, the CPU is the device: a plan must not hold memory of a GPU."""
    token = _only_cpu.set(True)
    try:
        yield
    finally:
        _only_cpu.reset(token)


def compute_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if _only_cpu.get():
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work; a CPU always has."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def machine() -> dict[str, str]:
    """What decides how fast a cell runs on this machine: the device and, of a CPU, its model and vector units."""
    if compute_device().type == "cuda":
        return {"device": torch.cuda.get_device_name()}
    capabilities = torch.cpu.get_capabilities()
    vectors = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "bf16") if capabilities.get(name)]
    name = str(capabilities.get("cpu_name", platform.machine()))
    return {"device": compute_device().type, "processor": f"{name} ({', '.join(vectors)})" if vectors else name}
