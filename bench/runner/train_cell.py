"""Trains a cell and saves its adapter; when memory runs out, the training starts again with smaller micro-batches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from bench.costs import Meter, count_flops, model_bytes, release_memory
from bench.data.examples import Example
from bench.errors import CellProblem, UserError, out_of_memory
from bench.progress import Advance
from bench.runner.cell_costs import add_training_costs, parameter_costs
from bench.runner.cell_run import CellRun
from bench.store.adapters import adapter_bytes
from bench.store.files import write_text
from bench.store.records import Costs, TrainingLogRow
from bench.sweep.sections import TrainingConfig
from bench.training.checkpoint import DamagedCheckpoint, latest_checkpoint, remove_damaged
from bench.training.distributed import TrainingJob, train_on_devices
from bench.training.trainer import TrainingResult, micro_batches, train


def train_cell(run: CellRun) -> Costs:
    """Train and save; returns what it cost, without times of the whole cell. The untuned base is only measured.

    When memory runs out, the training starts again with smaller micro-batches: batches, their order and the initial
    weights are the same.
    """
    config = run.planned.training
    work = count_flops(run.cell, run.skeleton, "training")
    for micro_batch in micro_batches(config.per_device, _first_micro_batch(run)):
        attached, costs = _attach(run)
        if run.cell.data is None:
            return costs
        model: nn.Module | None = attached
        del attached  # `model` is the only reference, so that its memory can be given back
        if config.devices > 1:
            model = None  # makes room for the processes that train
            release_memory()
        try:
            result = _train(run, model, config.model_copy(update={"micro_batch": micro_batch}))
        except DamagedCheckpoint as error:  # it is removed by now
            run.listener.line(f"{run.cell.name}: {error}; the training starts from its beginning")
            model = None
            release_memory()
            return train_cell(run)
        except Exception as error:
            if micro_batch == 1 or not out_of_memory(error):
                raise
            run.listener.line(f"{run.cell.name}: out of memory with micro-batches of {micro_batch}; trying smaller")
        else:
            add_training_costs(costs, result, work, run.cell, config)
            if model is not None:
                _save_adapter(run, model)
            costs.adapter_bytes = adapter_bytes(run.folder.adapter)
            return costs
        model = None  # before the next is loaded
        release_memory()
        shutil.rmtree(run.folder.work, ignore_errors=True)  # checkpoints of other micro-batches
    raise ValueError(f"{config.per_device} examples have no micro-batch")


def _attach(run: CellRun) -> tuple[nn.Module, Costs]:
    """The model to train, and its sizes."""
    base = run.load_base()
    base_bytes = model_bytes(base)
    model = run.method.attach(base, run.cell)
    return model, parameter_costs(run.planned, model, run.skeleton, base_bytes)


def _first_micro_batch(run: CellRun) -> int | None:
    """The micro-batch to begin with: that of the last checkpoint, if there is one; its time counts as the cell's."""
    config = run.planned.training
    damaged = remove_damaged(run.folder.work)
    saved = latest_checkpoint(run.folder.work)
    for problem in damaged:
        start = "starts from its beginning" if saved is None else f"resumes from step {saved.step}"
        run.listener.line(f"{run.cell.name}: {problem}; the training {start}")
    if saved is None or config.devices > 1:
        return config.micro_batch
    run.started -= saved.progress.cost.seconds
    return min(saved.progress.micro_batch, config.micro_batch or config.per_device)


def _train(run: CellRun, model: nn.Module | None, config: TrainingConfig) -> TrainingResult:
    """Train, or resume from the last checkpoint; with several devices `model` is None, and the processes save.

    Checkpoints are kept if the training is stopped or the disk is full, and removed if the training fails.
    """
    rows: list[str] = []

    def log(row: TrainingLogRow) -> None:
        rows.append(json.dumps(row.model_dump(exclude_unset=True)))
        write_text(run.folder.path / "training.jsonl", "\n".join(rows) + "\n")

    try:
        examples = run.data.subset(run.cell.samples, run.cell.seed, run.tokenizer)
        advance = run.listener.stage(f"{run.cell.name} training")
        if model is None:
            return _train_on_several(run, config, examples, log, advance)
        return train(
            model,
            run.tokenizer,
            run.method,
            run.cell,
            config,
            examples,
            run.folder.work,
            log,
            advance,
            Meter(run.level),
            _tensorboard_folder(run),
        )
    except Exception as error:
        if not isinstance(error, UserError) or isinstance(error, CellProblem):
            shutil.rmtree(run.folder.work, ignore_errors=True)
        raise


def _train_on_several(
    run: CellRun,
    config: TrainingConfig,
    examples: Sequence[Example],
    log: Callable[[TrainingLogRow], None],
    advance: Advance,
) -> TrainingResult:
    """Train and save in a process for each device."""
    work = run.folder.work
    shutil.rmtree(work, ignore_errors=True)
    saved = work / "adapter"
    saved.mkdir(parents=True)
    job = TrainingJob(run.cell, config, run.base, tuple(examples), work, saved, _tensorboard_folder(run))
    result = train_on_devices(job, log, advance)
    run.folder.save_adapter(
        lambda folder: shutil.copytree(saved, folder, copy_function=shutil.move, dirs_exist_ok=True)
    )
    return result


def _save_adapter(run: CellRun, model: nn.Module) -> None:
    def save(folder: Path) -> None:
        run.method.save(model, folder)

    run.folder.save_adapter(save)


def _tensorboard_folder(run: CellRun) -> Path:
    return run.folder.path / "tensorboard"
