"""One training on several devices: one process for each, launched for the training alone.

Each process loads the base, attaches the method and calls `bench.training.trainer.train`; the first one saves the
adapter, and all send their results. With `ddp` each process holds the whole model, with `fsdp` a part of it
(`bench.training.sharding`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch import nn

from bench import methods
from bench.costs import Meter, Reading, resident_level
from bench.data.examples import Example
from bench.methods.method import Method
from bench.models.device import compute_device
from bench.models.load import load_model, load_tokenizer
from bench.models.locate import ModelFolder
from bench.store.records import TrainingLogRow
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training.process_group import Send, launch
from bench.training.sharding import cannot_shard, gather_model, shard_model
from bench.training.trainer import TrainingResult, train

if TYPE_CHECKING:
    from bench.progress import Advance

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class TrainingJob:
    """A training, as its processes need it."""

    cell: Cell
    config: TrainingConfig
    base: ModelFolder
    examples: Sequence[Example]
    work: Path
    """Scratch space."""
    adapter: Path
    """An existing folder to save the adapter in."""
    tensorboard: Path | None = None
    """The folder of TensorBoard's log."""


@dataclass(frozen=True)
class StepReached:
    """A message: the arguments of `Advance`."""

    done: int
    total: int
    note: str


def train_on_devices(job: TrainingJob, log: Callable[[TrainingLogRow], None], advance: Advance) -> TrainingResult:
    """Train a cell on `job.config.devices` devices and save the adapter; `log` and `advance` are called here.

    Raises the error of a process (see `launch`), among them errors for memory that ran out and Diverged.
    """
    results: list[TrainingResult] = []

    def receive(message: object) -> None:
        match message:
            case TrainingLogRow():
                log(message)
            case StepReached():
                advance(message.done, message.total, message.note)
            case TrainingResult():
                results.append(message)

    launch(train_share, job.config.devices, receive, job)
    if len(results) != job.config.devices:
        raise RuntimeError(f"only {len(results)} of {job.config.devices} processes sent a result")
    return combine_results(results)


def train_share(rank: int, send: Send, job: TrainingJob) -> None:
    """The work of one process: train its share, save the adapter in the first process, and send the result."""
    level = resident_level()
    cell, config, sharded = job.cell, job.config, job.config.parallel == "fsdp"
    method = methods.get(cell.method)
    tokenizer = load_tokenizer(job.base)
    model: nn.Module | None = _attached(method, job)
    assert model is not None
    try:
        if sharded:
            shard_model(model, config.devices, cell.method)
        result = train(
            model,
            tokenizer,
            method,
            cell,
            config,
            job.examples,
            job.work,
            log=lambda row: send(row) if rank == 0 else None,
            advance=lambda done, total, note: send(StepReached(done, total, note)) if rank == 0 else None,
            meter=Meter(level),
            tensorboard=job.tensorboard,
        )
        if sharded:
            model = gather_model(model, lambda: _attached(method, job), rank)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        if sharded and any(word in str(error) for word in ("DTensor", "FSDP", "fully_shard")):
            raise cannot_shard(cell.method, f"works on whole weights: {error}") from error
        raise
    if model is not None and rank == 0:
        method.save(model, job.adapter)
    send(result)


def combine_results(results: Sequence[TrainingResult]) -> TrainingResult:
    """The results of the processes of one training as the result of the training.

    Tokens, tokens per second and the energy of GPUs are sums. Seconds, memory, the optimizer's state and the energy of
    processors (whose counters each process reads as a whole) are those of the process that has most.
    """
    readings = [result.cost for result in results]
    joules = [reading.joules for reading in readings]
    return replace(
        results[0],
        cost=Reading(
            seconds=max(reading.seconds for reading in readings),
            peak_bytes=_if_measured(max, [reading.peak_bytes for reading in readings]),
            reserved_bytes=_if_measured(max, [reading.reserved_bytes for reading in readings]),
            joules=_if_measured(sum if compute_device().type == "cuda" else max, joules),
        ),
        tokens=sum(result.tokens for result in results),
        padding=sum(result.padding for result in results),
        supervised=sum(result.supervised for result in results),
        tokens_per_second=sum(result.tokens_per_second for result in results),
        optimizer_bytes=max(result.optimizer_bytes for result in results),
    )


def _if_measured(function: Callable[[list[Number]], Number], values: Sequence[Number | None]) -> Number | None:
    """None if a value was not measured."""
    measured = [value for value in values if value is not None]
    return function(measured) if len(measured) == len(values) else None


def _attached(method: Method, job: TrainingJob) -> nn.Module:
    """The model to train, the same in every process and every time."""
    model = load_model(
        job.base,
        job.cell.base.dtype,
        job.config.attn_implementation,
        method_kwargs=method.load_kwargs(job.cell),
        seed=job.cell.seed,
    )
    return method.attach(model, job.cell)
