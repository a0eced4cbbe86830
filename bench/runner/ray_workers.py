"""Workers that are actors of a Ray cluster, one for each share of the cluster that a cell takes.

An actor runs one cell after the other, as a worker process does on this machine. If the results folder is shared by all
machines, the actor writes there. If not, the cell's files travel to the actor and back with the call, and the driver
holds the cell's lock. A cell whose machine is lost starts again on another one. Each machine needs the same environment
and must find the base model under the same name.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.environment import quiet_process
from bench.errors import UserError, first_line
from bench.judging.similarity import KIND as REFERENCE
from bench.planning.plan import PlannedCell
from bench.runner.outcome import CellOutcome, RunElsewhere
from bench.runner.workers import Event, EventForwarder, RunContext, Worker, run_locked
from bench.store.files import writing
from bench.store.folder import CellFolder, Results
from bench.store.locks import holding
from bench.store.scratch import ScratchFolder

PROBE = ".shared"
"""Start of the name of the file by which an actor sees whether the results folder is the driver's."""

NEVER_STARTED, MAX_NEVER_STARTED = "it never started", 5
"""What is said of an actor that ended before it was given a cell, and after how many such actors the run ends."""

Files = Mapping[str, bytes]
"""A cell's files by their paths in its folder."""


@dataclass(frozen=True)
class Share:
    """The share of the cluster that one cell takes."""

    cpus: float = 1.0
    gpus: float = 0.0


def connect(address: str) -> ModuleType:
    """The ray module, connected to a cluster.

    `auto` is the cluster that this machine belongs to, `local` a new one on this machine alone, anything else an
    address. Raises UserError if ray is not installed or there is no cluster.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs ray, which is not installed", "pip install 'bench-peft[ray]'") from None
    if not ray.is_initialized():
        try:
            if address == "local":
                ray.init(address=address, log_to_driver=False, include_dashboard=False)
            else:
                ray.init(address=address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"no Ray cluster at {address}: {first_line(error)}",
                "Start one (`ray start --head`), or give --ray local.",
            ) from error
    return ray


class RayCrew:
    """A crew of actors."""

    def __init__(self, context: RunContext, address: str, share: Share) -> None:
        self.ray = connect(address)
        self.share = share
        context.results.path.mkdir(parents=True, exist_ok=True)
        self.probe = context.results.path / f"{PROBE}-{uuid.uuid4().hex}"
        self.probe.write_text("")
        # The absolute path: an actor has another working directory.
        self.context = replace(context, results=Results(context.results.path.resolve()))
        self.stored_context = self.ray.put((self.context, self.probe.name))
        self.started = self.never_started = 0
        self.actors = [self._start() for _ in range(self._places())]

    @property
    def workers(self) -> Sequence[Worker]:
        return self.actors

    def _places(self) -> int:
        """How many cells the cluster can run at the same time."""
        resources = self.ray.cluster_resources()
        places = [resources.get("CPU", 0) / self.share.cpus] if self.share.cpus else []
        places += [resources.get("GPU", 0) / self.share.gpus] if self.share.gpus else []
        count = int(min(places, default=1) + 1e-6)
        if not count:
            raise UserError(
                f"the cluster has no room for a cell of {self.share.cpus:g} CPUs and {self.share.gpus:g} GPUs: it has "
                f"{resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}",
                "Set lower --cpus-per-cell and --gpus-per-cell.",
            )
        return count

    def _start(self) -> RayWorker:
        self.started += 1
        actor = (
            self.ray.remote(CellActor)
            .options(num_cpus=self.share.cpus, num_gpus=self.share.gpus, max_concurrency=2)
            .remote(self.stored_context)
        )
        return RayWorker(f"ray{self.started}", self.ray, actor, self.context.results)

    def wait(self, seconds: float, wake: connection.Connection) -> None:
        calls = [worker.call for worker in self.actors if worker.call is not None and worker.shared is not None]
        if calls and not wake.poll():
            self.ray.wait(calls, timeout=seconds)
        else:
            wake.poll(seconds)

    def replace(self, worker: Worker) -> None:
        worker.stop()
        if (worker.death() or "").startswith(NEVER_STARTED):
            self.never_started += 1
            if self.never_started >= MAX_NEVER_STARTED:
                raise UserError(
                    f"{self.never_started} actors ended before they were given a cell; the last: {worker.death()}",
                    "Every machine of the cluster needs the same environment, with bench in it.",
                )
        index = next(number for number, actor in enumerate(self.actors) if actor is worker)
        self.actors[index] = self._start()

    def stop(self) -> None:
        for actor in self.actors:
            actor.stop()
        self.probe.unlink(missing_ok=True)


@dataclass
class RayWorker:
    """The driver's side of an actor. Handles and futures of ray have no types of their own."""

    name: str
    ray: ModuleType
    actor: Any
    results: Results
    log: Path = Path(os.devnull)
    call: Any = None
    """The future of the last call: whether the actor has started, and then for each cell how it ended."""
    events_call: Any = None
    """The future of the events that were asked for."""
    lost: str | None = None
    """How the actor died."""
    shared: bool | None = None
    """Whether the actor finds the driver's results folder; None until it has started."""
    locks: ExitStack = field(default_factory=ExitStack)
    """The lock of the cell that the actor runs in a folder of its own."""
    planned: PlannedCell | None = None
    locked_elsewhere: bool = False

    def __post_init__(self) -> None:
        self.call = self.actor.shares_the_folder.remote()

    def ready(self) -> bool:
        """Whether the cluster has found a place for the actor, which may never happen if a machine was lost."""
        if self.shared is None and self.lost is None and self._is_ready(self.call):
            self.shared = self._get(self.call)
            self.call = None
        return self.shared is not None and self.lost is None

    def give(self, planned: PlannedCell) -> None:
        self.planned = planned
        files: Files = {}
        folder = self.results.folder(planned.cell)
        if not self.shared:
            if not self.locks.enter_context(holding(self.results, folder.path.name)):
                self.locked_elsewhere = True
                return
            folder.make_loose()
            files = archive_files(folder.path)
        self.call = self.actor.run.remote(planned, files)

    def events(self) -> Iterator[Event]:
        if self.locked_elsewhere:
            self.locked_elsewhere = False
            yield RunElsewhere()
            return
        if self.shared is None or self.call is None:
            return
        result = self._get(self.call) if self._is_ready(self.call) else None
        # Asked for and not waited for: it takes a while until a lost machine is noticed.
        if self.events_call is None:
            self.events_call = self.actor.take_events.remote()
        if result is not None or self._is_ready(self.events_call):
            call, self.events_call = self.events_call, None
            yield from self._get(call) or ()
        if result is None:
            return
        outcome, files = result
        self.call = None
        if not self.shared and self.planned is not None:
            restore_files(files, self.results.folder(self.planned.cell).path)
        self.locks.close()
        yield outcome

    def _is_ready(self, call: Any) -> bool:
        return bool(self.ray.wait([call], timeout=0)[0])

    def _get(self, call: Any) -> Any:
        """The result of a call; None if the actor has died, which `death` reports from then on."""
        try:
            return self.ray.get(call)
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, UserError):
                raise cause from None
            was_lost = isinstance(error, self.ray.exceptions.RayActorError)
            reason = "its actor, or the actor's machine, was lost" if was_lost else first_line(error)
            self.lost = reason if self.shared is not None else f"{NEVER_STARTED}: {reason}"
            self.locks.close()
            return None

    def death(self) -> str | None:
        return self.lost

    def stop(self, dump: bool = False) -> None:
        with suppress(Exception):
            self.ray.kill(self.actor)
        self.locks.close()


