"""Which cells run, in which order, and what becomes of one that fails."""

from __future__ import annotations

import gc
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from bench import base_models
from bench.errors import CellProblem, Diverged, UserError, out_of_memory
from bench.plan import Plan, PlannedCell, state
from bench.runner.progress import Progress, duration
from bench.store import CellFolder, Results


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended."""

    done: int
    failed: int
    """Including those that failed in an earlier run and were not tried again."""


def run_sweep(
    plan: Plan, results: Results, progress: Progress, retry_failed: bool = False, train: bool = True
) -> Outcome:
    """Run what is missing of a sweep, one cell after the other, in this process; without `train`, only the scores of
    what is trained.

    A cell that fails is recorded with its reason and the sweep goes on. A UserError ends the run: nothing that
    comes after would go better. KeyboardInterrupt passes through; what is whole is kept.
    """
    states = {planned.cell.id: state(planned, results, retry_failed) for planned in plan.cells}
    wanted = ("todo", "trained") if train else ("trained",)
    todo = [planned for planned in plan.cells if states[planned.cell.id] in wanted]
    if todo:  # what must be downloaded is asked for before anything is written
        for base in plan.sweep.base_model:
            found = base_models.find(base.id, base.revision)
            base_models.load_tokenizer(found)
            if found.commit and base.revision is None:
                progress.line(f"{found.id}: main is {found.commit} now; pin it with base_model.revision")
    results.write_plan(plan.resolved(), plan.record())
    recorded = len(plan.cells) - len(todo)
    progress.line(f"{plan.sweep.name}: {len(plan.cells)} cells, {recorded} recorded already, {len(todo)} to run")
    begun = time.monotonic()
    for number, planned in enumerate(todo, start=1):
        cell_begun = time.monotonic()
        folder = results.folder(planned.cell)
        ended = _run_recorded(planned, plan, folder, progress)
        gc.collect()  # a Trainer holds its model in a cycle
        spent = time.monotonic() - begun
        left = spent / number * (len(todo) - number)
        progress.line(
            f"[{number}/{len(todo)}] {planned.cell.name}: {ended} in {duration(time.monotonic() - cell_begun)}"
            + (f"; about {duration(left)} left" if number < len(todo) else "")
        )
    after = [state(planned, results) for planned in plan.cells]
    return Outcome(done=after.count("done"), failed=len(after) - after.count("done"))


def _run_recorded(planned: PlannedCell, plan: Plan, folder: CellFolder, progress: Progress) -> str:
    """Run a cell; whatever it comes to is in its metrics.json afterwards. Returns a word or two on it."""
    from bench.run import run_cell

    # A cell that cannot be scored on one task more is still a trained one, with the scores that it has.
    finished = bool(folder.metrics().get("evaluations"))
    try:
        run_cell(planned, plan.data, folder, plan.sweep, progress)
    except CellProblem as error:
        return _record(folder, "trained" if "costs" in folder.metrics() else "failed", error)
    except UserError:
        raise
    except Exception as error:  # a failed cell is a result: recorded, counted and shown
        status = "oom" if out_of_memory(error) else "diverged" if isinstance(error, Diverged) else "failed"
        return _record(folder, "trained" if finished else status, error)
    recorded, first = folder.metrics()["evaluations"], planned.evaluations[0].protocol
    mean = [recorded[one.id]["score"] for one in planned.evaluations if one.protocol == first]
    return f"done, average {100 * sum(mean) / len(mean):.1f}"


def _record(folder: CellFolder, status: str, error: BaseException) -> str:
    # File names without their folders: results are shared, and a machine's paths are nobody's business.
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    folder.write_metrics({**folder.metrics(), "status": status, "reason": reason, "traceback": lines[-8:]})
    return f"{status} ({reason.splitlines()[0]})"
