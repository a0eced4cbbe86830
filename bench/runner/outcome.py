"""One cell run to whatever end it comes to: what became of it is in its record afterwards."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import CellProblem, Diverged, UserError, out_of_memory
from bench.planning.plan import Plan, PlannedCell
from bench.progress import Listener
from bench.store.files import write_json
from bench.store.folder import CellFolder

LAST_FRAMES, LAST_LINES = 8, 40
"""How much is recorded of where an error happened, and of the log of a process that has died."""


@dataclass(frozen=True)
class Ended:
    """How a cell's run ended."""

    status: str
    """As it is recorded (`done`, `trained`, `oom`, `diverged`, `failed`, `hung`, `killed`), `elsewhere` where another
    process runs the cell or has just done so, or `stop` where nothing that comes after would go better."""
    word: str
    """What a line of progress says of it."""
    fix: tuple[str, str] | None = None
    """Of `stop`: the problem and its fix, as a UserError has them."""


def attempt(planned: PlannedCell, plan: Plan, folder: CellFolder, progress: Listener) -> Ended:
    """Run a cell and record what it comes to. KeyboardInterrupt passes through; what is whole is kept."""
    from bench.runner.run_cell import run_cell

    try:
        # A cell that cannot be scored on one task more is still a trained one, with the scores that it has.
        before = folder.metrics()
        finished = bool(before.get("evaluations") or before.get("answers"))
        run_cell(planned, plan.data_of(planned), folder, plan.sweep, progress)
    except CellProblem as error:
        return record(folder, "trained" if "costs" in folder.metrics() else "failed", *described(error))
    except UserError as error:
        return Ended("stop", error.problem, (error.problem, error.fix))
    except Exception as error:  # a failed cell is a result: recorded, counted and shown
        status = "oom" if out_of_memory(error) else "diverged" if isinstance(error, Diverged) else "failed"
        return record(folder, "trained" if finished else status, *described(error))
    return Ended("done", f"done, {_came_to(planned, folder.metrics())}")


def _came_to(planned: PlannedCell, metrics: dict[str, Any]) -> str:
    """What a line of progress says of a done cell."""
    if not planned.evaluations:
        return f"{sum(metrics['answers'][one.id]['n'] for one in planned.answers)} answers"
    recorded, first = metrics["evaluations"], planned.evaluations[0].protocol
    mean = [recorded[one.id]["score"] for one in planned.evaluations if one.protocol == first]
    return f"average {100 * sum(mean) / len(mean):.1f}"


def record(folder: CellFolder, status: str, reason: str, lines: Sequence[str]) -> Ended:
    """Write how a cell ended, with the lines that say where, beside what it had come to by then."""
    folder.write_metrics({**folder.metrics(), "status": status, "reason": reason, "traceback": list(lines)})
    return Ended(status, f"{status} ({reason.splitlines()[0]})")


def record_death(planned: PlannedCell, folder: CellFolder, status: str, reason: str, log: Path) -> Ended:
    """The same for a cell whose process did not live to write it; `log` is where that process's output went."""
    if not (folder.path / "cell.json").is_file():
        write_json(folder.path / "cell.json", planned.cell.model_dump(mode="json"))
    metrics = folder.metrics()
    if "costs" in metrics and (status == "killed" or metrics.get("evaluations") or metrics.get("answers")):
        status = "trained"  # it stays what it is; only its scores are missing
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return record(folder, status, reason, [without_paths(line) for line in lines if line.strip()][-LAST_LINES:])


def described(error: BaseException) -> tuple[str, list[str]]:
    """The reason that is recorded of an error, and where it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, lines[-LAST_FRAMES:]


def without_paths(line: str) -> str:
    """File names without their folders: results are shared, and a machine's paths are nobody's business."""
    return re.sub(rf"(?<![\w.:])(?:[\w.~-]*{re.escape(os.sep)})+(?=[\w.-])", "", line)
