"""The same cells as actors of a Ray cluster: one for each share of it that a cell takes.

An actor runs one cell after the other, as a worker process does here. Where the results folder is shared by all
machines it writes there; where it is not, the cell's files travel to the actor and back with the call, and the driver
holds the cell's lock. A cell whose machine is lost is begun again elsewhere. Each machine has the same environment
installed, and finds the base model under the same name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

from bench.environment import quiet_process
from bench.errors import UserError
from bench.judging.similarity import KIND as REFERENCE
from bench.planning.plan import PlannedCell
from bench.runner.outcome import Ended
from bench.runner.workers import Event, Task, Teller, Worker, run_locked
from bench.store.files import writing
from bench.store.folder import CellFolder, Results
from bench.store.locks import holding

PROBE = ".shared"
"""Begins the name of the file by which an actor sees whether the results folder is the driver's."""

NEVER_READY, MOST_STILLBORN = "it never came to be", 5
"""What is said of an actor that ended before it was given a cell, and after how many of them the run ends."""

Files = Mapping[str, bytes]
"""A cell's files by their paths in its folder."""


@dataclass(frozen=True)
class Share:
    """What of the cluster one cell takes."""

    cpus: float = 1.0
    gpus: float = 0.0


def connect(address: str) -> Any:
    """The ray module, connected to a cluster: `auto` is the one that this machine belongs to, `local` a new one on this
    machine alone, anything else an address. Raises UserError where ray is not installed or no cluster is there."""
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs ray, which is not installed", "pip install 'bench-peft[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(
                address=address, log_to_driver=False, **({"include_dashboard": False} if address == "local" else {})
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"no Ray cluster at {address}: {str(error).splitlines()[0]}",
                "Start one (`ray start --head`), or give --ray local.",
            ) from error
    return ray


class OnRay:
    """A crew of actors."""

    def __init__(self, task: Task, address: str, share: Share) -> None:
        self.ray = connect(address)
        self.share = share
        task.results.path.mkdir(parents=True, exist_ok=True)
        self.probe = task.results.path / f"{PROBE}-{uuid.uuid4().hex}"
        self.probe.write_text("")
        # By its whole path: an actor has a working folder of its own.
        self.task = replace(task, results=Results(task.results.path.resolve()))
        self.held = self.ray.put((self.task, self.probe.name))
        self.made = self.stillborn = 0
        self.workers: list[Worker] = [self._fresh() for _ in range(self._places())]

    def _places(self) -> int:
        """How many cells the cluster has room for."""
        there = self.ray.cluster_resources()
        room = [there.get("CPU", 0) / self.share.cpus] if self.share.cpus else []
        room += [there.get("GPU", 0) / self.share.gpus] if self.share.gpus else []
        places = int(min(room, default=1) + 1e-6)
        if not places:
            raise UserError(
                f"the cluster has no room for a cell of {self.share.cpus:g} CPUs and {self.share.gpus:g} GPUs: it has "
                f"{there.get('CPU', 0):g} and {there.get('GPU', 0):g}",
                "Give less with --cpus-per-cell and --gpus-per-cell.",
            )
        return places

    def _fresh(self) -> ActorWorker:
        self.made += 1
        actor = (
            self.ray.remote(Actor)
            .options(num_cpus=self.share.cpus, num_gpus=self.share.gpus, max_concurrency=2)
            .remote(self.held)
        )
        return ActorWorker(f"ray{self.made}", self.ray, actor, self.task.results)

    def wait(self, seconds: float, woken: connection.Connection) -> None:
        pending = [worker.answer for worker in self.workers if worker.answer is not None and worker.shared is not None]
        if pending and not woken.poll():
            self.ray.wait(pending, timeout=seconds)
        else:
            woken.poll(seconds)

    def replace(self, worker: Worker) -> None:
        worker.stop()
        if (worker.died() or "").startswith(NEVER_READY):
            self.stillborn += 1
            if self.stillborn >= MOST_STILLBORN:
                raise UserError(
                    f"{self.stillborn} actors ended before they could be given a cell; the last: {worker.died()}",
                    "Every machine of the cluster needs the same environment, with bench in it.",
                )
        self.workers[self.workers.index(worker)] = self._fresh()

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.probe.unlink(missing_ok=True)


