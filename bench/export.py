"""A trained cell to be used elsewhere: an adapter that PEFT loads, or the merged model, with a card made from the cell.

The card says what the record says: base, method and its settings, data, scores with their n and protocol, versions.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.store.folder import CellFolder
from bench.sweep.cell import Cell

CARD = "README.md"


def export(folder: CellFolder, to: Path, merged: bool = False, base: str | None = None) -> Path:
    """Write a cell's adapter (or, with `merged`, the model with the adapter folded in, in the cell's dtype) into the
    folder `to`, which must not exist, and return it. `base` is where the base model is, where the cell's name of it is
    no alias and no hub id.

    Raises UserError for a cell that is not trained, has not kept its adapter, or cannot be exported so.
    """
    from bench import methods

    if not folder.exists():
        raise UserError(f"{folder.path} is no cell", "Give a folder of results/<sweep>/cells/.")
    cell, metrics = folder.cell(), folder.metrics()
    if to.exists():
        raise UserError(f"{to} exists already", "Give --to a folder that does not.")
    if cell.data is None:
        raise UserError(f"{folder.path.name} is the untuned base: there is nothing to export")
    if not folder.adapter.is_dir():
        raise UserError(f"{folder.path.name} has no adapter", "It was not kept, or the cell is not trained: run it.")
    method = methods.get(cell.method)
    part = to.with_name(f".{to.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        if merged:
            _merged(cell, method, folder, part, base)
        else:
            problem = method.cannot_load_in_peft(cell.options)
            if problem:
                fix = "Give --merged." if method.facts_for(cell.options).mergeable else "bench itself loads it."
                raise UserError(f"PEFT cannot load the adapter of {cell.method}: {problem}", fix)
            shutil.copytree(folder.adapter, part)
            _name_base(part, cell)
        (part / CARD).write_text(card(cell, metrics, _environment(folder), merged), encoding="utf-8")
        part.rename(to)
    except OSError as error:
        raise UserError(f"cannot write {to}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return to


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to a hub repository (made private where there is none) and return its address. The
    token is the hub library's own (`HF_TOKEN`, or what `hf auth login` has stored)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder).commit_url)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"cannot push to {repository}: {str(error).splitlines()[0]}",
            f"What was exported lies in {folder}. Set HF_TOKEN to a token that may write there.",
        ) from error


def _merged(cell: Cell, method: Any, folder: CellFolder, to: Path, base: str | None) -> None:
    import torch

    from bench.models.load import load_model, load_tokenizer
    from bench.models.locate import find_base

    facts = method.facts_for(cell.options)
    if not facts.mergeable:
        raise UserError(f"{cell.method} cannot be merged: {facts.cannot_merge}", "Leave out --merged.")
    found = find_base(base or cell.base.id, None if base else _revision(cell))
    model = load_model(found, cell.base.dtype, method_kwargs=method.load_kwargs(cell))
    model = method.merge(method.load(model, folder.adapter, cell).float())
    model.to(getattr(torch, cell.base.dtype)).save_pretrained(to)
    load_tokenizer(found).save_pretrained(to)


def _revision(cell: Cell) -> str | None:
    from bench.models.packaged import ALIASES

    return None if cell.base.id in ALIASES or cell.base.revision == "main" else cell.base.revision


def _name_base(folder: Path, cell: Cell) -> None:
    """The adapter's own configuration names the base as the cell does, not where it lay on this machine."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = cell.base.id
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _environment(folder: CellFolder) -> dict[str, Any]:
    return json.loads(folder.read_text("environment.json") or "{}")


def card(cell: Cell, metrics: dict[str, Any], environment: dict[str, Any], merged: bool) -> str:
    """The model card, Markdown with the hub's front matter."""
    what = "merged model" if merged else "adapter"
    words = f"template {cell.data.template}" if cell.data.template else f"format {cell.data.format}"
    scores = [
        f"| {one['task']} | {one['protocol']}-v{one['protocol_version']} | {one['primary']} | "
        f"{100 * one['score']:.1f} | {one['n']} |"
        for one in metrics.get("evaluations", {}).values()
    ]
    packages = ", ".join(f"{name} {number}" for name, number in environment.get("packages", {}).items() if number)
    front = [f"base_model: {cell.base.id}", f"library_name: {'transformers' if merged else 'peft'}"]
    lines = [
        "---",
        *front,
        "---",
        f"# {cell.name}",
        "",
        f"The {what} of one cell of a sweep: {cell.method} on {cell.base.id} ({cell.base.revision}, computed in "
        f"{cell.base.dtype}), trained on {cell.samples:,} examples of {', '.join(cell.data.train)} ({words}), seed "
        f"{cell.seed}. Its identity is `{cell.id}`.",
        "",
        "## Scores",
        "",
        *(
            f"{one['n']} answers to {one['set']} were judged: the scores are in the sweep's report."
            for one in metrics.get("answers", {}).values()
        ),
        *(
            ["| task | protocol | metric | score | questions |", "| --- | --- | --- | --- | --- |", *scores]
            if scores
            else ["No task was scored."]
        ),
        "",
        "One run: how it compares with others, and how surely, is in the sweep's report.",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps({"options": cell.options, "training": cell.training}, indent=2),
        "```",
        "",
        f"Made with {packages or 'unknown versions'}; commit {environment.get('commit') or 'unknown'}.",
    ]
    return "\n".join(lines) + "\n"
