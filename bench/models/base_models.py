"""Where a base model comes from, and how it is loaded.

Three kinds of name are understood:

- an alias of a packaged model (`bench.models.packaged`);
- a folder with `config.json`, safetensors and a tokenizer;
- a hub id (`owner/name`), with an optional revision. A token for a gated model is taken from the
  environment (`HF_TOKEN`) by the hub library, and stored nowhere.

Only safetensors are read, and no remote code is run.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError, unknown
from bench.models.device import compute_device
from bench.models.packaged import ALIASES, packaged
from bench.models.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "*.model", "vocab.*", "merges.txt", "*.jinja")


ARCHITECTURES = {
    "smollm2-135m-instruct": "smollm2-135m-instruct",
    "huggyllama/llama-7b": "llama-7b",
    "yahma/llama-7b-hf": "llama-7b",
    "huggyllama/llama-13b": "llama-13b",
    "yahma/llama-13b-hf": "llama-13b",
    "meta-llama/Llama-2-7b-hf": "llama2-7b",
    "meta-llama/Meta-Llama-3-8B": "llama3-8b",
    "meta-llama/Llama-3.1-8B": "llama3-8b",
}
"""Models whose configuration ships here (facts of their config.json), so that a plan needs no network."""


@dataclass(frozen=True)
class Base:
    """A base model that is at hand: a folder that transformers can load."""

    id: str
    """As the sweep names it; a folder by its last part, so that no machine's path is recorded."""
    revision: str
    """What pins it: the package, the hub revision asked for, or the fingerprint of a folder's files."""
    path: Path
    commit: str | None = None
    """The hub commit that the revision stood for."""


@dataclass(frozen=True)
class Choice:
    """A detected setting and the reason for it."""

    value: str
    reason: str


def identify(name: str, revision: str | None = None) -> tuple[str, str]:
    """(id, revision) as they enter a cell's identity; nothing is downloaded.

    Raises UserError for a folder that is no model or an id of impossible form.
    """
    if name in ALIASES:
        return name, ALIASES[name].requirement
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return folder.resolve().name, _fingerprint(folder)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        if "/" in name or os.sep in name:
            raise UserError(
                f"no folder {name!r}",
                "Give a folder with config.json and *.safetensors, or a hub id owner/name.",
            )
        raise unknown("base model", name, ALIASES)
    return name, revision or "main"


def find(name: str, revision: str | None = None) -> Base:
    """The model of this name as a folder, downloaded and converted where needed.

    Raises UserError where it cannot be had, saying what would have been downloaded.
    """
    id, pinned = identify(name, revision)
    if name in ALIASES:
        return Base(id, pinned, packaged(name))
    if Path(name).expanduser().is_dir():
        return Base(id, pinned, Path(name).expanduser())
    patterns = ["*.safetensors", "*.json", *TOKENIZER_FILES]
    path = Path(_from_hub(name, revision, patterns))
    return Base(id, pinned, path, commit=path.name)


def config(name: str, revision: str | None = None) -> PretrainedConfig:
    """The architecture alone: enough to count parameters and to check target modules."""
    from transformers import AutoConfig

    if name in ARCHITECTURES:
        return AutoConfig.from_pretrained(Path(__file__).parent / "architectures" / f"{ARCHITECTURES[name]}.json")
    identify(name, revision)
    folder = Path(name).expanduser()
    try:
        return AutoConfig.from_pretrained(folder if folder.is_dir() else _from_hub(name, revision, ["config.json"]))
    except (ValueError, KeyError) as error:
        raise _unknown_architecture(name, error) from error


def skeleton(name: str, revision: str | None = None) -> PreTrainedModel:
    """The model without weights, on the meta device."""
    import torch

    with torch.device("meta"):
        return from_config(config(name, revision))


def from_config(config: PretrainedConfig) -> PreTrainedModel:
    """A model of this architecture with random weights, on the current default device."""
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    try:
        return AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError) as error:
        raise _unknown_architecture(f"a model of the type {config.model_type}", error) from error


def _unknown_architecture(what: str, error: Exception) -> UserError:
    return UserError(
        f"{what} is no causal language model that transformers knows: {_first_line(error)}",
        "Give a model of a known architecture; remote code is not run.",
    )


