"""What the benchmarks have in common: contenders in processes of their own, pairs of them, their peak memory."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

BASE = "smollm2-135m-instruct"


def child(script: str, role: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Run `script --role SPEC` in a process of its own; its last line of output is its answer, as JSON."""
    command = [sys.executable, script, f"--{role}", json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{role} {spec} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compared(name: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """One comparison in the form of the results file; the pairs ran one after the other."""
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True)]
    row = {
        "name": name,
        "ours_s": round(statistics.median(one["seconds"] for one in ours), 2),
        "theirs_s": round(statistics.median(one["seconds"] for one in theirs), 2),
        "ratio": {
            "min": round(min(ratios), 2),
            "median": round(statistics.median(ratios), 2),
            "max": round(max(ratios), 2),
        },
        "repeats": len(ratios),
        "ours_peak_mb": round(max(one["peak_bytes"] for one in ours) / 1e6),
        "theirs_peak_mb": round(max(one["peak_bytes"] for one in theirs) / 1e6),
        **more,
    }
    print(f"{name}: {row['ratio']['median']}x ({row['ratio']['min']} to {row['ratio']['max']})", flush=True)
    return row


def product_speed(rows: int, width: int, out: int, dtype: str = "bfloat16") -> float:
    """FLOP/s of one product of these shapes on this machine, the best of several."""
    import torch

    from bench.models import base_models

    device = base_models.device()
    a = torch.randn(rows, width, dtype=getattr(torch, dtype), device=device)
    weight = torch.randn(out, width, dtype=getattr(torch, dtype), device=device)
    best = float("inf")
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(10):
            torch.nn.functional.linear(a, weight)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - begun) / 10)
    return 2 * rows * width * out / best


def environment() -> dict[str, Any]:
    """What the figures were taken with."""
    names = ("torch", "transformers", "peft", "lm-eval", "pandas", "pyarrow")
    packages = {name: version(name) for name in names}
    import torch

    from bench.models import base_models

    where = base_models.device()
    able = torch.cpu.get_capabilities()
    vectors = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "sve", "bf16") if able.get(name)]
    device = f"{able.get('cpu_name', where.type)} ({able.get('num_physical_cores')} cores, {', '.join(vectors)})"
    if where.type == "cuda":
        device = torch.cuda.get_device_name()
    machine = {"python": platform.python_version(), "machine": platform.machine(), "device": device}
    return {**machine, "packages": packages}
