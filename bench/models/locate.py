"""Which base model a name stands for, and the folder that holds it.

Three kinds of name are understood:

- an alias of a packaged model (`bench.models.packaged`);
- a folder with `config.json`, safetensors and a tokenizer;
- a hub id (`owner/name`), with an optional revision. A token for a gated model is taken from the
  environment (`HF_TOKEN`) by the hub library, and stored nowhere.

Loading is left to `bench.models.load`. Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.errors import UserError, first_line, unknown
from bench.hashing import short_hash
from bench.models.packaged import ALIASES, converted_folder, packaged_folder

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "*.model", "vocab.*", "merges.txt", "*.jinja")
ADAPTER = "adapter_config.json"
CODE_FILES = "*.py"
"""A model's own code; downloaded and run only if the sweep trusts it."""


class PinnedName(NamedTuple):
    """A base model's name and what pins its content, as they enter a cell's identity."""

    id: str
    """As the sweep names it; of a folder the last part alone, so that no machine's path is recorded."""
    revision: str
    """The package's requirement, the requested hub revision, or the fingerprint of a folder's files."""


@dataclass(frozen=True)
class ModelFolder:
    """A base model on this machine: a folder that transformers can load."""

    id: str
    revision: str
    """See `PinnedName`."""
    path: Path
    commit: str | None = None
    """The hub commit that the revision stood for."""
    trust_remote_code: bool = False
    """Whether the Python code in the folder may run (`base_model.trust_remote_code`)."""


def pin_base(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PinnedName:
    """The id and the revision of a base model; nothing is downloaded. Code that may run is part of a folder's content.

    Raises UserError for a folder that holds no model and for an impossible id.
    """
    if name in ALIASES:
        return PinnedName(name, ALIASES[name].requirement)
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return PinnedName(folder.resolve().name, _fingerprint(folder, trust_remote_code))
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        if "/" in name or os.sep in name:
            raise UserError(
                f"no folder {name!r}",
                "Give a folder with config.json and *.safetensors, or a hub id owner/name.",
            )
        raise unknown("base model", name, ALIASES)
    return PinnedName(name, revision or "main")


def find_base(name: str, revision: str | None = None, trust_remote_code: bool = False) -> ModelFolder:
    """The folder of a base model, downloaded and converted if necessary.

    Raises UserError if the model is not available, saying what would have been downloaded.
    """
    pinned = pin_base(name, revision, trust_remote_code)
    if name in ALIASES:
        return ModelFolder(*pinned, packaged_folder(name))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ModelFolder(*pinned, folder, trust_remote_code=trust_remote_code)
    code = [CODE_FILES] if trust_remote_code else []
    path = download_from_hub(name, revision, ["*.safetensors", "*.json", *TOKENIZER_FILES, *code])
    _check_no_adapter(name, path)
    return ModelFolder(*pinned, path, commit=path.name, trust_remote_code=trust_remote_code)


def find_local_tokenizer(name: str, revision: str | None = None) -> ModelFolder | None:
    """The folder that holds a base model's tokenizer, or None where it would have to be downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    pinned = pin_base(name, revision)
    folder = converted_folder(name) if name in ALIASES else Path(name).expanduser()
    if folder.is_dir():
        return ModelFolder(*pinned, folder)
    if name in ALIASES:
        return None
    try:
        patterns = list(TOKENIZER_FILES)
        snapshot = snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None
    return ModelFolder(*pinned, Path(snapshot))


def download_from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    """The snapshot folder of a hub model with the files that match the patterns, downloaded or from the hub's cache.

    Raises UserError, with the hub's reason.
    """
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
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise UserError(
            f"{name} is a gated model and access was refused",
            f"Ask for access on its page on the hub, then set HF_TOKEN in the environment. ({first_line(error)})",
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
            f"or use the packaged model {next(iter(ALIASES))!r}. ({first_line(error)})",
        ) from error


def _check_folder(folder: Path) -> None:
    _check_no_adapter(f"the folder {folder}", folder)
    missing = "config.json" if not (folder / "config.json").is_file() else ""
    if not missing and not any(folder.glob("*.safetensors")):
        missing = "*.safetensors file"
    if missing:
        raise UserError(
            f"the folder {folder} is not a model: it has no {missing}",
            "Give a folder written by save_pretrained (config.json, *.safetensors and the tokenizer's files).",
        )


def _check_no_adapter(what: str, folder: Path) -> None:
    """transformers puts an adapter that it finds in a model's folder on the model, or loads another model for it."""
    if (folder / ADAPTER).is_file():
        raise UserError(
            f"{what} holds a PEFT adapter ({ADAPTER}), which would be loaded with the model",
            f"Give the plain base model. For the adapted one, merge the adapter (merge_and_unload) and save the merged "
            f"model in a folder of its own; if the adapter is not meant, remove {ADAPTER}.",
        )


@functools.cache
def _fingerprint(folder: Path, with_code: bool) -> str:
    """sha256 over the configuration, the weights and the tokenizer, and the code where it may run: a changed model
    makes new cells."""
    patterns = (*TOKENIZER_FILES, CODE_FILES) if with_code else TOKENIZER_FILES
    others = [path for pattern in patterns for path in folder.glob(pattern)]
    parts: list[str | bytes] = []
    for path in sorted({folder / "config.json", *folder.glob("*.safetensors"), *others}):
        with path.open("rb") as file:
            parts += [path.name, hashlib.file_digest(file, "sha256").digest()]
    return f"sha256:{short_hash(*parts)}"