class CellActor:
    """Runs cells wherever the cluster has placed it."""

    def __init__(self, stored_context: tuple[RunContext, str]) -> None:
        quiet_process()
        self.context, probe = stored_context
        self.shared = (self.context.results.path / probe).is_file()
        if not self.shared:
            self.folder = ScratchFolder()
            self.context = replace(self.context, results=Results(self.folder.path / self.context.results.path.name))
        self.pending_events: list[Event] = []
        self.lock = threading.Lock()

    def shares_the_folder(self) -> bool:
        """Whether the results folder here is the driver's."""
        return self.shared

    def run(self, planned: PlannedCell, files: Files) -> tuple[CellOutcome, Files]:
        """Run a cell; if the folder is not shared, `files` are the cell's, and its files come back."""
        folder = self.context.results.folder(planned.cell).path
        restore_files(files, folder)
        outcome = run_locked(self.context, planned, EventForwarder(self._keep))
        if self.shared:
            return outcome, {}
        result = archive_files(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return outcome, result

    def take_events(self) -> list[Event]:
        """The events since the last call."""
        with self.lock:
            events, self.pending_events = self.pending_events, []
        return events

    def _keep(self, event: Event) -> None:
        with self.lock:
            self.pending_events.append(event)


def archive_files(folder: Path) -> Files:
    """The files of a cell's folder, except judgments that another process may be adding to."""
    others = set(folder.glob("judgments/*")) - set(folder.glob(f"judgments/{REFERENCE}-*"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in others
    }


def restore_files(files: Files, folder: Path) -> None:
    """Write a cell's files; metrics.json, which says that the others are there, comes last."""
    cell = CellFolder(folder)
    adapter = {name: content for name, content in files.items() if name.startswith("adapter/")}

    def save(part: Path) -> None:
        for name, content in adapter.items():
            path = part / name.removeprefix("adapter/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    if adapter:
        cell.save_adapter(save)
    for name in sorted(files.keys() - adapter.keys(), key=lambda name: (name == "metrics.json", name)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as temporary:
            temporary.write_bytes(files[name])
