"""The tasks of lm-eval that a sweep can be scored on: one that cannot be read costs its own evaluations.

A task of the sweep's own data is an error of the sweep, also one that is only evaluated: training rows that are among
its questions are removed, so that without it the cells would be others. `bench.data.prepare` says so.
"""

from __future__ import annotations

from collections.abc import Collection

from bench.errors import UserError
from bench.evaluation.lm_eval_tasks import code_of_task_files, load_lm_eval_task
from bench.planning.plan import Refusal
from bench.sweep.named_code import check_allowed
from bench.sweep.schema import Sweep


def check_code(sweep: Sweep, allow_code: Collection[str]) -> None:
    """Raises UserError for a task file whose functions may not run. Runs nothing."""
    code: dict[str, str] = {}
    for name in sweep.evaluation.of_lm_eval:
        try:
            code |= code_of_task_files([name])
        except UserError:  # a file that cannot be read is left out
            continue
    check_allowed(code, allow_code)


def usable_tasks(sweep: Sweep) -> tuple[Sweep, list[Refusal]]:
    """The sweep without the tasks of lm-eval that cannot be read, and why these cannot.

    Raises UserError if the sweep has nothing else to be scored on.
    """
    evaluation = sweep.evaluation
    refused: dict[str, Refusal] = {}
    for name in evaluation.of_lm_eval:
        try:
            code_of_task_files([name])
            load_lm_eval_task(name, sweep.data.seed, evaluation.limit)
        except UserError as error:
            refused[name] = Refusal(f"task {name}", error.problem, error.fix)
    if not refused:
        return sweep, []
    tasks = tuple(name for name in evaluation.tasks or () if name not in refused)
    if not tasks and sweep.answers is None:
        raise next(iter(refused.values())).error
    usable = sweep.model_copy(update={"evaluation": evaluation.model_copy(update={"tasks": tasks})})
    return usable, list(refused.values())
