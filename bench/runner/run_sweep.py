"""A sweep from what is recorded of it to its report: what is missing is found, checked, run and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from bench.data.templates import make_template
from bench.errors import UserError
from bench.evaluation.open_answers import read_answers
from bench.judging import similarity
from bench.judging.judge_check import run_check
from bench.judging.judges import SimilarityJudge
from bench.judging.ledger import write_judge
from bench.judging.question_files import save_questions
from bench.models.load import load_tokenizer
from bench.models.locate import find_base
from bench.planning.estimate import estimator, too_large
from bench.planning.plan import TO_RUN, Plan, PlannedCell, state
from bench.planning.tuning import groups, settle
from bench.progress import Progress
from bench.runner import webhook
from bench.runner.disk import prune
from bench.runner.options import Options, named
from bench.runner.scheduler import Schedule
from bench.runner.workers import Crew, Here, Local, Task, slots
from bench.store.folder import Results
from bench.store.locks import holding
from bench.sweep.sections import LM_EVAL


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended."""

    done: int
    failed: int
    """Including those that failed in an earlier run and were not tried again."""
    left: int = 0
    """Not begun, or begun and not ended: outside `only`, out of time, or run by another process."""


def run_sweep(
    plan: Plan,
    results: Results,
    progress: Progress,
    options: Options | None = None,
    refresh: Callable[[], Any] = lambda: None,
) -> Outcome:
    """Run what is missing of a sweep; `refresh` is called as cells end, to bring the report up to date.

    A cell that fails is recorded with its reason and the sweep goes on. Raises UserError where nothing that comes
    after would go better, and KeyboardInterrupt; what is whole is kept, and the same call goes on.
    """
    options = options or Options()
    wanted = TO_RUN if options.train else ("trained",)
    before = results.plan() if (results.path / "plan.json").is_file() else {}  # of a newer version: refused
    _set_aside(plan, results, progress)
    if plan.pending:
        # Trials that are to be tried again choose nothing before.
        waiting = {one.cell.id for one in plan.cells if state(one, results, options.retry_failed) in TO_RUN}
        plan = settle(plan, results, waiting)
        _set_aside(plan, results, progress)
    states = {one.cell.id: state(one, results, options.retry_failed) for one in plan.cells}
    todo = [one for one in plan.cells if states[one.cell.id] in wanted and named(one, options.only)]
    if options.only and not any(named(one, options.only) for one in plan.cells):
        names = ", ".join(one.cell.name for one in plan.cells[:5])
        raise UserError(f"--only {options.only!r} fits no cell", f"Cells are {names}, ... (see `bench plan`).")
    if todo and options.ray is None and (problem := too_large(todo, estimator(plan, results))):
        raise UserError(problem, "Take a smaller base model, a quantized method (qlora), or a larger device.")
    if todo:  # what must be downloaded is asked for before anything is written
        for base in plan.sweep.base_model:
            found = find_base(base.id, base.revision)
            tokenizer = load_tokenizer(found)
            if plan.data.has_instructions or plan.data.open_questions:
                make_template(plan.data.config.template, tokenizer)
            if found.commit and base.revision is None:
                progress.line(f"{found.id}: main is {found.commit} now; pin it with base_model.revision")
    resolved, record = plan.resolved(), plan.record()
    left_out = _left_out(results, before, resolved, record)
    results.write_plan(resolved, record)
    if left_out:
        progress.line(
            f"{', '.join(left_out)}: scored in this folder, and not asked for by this sweep; the report is without "
            f"until the sweep names {'it' if len(left_out) == 1 else 'them'} (the scores stay)"
        )
    if plan.data.open_questions:
        save_questions(results, plan.data.open_questions)
        judge = SimilarityJudge()
        with holding(results, f"judge-{judge.identity.label}") as mine:
            if mine:
                write_judge(results, judge.identity)
                run_check(results, judge, plan.data.open_questions, progress)
                _judge_again(plan, results)
    progress.log_to(results.path / "sweep.log")
    recorded = len(plan.cells) - sum(one in wanted for one in states.values())
    progress.line(
        f"{plan.sweep.name}: {len(plan.cells)} cells, {recorded} recorded already, {len(todo)} to run"
        + (f", {len(plan.pending)} pending until their learning rates are tuned" if plan.pending else "")
    )
    if not todo:
        prune(plan, results)  # by a policy that may be another than before
        return _outcome(plan, results, set())
    schedule = Schedule(Task(plan, results, frozenset(wanted), options.retry_failed), todo, progress, options, refresh)
    try:
        schedule.run(lambda task: _crew(task, options, progress, todo))
    finally:
        outcome = _outcome(schedule.plan, results, schedule.failed)
        if options.notify:
            webhook.post(options.notify, {"event": "ended", "sweep": plan.sweep.name, **vars(outcome)}, progress)
    for one in groups(schedule.plan.pending):
        if not any(state(trial, results) in TO_RUN for trial in one.trials):
            progress.line(f"{one.name} stays pending: none of its trials has come to an end")
    return outcome


