"""What the scheduler knows before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.sweeps import sweep_file

from bench.planning.build import make_plan
from bench.planning.plan import TO_RUN
from bench.progress import Progress
from bench.runner.options import Options
from bench.runner.scheduler import Schedule
from bench.runner.workers import Task
from bench.store.folder import Results
from bench.sweep.load import load_sweep

TUNED = "tune={trials: 2, lr: {lora: [1e-3, 1e-2]}}"


def test_cells_whose_rates_are_not_chosen_yet_count_in_the_time_left(tmp_path: Path, tiny_model: Path) -> None:
    plan = make_plan(load_sweep(sweep_file(tmp_path, tiny_model), (TUNED, "methods=[{method: lora, rank: [2, 4]}]")))
    task = Task(plan, Results(tmp_path / "r"), frozenset(TO_RUN))
    every = [*plan.cells, *(one.template for one in plan.pending)]
    assert len(plan.pending) == 2 and len(every) == 7  # the untuned one, and two trials of each rank

    def left(workers: int, only: str | None = None) -> float:
        schedule = Schedule(task, plan.cells, Progress(), Options(only=only), lambda: None)
        schedule.workers = workers
        return schedule._time_left()

    seconds = [Schedule(task, (), Progress(), Options(), lambda: None)._seconds(one) for one in every]
    assert left(1) == pytest.approx(sum(seconds), rel=0.05)
    assert left(2) == pytest.approx(sum(seconds) / 2, rel=0.05)
    assert left(100) == pytest.approx(max(seconds), rel=0.05)  # no cell is shared out
    assert left(1, "nothing") < left(1)
