"""The cells of a run, one after the other: workers are given them, and what they come to is heard and told on.

The scheduler knows workers only by what they promise (`bench.runner.workers.Worker`), whether they are processes of
this machine, this process itself or actors of a cluster.
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
from typing import Any

from bench.errors import UserError
from bench.planning.estimate import Estimator, estimator
from bench.planning.plan import PlannedCell, state
from bench.planning.tuning import settle
from bench.progress import Advance, Progress, duration, ignore_progress
from bench.runner import webhook
from bench.runner.disk import check_room, prune
from bench.runner.options import Options, named
from bench.runner.outcome import Ended, record_death
from bench.runner.workers import Crew, Task, Worker
from bench.store.locks import REPORT, holding

LOOKING_SECONDS = 0.5
"""Between two looks at the clock and at workers that say nothing."""

ELSEWHERE_SECONDS = 5.0
"""Between two looks at the cells that another process runs."""

TRIES = 3
"""How often a run begins a cell whose process was killed; the next run begins it again."""

UNHEALTHY = ("failed", "oom")
"""Ends of a cell after which its worker is not trusted with the next: an error of a device can stay in a process."""

REPORT_SHARE = 0.1
"""Of the time since it was last brought up to date, what the report may take."""


@dataclass
class Running:
    """A cell that a worker is at."""

    planned: PlannedCell
    begun: float
    heard: float
    expected: float | None
    advance: Advance = ignore_progress


class Stop(Exception):
    """The run is over before its cells are: Ctrl-C, the time that it was given, or `fail_fast`."""


def _rank(planned: PlannedCell) -> str:
    return f" r={planned.cell.rank}" if planned.cell.rank is not None else ""


class Schedule:
    """The cells that are to be run, and those that are being run."""

    def __init__(
        self, task: Task, todo: Sequence[PlannedCell], progress: Progress, options: Options, refresh: Callable[[], Any]
    ) -> None:
        self.task, self.progress, self.options, self.refresh = task, progress, options, refresh
        self.plan, self.results = task.plan, task.results
        self.limits = task.plan.sweep.run
        self.queue: deque[PlannedCell] = deque(todo)
        self.total, self.ended = len(todo) + sum(named(one.template, options.only) for one in task.plan.pending), 0
        self.failed: set[str] = set()
        self.elsewhere: list[PlannedCell] = []
        self.late: list[PlannedCell] = []
        """Those that would not end in time by what is known now; looked at again when more is."""
        self.looked_elsewhere = time.monotonic()
        self.tries: Counter[str] = Counter()
        self.running: dict[str, Running] = {}
        self.begun = self.refreshed = time.monotonic()
        self.deadline = None if options.seconds is None else self.begun + options.seconds
        self.estimator: Estimator = estimator(self.plan, self.results, anywhere=options.ray is not None)
        self.workers = 1
        self.stopped = threading.Event()
        self.woken, self.wake = multiprocessing.Pipe(duplex=False)

    def run(self, make: Callable[[Task], Crew]) -> None:
        """Run all cells. Raises UserError and KeyboardInterrupt; the report is brought up to date in any case."""
        self._order()
        crew = make(self.task)
        self.workers = max(1, len(crew.workers))
        try:
            with self._interrupts():
                while self.queue or self.running or self.elsewhere:
                    self._give(crew)
                    if not (self.queue or self.running or self.elsewhere):
                        break
                    crew.wait(LOOKING_SECONDS, self.woken)
                    for worker in list(crew.workers):
                        if self._hear(worker) in UNHEALTHY:
                            crew.replace(worker)
                        else:
                            self._look_at(crew, worker)
                    self._show()
                    if self.stopped.is_set():
                        raise KeyboardInterrupt
                    if self.deadline is not None and time.monotonic() >= self.deadline:
                        names = ", ".join(one.planned.cell.name for one in self.running.values())
                        stopped = f"; {names} will be begun again, or go on from a checkpoint" if names else ""
                        raise Stop(f"the time is over{stopped}")
        except Stop as reason:
            self.progress.line(str(reason))
        finally:
            for planned in self.late:
                self.progress.line(
                    f"{planned.cell.name} is not begun: it takes about {duration(self._seconds(planned))}, and "
                    f"{duration(max(0.0, self.deadline - time.monotonic()))} are left"
                )
            crew.stop()
            for worker in crew.workers:
                self.progress.idle(worker.name)

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """The first Ctrl-C ends the run as soon as it is seen, whatever is going on when it comes: an exception could
        be lost (in a finalizer). The second is Python's own."""
        if threading.current_thread() is not threading.main_thread() or self.options.workers == 0:
            yield
            return

        def interrupted(number: int, frame: Any) -> None:
            self.stopped.set()
            self.wake.send_bytes(b"!")
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # ---- giving

    def _give(self, crew: Crew) -> None:
        idle = [one for one in crew.workers if one.ready() and one.name not in self.running]
        for worker in idle:
            planned = self._next()
            if planned is None:
                return
            try:
                check_room(planned, self.estimator.estimate(planned), self.results)
            except UserError:
                if not self.running:
                    raise
                self.queue.appendleft(planned)  # what runs may make room when it ends
                return
            now = time.monotonic()
            self.running[worker.name] = Running(planned, now, now, self._seconds(planned))
            self.tries[planned.cell.id] += 1
            worker.give(planned)

    def _next(self) -> PlannedCell | None:
        """The next cell that fits into the time left; those that do not are left for the next run."""
        now = time.monotonic()
        if not self.queue and self.elsewhere and now - self.looked_elsewhere > ELSEWHERE_SECONDS:
            self.looked_elsewhere = now
            self.queue.extend(self.elsewhere)
            self.elsewhere.clear()
        while self.queue:
            planned = self.queue.popleft()
            made = self.estimator.estimate(planned)
            # A time that no cell of the method has been seen to take keeps none from being tried.
            if self.deadline is None or not made.seen or now + made.seconds <= self.deadline:
                return planned
            self.late.append(planned)
        return None

    def _order(self) -> None:
        """With a limit of time, or several workers, the longest come first, after the untuned ones: then the end is
        known best."""
        if self.deadline is not None or (self.options.workers or 1) > 1 or self.options.ray is not None:
            untuned = [one for one in self.queue if one.cell.data is None]
            rest = sorted((one for one in self.queue if one.cell.data is not None), key=self._seconds, reverse=True)
            self.queue = deque([*untuned, *rest])

    def _seconds(self, planned: PlannedCell) -> float:
        return self.estimator.estimate(planned).seconds

    # ---- hearing

    def _hear(self, worker: Worker) -> str | None:
        """Take in what a worker tells; returns how its cell has ended, if it has."""
        ended = None
        for kind, content in worker.heard():
            running = self.running.get(worker.name)
            if running is None:
                continue
            running.heard = time.monotonic()
            if kind == "line":
                self.progress.line(content)
            elif kind == "stage":
                running.advance = self.progress.stage(content, worker.name)
            elif kind == "advance":
                running.advance(*content)
            else:
                ended = content.status
                self._ended(worker, running, content)
        return ended

    def _look_at(self, crew: Crew, worker: Worker) -> None:
        """See whether a worker has died, or does nothing any more."""
        how = worker.died()
        if how is not None:
            self._hear(worker)  # what it told at last
            running = self.running.get(worker.name)
            if running is not None:
                self._died(worker, running, how)
            crew.replace(worker)
            return
        running = self.running.get(worker.name)
        if running is None:
            return
        now, limits = time.monotonic(), self.limits
        silent, took = (now - running.heard) / 60, (now - running.begun) / 60
        reason = None
        if limits.cell_timeout is not None and took > limits.cell_timeout:
            reason = f"not done after {took:.3g} minutes (run.cell_timeout)"
        elif silent > limits.silence_timeout:
            reason = f"no progress for {silent:.3g} minutes (run.silence_timeout)"
        if reason is not None:
            worker.stop(dump=True)
            self._record_death(worker, running, "hung", reason)
            crew.replace(worker)

    def _died(self, worker: Worker, running: Running, how: str) -> None:
        self._record_death(worker, running, "killed", how, again=self.tries[running.planned.cell.id] < TRIES)

    def _record_death(self, worker: Worker, running: Running, status: str, how: str, again: bool = False) -> None:
        """Record how a cell's process has ended, unless another process has taken the cell up by now."""
        planned = running.planned
        folder = self.results.folder(planned.cell)
        with holding(self.results, folder.path.name) as held:
            if not held or state(planned, self.results, self.options.retry_failed) not in self.task.states:
                ended = Ended("elsewhere", "another process runs it")
            else:
                ended = record_death(planned, folder, status, how, worker.log)
        if again and ended.status != "elsewhere":
            self.progress.line(f"{planned.cell.name}: {how}; it will be begun again")
            self.queue.append(planned)
            del self.running[worker.name]
            self.progress.idle(worker.name)
            return
        self._ended(worker, running, ended)

    def _ended(self, worker: Worker, running: Running, ended: Ended) -> None:
        del self.running[worker.name]
        self.progress.idle(worker.name)
        planned = running.planned
        if ended.status == "stop":
            raise UserError(*ended.fix)
        if ended.status == "elsewhere" and state(planned, self.results) in self.task.states:
            self.tries[planned.cell.id] -= 1
            self.elsewhere.append(planned)
            return
        self.ended += 1
        left = self._time_left()
        self.progress.line(
            f"[{self.ended}/{self.total}] {planned.cell.name}: {ended.word} in "
            f"{duration(time.monotonic() - running.begun)}" + (f"; about {duration(left)} left" if left else "")
        )
        if ended.status not in ("done", "elsewhere"):
            self.failed.add(planned.cell.id)
            if self.options.notify:
                told = {"event": "failed", "sweep": self.plan.sweep.name, "cell": planned.cell.name}
                webhook.post(self.options.notify, told | {"status": ended.status, "reason": ended.word}, self.progress)
        self._settle()
        prune(self.plan, self.results)
        self._refresh()
        self.estimator.learn(self.results.folder(planned.cell))
        self.queue.extend(self.late)
        self.late.clear()
        if ended.status not in ("done", "elsewhere") and self.options.fail_fast:
            raise Stop(f"{planned.cell.name} failed, and nothing more is begun (--fail-fast)")

    def _settle(self) -> None:
        """Take up the cells whose learning rates have been chosen now."""
        if not self.plan.pending:
            return
        known = {one.cell.id for one in self.plan.cells}
        waiting = {one.cell.id for one in (*self.queue, *self.elsewhere, *self.late)}
        waiting |= {one.planned.cell.id for one in self.running.values()}
        self.plan = settle(self.plan, self.results, waiting)
        fresh = [one for one in self.plan.cells if one.cell.id not in known]
        if fresh:
            self.results.write_plan(self.plan.resolved(), self.plan.record())
            rates = {f"{one.cell.method}{_rank(one)} at {one.cell.options['lr']:g}" for one in fresh}
            self.progress.line(f"learning rates chosen: {', '.join(sorted(rates))}")
            self.queue.extend(one for one in fresh if named(one, self.options.only))

    def _refresh(self) -> None:
        """Bring the report up to date, unless that has come to take a noticeable part of the time."""
        now = time.monotonic()
        if self.took > REPORT_SHARE * (now - self.refreshed):
            return
        with holding(self.results, REPORT) as held:
            try:
                if held:
                    self.refresh()
            except UserError:
                raise
            except Exception as error:  # the cells are what the night is for
                self.progress.line(f"the report could not be brought up to date: {type(error).__name__}: {error}")
        self.refreshed = time.monotonic()
        self.took = self.refreshed - now

    took: float = 1.0
    """Seconds of the last report; a guess before the first, or a run of quick cells would begin with one."""

    def _time_left(self) -> float:
        """Of all workers together, as far as estimates go; cells whose rates are still to be chosen are counted in."""
        now = time.monotonic()
        pending = [one.template for one in self.plan.pending if named(one.template, self.options.only)]
        waiting = [self._seconds(one) for one in (*self.queue, *pending)]
        going = [max(0.0, (one.expected or 0.0) - (now - one.begun)) for one in self.running.values()]
        each = [*waiting, *going]
        return max(sum(each) / self.workers, *each) if each else 0.0

    def _show(self) -> None:
        now = time.monotonic()
        left = self._time_left()
        self.progress.head(
            f"{self.plan.sweep.name}: {self.ended - len(self.failed)} done, {len(self.failed)} failed, "
            f"{len(self.running)} running, {len(self.queue)} to go, about {duration(left)} left; "
            f"{duration(now - self.begun)} so far"
        )
