"""What the scheduler expects before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.sweeps import sweep_file

from bench.planning.build import make_plan
from bench.planning.plan import TO_RUN
from bench.progress import Progress
from bench.runner.options import RunOptions
from bench.runner.scheduler import Scheduler
from bench.runner.workers import RunContext
from bench.store.folder import Results
from bench.sweep.load import load_sweep

TUNED = "tune={trials: 2, lr: {lora: [1e-3, 1e-2]}}"


def test_pending_cells_count_in_the_time_left(tmp_path: Path, tiny_model: Path) -> None:
    plan = make_plan(load_sweep(sweep_file(tmp_path, tiny_model), (TUNED, "methods=[{method: lora, rank: [2, 4]}]")))
    context = RunContext(plan, Results(tmp_path / "r"), frozenset(TO_RUN))
    cells = [*plan.cells, *(pending.template for pending in plan.pending)]
    assert len(plan.pending) == 2 and len(cells) == 7  # the untuned base, and two trials of each rank

    def left(workers: int, only: str | None = None) -> float:
        scheduler = Scheduler(context, plan.cells, Progress(), RunOptions(only=only), lambda: None)
        scheduler.worker_count = workers
        return scheduler._time_left()

    scheduler = Scheduler(context, (), Progress(), RunOptions(), lambda: None)
    seconds = [scheduler._seconds(planned) for planned in cells]
    assert left(1) == pytest.approx(sum(seconds), rel=0.05)
    assert left(2) == pytest.approx(sum(seconds) / 2, rel=0.05)
    assert left(100) == pytest.approx(max(seconds), rel=0.05)  # one cell is never split
    assert left(1, "nothing") < left(1)
