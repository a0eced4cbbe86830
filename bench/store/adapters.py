"""Whether a saved adapter is whole, by its files alone: without its method, and without loading a model."""

from __future__ import annotations

import json
from pathlib import Path

from bench.store.folder import CellFolder


def adapter_bytes(folder: Path) -> int:
    """The size of a saved adapter's weights."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def adapter_problem(folder: CellFolder, recorded_bytes: int | None) -> str:
    """How a cell's adapter is damaged, as the end of a sentence; empty if its files are whole.

    `recorded_bytes` is the size of its weights when they were saved; None where that was not recorded.
    """
    from safetensors import SafetensorError, safe_open

    adapter = folder.adapter
    if not adapter.is_dir():
        return "is missing"
    size = adapter_bytes(adapter)
    if recorded_bytes is not None and size != recorded_bytes:
        return f"has {size:,} bytes of weights where {recorded_bytes:,} were saved"
    for path in sorted(path for path in adapter.rglob("*") if path.suffix in (".json", ".safetensors")):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            else:
                with safe_open(path, framework="numpy"):
                    pass  # it raises for a file of another length than its header announces
        except (OSError, ValueError, SafetensorError) as error:
            return f"has a damaged file, {path.relative_to(adapter)} ({error})"
    return ""
