"""One cell from start to finish, in reading order: base model, method, training, scores, record.

A cell can be run anywhere and any number of times: what is recorded already is not done again, and whatever
moment the process is killed at, the next run goes on from the last whole file.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import os
import platform
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from bench import base_models, evaluation, methods
from bench.costs import model_bytes, probe
from bench.data import Data, Example, Question, Rendered
from bench.data.questions import render
from bench.errors import CellProblem
from bench.evaluation.lm import LanguageModel
from bench.evaluation.loglikelihood import choice_scores
from bench.head import drop_prompt_mask
from bench.plan import PlannedCell
from bench.runner.progress import Progress
from bench.store import CellFolder, write_json, write_text
from bench.training import Collator, TrainingResult, encode, train

RECORDED_PACKAGES = (
    "bench-peft",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "lm-eval",
    "datasets",
    "numpy",
    "pyreft",
    "galore-torch",
    "bitsandbytes",
)

PROBED_QUESTIONS = 2
"""Questions of each task on which merged and unmerged logits are compared."""

FLIP_QUESTIONS = 60
"""Development questions, over all training sets, whose answers are compared between merged and unmerged."""

FLIP_MARGIN = {"float32": 0.01}
HALF_MARGIN = 0.5
"""Nats between the two likeliest choices: where an answer flips beyond it, merging has changed the model and not just
its rounding, which moves a log-likelihood by up to 0.4 in half precision."""


def run_cell(planned: PlannedCell, data: Data, folder: CellFolder, batch_size: int | None, progress: Progress) -> None:
    """Train and score one cell and record it in its folder.

    Raises whatever went wrong; what was whole by then is kept (the runner records the reason).
    """
    cell = planned.cell
    method = methods.get(cell.method)
    base = base_models.find(planned.base.id, planned.base.revision)
    tokenizer = base_models.load_tokenizer(base)
    metrics = folder.metrics()
    write_json(folder.path / "cell.json", cell.model_dump(mode="json"))

    set_seed(cell.seed)
    loading = {"dtype": cell.base.dtype, "attn_implementation": planned.training.attn_implementation}
    loading |= method.load_kwargs(cell)
    model = base_models.load(base, **loading)
    base_bytes = model_bytes(model)
    set_seed(cell.seed)  # loading may have drawn from it
    if "costs" in metrics:  # written when the training was whole, kept whatever came after
        if cell.data is not None and not folder.adapter.is_dir():
            raise CellProblem(
                f"{folder.path.name} is trained but its adapter was not kept, so it cannot be scored on more tasks",
                "Remove its folder to train it again.",
            )
        model = method.load(model, folder.adapter, cell)
    else:
        shutil.rmtree(folder.path / "items", ignore_errors=True)  # of another training's weights
        write_json(folder.path / "environment.json", environment(base, data, planned))
        model = method.attach(model, cell)
        trainable = sum(one.numel() for one in model.parameters() if one.requires_grad)
        total = planned.total + trainable - planned.trainable  # a quantized base packs several weights into a number
        metrics = {
            "status": "trained",
            "costs": {"trainable": trainable, "total": total, "base_bytes": base_bytes},
        }
        if cell.data is not None:
            result = _train(model, tokenizer, method, planned, data, folder, progress)
            metrics["costs"] |= _training_costs(result)
            folder.save_adapter(lambda part: method.save(model, part))
            metrics["costs"]["adapter_bytes"] = sum(p.stat().st_size for p in folder.adapter.rglob("*.safetensors"))
        folder.write_metrics(metrics)
        if cell.data is not None:  # what is scored is what was saved, now and after any restart
            del model
            gc.collect()
            model = method.load(base_models.load(base, **loading), folder.adapter, cell)

    drop_prompt_mask(model)
    facts = method.facts_for(cell.options)
    # Two evaluations of one cell never differ in being merged: the sweep says it, and a method can or cannot.
    merged = any(one.merged for one in planned.evaluations)
    if merged:
        model = _merged(model, method, planned, data, tokenizer, metrics)
        lm = LanguageModel(model, tokenizer, batch_size, "any")
    else:
        lm = LanguageModel(model, tokenizer, batch_size, facts.shared_prefix, cell.base.dtype, facts.pads_left)
    metrics.setdefault("evaluations", {})
    for identity in planned.evaluations:
        if identity.id in metrics["evaluations"]:
            continue
        items = folder.items(identity.file)
        seconds = None
        if items is None:
            begun = time.perf_counter()
            lm.advance = progress.stage(f"{cell.name} scoring {identity.task}")
            items = evaluation.evaluate(lm, data, identity)
            seconds = round(time.perf_counter() - begun, 2)
            folder.write_items(identity.file, items)
        metrics["evaluations"][identity.id] = {
            **identity.model_dump(mode="json"),
            "file": identity.file,
            **evaluation.scores(items, evaluation.primary(data, identity)),
            "seconds": seconds,
        }
        if lm.checked:
            metrics["sharing_check"] = {"share": lm.share, **dataclasses.asdict(lm.checked)}
        metrics["warnings"] = list(dict.fromkeys([*metrics.get("warnings", []), *lm.warnings]))
        folder.write_metrics(metrics)
    metrics |= {"status": "done", "reason": "", "traceback": []}
    folder.write_metrics(metrics)
    if not merged:  # only to be measured: the scores stand, whatever comes of it
        try:
            _merged(model, method, planned, data, tokenizer, metrics)
        except (RuntimeError, MemoryError) as error:
            metrics |= {"merge_max_abs_diff": None, "merge_reason": f"could not be measured: {error}"}
        folder.write_metrics(metrics)


def _merged(model: Any, method: Any, planned: PlannedCell, data: Data, tokenizer: Any, metrics: dict[str, Any]) -> Any:
    """The model with its adapter folded in, in the cell's dtype (rounded once); how far its logits are from the
    unmerged model's is recorded. A method that cannot merge is recorded with the reason, and None is returned."""
    cell = planned.cell
    facts = method.facts_for(cell.options)
    if not facts.mergeable:
        metrics["merge_max_abs_diff"], metrics["merge_reason"] = None, facts.cannot_merge
        return None
    batch = _probe_batch(data, tokenizer, planned.training)
    asked = _development(data)
    unmerged_lm = LanguageModel(model, tokenizer, None, facts.shared_prefix, cell.base.dtype)
    before = choice_scores(unmerged_lm, asked)
    # Beside float32 the cell's own half precision; of a float32 cell, bfloat16 by autocast on both sides.
    half = cell.base.dtype if cell.base.dtype != "float32" else "bfloat16"
    unmerged = {half: probe(model.eval(), batch, half)}
    unmerged["float32"] = probe(model.float(), batch, "float32")
    model = method.merge(model).eval()
    merged = {"float32": probe(model, batch, "float32")}
    if cell.base.dtype == "float32":
        merged[half] = probe(model, batch, half)
    else:
        model = model.to(getattr(torch, cell.base.dtype))
        merged[half] = probe(model, batch, "float32")  # no autocast: in the dtype of its weights
    metrics["merge_max_abs_diff"] = {
        dtype: float((merged[dtype] - unmerged[dtype]).abs().max()) for dtype in ("float32", half)
    }
    after = choice_scores(LanguageModel(model, tokenizer, None, "any"), asked)
    # Of the merged model the scoring itself says it.
    metrics["warnings"] = [*metrics.get("warnings", []), *(f"unmerged: {text}" for text in unmerged_lm.warnings)]
    metrics["merge_flips"] = _flips(before, after, FLIP_MARGIN.get(cell.base.dtype, HALF_MARGIN))
    return model


