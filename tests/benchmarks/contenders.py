"""What the benchmarks have in common: their options, contenders in processes of their own, pairs of them."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

BASE = "smollm2-135m-instruct"

Roles = Mapping[str, Callable[[dict[str, Any]], Any]]
"""What a benchmark's script does as a child, by name: each takes a specification and returns what JSON can hold."""

_here: dict[str, Callable[[dict[str, Any]], Any]] = {}
"""The roles that are played in this process."""


def options(description: str, roles: Roles, result: Path | None = None) -> argparse.ArgumentParser:
    """The options that benchmarks share; with `result`, those of one that compares and writes that file. Where this
    process is a child it plays its role instead, and ends."""
    role = sys.argv[1].removeprefix("--") if len(sys.argv) == 3 else ""
    if role in roles:
        print(json.dumps(roles[role](json.loads(sys.argv[2]))))
        raise SystemExit

    class InProcess(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
            _here.update(roles)

    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", help="a folder of LLM-Adapters' JSON; default: the hub")
    if result is not None:
        parser.add_argument("--repeats", type=int, default=3)
        parser.add_argument("--out", type=Path, default=result, help="default: %(default)s")
    parser.add_argument(
        "--in-process",
        nargs=0,
        action=InProcess,
        help="all contenders in this process, one after the other: for a device that is lent by the minute",
    )
    return parser


def child(script: str, role: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Run `script --role SPEC` in a process of its own (but see `--in-process`); its last line of output is its answer,
    as JSON."""
    if role in _here:
        from bench.costs import release_memory

        answer = json.loads(json.dumps(_here[role](spec)))
        release_memory()
        return answer
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

    from bench.models.device import compute_device

    device = compute_device()
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

    from bench.models.device import compute_device

    where = compute_device()
    if where.type == "cuda":
        device = torch.cuda.get_device_name()
    else:
        able = torch.cpu.get_capabilities()
        vectors = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "sve", "bf16") if able.get(name)]
        device = f"{able.get('cpu_name', where.type)} ({able.get('num_physical_cores')} cores, {', '.join(vectors)})"
    machine = {"python": platform.python_version(), "machine": platform.machine(), "device": device}
    return {**machine, "packages": packages, "in_process": bool(_here)}