@dataclass
class ActorWorker:
    """A worker that is an actor, as the driver holds it."""

    name: str
    ray: Any
    actor: Any
    results: Results
    log: Path = Path(os.devnull)
    answer: Any = None
    """The future of what the actor is asked: whether it is there, and then for each cell how it ended."""
    death: str | None = None
    shared: bool | None = None
    held: ExitStack = field(default_factory=ExitStack)
    planned: PlannedCell | None = None
    telling: Any = None
    refused: bool = False

    def __post_init__(self) -> None:
        self.answer = self.actor.shares_the_folder.remote()

    def ready(self) -> bool:
        """Whether the cluster has found a place for it: where a machine is gone there may be none."""
        if self.shared is None and self.death is None and self._answered(self.answer):
            self.shared = self._get(self.answer)
            self.answer = None
        return self.shared is not None and self.death is None

    def give(self, planned: PlannedCell) -> None:
        self.planned, files = planned, {}
        folder = self.results.folder(planned.cell)
        if not self.shared:
            if not self.held.enter_context(holding(self.results, folder.path.name)):
                self.refused = True
                return
            files = packed(folder.path)
        self.answer = self.actor.run.remote(planned, files)

    def heard(self) -> Iterator[Event]:
        if self.refused:
            self.refused = False
            yield ("ended", Ended("elsewhere", "another process runs it"))
            return
        if self.shared is None or self.answer is None:
            return
        ended = self._get(self.answer) if self._answered(self.answer) else None
        # Asked and not waited for: a machine that is gone takes a while to be missed.
        if self.telling is None:
            self.telling = self.actor.tell.remote()
        if ended is not None or self._answered(self.telling):
            told, self.telling = self.telling, None
            yield from self._get(told) or ()
        if ended is None:
            return
        how, files = ended
        self.answer = None
        if not self.shared:
            unpack(files, self.results.folder(self.planned.cell).path)
        self.held.close()
        yield ("ended", how)

    def _answered(self, reference: Any) -> bool:
        return bool(self.ray.wait([reference], timeout=0)[0])

    def _get(self, reference: Any) -> Any:
        """What a call came to; None where the actor has died, which `died` tells from then on."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            if isinstance(getattr(error, "cause", None), UserError):
                raise error.cause from None
            lost = isinstance(error, self.ray.exceptions.RayActorError)
            how = "its actor, or the machine that it was on, was lost" if lost else str(error).splitlines()[0]
            self.death = how if self.shared is not None else f"{NEVER_READY}: {how}"
            self.held.close()
            return None

    def died(self) -> str | None:
        return self.death

    def stop(self, dump: bool = False) -> None:
        with suppress(Exception):
            self.ray.kill(self.actor)
        self.held.close()


class Actor:
    """What runs the cells, wherever the cluster has put it."""

    def __init__(self, held: tuple[Task, str]) -> None:
        quiet_process()
        self.task, probe = held
        self.shared = (self.task.results.path / probe).is_file()
        self.own = None
        if not self.shared:
            self.own = Path(tempfile.mkdtemp(prefix="bench-"))
            self.task = replace(self.task, results=Results(self.own / self.task.results.path.name))
        self.events: list[Event] = []
        self.telling = threading.Lock()

    def shares_the_folder(self) -> bool:
        """Whether the results folder here is the driver's."""
        return self.shared

    def run(self, planned: PlannedCell, files: Files) -> tuple[Ended, Files]:
        """Run a cell; with its files where the folder is not shared."""
        folder = self.task.results.folder(planned.cell).path
        unpack(files, folder)
        ended = run_locked(self.task, planned, Teller(self._keep))
        if self.shared:
            return ended, {}
        found = packed(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return ended, found

    def tell(self) -> list[Event]:
        """What has happened since this was last asked."""
        with self.telling:
            told, self.events = self.events, []
        return told

    def _keep(self, *event: Any) -> None:
        with self.telling:
            self.events.append(event)


def packed(folder: Path) -> Files:
    """The files of a cell's folder, but for judgments that somebody else may be adding to."""
    others = set(folder.glob("judgments/*")) - set(folder.glob(f"judgments/{REFERENCE}-*"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in others
    }


def unpack(files: Files, folder: Path) -> None:
    """Write a cell's files; what says that they are all there (metrics.json) comes last."""
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
