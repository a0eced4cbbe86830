"""One training on several devices: a process for each, launched for the training alone.

Each process loads the base, attaches the method and calls `bench.training.trainer.train`; the first one saves the
adapter and all tell what they come to. CUDA devices talk over nccl, processes of the CPU over gloo. With `ddp` each
process holds the whole model. With `fsdp` (torch's `fully_shard`) each holds a part of every parameter, and a layer is
put together while it is computed; accelerate has FSDP on accelerators only, so layers are sharded here, which is the
same on a CPU.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, spawn

from bench import methods
from bench.costs import Meter, Reading, release_memory, resident_level
from bench.data.examples import Example
from bench.environment import quiet_process
from bench.errors import CellProblem, Diverged, UserError, out_of_memory
from bench.methods.method import Method
from bench.models.device import compute_device
from bench.models.hooks import causal_lm
from bench.models.load import load_model, load_tokenizer
from bench.models.locate import ModelFolder
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training import trainer
from bench.training.trainer import TrainingResult

if TYPE_CHECKING:
    from bench.progress import Advance

Tell = Callable[[str, Any], None]
"""Sends the launching process a word and what belongs to it (small, and of Python's own types or a dataclass)."""

POLLING_SECONDS = 0.1
"""Between two looks at what the processes have told."""

HOST = "127.0.0.1"

ERRORS = {one.__name__: one for one in (UserError, CellProblem, Diverged, MemoryError)}
"""Those that the runner tells apart; any other error of a process is a RuntimeError here."""


@dataclass(frozen=True)
class Job:
    """A training as its processes need to know it."""

    cell: Cell
    config: TrainingConfig
    base: ModelFolder
    examples: Sequence[Example]
    work: Path
    """Scratch space."""
    adapter: Path
    """An existing folder to save in."""


def train(job: Job, log: Callable[[dict[str, Any]], None], advance: Advance) -> TrainingResult:
    """Train a cell on `job.config.devices` devices and save what was trained; `log` and `advance` are called here.

    Raises what a process has raised (see `launch`), an error for memory that ran out and Diverged among it.
    """
    results: list[TrainingResult] = []
    hearers = {"log": log, "advance": lambda seen: advance(*seen), "result": results.append}
    launch(work, job.config.devices, lambda word, content: hearers[word](content), job)
    if len(results) != job.config.devices:
        raise RuntimeError(f"only {len(results)} of {job.config.devices} processes told a result")
    return combined(results)


def work(rank: int, tell: Tell, job: Job) -> None:
    """What one of the processes does: train its share, save where it is the first, and tell the result."""
    level = resident_level()
    cell, config, sharded = job.cell, job.config, job.config.parallel == "fsdp"
    method = methods.get(cell.method)
    tokenizer = load_tokenizer(job.base)
    model = _attached(method, job)
    try:
        if sharded:
            shard(model, config.devices, cell.method)
        result = trainer.train(
            model,
            tokenizer,
            method,
            cell,
            config,
            job.examples,
            job.work,
            log=lambda row: tell("log", row) if rank == 0 else None,
            advance=lambda *seen: tell("advance", seen) if rank == 0 else None,
            meter=Meter(level),
        )
        if sharded:
            model = _whole(model, lambda: _attached(method, job), rank)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        if sharded and any(word in str(error) for word in ("DTensor", "FSDP", "fully_shard")):
            raise _not_sharded(cell.method, f"works on whole weights: {error}") from error
        raise
    if rank == 0:
        method.save(model, job.adapter)
    tell("result", result)


def combined(results: Sequence[TrainingResult]) -> TrainingResult:
    """The results of the processes of one training as that of the training.

    Tokens, their rate and a GPU's energy are sums. Seconds, memory and the optimizer's state are those of the process
    that has most, and so is the energy of processors, whose counters each process has read as a whole.
    """
    readings = [one.cost for one in results]

    def over(take: Callable[[Sequence[Any]], Any], values: Sequence[Any]) -> Any:
        return None if None in values else take(values)

    return replace(
        results[0],
        cost=Reading(
            seconds=max(one.seconds for one in readings),
            peak_bytes=over(max, [one.peak_bytes for one in readings]),
            reserved_bytes=over(max, [one.reserved_bytes for one in readings]),
            joules=over(sum if compute_device().type == "cuda" else max, [one.joules for one in readings]),
        ),
        tokens=sum(one.tokens for one in results),
        padding=sum(one.padding for one in results),
        supervised=sum(one.supervised for one in results),
        tokens_per_second=sum(one.tokens_per_second for one in results),
        optimizer_bytes=max(one.optimizer_bytes for one in results),
    )


def launch(work: Callable[..., None], devices: int, hear: Tell, *args: Any) -> None:
    """Run `work(rank, tell, *args)` in `devices` processes that form a torch process group, and wait for them; `hear`
    is called here with all that they tell. `work` must be a module's own function.

    Raises the error of the process that failed first, once the others are stopped: one of `ERRORS`, MemoryError for
    memory that ran out in whatever words (and for a process that the system killed), else RuntimeError. UserError
    where there are not as many devices.
    """
    where = compute_device().type
    there = torch.cuda.device_count() if where == "cuda" else devices if where == "cpu" else 1
    if there < devices:
        raise UserError(
            f"training.devices is {devices}, and this machine has {there} {where} device{'s' if there != 1 else ''}",
            f"Set training.devices to {there} or less.",
        )
    # The group meets at a port that the system chose.
    store = dist.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    threads = max(1, torch.get_num_threads() // devices)
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    failures: list[tuple[int, str, str]] = []

    def drain() -> None:
        while not queue.empty():
            word, content = queue.get()
            if word == "failed":
                failures.append(content)
            else:
                hear(word, content)

    processes = spawn(_process, (devices, store.port, threads, queue, work, args), nprocs=devices, join=False)
    try:
        while not processes.join(timeout=POLLING_SECONDS):
            drain()
        drain()
    except (ProcessRaisedException, ProcessExitedException) as error:
        drain()
        raise _error(failures, error) from error
    finally:
        for process in processes.processes:
            if process.is_alive():
                process.terminate()
                process.join()


def _error(failures: Sequence[tuple[int, str, str]], exited: Exception) -> Exception:
    """The failure that was told first: what the other processes say follows from its having gone."""
    if failures:
        rank, kind, text = failures[0]
        return ERRORS[kind](text) if kind in ERRORS else RuntimeError(f"{kind} in process {rank}{text}")
    if getattr(exited, "signal_name", None) == "SIGKILL":
        return MemoryError(f"{exited}, as the system does where memory runs out")
    return RuntimeError(str(exited))


def _process(
    rank: int, devices: int, port: int, threads: int, queue: SimpleQueue, work: Callable[..., None], args: Any
) -> None:
    """The whole of one process."""
    quiet_process()
    os.environ |= {
        **dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(devices)),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads),  # accelerate chooses otherwise
    }
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        backend = "gloo"
        if compute_device().type == "cuda":
            backend = "nccl"
            torch.cuda.set_device(rank)  # what "cuda" stands for from here on
        store = dist.TCPStore(HOST, port, is_master=False)
        dist.init_process_group(backend, store=store, rank=rank, world_size=devices)
        work(rank, lambda word, content: queue.put((word, content)), *args)
        dist.destroy_process_group()
    except Exception as error:
        kind, text = "MemoryError" if out_of_memory(error) else type(error).__name__, str(error)
        if kind not in ERRORS:
            at = traceback.extract_tb(error.__traceback__)[-1]
            text = f" at {Path(at.filename).name}:{at.lineno}: {text}"
        queue.put(("failed", (rank, kind, text)))
        raise


