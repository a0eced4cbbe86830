"""What a waiting person sees: a live table on a terminal, a plain line now and then anywhere else, and sweep.log."""

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
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

QUIET_SECONDS = 15.0
"""Between two plain lines of one stage."""

Advance = Callable[[int, int, str], None]
"""Called with (done, total, note) as a stage of work advances."""


def ignore_progress(done: int, total: int, note: str) -> None:
    """The `Advance` of a caller who shows no progress."""


class Listener(Protocol):
    """Whoever is told how a cell gets on."""

    def line(self, text: str) -> None:
        """A line that stays."""

    def stage(self, name: str) -> Advance:
        """A new stage of work; call what it returns with (done, total, note) as it goes on."""


class Progress:
    """Progress of a sweep. A context manager; all of its output goes to stderr."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.log: Path | None = None
        self.bars: Bars | None = None
        self.tasks: dict[str, int] = {}
        if self.console.is_terminal:
            self.bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self.console,
            )
            self.live = Live(self.bars, console=self.console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Progress:
        if self.bars:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bars:
            self.live.stop()

    def log_to(self, path: Path) -> None:
        """Keep the lines that stay in a file as well, each with its time."""
        self.log = path

    def line(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)
        if self.log is not None:
            with suppress(OSError), self.log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now().isoformat(sep=' ', timespec='seconds')} {text}\n")

    def head(self, text: str) -> None:
        """What stands above the bars: how far the sweep is."""
        if self.bars:
            self.live.update(Group(Text(text), self.bars))

    def stage(self, name: str, worker: str = "") -> Advance:
        """A new stage of work of a worker; call what it returns with (done, total, note) as it goes on."""
        return self._bar(name, worker) if self.bars else self._plain(name)

    def idle(self, worker: str) -> None:
        """The worker does nothing now."""
        if worker in self.tasks:
            self.bars.remove_task(self.tasks.pop(worker))

    def _bar(self, name: str, worker: str) -> Advance:
        self.idle(worker)
        self.tasks[worker] = task = self.bars.add_task(name, total=None, note="")

        def advance(done: int, total: int, note: str) -> None:
            self.bars.update(task, completed=done, total=total, note=note)

        return advance

    def _plain(self, name: str) -> Advance:
        begun = said = time.monotonic()

        def advance(done: int, total: int, note: str) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= QUIET_SECONDS and 0 < done < total:
                said = now
                left = (now - begun) / done * (total - done)
                print(f"  {name}: {done}/{total}, {duration(left)} left, {note}", file=sys.stderr, flush=True)

        return advance


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