def _left_out(
    results: Results, before: Mapping[str, Any], resolved: Mapping[str, Any], record: Mapping[str, Any]
) -> list[str]:
    """Tasks, protocols and sets of open questions of the plan that is recorded (`before`, and sweep.yaml) and not of
    this one (`record`, `resolved`), such as those that `bench evaluate` has added."""
    asked: Mapping[str, Any] = {}
    with suppress(OSError, yaml.YAMLError):
        asked = yaml.safe_load((results.path / "sweep.yaml").read_text(encoding="utf-8"))

    def scored(record: Mapping[str, Any], sweep: Mapping[str, Any]) -> list[str]:
        tasks = (sweep.get("evaluation") or {}).get("tasks") or ()
        of_lm_eval = [name for name in tasks if name.startswith(LM_EVAL)]
        kinds = ("tasks", "protocols", "open_questions")
        return [*of_lm_eval, *(name for kind in kinds for name in record.get(kind, ()))]

    now = scored(record, resolved)
    return [name for name in scored(before, asked) if name not in now]


def _judge_again(plan: Plan, results: Results) -> None:
    """Have the judge that costs nothing judge what was answered before, where the reference answers are others now."""
    for one in plan.cells:
        folder = results.folder(one.cell)
        if one.answers and (folder.path / "cell.json").is_file():
            recorded = folder.metrics().get("answers", {})
            for identity in (identity for identity in one.answers if identity.id in recorded):
                answers = read_answers(folder, identity.file)
                similarity.rate_cell(folder, identity, plan.data.open_questions[identity.set], answers)


def _set_aside(plan: Plan, results: Results, progress: Progress) -> None:
    """A record that cannot be believed does not end the night: its cell is run again."""
    for one in plan.cells:
        if results.folder(one.cell).set_aside():
            progress.line(
                f"{one.cell.name}: its metrics.json cannot be believed (edited or damaged: files are written whole); "
                "it lies beside as metrics.damaged.json, and the cell is run again"
            )


def _outcome(plan: Plan, results: Results, tried: set[str]) -> Outcome:
    """How the cells stand; of those that still wait, the ones in `tried` have failed in this run."""
    after = {one.cell.id: state(one, results) for one in plan.cells}
    done = {id for id, now in after.items() if now == "done"}
    failed = {id for id, now in after.items() if id not in done and (id in tried or now not in TO_RUN)}
    return Outcome(len(done), len(failed), len(plan.cells) + len(plan.pending) - len(done) - len(failed))


def _crew(task: Task, options: Options, progress: Progress, todo: Sequence[PlannedCell]) -> Crew:
    if options.ray is not None:
        from bench.runner.ray_workers import OnRay, Share

        return OnRay(task, options.ray, Share(options.cpus_per_cell, options.gpus_per_cell))
    if options.workers == 0:
        return Here(task, progress)
    devices = max(one.training.devices for one in todo)
    places = slots(options.workers, devices)
    return Local(task, places[: len(todo) + len(task.plan.pending)])
