"""Runs a few steps of every setting of a sweep, so that its times and memory are known in advance.

A calibration cell is a cell like any other, with fewer samples, scored on fewer questions, in a folder beside the
sweep's; estimates use it as they use any recorded cell.
"""

from __future__ import annotations

from dataclasses import replace

from bench.evaluation.workload import DEVELOPMENT_QUESTIONS
from bench.planning.plan import Plan, PlannedCell, status_of
from bench.planning.recorded_cells import setting_of
from bench.progress import Progress
from bench.runner.options import RunOptions
from bench.runner.run_sweep import SweepOutcome, run_sweep
from bench.store.folder import Results
from bench.store.records import Status
from bench.sweep.cell import Cell
from bench.sweep.evaluation_identity import EvaluationIdentity

STEPS, QUESTIONS = 5, 16
"""Optimizer steps of a calibration cell (the first is not timed) and questions of each of its tasks."""


def calibrate(plan: Plan, results: Results, progress: Progress) -> SweepOutcome:
    """Run one small cell for each setting that the sweep has yet to run and that no recorded cell has."""
    return run_sweep(calibration_plan(plan, results), results.calibration, progress, RunOptions(retry_failed=True))


def calibration_plan(plan: Plan, results: Results) -> Plan:
    """The plan of the calibration: the first waiting cell of each setting, made small."""
    done = {setting_of(planned.cell) for planned in plan.cells if status_of(planned, results) == Status.DONE}
    first: dict[str, PlannedCell] = {}
    for planned in plan.cells:
        setting = setting_of(planned.cell)
        if setting not in done:
            first.setdefault(setting, planned)
    data = replace(
        plan.data,
        questions={task: questions[:QUESTIONS] for task, questions in plan.data.questions.items()},
        # Trials are scored on these, and every merge is compared on so many.
        development={task: questions[:DEVELOPMENT_QUESTIONS] for task, questions in plan.data.development.items()},
    )
    sweep = plan.sweep.model_copy(update={"name": f"{plan.sweep.name} (calibration)"})
    return Plan(sweep, data, tuple(_small(planned) for planned in first.values()), plan.dtypes)


def _small(planned: PlannedCell) -> PlannedCell:
    planned = replace(
        planned, answers=(), evaluations=_few_questions(planned)
    )  # answers take as long as a short training
    if planned.cell.training is None:  # the base: its generation is timed for all cells
        return planned
    samples = min(planned.cell.samples, STEPS * planned.training.batch_size)
    training = {key: value for key, value in planned.cell.training.items() if key != "validation"} | {"epochs": 1.0}
    # Validated anew: a copy would keep the id that the cell has computed for itself.
    cell = Cell.model_validate({**planned.cell.model_dump(mode="json"), "samples": samples, "training": training})
    config = planned.training.model_copy(update={"epochs": 1.0, "logging_steps": 1, "validation": None})
    return replace(planned, cell=cell, training=config, timed=False)


def _few_questions(planned: PlannedCell) -> tuple[EvaluationIdentity, ...]:
    """The evaluations under other identities: their scores must not be taken for those of all questions."""
    return tuple(
        EvaluationIdentity.model_validate({**evaluation.model_dump(mode="json"), "limit": QUESTIONS})
        for evaluation in planned.evaluations
    )
