"""How a cell ended: done, or failed with a reason; recorded in either case."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import CellProblem, Diverged, UserError, out_of_memory
from bench.planning.plan import Plan, PlannedCell
from bench.progress import Listener
from bench.store.folder import CellFolder
from bench.store.records import CellRecord, Status

LAST_FRAMES, LAST_LINES = 8, 40
"""How much is recorded of where an error happened, and of the log of a process that died."""


@dataclass(frozen=True)
class CellEnded:
    """The cell's run has ended, and its record says how."""

    status: Status
    message: str
    """What a line of progress says."""


@dataclass(frozen=True)
class RunElsewhere:
    """Another process runs the cell, or has just run it."""

    message: str = "another process runs it"


@dataclass(frozen=True)
class RunAborted:
    """The whole run must end: a user's error that every other cell would meet too."""

    problem: str
    fix: str


CellOutcome = CellEnded | RunElsewhere | RunAborted


def run_and_record(
    planned: PlannedCell, plan: Plan, folder: CellFolder, listener: Listener, may_train: bool = True
) -> CellOutcome:
    """Run a cell and record how it ended. KeyboardInterrupt passes through; complete files are kept."""
    from bench.runner.run_cell import run_cell

    before = CellRecord()
    try:
        before = folder.record()
        run_cell(planned, plan.data_of(planned), folder, plan.sweep, listener, may_train)
    except CellProblem as error:
        is_trained = folder.record().costs is not None
        return record_end(folder, Status.TRAINED if is_trained else Status.FAILED, *describe_error(error))
    except UserError as error:
        return RunAborted(error.problem, error.fix)
    except Exception as error:  # a failed cell is a result: it is recorded, counted and shown
        status = Status.FAILED
        if out_of_memory(error):
            status = Status.OUT_OF_MEMORY
        elif isinstance(error, Diverged):
            status = Status.DIVERGED
        if before.evaluations or before.answers:
            status = Status.TRAINED  # it keeps the scores that it has; only the added ones are missing
        return record_end(folder, status, *describe_error(error))
    return CellEnded(Status.DONE, f"done, {_summary(planned, folder.record())}")


def _summary(planned: PlannedCell, record: CellRecord) -> str:
    """The result of a cell that is done, for a line of progress."""
    if not planned.evaluations:
        return f"{sum(record.answers[wanted.id].n for wanted in planned.answers)} answers"
    evaluations = planned.evaluations or planned.development
    protocol = evaluations[0].protocol
    scores = [record.evaluations[wanted.id].score for wanted in evaluations if wanted.protocol == protocol]
    return f"average {100 * sum(scores) / len(scores):.1f}"


def record_end(folder: CellFolder, status: Status, reason: str, lines: Sequence[str]) -> CellEnded:
    """Record how a cell ended, with the lines that say where, beside what is recorded already."""
    record = folder.record()
    record.status, record.reason, record.traceback = status, reason, list(lines)
    folder.write_record(record)
    return CellEnded(status, f"{status} ({reason.splitlines()[0]})")


def record_death(planned: PlannedCell, folder: CellFolder, status: Status, reason: str, log: Path) -> CellEnded:
    """Record the end of a cell whose process died before it could; `log` is the file of that process's output."""
    if not folder.exists():
        folder.write_cell(planned.cell)
    record = folder.record()
    if record.costs is not None and (status == Status.KILLED or record.evaluations or record.answers):
        status = Status.TRAINED  # its training is complete; only scores are missing
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return record_end(folder, status, reason, [without_paths(line) for line in lines if line.strip()][-LAST_LINES:])


def describe_error(error: BaseException) -> tuple[str, list[str]]:
    """The reason that is recorded of an error, and where it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, lines[-LAST_FRAMES:]


def without_paths(line: str) -> str:
    """File names without their folders: results are shared, and should not show a machine's paths."""
    return re.sub(rf"(?<![\w.:])(?:[\w.~-]*{re.escape(os.sep)})+(?=[\w.-])", "", line)
