"""Where cells run: worker processes, one per device, that live as long as they stay healthy.

A worker is forked from a server that has the libraries loaded and has computed nothing, so a fresh one is there at
once. It runs one cell after the other and tells what it does; it ends with the process that made it, however that
ends. A cell takes nothing from the one before: the base is loaded anew and seeds are set from the cell alone.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol

from bench.environment import quiet_process
from bench.planning.plan import Plan, PlannedCell, state
from bench.progress import Advance, Listener
from bench.runner.outcome import Ended, attempt
from bench.store.folder import Results
from bench.store.locks import holding

TELLING_SECONDS = 0.2
"""Between two tellings of how far a stage is."""

DUMPING_SECONDS = 1.0
"""What a hanging worker is given to write where it hangs."""

Event = tuple[str, Any]
"""(`line`, text), (`stage`, its name), (`advance`, (done, total, note)) or (`ended`, Ended)."""


@dataclass(frozen=True)
class Task:
    """What every worker of a sweep needs to know."""

    plan: Plan
    results: Results
    states: frozenset[str]
    """Those in which a cell is run."""
    retry_failed: bool = False


class Worker(Protocol):
    """One that runs cells, one at a time."""

    name: str
    log: Path
    """Where its output goes."""

    def ready(self) -> bool:
        """Whether it can be given a cell."""

    def give(self, planned: PlannedCell) -> None:
        """Have it run a cell."""

    def heard(self) -> Iterator[Event]:
        """What it has told since it was last asked; never waits."""

    def died(self) -> str | None:
        """How it has ended, or None while it lives."""

    def stop(self, dump: bool = False) -> None:
        """End it, whatever it does; with `dump`, its log says where it was."""


class Crew(Protocol):
    """The workers of a run."""

    workers: list[Worker]

    def wait(self, seconds: float, woken: connection.Connection) -> None:
        """Until one of them has something to tell or `woken` can be read, and no longer than this."""

    def replace(self, worker: Worker) -> None:
        """A fresh one in the place of one that has ended."""

    def stop(self) -> None:
        """End all of them."""


def run_locked(task: Task, planned: PlannedCell, listener: Listener, run: Callable[..., Ended] = attempt) -> Ended:
    """Run a cell unless another process runs it, or has done so since it was chosen."""
    folder = task.results.folder(planned.cell)
    with holding(task.results, folder.path.name) as held:
        if not held:
            return Ended("elsewhere", "another process runs it")
        if state(planned, task.results, task.retry_failed) not in task.states:
            return Ended("elsewhere", "another process has run it")
        folder.tidy()
        return run(planned, task.plan, folder, listener)


# ---- in this process


class Here:
    """A crew of one that runs cells in this process: for debugging, and where processes cannot be had."""

    def __init__(self, task: Task, listener: Listener) -> None:
        self.workers: list[Worker] = [_Here(task, listener)]

    def wait(self, seconds: float, woken: connection.Connection) -> None:
        if not self.workers[0].told:
            woken.poll(seconds)

    def replace(self, worker: Worker) -> None:
        pass  # there is no other

    def stop(self) -> None:
        pass


@dataclass
class _Here:
    task: Task
    listener: Listener
    name: str = "here"
    log: Path = Path(os.devnull)
    told: list[Event] = field(default_factory=list)

    def ready(self) -> bool:
        return True

    def give(self, planned: PlannedCell) -> None:
        self.told.append(("ended", run_locked(self.task, planned, self.listener)))

    def heard(self) -> Iterator[Event]:
        while self.told:
            yield self.told.pop(0)

    def died(self) -> str | None:
        return None

    def stop(self, dump: bool = False) -> None:
        pass


# ---- processes of this machine


@dataclass(frozen=True)
class Slot:
    """A place for a worker: the device that it has, or a share of the processors."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    """Of torch; None leaves it as it is."""


def slots(workers: int | None, devices: int) -> list[Slot]:
    """A place for each worker: one per CUDA device (or group of `devices` that a cell needs); on a CPU one, or as many
    as asked for, which then share the processors."""
    import torch

    from bench.models.device import compute_device

    if compute_device().type == "cuda":
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = shown.split(",") if shown else [str(n) for n in range(torch.cuda.device_count())]
        groups = [names[at : at + devices] for at in range(0, len(names) - devices + 1, devices)] or [names]
        chosen = [groups[n % len(groups)] for n in range(workers or len(groups))]
        return [
            Slot(
                f"gpu{'+'.join(group)}" + (f".{n // len(groups)}" if n >= len(groups) else ""),
                {"CUDA_VISIBLE_DEVICES": ",".join(group)},
            )
            for n, group in enumerate(chosen)
        ]
    if (workers or 1) == 1:
        return [Slot(compute_device().type)]
    threads = max(1, torch.get_num_threads() // workers)
    return [Slot(f"{compute_device().type}{n}", threads=threads) for n in range(workers)]


class Local:
    """A crew of processes of this machine."""

    def __init__(self, task: Task, places: Sequence[Slot]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")
        # In a file, not among the arguments: a process is started once its arguments are read, for which it loads the
        # libraries, and each would wait for the one before.
        self.task = Path(self.folder.name) / "task"
        self.task.write_bytes(ForkingPickler.dumps(task))
        self.workers: list[Worker] = [self._fresh(place) for place in places]

    def _fresh(self, place: Slot) -> Process:
        return Process(self.task, place, Path(self.folder.name) / f"{place.name}.log")

    def wait(self, seconds: float, woken: connection.Connection) -> None:
        connection.wait([woken, *(one for worker in self.workers for one in worker.waited_for())], timeout=seconds)

    def replace(self, worker: Worker) -> None:
        at = self.workers.index(worker)
        worker.stop()
        self.workers[at] = self._fresh(worker.place)

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.folder.cleanup()


DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
"""What is there where a GPU is (NVIDIA's, AMD's)."""


def warm_up() -> None:
    """Begin to load what workers need, in the process that they are forked from; returns at once.

    Not where a GPU is: a library may ask the driver something as it is imported (bitsandbytes does), and no process
    that is forked from then on could use the device.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        gpu = any(Path(one).exists() for one in DRIVERS)
        multiprocessing.set_forkserver_preload([] if gpu else ["bench.runner.forkserver_preload"])
        from multiprocessing import forkserver

        forkserver.ensure_running()


