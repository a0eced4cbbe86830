"""Exports a trained cell: as an adapter that PEFT or pyreft loads, or as a merged model, with a model card.

The card has the base model, the method and its settings, the data, the scores with their number of questions and
protocol, and the package versions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.errors import UserError, first_line
from bench.store.adapters import adapter_problem
from bench.store.folder import CellFolder
from bench.store.records import CellRecord, EnvironmentRecord
from bench.sweep.cell import Cell, CellData
from bench.sweep.named_code import check_class

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from bench.methods.method import Method
    from bench.models.locate import ModelFolder

CARD = "README.md"


def export(
    folder: CellFolder,
    to: Path,
    merged: bool = False,
    base: str | None = None,
    trust_remote_code: bool = False,
    allow_code: Collection[str] = (),
) -> Path:
    """Write a cell's adapter into the folder `to`, or, with `merged`, the model with the adapter merged into its
    weights, in the cell's dtype. Returns `to`, which must not exist before.

    `base` is the path of the base model, for a cell that names it by neither an alias nor a hub id; it is needed for
    `merged`, and where the adapter is converted (`Method.export_source`). A cell's record alone runs no code:
    `trust_remote_code` permits the base model's own, `allow_code` names a method's class that may run. Raises UserError
    for a cell that is not trained, has no adapter, or cannot be exported in this form.
    """
    from bench import methods

    if not folder.exists():
        raise UserError(f"{folder.path} is not a cell's folder", "Give a folder of results/<sweep>/cells/.")
    cell, record = folder.cell(), folder.record()
    if to.exists():
        raise UserError(f"{to} exists already", "Give --to a folder that does not exist.")
    if cell.data is None:
        raise UserError(f"{folder.path.name} is the untuned base model: there is nothing to export")
    if not folder.adapter.is_dir():
        raise UserError(
            f"{folder.path.name} has no adapter", "The adapter was not kept, or the cell is not trained: run the cell."
        )
    if problem := adapter_problem(folder, record.costs.adapter_bytes if record.costs else None):
        raise UserError(
            f"the adapter of {folder.path.name} {problem}",
            "Copy it again from where it is whole, or run the cell again.",
        )
    check_class(cell.method, allow_code)
    method = methods.get(cell.method)
    part = to.with_name(f".{to.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        if merged or method.export_source(cell.options) != "files":
            _check_code(cell, trust_remote_code)
        if merged:
            _save_merged(cell, method, folder, part, base)
        else:
            _save_adapter(cell, method, folder, part, base)
        text = model_card(cell, cell.data, record, folder.environment(), None if merged else method)
        (part / CARD).write_text(text, encoding="utf-8")
        part.rename(to)
    except OSError as error:
        raise UserError(f"cannot write {to}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return to


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to a repository of the Hugging Face hub and return the address of the commit. A new
    repository is private. The token is the hub library's own (`HF_TOKEN`, or the one that `hf auth login` stored)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder).commit_url)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"cannot push to {repository}: {first_line(error)}",
            f"The exported files are in {folder}. Set HF_TOKEN to a token that may write to the repository.",
        ) from error


def _save_adapter(cell: Cell, method: Method, folder: CellFolder, to: Path, base: str | None) -> None:
    problem = method.cannot_export(cell.options, folder.adapter)
    if problem:
        mergeable = method.facts_for(cell.options).mergeable
        raise UserError(
            f"{method.export_library} cannot load the adapter of {cell.method}: {problem}",
            "Give --merged." if mergeable else "bench itself can load it.",
        )
    source, model = method.export_source(cell.options), None
    if source == "model":
        model = _trained(cell, method, folder, base)
    elif source == "skeleton":
        from bench.models.load import load_skeleton

        model = load_skeleton(base or cell.base.id, None if base else _revision(cell), cell.base.trust_remote_code)
    method.export(folder.adapter, to, cell, model)


def _check_code(cell: Cell, trusted: bool) -> None:
    if cell.base.trust_remote_code and not trusted:
        raise UserError(
            f"{cell.name} was run with the Python code that {cell.base.id} brings",
            "Read that code, then give --trust-remote-code to run it.",
        )


def _save_merged(cell: Cell, method: Method, folder: CellFolder, to: Path, base: str | None) -> None:
    import torch

    from bench.models.load import load_tokenizer

    facts = method.facts_for(cell.options)
    if not facts.mergeable:
        raise UserError(f"{cell.method} cannot be merged: {facts.cannot_merge}", "Leave out --merged.")
    trained = _trained(cell, method, folder, base)
    merged = method.merge(trained.float()).to(getattr(torch, cell.base.dtype))
    cast("PreTrainedModel", merged).save_pretrained(to)
    load_tokenizer(_location(cell, base)).save_pretrained(to)


def _trained(cell: Cell, method: Method, folder: CellFolder, base: str | None) -> nn.Module:
    """The base model with the cell's adapter, unmerged."""
    from bench.models.load import load_model

    # Eager is the attention that every architecture has; which it is changes no weight.
    model = load_model(_location(cell, base), cell.base.dtype, "eager", method_kwargs=method.load_kwargs(cell))
    return method.load(model, folder.adapter, cell)