def load(base: Base, dtype: str, attn_implementation: str = "sdpa", **kwargs: Any) -> PreTrainedModel:
    """The model with its weights, on the default device; `kwargs` are the method's (quantization and the like).

    Raises UserError for a folder whose files do not make a causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    options = {"dtype": getattr(torch, dtype), "attn_implementation": attn_implementation, **kwargs}
    try:
        model = AutoModelForCausalLM.from_pretrained(base.path, use_safetensors=True, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load {base.id}: {error}",
            "The folder must hold config.json and *.safetensors of a causal language model.",
        ) from error
    if not getattr(model, "hf_device_map", None):
        model = model.to(compute_device())
    return model


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """The tokenizer, with a padding token (the end-of-text token where it has none of its own)."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base.path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{base.id} has no tokenizer that can be loaded: {_first_line(error)}",
            "Save the tokenizer beside the model (tokenizer.json).",
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def computing_in(dtype: str, where: torch.device) -> torch.autocast:
    """Forward passes in `dtype` whatever the weights are kept in: the arithmetic of training; float32 is left alone."""
    import torch

    half = dtype != "float32"
    return torch.autocast(where.type, dtype=getattr(torch, dtype) if half else None, enabled=half)


def resolve_dtype(asked: str, elsewhere: bool = False) -> Choice:
    """`auto` becomes bfloat16 where the device computes in it natively, else float32; with the reason. `elsewhere`: on
    a GPU of the last years, which is not here."""
    import torch

    if elsewhere:
        return (
            Choice("bfloat16", "reckoned for another device") if asked == "auto" else Choice(asked, "as the sweep says")
        )
    where = compute_device()
    if asked == "float16" and where.type != "cuda":
        raise UserError(f"dtype float16 needs a CUDA device; this is {where.type}", "Set dtype: auto or bfloat16.")
    if asked != "auto":
        return Choice(asked, "as the sweep says")
    if where.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bfloat16", f"{torch.cuda.get_device_name()} computes in bfloat16")
        return Choice("float32", f"{torch.cuda.get_device_name()} has no bfloat16")
    if where.type == "cpu":
        capability = torch.cpu.get_capabilities()
        if capability.get("avx512_bf16") or capability.get("amx_bf16") or capability.get("bf16"):
            return Choice("bfloat16", "this processor multiplies bfloat16 matrices natively")
        return Choice("float32", "this processor has no native bfloat16")
    return Choice("float32", f"bfloat16 is not relied upon on {where.type}")


def _check_folder(folder: Path) -> None:
    missing = "config.json" if not (folder / "config.json").is_file() else ""
    if not missing and not any(folder.glob("*.safetensors")):
        missing = "*.safetensors file"
    if missing:
        raise UserError(
            f"the folder {folder} is no model: it has no {missing}",
            "Give a folder written by save_pretrained (config.json, *.safetensors and the tokenizer's files).",
        )


@functools.cache
def _fingerprint(folder: Path) -> str:
    """sha256 over the configuration, the weights and the tokenizer, so that a changed model makes new cells."""
    digest = hashlib.sha256()
    tokenizer = [path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)]
    for path in sorted({folder / "config.json", *folder.glob("*.safetensors"), *tokenizer}):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> str:
    """The snapshot folder of a hub model, downloaded or cached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = f"{name} at {revision or 'main'}"
    try:
        return snapshot_download(name, revision=revision, allow_patterns=patterns)
    except GatedRepoError as error:
        raise UserError(
            f"{name} is a gated model and access was refused",
            f"Ask for access on its page on the hub, then set HF_TOKEN in the environment. ({_first_line(error)})",
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision {revision!r}", "Give a branch, tag or commit of it.") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the hub has no model {name!r}, or it is private",
            "Check the spelling; for a private model set HF_TOKEN in the environment.",
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{what} is not in the cache and could not be downloaded from the hub",
            f"Would download: {', '.join(patterns[:2])} and the tokenizer of {what}. Connect once, or give a folder, "
            f"or use the packaged model {next(iter(ALIASES))!r}. ({_first_line(error)})",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
