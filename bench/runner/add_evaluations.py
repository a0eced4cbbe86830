"""A recorded sweep with more evaluations: the same trained cells, more tasks, protocols or sets of open questions."""

from __future__ import annotations

from collections.abc import Collection

from bench.errors import UserError
from bench.planning.build import make_plan
from bench.planning.later_seeds import with_recorded
from bench.planning.plan import Plan, status_of
from bench.planning.tuning import settle
from bench.store.damage import CorruptFile
from bench.store.folder import Results
from bench.store.records import PlanRecord, Status
from bench.sweep.load import load_sweep
from bench.sweep.named_code import check_recorded_sweep
from bench.sweep.schema import Sweep


def add_evaluations(
    results: Results,
    tasks: tuple[str, ...],
    protocols: tuple[str, ...],
    answers: tuple[str, ...],
    overrides: tuple[str, ...],
    skip_lost: bool = False,
    allow_code: Collection[str] = (),
) -> Plan:
    """The plan of a results folder with more to score its cells on: tasks, protocols, and sets of open questions.

    Raises UserError for a folder that holds no sweep. Raises it too if the trained cells would be other cells: training
    rows whose question is in an added task are removed, and the recorded cells were trained with them. And if trained
    cells have not kept their adapters; with `skip_lost`, only if none has. And if the folder names code that
    `allow_code` does not: classes of methods, and task files of lm-eval with functions. In place of a corrupt plan.json
    it takes the plan of the recorded sweep.yaml.
    """
    try:
        before = results.plan_record()
    except CorruptFile:
        before = None
    sweep = load_sweep(results.path / "sweep.yaml", overrides)
    check_recorded_sweep(results.path / "sweep.yaml", sweep, allow_code)
    if before is None:  # `run_sweep` sets the corrupt file aside, and writes it anew
        before = settle(with_recorded(make_plan(sweep, allow_code=allow_code), results), results).record()
    extended = _extended(sweep, before, tasks, protocols, answers)
    plan = settle(with_recorded(make_plan(extended, allow_code=allow_code), results), results)
    for refusal in plan.refused:
        if refusal.what in (f"task {name}" for name in tasks):  # it was asked for by its name
            raise refusal.error
    _check_same_cells(plan, before)
    trained = [planned for planned in plan.cells if planned.cell.data and status_of(planned, results) == Status.TRAINED]
    lost = [planned.cell.name for planned in trained if not results.folder(planned.cell).adapter.is_dir()]
    if lost and (len(lost) == len(trained) or not skip_lost):
        raise UserError(
            f"{len(lost)} of {len(trained)} trained cells have not kept their adapters, {lost[0]} among them",
            "Adapters are not in git. Train these cells again (remove their folders, then bench run). If other "
            "cells have kept theirs, --skip-lost scores those; cells without the new scores drop out of the report's "
            "averages.",
        )
    return plan


def _extended(
    sweep: Sweep, before: PlanRecord, tasks: tuple[str, ...], protocols: tuple[str, ...], answers: tuple[str, ...]
) -> Sweep:
    """The sweep with more evaluations."""
    evaluation = sweep.evaluation
    # Tasks of lm-eval are in the sweep alone; the plan has the other tasks even if the sweep does not name them.
    all_tasks = tuple(dict.fromkeys([*before.tasks, *(evaluation.tasks or ()), *tasks]))
    all_protocols = tuple(dict.fromkeys([*evaluation.protocols, *protocols]))
    content = sweep.resolved()
    content["evaluation"] = {
        **evaluation.model_dump(mode="json"),
        "tasks": [*all_tasks] or None,
        "protocol": [*all_protocols] if len(all_protocols) > 1 else all_protocols[0],
    }
    if answers:
        config = sweep.answers.model_dump(mode="json") if sweep.answers is not None else {}
        questions = sweep.answers.questions if sweep.answers is not None else ()
        content["answers"] = {**config, "questions": [*dict.fromkeys([*questions, *answers])]}
    return Sweep.model_validate(content)


def _check_same_cells(plan: Plan, before: PlanRecord) -> None:
    folders = {planned.cell.folder for planned in plan.cells}
    changed = [cell.name for cell in before.cells if cell.folder not in folders]
    if changed:
        removed = sum(overlap.removed for overlap in plan.data.overlap.values())
        raise UserError(
            f"{len(changed)} of {len(before.cells)} cells would change, {changed[0]} among them: with these tasks "
            f"{removed} training rows are also in a test set and are removed, and the recorded cells were trained with "
            "them",
            "Leave out the task that shares questions with the training sets, or run it as a separate sweep.",
        )
