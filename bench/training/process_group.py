"""Processes that form a torch process group, launched from one process and joined with it.

CUDA devices communicate over nccl, CPU processes over gloo.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not marked as exported
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from bench.environment import quiet_process
from bench.errors import CellProblem, Diverged, UserError, out_of_memory
from bench.models.device import compute_device

Send = Callable[[object], None]
"""Sends a message to the launching process: small, and of Python's own types or a dataclass."""

POLLING_SECONDS = 0.1
"""Between two looks at the messages of the processes."""

HOST = "127.0.0.1"

ERRORS = {error.__name__: error for error in (UserError, CellProblem, Diverged, MemoryError)}
"""The errors that the runner distinguishes; any other error of a process becomes a RuntimeError."""


@dataclass(frozen=True)
class ProcessFailure:
    """The error of a process."""

    rank: int
    kind: str
    """Name of the class."""
    text: str


def launch(work: Callable[..., None], devices: int, on_message: Send, *args: object) -> None:
    """Run `work(rank, send, *args)` in `devices` processes that form a torch process group, and wait for them.

    `on_message` is called here with everything that they send. `work` must be a function of a module.

    Raises the error of the process that failed first, after the others are stopped: one of `ERRORS`, MemoryError for
    memory that ran out however the library says it (and for a process that the system killed), else RuntimeError.
    UserError if there are too few devices.
    """
    kind = compute_device().type
    available = torch.cuda.device_count() if kind == "cuda" else devices if kind == "cpu" else 1
    if available < devices:
        plural = "s" if available != 1 else ""
        raise UserError(
            f"training.devices is {devices}, and this machine has {available} {kind} device{plural}",
            f"Set training.devices to {available} or less.",
        )
    # The group meets at a port that the system chose.
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    threads = max(1, torch.get_num_threads() // devices)
    queue: SimpleQueue[object] = multiprocessing.get_context("spawn").SimpleQueue()
    failures: list[ProcessFailure] = []

    def drain() -> None:
        while not queue.empty():
            message = queue.get()
            if isinstance(message, ProcessFailure):
                failures.append(message)
            else:
                on_message(message)

    processes = spawn(_run_process, (devices, store.port, threads, queue, work, args), nprocs=devices, join=False)
    try:
        while not processes.join(timeout=POLLING_SECONDS):
            drain()
        drain()
    except (ProcessRaisedException, ProcessExitedException) as error:
        drain()
        raise error_of(failures, error) from error
    finally:
        for process in processes.processes:
            if process.is_alive():
                process.terminate()
                process.join()


def error_of(failures: Sequence[ProcessFailure], exited: Exception) -> Exception:
    """The first failure as an exception: the errors of the other processes follow from it."""
    if failures:
        first = failures[0]
        if first.kind in ERRORS:
            return ERRORS[first.kind](first.text)
        return RuntimeError(f"{first.kind} in process {first.rank}{first.text}")
    if getattr(exited, "signal_name", None) == "SIGKILL":
        return MemoryError(f"{exited}, as the system does where memory runs out")
    return RuntimeError(str(exited))


def _run_process(
    rank: int,
    devices: int,
    port: int,
    threads: int,
    queue: SimpleQueue[object],
    work: Callable[..., None],
    args: tuple[object, ...],
) -> None:
    """One process from start to end."""
    quiet_process()
    os.environ |= {
        **dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(devices)),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads),  # accelerate would choose another number
    }
    torch.set_num_threads(threads)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        backend = "gloo"
        if compute_device().type == "cuda":
            backend = "nccl"
            torch.cuda.set_device(rank)  # "cuda" means this device from here on
        store = TCPStore(HOST, port, is_master=False)
        dist.init_process_group(backend, store=store, rank=rank, world_size=devices)
        work(rank, queue.put, *args)
        dist.destroy_process_group()
    except Exception as error:
        kind, text = "MemoryError" if out_of_memory(error) else type(error).__name__, str(error)
        if kind not in ERRORS:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            text = f" at {Path(frame.filename).name}:{frame.lineno}: {text}"
        queue.put(ProcessFailure(rank, kind, text))
        raise


def _exit_with_parent() -> None:
    """If the launching process is killed, its processes exit: each of them holds a device."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
