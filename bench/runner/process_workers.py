"""Workers that are processes of this machine, one per device, which live as long as they stay healthy.

A worker is forked from a server that has the libraries loaded (`bench.runner.forkserver`), so a fresh one starts at
once. It runs one cell after the other and reports its progress; it ends with the process that started it, however that
one ends. No state passes from one cell to the next: the base is loaded anew and seeds are set from the cell alone.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from bench.environment import handle_stop_signals, quiet_process
from bench.planning.plan import PlannedCell
from bench.runner.forkserver import worker_context
from bench.runner.workers import Event, EventForwarder, RunContext, Worker, run_locked
from bench.store.scratch import ScratchFolder

DUMP_SECONDS = 1.0
"""Time that a hanging worker is given to write where it hangs."""


@dataclass(frozen=True)
class Slot:
    """A place for a worker: its device, or its share of the CPUs."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    """Of torch; None leaves the number as it is."""


def worker_slots(workers: int | None, devices: int) -> list[Slot]:
    """A slot for each worker.

    With CUDA, one per device, or per group of the `devices` that a cell needs. On a CPU one, or as many as asked for,
    which share the CPUs.
    """
    import torch

    from bench.models.device import compute_device

    device = compute_device().type
    if device == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        groups = [names[start : start + devices] for start in range(0, len(names) - devices + 1, devices)] or [names]
        chosen = [groups[number % len(groups)] for number in range(workers or len(groups))]
        return [
            Slot(
                f"gpu{'+'.join(group)}" + (f".{number // len(groups)}" if number >= len(groups) else ""),
                {"CUDA_VISIBLE_DEVICES": ",".join(group)},
            )
            for number, group in enumerate(chosen)
        ]
    if workers is None or workers <= 1:
        return [Slot(device)]
    threads = max(1, torch.get_num_threads() // workers)
    return [Slot(f"{device}{number}", threads=threads) for number in range(workers)]


class ProcessCrew:
    """A crew of processes of this machine."""

    def __init__(self, context: RunContext, slots: Sequence[Slot]) -> None:
        self.folder = ScratchFolder()
        # In a file, not among the arguments: a process starts once its arguments are read, for which it loads the
        # libraries, and each process would wait for the one before.
        self.context = self.folder.path / "context"
        self.context.write_bytes(ForkingPickler.dumps(context))
        self.processes = [self._start(slot) for slot in slots]

    @property
    def workers(self) -> Sequence[Worker]:
        return self.processes

    def _start(self, slot: Slot) -> ProcessWorker:
        return ProcessWorker(self.context, slot, self.folder.path / f"{slot.name}.log")

    def wait(self, seconds: float, wake: connection.Connection) -> None:
        connection.wait([wake, *(source for worker in self.processes for source in worker.sources())], timeout=seconds)

    def replace(self, worker: Worker) -> None:
        index = next(number for number, process in enumerate(self.processes) if process is worker)
        process = self.processes[index]
        process.stop()
        self.processes[index] = self._start(process.slot)

    def stop(self) -> None:
        for process in self.processes:
            process.stop()
        self.folder.cleanup()


class ProcessWorker:
    """A worker that is a process of this machine."""

    def __init__(self, context: Path, slot: Slot, log: Path) -> None:
        self.name, self.slot, self.log = slot.name, slot, log
        start = worker_context()
        self.pipe, theirs = start.Pipe()
        environment = {**os.environ, **slot.environment}
        self.process = start.Process(
            target=serve, args=(theirs, environment, slot.threads, context, log), name=slot.name
        )
        self.process.start()
        theirs.close()

    def ready(self) -> bool:
        return True

    def give(self, planned: PlannedCell) -> None:
        self.log.write_bytes(b"")  # from here on the log of this cell
        with suppress(OSError):  # the process has died, which `death` reports
            self.pipe.send(planned)

    def events(self) -> Iterator[Event]:
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            return

    def death(self) -> str | None:
        code = self.process.exitcode
        if code is None:
            return None
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"its process was ended by signal {name}"

    def sources(self) -> list[connection.Connection | int]:
        """What becomes ready when the process reports an event or ends."""
        return [self.process.sentinel] if self.pipe.closed else [self.pipe, self.process.sentinel]

    def stop(self, dump: bool = False) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            if dump and hasattr(signal, "SIGUSR1"):
                os.kill(self.process.pid, signal.SIGUSR1)  # faulthandler writes the stacks, see `serve`
                time.sleep(DUMP_SECONDS)
            self.process.kill()
        self.process.join()
        self.pipe.close()


def serve(
    pipe: connection.Connection, environment: Mapping[str, str], threads: int | None, context: Path, log: Path
) -> None:
    """The main function of a worker process: run each cell that comes through the pipe, until the pipe closes.

    `context` is the file of the pickled RunContext.
    """
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    # So are the signals that a cluster sends to all processes. Those that this one starts have the system's default,
    # which they would not have if it ignored them: torch ends its processes by SIGTERM.
    handle_stop_signals(lambda number, frame: None)
    _write_to(log)
    quiet_process()
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # tqdm's own is one of the system's, which a killed process leaves behind
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    run: RunContext = pickle.loads(context.read_bytes())
    cells: queue.SimpleQueue[PlannedCell] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, cells), daemon=True).start()

    def send(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:
            os._exit(1)  # the parent has gone

    while True:
        send(run_locked(run, cells.get(), EventForwarder(send)))


def _write_to(log: Path) -> None:
    """Send the output of this process, also of its libraries' C code, to a file; on SIGUSR1 its stacks as well."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, sys.stderr, all_threads=True)


def _receive(pipe: connection.Connection, cells: queue.SimpleQueue[PlannedCell]) -> None:
    try:
        while True:
            cells.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(1)  # the parent has gone, and nobody waits for the cell