def _context() -> Any:
    warm_up()
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


class Process:
    """A worker that is a process of this machine."""

    def __init__(self, task: Path, place: Slot, log: Path) -> None:
        self.name, self.place, self.log = place.name, place, log
        context = _context()
        self.ours, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, {**os.environ, **place.environment}, place.threads, task, log), name=place.name
        )
        self.process.start()
        theirs.close()

    def ready(self) -> bool:
        return True

    def give(self, planned: PlannedCell) -> None:
        self.log.write_bytes(b"")  # of this cell from here on
        with suppress(OSError):  # it has died, which `died` will tell
            self.ours.send(planned)

    def heard(self) -> Iterator[Event]:
        try:
            while self.ours.poll():
                yield self.ours.recv()
        except (EOFError, OSError):
            return

    def died(self) -> str | None:
        code = self.process.exitcode
        if code is None:
            return None
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"its process was ended by signal {name}"

    def waited_for(self) -> list[Any]:
        return [self.process.sentinel] if self.ours.closed else [self.ours, self.process.sentinel]

    def stop(self, dump: bool = False) -> None:
        if self.process.is_alive():
            if dump and hasattr(signal, "SIGUSR1"):
                os.kill(self.process.pid, signal.SIGUSR1)  # faulthandler's, see `serve`
                time.sleep(DUMPING_SECONDS)
            self.process.kill()
        self.process.join()
        self.ours.close()


def serve(
    theirs: connection.Connection, environment: Mapping[str, str], threads: int | None, path: Path, log: Path
) -> None:
    """The whole of a worker: run each cell of the task (a file) that is given, until the giver has gone."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the giver's to hear
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, sys.stderr, all_threads=True)
    quiet_process()
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own would be one of the system's, which a killed process leaves behind
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    task: Task = pickle.loads(path.read_bytes())
    given: queue.SimpleQueue[PlannedCell] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(theirs, given), daemon=True).start()

    def tell(*event: Any) -> None:
        try:
            theirs.send(event)
        except OSError:
            os._exit(1)  # nobody is there to hear

    while True:
        tell("ended", run_locked(task, given.get(), Teller(tell)))


def _listen(theirs: connection.Connection, given: queue.SimpleQueue[PlannedCell]) -> None:
    try:
        while True:
            given.put(theirs.recv())
    except (EOFError, OSError):
        os._exit(1)  # the giver has gone, and with it whoever wanted the cell


class Teller:
    """What a cell tells of its progress, sent on, and not more often than a person can read."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self.tell = tell

    def line(self, text: str) -> None:
        self.tell("line", text)

    def stage(self, name: str) -> Advance:
        self.tell("stage", name)
        said = 0.0

        def advance(done: int, total: int, note: str) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= TELLING_SECONDS:
                said = now
                self.tell("advance", (done, total, note))

        return advance