def _end_with_parent() -> None:
    """A launching process that is killed takes its processes along: each holds a device."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _attached(method: Method, job: Job) -> nn.Module:
    """The model to train, the same in every process and every time."""
    model = load_model(
        job.base,
        job.cell.base.dtype,
        job.config.attn_implementation,
        method_kwargs=method.load_kwargs(job.cell),
        seed=job.cell.seed,
    )
    return method.attach(model, job.cell)


def _not_sharded(method: str, why: str) -> CellProblem:
    return CellProblem(f"method {method} cannot be trained sharded: it {why}", "Set training.parallel: ddp.")


def shard(model: nn.Module, devices: int, method: str) -> None:
    """Leave this process its part of every parameter: one group for each layer that the architecture calls one, and
    one for the rest (embeddings, norm, head, and what a method has put outside of layers).

    Raises CellProblem, naming the method, where it has done to parameters what their parts would not know of.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers.distributed import DistributedConfig

    inner = causal_lm(model)
    layers = [one for one in model.modules() if type(one).__name__ in (inner._no_split_modules or ())]
    uses = Counter(id(parameter) for layer in layers for parameter in layer.parameters())
    if any(uses[id(parameter)] > 1 for parameter in model.parameters()):
        raise _not_sharded(method, "has parameters that layers share")
    if any(one._backward_hooks for one in model.parameters() if one.requires_grad):
        raise _not_sharded(method, "changes the gradients of whole parameters (by hooks, which their parts lose)")
    mesh = init_device_mesh(compute_device().type, (devices,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # As if transformers had sharded it while loading: Trainer then leaves it as it is, without DDP around it.
    inner._is_distributed_loading_by_transformers = True
    inner.config.distributed_config = DistributedConfig(fsdp_size=devices, dp_replicate_size=1)


def _whole(sharded: nn.Module, make: Callable[[], nn.Module], rank: int) -> nn.Module | None:
    """A model of `make` with the parameters that were trained and the buffers, put together in the first process; None
    in the others, all of which must call this."""
    trained = {name: one for name, one in sharded.named_parameters() if one.requires_grad}
    trained |= dict(sharded.named_buffers())
    kept = {}
    for name, value in trained.items():
        value = value.detach()
        value = value.full_tensor() if hasattr(value, "full_tensor") else value
        if rank == 0:
            kept[name] = value.cpu()
    if rank != 0:
        return None
    release_memory()
    model = make()
    places = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, value in kept.items():
            places[name].copy_(value)
    return model
