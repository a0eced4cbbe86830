"""What the scheduler expects of the workers that run cells, and the worker that is this process itself.

Other workers are processes of this machine (`bench.runner.process_workers`) and actors of a cluster
(`bench.runner.ray_workers`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Protocol

from bench.planning.plan import Plan, PlannedCell, status_of
from bench.progress import Advance, Listener
from bench.runner.outcome import CellEnded, CellOutcome, RunAborted, RunElsewhere, run_and_record
from bench.runner.repair import repair_cell
from bench.store.folder import Results
from bench.store.locks import holding
from bench.store.records import Status

FORWARDING_SECONDS = 0.2
"""Time between two reports of how far a stage is."""


@dataclass(frozen=True)
class RunContext:
    """What every worker of a run needs to know."""

    plan: Plan
    results: Results
    statuses: frozenset[Status]
    """A cell is run if it has one of these statuses."""
    retry_failed: bool = False


# ---- what a worker reports


@dataclass(frozen=True)
class LineWritten:
    """A line of progress."""

    text: str


@dataclass(frozen=True)
class StageStarted:
    """A stage of a cell has started."""

    name: str


@dataclass(frozen=True)
class StageAdvanced:
    """How far the stage is."""

    done: int
    total: int
    note: str


Event = LineWritten | StageStarted | StageAdvanced | CellEnded | RunElsewhere | RunAborted
"""What a worker reports; the last three end the cell that it was given."""


class EventForwarder:
    """A listener that sends a cell's progress on as events, a stage's at most every FORWARDING_SECONDS."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        self.send = send

    def line(self, text: str) -> None:
        self.send(LineWritten(text))

    def stage(self, name: str) -> Advance:
        self.send(StageStarted(name))
        last = 0.0

        def advance(done: int, total: int, note: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= FORWARDING_SECONDS:
                last = now
                self.send(StageAdvanced(done, total, note))

        return advance


# ---- what a worker is


class Worker(Protocol):
    """Runs cells, one at a time."""

    name: str
    log: Path
    """The file that its output goes to."""

    def ready(self) -> bool:
        """True if it can be given a cell."""

    def give(self, planned: PlannedCell) -> None:
        """Have it run a cell."""

    def events(self) -> Iterator[Event]:
        """What it has reported since the last call; never waits."""

    def death(self) -> str | None:
        """How it ended, or None while it lives."""

    def stop(self, dump: bool = False) -> None:
        """End it, whatever it is doing; with `dump`, its log says where it was."""


class Crew(Protocol):
    """The workers of a run."""

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers, at any time the living ones and those not replaced yet."""

    def wait(self, seconds: float, wake: connection.Connection) -> None:
        """Wait until a worker has an event or `wake` can be read, at most so many seconds."""

    def replace(self, worker: Worker) -> None:
        """Put a fresh worker in the place of one that has ended."""

    def stop(self) -> None:
        """End all workers."""


def run_locked(
    context: RunContext,
    planned: PlannedCell,
    listener: Listener,
    run: Callable[..., CellOutcome] = run_and_record,
) -> CellOutcome:
    """Run a cell unless another process runs it, or has run it since it was chosen."""
    folder = context.results.folder(planned.cell)
    with holding(context.results, folder.path.name) as held:
        if not held:
            return RunElsewhere()
        if status_of(planned, context.results, context.retry_failed) not in context.statuses:
            return RunElsewhere("another process has run it")
        folder.tidy()
        repair_cell(planned, folder, listener.line)
        folder.make_loose()
        return run(planned, context.plan, folder, listener, may_train=Status.TODO in context.statuses)


# ---- the worker that is this process


@dataclass
class InProcessWorker:
    """Runs cells in this process."""

    context: RunContext
    listener: Listener
    name: str = "here"
    log: Path = Path(os.devnull)
    outcomes: list[CellOutcome] = field(default_factory=list)

    def ready(self) -> bool:
        return True

    def give(self, planned: PlannedCell) -> None:
        self.outcomes.append(run_locked(self.context, planned, self.listener))

    def events(self) -> Iterator[Event]:
        while self.outcomes:
            yield self.outcomes.pop(0)

    def death(self) -> str | None:
        return None

    def stop(self, dump: bool = False) -> None:
        pass


class InProcessCrew:
    """A crew of one worker, this process: for debugging, and where no processes can be started."""

    def __init__(self, context: RunContext, listener: Listener) -> None:
        self.worker = InProcessWorker(context, listener)

    @property
    def workers(self) -> Sequence[Worker]:
        return [self.worker]

    def wait(self, seconds: float, wake: connection.Connection) -> None:
        if not self.worker.outcomes:
            wake.poll(seconds)

    def replace(self, worker: Worker) -> None:
        pass  # there is no other

    def stop(self) -> None:
        pass