def _location(cell: Cell, base: str | None) -> ModelFolder:
    from bench.models.locate import find_base

    return find_base(base or cell.base.id, None if base else _revision(cell), cell.base.trust_remote_code)


def _revision(cell: Cell) -> str | None:
    """The hub revision of the base model; None where its name alone determines it."""
    from bench.models.packaged import ALIASES

    return None if cell.base.id in ALIASES or cell.base.revision == "main" else cell.base.revision


def model_card(
    cell: Cell, data: CellData, record: CellRecord, environment: EnvironmentRecord | None, adapter_of: Method | None
) -> str:
    """The model card: Markdown with the hub's front matter. `adapter_of` is the method of an exported adapter, None for
    a merged model."""
    merged = adapter_of is None
    wording = f"template {data.template}" if data.template else f"format {data.format}"
    packages = {} if environment is None else environment.packages
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    commit = environment.commit if environment is not None else None
    lines = [
        "---",
        f"base_model: {cell.base.id}",
        f"library_name: {'transformers' if adapter_of is None else adapter_of.export_library.lower()}",
        "---",
        f"# {cell.name}",
        "",
        f"The {'merged model' if merged else 'adapter'} of one run of a sweep: {cell.method} on {cell.base.id} "
        f"({cell.base.revision}, computed in {cell.base.dtype}), trained on {cell.samples:,} examples of "
        f"{', '.join(data.train)} ({wording}), seed {cell.seed}. Its identity is `{cell.id}`.",
        "",
        "## Scores",
        "",
        *_score_lines(record),
        "",
        "These are scores of a single run. The sweep's report compares it with other runs and gives confidence "
        "intervals.",
        *(["", _merge_note(record)] if merged and _merge_note(record) else []),
        "",
        *([] if adapter_of is None else adapter_of.export_notes(cell)),
        "## Settings",
        "",
        "```json",
        json.dumps({"options": cell.options, "training": cell.training}, indent=2),
        "```",
        "",
        f"Trained with {versions or 'unknown versions'}; commit {commit or 'unknown'}.",
    ]
    return "\n".join(lines) + "\n"


def _merge_note(record: CellRecord) -> str:
    """A warning for a merged model that is not quite the one that was scored; empty if it is."""
    flips = record.merge_flips
    if flips is None or not flips.flips_above_margin:
        return ""
    return (
        f"Merging changes {flips.flips_above_margin} of {flips.n} answers to development questions by more than "
        f"{flips.margin:g} nats: this model does not answer quite as the adapter does."
    )


def _score_lines(record: CellRecord) -> list[str]:
    lines = [
        f"{answers.n} answers to {answers.set} were judged: the scores are in the sweep's report."
        for answers in record.answers.values()
    ]
    if not record.evaluations:
        return [*lines, "No task was scored."]
    lines += ["| task | protocol | metric | score | questions |", "| --- | --- | --- | --- | --- |"]
    for scores in record.evaluations.values():
        lines.append(f"| {scores.task} | {scores.label} | {scores.primary} | {100 * scores.score:.1f} | {scores.n} |")
    return lines