def _development(data: Data) -> list[tuple[Question, Rendered]]:
    """A few development questions of every training set, in equal shares, with their texts."""
    share = -(-FLIP_QUESTIONS // max(1, len(data.development)))
    drawn = [question for questions in data.development.values() for question in questions[:share]]
    return [(one, render(one, data.tasks[one.task].wording, data.config.format)) for one in drawn]


def _flips(before: list[list[float]], after: list[list[float]], margin: float) -> dict[str, Any]:
    """How many answers differ between two scorings, and how many of these were no near ties in the first."""
    gaps = [
        max(one) - one[int(np.argmax(other))] for one, other in zip(before, after, strict=True)
    ]  # what the first scoring lost by the second's answer: 0 where they agree
    return {
        "n": len(gaps),
        "flips": sum(int(np.argmax(a)) != int(np.argmax(b)) for a, b in zip(before, after, strict=True)),
        "flips_above_margin": sum(not gap <= margin for gap in gaps),
        "margin": margin,
    }


def _probe_batch(data: Data, tokenizer: Any, config: Any) -> dict[str, torch.Tensor]:
    """A few questions of every task with their right answers, as a training batch."""
    examples = []
    for task in data.questions:
        for question, rendered in data.rendered(task)[:PROBED_QUESTIONS]:
            examples.append(Example(rendered.contexts[question.label], rendered.continuations[question.label]))
    if not examples:  # where lm-eval's own tasks are all that is scored
        examples = data.subset(PROBED_QUESTIONS, seed=0)
    rows = [encode(tokenizer, one, config.max_length, data.config.append_eos) for one in examples]
    return Collator(tokenizer.pad_token_id, config.loss)(rows)


def _train(
    model: Any,
    tokenizer: Any,
    method: Any,
    planned: PlannedCell,
    data: Data,
    folder: CellFolder,
    progress: Progress,
) -> TrainingResult:
    """Train, keeping the log in memory until it is whole."""
    cell = planned.cell
    lines: list[str] = []

    def log(row: dict[str, Any]) -> None:
        lines.append(json.dumps(row))
        write_text(folder.path / "training.jsonl", "\n".join(lines) + "\n")

    shutil.rmtree(folder.work, ignore_errors=True)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.path / "tensorboard")
    try:
        examples = data.subset(cell.samples, cell.seed)
        advance = progress.stage(f"{cell.name} training")
        return train(model, tokenizer, method, cell, planned.training, examples, folder.work, log, advance)
    finally:
        shutil.rmtree(folder.work, ignore_errors=True)


def _training_costs(result: TrainingResult) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "training_seconds": round(result.seconds, 2),
        "training_tokens": result.tokens,
        "tokens_per_second": round(result.tokens / result.seconds, 1),
        "final_loss": result.final_loss,
        "truncated_examples": result.truncated,
        "optimizer_bytes": result.optimizer_bytes,
    }


def environment(base: base_models.Base, data: Data, planned: PlannedCell) -> dict[str, Any]:
    """What the cell was run with: versions, commit, device, fingerprints. No path and no host name."""
    where = base_models.device()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if where.type == "cuda" else where.type,
        "threads": torch.get_num_threads(),
        "base_model": {"id": base.id, "revision": base.revision, "commit": base.commit},
        "dtype_reason": base_models.resolve_dtype(planned.base.dtype).reason,
        "data_fingerprint": data.fingerprint,
        "overlap": {name: vars(one) for name, one in data.overlap.items()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def _commit() -> str | None:
    """The harness's own commit as the run began, with `-dirty` where files were changed; None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    tracked = subprocess.run(
        ["git", "-C", str(here), "ls-files", "--error-unmatch", __file__], capture_output=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 and tracked.returncode == 0 else None
