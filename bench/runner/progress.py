"""What a waiting person sees: a bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

QUIET_SECONDS = 15.0
"""Between two plain lines of one stage."""


class Progress:
    """Progress of a sweep. A context manager; all of its output goes to stderr."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bars: Bars | None = None
        if self.console.is_terminal:
            self.bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
                transient=True,
            )
        self.task = None

    def __enter__(self) -> Progress:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bars:
            self.bars.stop()

    def line(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False)

    def stage(self, name: str) -> Callable[[int, int, str], None]:
        """A new stage of work; call what it returns with (done, total, note) as it goes on."""
        return self._bar(name) if self.bars else self._plain(name)

    def _bar(self, name: str) -> Callable[[int, int, str], None]:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(name, total=None, note="")

        def advance(done: int, total: int, note: str) -> None:
            self.bars.update(self.task, completed=done, total=total, note=note)

        return advance

    def _plain(self, name: str) -> Callable[[int, int, str], None]:
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
