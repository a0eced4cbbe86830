"""How a sweep is run."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from datetime import datetime, timedelta

from bench.errors import UserError
from bench.planning.plan import PlannedCell


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run. No option changes the result of a cell."""

    train: bool = True
    """False: only score what is trained."""
    retry_failed: bool = False
    fail_fast: bool = False
    """End the run at the first cell that fails."""
    strict: bool = False
    """A setting that cannot run is an error; otherwise it is left out, and said."""
    only: str | None = None
    """A pattern of names (`dora-r16*`); only cells that match are run."""
    workers: int | None = None
    """Worker processes; 0: this process; default: one per device."""
    ray: str | None = None
    """Address of a Ray cluster to run on instead (`auto`: the cluster of this machine, `local`: a new one)."""
    cpus_per_cell: float = 1.0
    """CPUs of the cluster for one cell."""
    gpus_per_cell: float = 0.0
    """GPUs of the cluster for one cell."""
    seconds: float | None = None
    """Time that the run may take."""
    notify: str | None = None
    """URL that receives a POST of JSON when a cell fails and when the run has ended."""


def matches(planned: PlannedCell, pattern: str | None) -> bool:
    """True if a cell's name or folder matches `RunOptions.only`; every cell does if there is no pattern."""
    cell = planned.cell
    return pattern is None or any(fnmatch.fnmatchcase(name, pattern) for name in (cell.name, cell.folder))


def seconds_left(max_hours: float | None, until: str | None) -> float | None:
    """Seconds until a run must have ended: after so many hours, or at the next such time of day (`07:00`), whichever
    comes first; None if neither is given. Raises UserError for an invalid time of day."""
    limits = [] if max_hours is None else [3600 * max_hours]
    if until is not None:
        try:
            time_of_day = datetime.strptime(until, "%H:%M").time()
        except ValueError:
            raise UserError(
                f"--until {until!r} is not a time of day", "Give hours and minutes: --until 07:00"
            ) from None
        now = datetime.now()
        end = datetime.combine(now.date(), time_of_day)
        end += timedelta(days=1) if end <= now else timedelta()
        limits.append((end - now).total_seconds())
    return min(limits, default=None)
