"""The device that models are computed on."""

from __future__ import annotations

import platform

import torch


def compute_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def synchronize(where: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU has."""
    if where.type != "cpu":
        getattr(torch, where.type).synchronize()


def machine() -> dict[str, str]:
    """What decides how fast a cell runs here: the device, and of a CPU which one."""
    if compute_device().type == "cuda":
        return {"device": torch.cuda.get_device_name()}
    able = torch.cpu.get_capabilities()
    vectors = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "bf16") if able.get(name)]
    name = str(able.get("cpu_name", platform.machine()))
    return {"device": compute_device().type, "processor": f"{name} ({', '.join(vectors)})" if vectors else name}
