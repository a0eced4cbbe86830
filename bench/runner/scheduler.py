"""Gives the cells of a run to its workers, one after the other, and takes in what the workers report.

The scheduler knows workers only by their protocol (`bench.runner.workers.Worker`), whether they are processes of this
machine, this process itself or actors of a cluster.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from bench.errors import UserError
from bench.planning.estimate import Estimator, make_estimator
from bench.planning.plan import Plan, PlannedCell, status_of
from bench.planning.tuning import settle
from bench.progress import Advance, Progress, duration, ignore_progress
from bench.runner import webhook
from bench.runner.disk import check_disk_space, remove_adapters
from bench.runner.options import RunOptions, matches
from bench.runner.outcome import CellEnded, CellOutcome, RunAborted, RunElsewhere, record_death
from bench.runner.workers import Crew, Event, LineWritten, RunContext, StageAdvanced, StageStarted, Worker
from bench.store.locks import REPORT, holding
from bench.store.records import Status

POLL_SECONDS = 0.5
"""Time between two looks at the clock and at workers that report nothing."""

ELSEWHERE_SECONDS = 5.0
"""Time between two looks at the cells that another process runs."""

MAX_STARTS = 3
"""How often a run starts a cell whose process is killed; the next run starts it again."""

UNHEALTHY = (Status.FAILED, Status.OUT_OF_MEMORY)
"""Ends of a cell after which its worker is replaced: an error of a device can stay in a process."""

REPORT_SHARE = 0.1
"""The share of the time since the last report that writing the next one may take."""
FIRST_REPORT_SECONDS = 1.0
"""Time that a report is assumed to take before the first: otherwise a run of short cells would start with one."""


@dataclass
class RunningCell:
    """A cell that a worker is running. Times are of the monotonic clock, in seconds."""

    planned: PlannedCell
    started: float
    last_event: float
    expected: float
    """Seconds that it is expected to take."""
    advance: Advance = ignore_progress


class RunStopped(Exception):
    """The run ends before its cells do: out of time, or `fail_fast`."""


class Scheduler:
    """The cells that are to be run, and those that are running."""

    def __init__(
        self,
        context: RunContext,
        cells: Sequence[PlannedCell],
        progress: Progress,
        options: RunOptions,
        refresh: Callable[[], object],
    ) -> None:
        self.context, self.progress, self.options, self.refresh = context, progress, options, refresh
        self.plan, self.results = context.plan, context.results
        self.queue: deque[PlannedCell] = deque(cells)
        pending = sum(matches(planned, options.only) for planned in context.plan.further)
        self.total, self.ended = len(cells) + pending, 0
        self.failed: set[str] = set()
        """Ids of cells."""
        self.elsewhere: list[PlannedCell] = []
        """Cells that another process runs."""
        self.late: list[PlannedCell] = []
        """Cells that would not end in time by current estimates; considered again after each cell that ends."""
        self.starts: Counter[str] = Counter()
        """How often a cell was started, by id."""
        self.running: dict[str, RunningCell] = {}
        """By the worker's name."""
        self.started = self.reported = self.checked_elsewhere = time.monotonic()
        self.report_seconds = FIRST_REPORT_SECONDS
        self.deadline = None if options.seconds is None else self.started + options.seconds
        self.estimator: Estimator = make_estimator(self.plan, self.results, any_machine=options.ray is not None)
        self.worker_count = 1
        self.interrupted = threading.Event()
        self.wake, self.wake_sender = multiprocessing.Pipe(duplex=False)

    def run(self, make_crew: Callable[[], Crew]) -> None:
        """Run all cells. Raises UserError and KeyboardInterrupt; the crew is stopped in any case."""
        self._order()
        crew = make_crew()
        self.worker_count = max(1, len(crew.workers))
        try:
            with self._interrupts():
                while self.queue or self.running or self.elsewhere:
                    self._give_cells(crew)
                    if not (self.queue or self.running or self.elsewhere):
                        break
                    crew.wait(POLL_SECONDS, self.wake)
                    self._attend(crew)
                    self._show()
                    self._check_end()
        except RunStopped as reason:
            self.progress.line(str(reason))
        finally:
            for planned in self.late:
                left = max(0.0, (self.deadline or 0.0) - time.monotonic())
                self.progress.line(
                    f"{planned.cell.name} is not started: it takes about {duration(self._seconds(planned))}, and "
                    f"{duration(left)} are left"
                )
            crew.stop()
            for worker in crew.workers:
                self.progress.idle(worker.name)

    def _attend(self, crew: Crew) -> None:
        """Take in what all workers report, and replace those that are not to be trusted with another cell."""
        for worker in list(crew.workers):
            outcome = self._receive(worker)
            if isinstance(outcome, CellEnded) and outcome.status in UNHEALTHY:
                crew.replace(worker)
            else:
                self._check_worker(crew, worker)

    def _check_end(self) -> None:
        """Raises KeyboardInterrupt after Ctrl-C and RunStopped when the time is over."""
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        if self.deadline is not None and time.monotonic() >= self.deadline:
            names = ", ".join(running.planned.cell.name for running in self.running.values())
            raise RunStopped(
                "out of time" + (f"; {names} will start again or resume from a checkpoint" if names else "")
            )

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """The first Ctrl-C sets a flag, so that the run ends at a defined place: an exception could be lost (in a
        finalizer). The second has Python's default effect."""
        if threading.current_thread() is not threading.main_thread() or self.options.workers == 0:
            yield
            return

        def interrupt(number: int, frame: FrameType | None) -> None:
            self.interrupted.set()
            self.wake_sender.send_bytes(b"!")
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # ---- giving cells to workers

    def _give_cells(self, crew: Crew) -> None:
        idle = [worker for worker in crew.workers if worker.ready() and worker.name not in self.running]
        for worker in idle:
            planned = self._next()
            if planned is None:
                return
            estimate = self.estimator.estimate(planned)
            try:
                check_disk_space(planned, estimate, self.results)
            except UserError:
                if not self.running:
                    raise
                self.queue.appendleft(planned)  # a running cell may free space when it ends
                return
            now = time.monotonic()
            self.running[worker.name] = RunningCell(planned, now, now, estimate.seconds)
            self.starts[planned.cell.id] += 1
            worker.give(planned)

    def _next(self) -> PlannedCell | None:
        """The next cell that fits into the time left; those that do not are left for the next run."""
        now = time.monotonic()
        if not self.queue and self.elsewhere and now - self.checked_elsewhere > ELSEWHERE_SECONDS:
            self.checked_elsewhere = now
            self.queue.extend(self.elsewhere)
            self.elsewhere.clear()
        while self.queue:
            planned = self.queue.popleft()
            estimate = self.estimator.estimate(planned)
            # A cell is left out only by the times of its own method, never by a guess.
            if self.deadline is None or not estimate.seen or now + estimate.seconds <= self.deadline:
                return planned
            self.late.append(planned)
        return None

    def _order(self) -> None:
        """With a time limit or several workers, the longest cells come first, after the untuned bases: then the end is
        known best."""
        if self.deadline is not None or (self.options.workers or 1) > 1 or self.options.ray is not None:
            bases = [planned for planned in self.queue if planned.cell.data is None]
            trained = [planned for planned in self.queue if planned.cell.data is not None]
            self.queue = deque([*bases, *sorted(trained, key=self._seconds, reverse=True)])

    def _seconds(self, planned: PlannedCell) -> float:
        return self.estimator.estimate(planned).seconds

    # ---- receiving what workers report

    def _receive(self, worker: Worker) -> CellOutcome | None:
        """Take in what a worker reports; returns how its cell ended, if it has."""
        outcome: CellOutcome | None = None
        for event in worker.events():
            running = self.running.get(worker.name)
            if running is None:
                continue
            running.last_event = time.monotonic()
            outcome = self._handle(worker, running, event) or outcome
        return outcome

    def _handle(self, worker: Worker, running: RunningCell, event: Event) -> CellOutcome | None:
        match event:
            case LineWritten():
                self.progress.line(event.text)
            case StageStarted():
                running.advance = self.progress.stage(event.name, worker.name)
            case StageAdvanced():
                running.advance(event.done, event.total, event.note)
            case CellEnded() | RunElsewhere() | RunAborted():
                self._end(worker, running, event)
                return event
        return None

    def _check_worker(self, crew: Crew, worker: Worker) -> None:
        """Replace a worker that has died, or whose cell makes no progress or takes too long."""
        death = worker.death()
        if death is not None:
            self._receive(worker)  # its last events
            running = self.running.get(worker.name)
            if running is not None:
                again = self.starts[running.planned.cell.id] < MAX_STARTS
                self._record_death(worker, running, Status.KILLED, death, again)
            crew.replace(worker)
            return
        running = self.running.get(worker.name)
        reason = self._overdue(running) if running is not None else None
        if running is not None and reason is not None:
            worker.stop(dump=True)
            self._record_death(worker, running, Status.HUNG, reason)
            crew.replace(worker)

    def _overdue(self, running: RunningCell) -> str | None:
        """Why a running cell must be stopped; None if it may go on."""
        now, limits = time.monotonic(), self.plan.sweep.run
        silent, minutes = (now - running.last_event) / 60, (now - running.started) / 60
        if limits.cell_timeout is not None and minutes > limits.cell_timeout:
            return f"not done after {minutes:.3g} minutes (run.cell_timeout)"
        if silent > limits.silence_timeout:
            return f"no progress for {silent:.3g} minutes (run.silence_timeout)"
        return None

    def _record_death(
        self, worker: Worker, running: RunningCell, status: Status, reason: str, again: bool = False
    ) -> None:
        """Record how a cell's process ended, unless another process runs the cell by now; `again`: start it again."""
        planned = running.planned
        folder = self.results.folder(planned.cell)
        outcome: CellOutcome
        with holding(self.results, folder.path.name) as held:
            status_now = status_of(planned, self.results, self.options.retry_failed) if held else None
            if status_now in self.context.statuses:
                outcome = record_death(planned, folder, status, reason, worker.log)
            else:
                outcome = RunElsewhere()
        if again and isinstance(outcome, CellEnded):
            self.progress.line(f"{planned.cell.name}: {reason}; it will be started again")
            self.queue.append(planned)
            del self.running[worker.name]
            self.progress.idle(worker.name)
            return
        self._end(worker, running, outcome)

    def _end(self, worker: Worker, running: RunningCell, outcome: CellOutcome) -> None:
        """A cell has ended: count it, and choose what comes next with what it has shown."""
        del self.running[worker.name]
        self.progress.idle(worker.name)
        planned = running.planned
        if isinstance(outcome, RunAborted):
            raise UserError(outcome.problem, outcome.fix)
        if isinstance(outcome, RunElsewhere) and status_of(planned, self.results) in self.context.statuses:
            self.starts[planned.cell.id] -= 1
            self.elsewhere.append(planned)
            return
        self.ended += 1
        left = self._time_left()
        self.progress.line(
            f"[{self.ended}/{self.total}] {planned.cell.name}: {outcome.message} in "
            f"{duration(time.monotonic() - running.started)}" + (f"; about {duration(left)} left" if left else "")
        )
        failed = isinstance(outcome, CellEnded) and outcome.status != Status.DONE
        if isinstance(outcome, CellEnded) and failed:
            self.failed.add(planned.cell.id)
            self._notify(planned, outcome)
        self._settle()
        remove_adapters(self.plan, self.results)
        self._refresh_report()
        self.estimator.learn(self.results.folder(planned.cell))
        self.queue.extend(self.late)
        self.late.clear()
        if failed and self.options.fail_fast:
            raise RunStopped(f"{planned.cell.name} failed, and no other cell is started (--fail-fast)")

    def _notify(self, planned: PlannedCell, outcome: CellEnded) -> None:
        if self.options.notify:
            message = {"event": "failed", "sweep": self.plan.sweep.name, "cell": planned.cell.name}
            message |= {"status": outcome.status, "reason": outcome.message}
            webhook.post(self.options.notify, message, self.progress)

    def _settle(self) -> None:
        """Add the cells whose learning rates have been chosen now, and further trials."""
        if not self.plan.pending:
            return
        ids = {planned.cell.id for planned in self.plan.cells}
        waiting = {planned.cell.id for planned in (*self.queue, *self.elsewhere, *self.late)}
        waiting |= {running.planned.cell.id for running in self.running.values()}
        before, self.plan = self.plan, settle(self.plan, self.results, waiting)
        if self.plan is before:
            return
        self.results.write_plan(self.plan.sweep.resolved(), self.plan.record())
        added = [planned for planned in self.plan.cells if planned.cell.id not in ids]
        for what, cells in (
            ("learning rates chosen", _chosen_cells(before, self.plan)),
            (
                "the best rate of some setting lies at an end of its rates, so every setting gets one more",
                [planned for planned in added if not planned.final],
            ),
        ):
            rates = sorted({_learning_rate(planned) for planned in cells})
            if rates:
                self.progress.line(f"{what}: {', '.join(rates)}")
        queued = [planned for planned in added if matches(planned, self.options.only)]
        self.total += sum(not planned.final for planned in queued)
        self.queue.extend(queued)

    # ---- telling how the run goes

    def _refresh_report(self) -> None:
        """Bring the report up to date, unless that would take a noticeable share of the time."""
        now = time.monotonic()
        if self.report_seconds > REPORT_SHARE * (now - self.reported):
            return
        with holding(self.results, REPORT) as held:
            try:
                if held:
                    self.refresh()
            except UserError:
                raise
            except Exception as error:  # a failed report must not end the run
                self.progress.line(f"could not update the report: {type(error).__name__}: {error}")
        self.reported = time.monotonic()
        self.report_seconds = self.reported - now

    def _time_left(self) -> float:
        """Seconds until all workers are done, by estimates; pending cells are counted in."""
        now = time.monotonic()
        pending = [planned for planned in self.plan.further if matches(planned, self.options.only)]
        waiting = [self._seconds(planned) for planned in (*self.queue, *pending)]
        running = [max(0.0, cell.expected - (now - cell.started)) for cell in self.running.values()]
        seconds = [*waiting, *running]
        return max(sum(seconds) / self.worker_count, max(seconds)) if seconds else 0.0

    def _show(self) -> None:
        self.progress.head(
            f"{self.plan.sweep.name}: {self.ended - len(self.failed)} done, {len(self.failed)} failed, "
            f"{len(self.running)} running, {len(self.queue)} to go, about {duration(self._time_left())} left; "
            f"{duration(time.monotonic() - self.started)} so far"
        )


def _chosen_cells(before: Plan, after: Plan) -> list[PlannedCell]:
    """The cells that are final in the second plan alone."""
    final = {planned.cell.id for planned in before.cells if planned.final}
    return [planned for planned in after.cells if planned.final and planned.cell.id not in final]


def _learning_rate(planned: PlannedCell) -> str:
    """`lora r=8 at 0.001`."""
    cell = planned.cell
    rank = f" r={cell.rank}" if cell.rank is not None else ""
    return f"{cell.method}{rank} at {cell.lr:g}"
