"""A few steps of every setting of a sweep, so that its times and its memory are known before the night.

A calibration cell is a cell like any other, of fewer samples, scored on fewer questions, in a folder beside the
sweep's; estimates read it as they read what was recorded.
"""

from __future__ import annotations

from dataclasses import replace

from bench.data.sweep_data import SweepData
from bench.evaluation.workload import DEVELOPMENT_QUESTIONS
from bench.planning.estimate import setting
from bench.planning.plan import Plan, PlannedCell, state
from bench.progress import Progress
from bench.runner.options import Options
from bench.runner.run_sweep import Outcome, run_sweep
from bench.store.folder import Results
from bench.sweep.cell import Cell
from bench.sweep.identity import EvaluationIdentity

STEPS, QUESTIONS = 5, 16
"""Optimizer steps of a calibration cell (the first is not timed) and questions of each of its tasks."""


def calibrate(plan: Plan, results: Results, progress: Progress) -> Outcome:
    """Run one small cell for each setting that the sweep has yet to run and none of whose cells is recorded."""
    return run_sweep(reduced(plan, results), results.calibration, progress, Options(retry_failed=True))


def reduced(plan: Plan, results: Results) -> Plan:
    """The plan of the calibration: of each setting the first cell that waits, made small."""
    done = {setting(one.cell) for one in plan.cells if state(one, results) == "done"}
    chosen: dict[str, PlannedCell] = {}
    for planned in plan.cells:
        key = setting(planned.cell)
        if key not in done:
            chosen.setdefault(key, planned)
    data: SweepData = replace(
        plan.data,
        questions={task: rows[:QUESTIONS] for task, rows in plan.data.questions.items()},
        # Trials are scored on these, and every merge is compared on as many.
        development={task: rows[:DEVELOPMENT_QUESTIONS] for task, rows in plan.data.development.items()},
    )
    sweep = plan.sweep.model_copy(update={"name": f"{plan.sweep.name} (calibration)"})
    return Plan(sweep, data, tuple(_small(one) for one in chosen.values()), plan.dtypes)


def _small(planned: PlannedCell) -> PlannedCell:
    planned = replace(planned, answers=())  # as long as a short training: estimated
    if planned.cell.data is None:  # its answers are timed, and stand for all
        return replace(planned, evaluations=_few(planned))
    samples = min(planned.cell.samples, STEPS * planned.training.batch_size)
    training = {key: one for key, one in planned.cell.training.items() if key != "validation"} | {"epochs": 1.0}
    # Made anew: a copy would keep the identity that the cell has worked out for itself.
    cell = Cell.model_validate({**planned.cell.model_dump(mode="json"), "samples": samples, "training": training})
    config = planned.training.model_copy(update={"epochs": 1.0, "logging_steps": 1, "validation": None})
    return replace(planned, cell=cell, training=config, evaluations=_few(planned), timed=False)


def _few(planned: PlannedCell) -> tuple[EvaluationIdentity, ...]:
    """Their scores are of no interest, and must not pass for those of all questions."""
    return tuple(
        EvaluationIdentity.model_validate({**one.model_dump(mode="json"), "limit": QUESTIONS})
        for one in planned.evaluations
    )
