"""How a sweep is run."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from datetime import datetime, timedelta

from bench.errors import UserError
from bench.planning.plan import PlannedCell


@dataclass(frozen=True)
class Options:
    """How a sweep is run; nothing of what comes out."""

    train: bool = True
    """False: only the scores of what is trained."""
    retry_failed: bool = False
    fail_fast: bool = False
    """End the run at the first cell that fails."""
    only: str | None = None
    """A pattern of names (`dora-r16*`) that cells must fit."""
    workers: int | None = None
    """Processes; 0 for this one; by default one per device."""
    ray: str | None = None
    """Address of a Ray cluster to run on instead (`auto`: the one here, `local`: a new one)."""
    cpus_per_cell: float = 1.0
    gpus_per_cell: float = 0.0
    """What of the cluster one cell takes."""
    seconds: float | None = None
    """How long the run may take."""
    notify: str | None = None
    """URL that is told (a POST of JSON) when a cell fails and when the run has ended."""


def named(planned: PlannedCell, pattern: str | None) -> bool:
    """Whether a cell's name or folder fits `Options.only`; without a pattern each does."""
    cell = planned.cell
    return pattern is None or any(fnmatch.fnmatchcase(name, pattern) for name in (cell.name, cell.folder))


def seconds_left(max_hours: float | None, until: str | None) -> float | None:
    """Seconds until a run must have ended: after so many hours, or at a time of day (`07:00`; the next one), whichever
    comes first; None where neither is given. Raises UserError for a time of day that is none."""
    left = [] if max_hours is None else [3600 * max_hours]
    if until is not None:
        try:
            hour = datetime.strptime(until, "%H:%M").time()
        except ValueError:
            raise UserError(f"--until {until!r} is no time of day", "Give hours and minutes: --until 07:00") from None
        now = datetime.now()
        end = datetime.combine(now.date(), hour)
        end += timedelta(days=1) if end <= now else timedelta()
        left.append((end - now).total_seconds())
    return min(left, default=None)
