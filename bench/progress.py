"""Progress shown to the user: bars on a terminal, a plain line now and then anywhere else, and lines in sweep.log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

QUIET_SECONDS = 15.0
"""Between two plain lines of one stage, where there is no terminal."""

Advance = Callable[[int, int, str], None]
"""Called with (done, total, note) as a stage of work advances."""


def ignore_progress(done: int, total: int, note: str) -> None:
    """An `Advance` that shows nothing."""


class Listener(Protocol):
    """Receives the progress of a cell."""

    def line(self, text: str) -> None:
        """A line of text that stays on the screen."""

    def stage(self, name: str) -> Advance:
        """Begin a stage of work; the caller calls the returned function with (done, total, note) as it advances."""


class Progress:
    """Shows the progress of a sweep on stderr. A context manager."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.log: Path | None = None
        self.bars = _Bars(self.console) if self.console.is_terminal else None

    def __enter__(self) -> Progress:
        if self.bars:
            self.bars.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bars:
            self.bars.live.stop()

    def log_to(self, path: Path) -> None:
        """Also append each line to a file, with its time."""
        self.log = path

    def line(self, text: str) -> None:
        """Print a line that stays on the screen, and append it to the log. A log that cannot be written is ignored."""
        self.console.print(text, markup=False, soft_wrap=True)
        if self.log is not None and not self.log.is_symlink():  # which may lead to any file of the user
            with suppress(OSError), self.log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now().isoformat(sep=' ', timespec='seconds')} {text}\n")

    def head(self, text: str) -> None:
        """Set the line above the bars: how far the sweep is."""
        if self.bars:
            self.bars.head(text)

    def stage(self, name: str, worker: str = "") -> Advance:
        """Begin a stage of a worker's work; the caller calls the returned function with (done, total, note)."""
        return self.bars.stage(name, worker) if self.bars else _plain(name)

    def idle(self, worker: str) -> None:
        """Remove a worker's bar."""
        if self.bars:
            self.bars.idle(worker)


class _Bars:
    """One bar for each worker, in a live display."""

    def __init__(self, console: Console) -> None:
        self.bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self.live = Live(self.bars, console=console, transient=True, refresh_per_second=4)
        self.tasks: dict[str, TaskID] = {}

    def head(self, text: str) -> None:
        self.live.update(Group(Text(text), self.bars))

    def stage(self, name: str, worker: str) -> Advance:
        self.idle(worker)
        self.tasks[worker] = task = self.bars.add_task(name, total=None, note="")

        def advance(done: int, total: int, note: str) -> None:
            self.bars.update(task, completed=done, total=total, note=note)

        return advance

    def idle(self, worker: str) -> None:
        if worker in self.tasks:
            self.bars.remove_task(self.tasks.pop(worker))


def _plain(name: str) -> Advance:
    """Prints a line with the remaining time, at most every QUIET_SECONDS."""
    started = printed = time.monotonic()

    def advance(done: int, total: int, note: str) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= QUIET_SECONDS and 0 < done < total:
            printed = now
            left = (now - started) / done * (total - done)
            print(f"  {name}: {done}/{total}, {duration(left)} left, {note}", file=sys.stderr, flush=True)

    return advance


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
