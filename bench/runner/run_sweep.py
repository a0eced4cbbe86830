"""Runs a sweep: finds which cells are missing, checks what they need, records the plan, runs them and counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from bench.data.templates import make_template
from bench.errors import UserError
from bench.evaluation.open_answers import read_answers
from bench.judging import similarity
from bench.judging.judge_check import run_check
from bench.judging.judges import SimilarityJudge
from bench.judging.ledger import write_judge
from bench.judging.question_files import save_questions
from bench.models.finite_weights import check_finite
from bench.models.load import check_generation_config, check_special_tokens, load_skeleton, load_tokenizer
from bench.models.locate import find_base
from bench.models.weights import check_headers
from bench.planning.estimate import make_estimator
from bench.planning.memory import too_large
from bench.planning.plan import TO_RUN, Plan, PlannedCell, status_of
from bench.planning.try_settings import try_settings
from bench.planning.tuning import settings, settle
from bench.progress import Progress
from bench.runner import webhook
from bench.runner.disk import remove_adapters
from bench.runner.options import RunOptions, matches
from bench.runner.process_workers import ProcessCrew, worker_slots
from bench.runner.repair import repair_cells
from bench.runner.scheduler import Scheduler
from bench.runner.workers import Crew, InProcessCrew, RunContext
from bench.store.damage import CorruptFile, set_aside
from bench.store.folder import Results
from bench.store.locks import judging
from bench.store.recorded_sweep import read_sweep_file
from bench.store.records import PlanRecord, Status
from bench.sweep.sections import LM_EVAL

NAMED_CELLS = 5
"""Cells that a message names before it abbreviates."""


@dataclass(frozen=True)
class SweepOutcome:
    """How a run of a sweep ended, in numbers of cells."""

    done: int
    failed: int
    """Including cells that failed in an earlier run and were not tried again."""
    left: int = 0
    """Not started, or started and not ended: outside `only`, out of time, or run by another process."""


def run_sweep(
    plan: Plan,
    results: Results,
    progress: Progress,
    options: RunOptions | None = None,
    refresh: Callable[[], object] = lambda: None,
) -> SweepOutcome:
    """Run the cells of a sweep that are missing; `refresh` is called as cells end, to bring the report up to date.

    A cell that fails is recorded with its reason and the sweep goes on. Raises UserError if every other cell would fail
    too, and KeyboardInterrupt; complete files are kept, and the same call resumes.
    """
    options = options or RunOptions()
    before = _plan_before(results, progress)
    plan = _readable(plan, results, progress, options)
    if options.train:
        plan = try_settings(plan, results, progress, options.strict, lambda planned: matches(planned, options.only))
    for refusal in plan.refused:
        progress.line(f"not run: {refusal.what}: {refusal.problem}" + (f" ({refusal.fix})" if refusal.fix else ""))
    wanted = frozenset(TO_RUN if options.train else (Status.TRAINED,))
    statuses = {planned.cell.id: status_of(planned, results, options.retry_failed) for planned in plan.cells}
    cells = _chosen(plan, options)
    cells = [planned for planned in cells if statuses[planned.cell.id] in wanted]
    _check(plan, results, cells, options)
    if cells:
        _download(plan, progress)
    _record_plan(plan, results, before, progress)
    if plan.data.open_questions:
        _judge_with_references(plan, results, progress)
    progress.log_to(results.path / "sweep.log")
    recorded = len(plan.cells) - sum(status in wanted for status in statuses.values())
    progress.line(
        f"{plan.sweep.name}: {len(plan.cells)} cells, {recorded} recorded already, {len(cells)} to run"
        + (f", {len(plan.further)} pending until their learning rates are tuned" if plan.further else "")
    )
    if not cells:
        remove_adapters(plan, results)  # the policy may have changed
        return _outcome(plan, results, set())
    context = RunContext(plan, results, wanted, options.retry_failed)
    return _run(context, cells, progress, options, refresh)


def _run(
    context: RunContext,
    cells: Sequence[PlannedCell],
    progress: Progress,
    options: RunOptions,
    refresh: Callable[[], object],
) -> SweepOutcome:
    """Run these cells, and those whose learning rates are chosen meanwhile."""
    scheduler = Scheduler(context, cells, progress, options, refresh)
    results = context.results
    try:
        scheduler.run(lambda: _crew(context, options, progress, cells))
    finally:
        outcome = _outcome(scheduler.plan, results, scheduler.failed)
        if options.notify:
            message = {"event": "ended", "sweep": scheduler.plan.sweep.name, **asdict(outcome)}
            webhook.post(options.notify, message, progress)
    for pending in settings(scheduler.plan.pending):
        if not any(status_of(trial, results) in TO_RUN for trial in pending.trials):
            progress.line(f"{pending.name} stays pending: none of its trials is done")
    if options.only and scheduler.plan.pending:
        progress.line(
            "learning rates are still to be chosen: rates are added for all methods alike, so this takes the trials of "
            "all; run without --only"
        )
    return outcome


def _crew(context: RunContext, options: RunOptions, progress: Progress, cells: Sequence[PlannedCell]) -> Crew:
    if options.ray is not None:
        from bench.runner.ray_workers import RayCrew, Share

        return RayCrew(context, options.ray, Share(options.cpus_per_cell, options.gpus_per_cell))
    if options.workers == 0:
        return InProcessCrew(context, progress)
    slots = worker_slots(options.workers, devices=max(planned.training.devices for planned in cells))
    return ProcessCrew(context, slots[: len(cells) + len(context.plan.further)])


# ---- before cells are run


def _plan_before(results: Results, progress: Progress) -> PlanRecord | None:
    """The plan that is recorded; None where none is, or a corrupt one, which is set aside: this run writes it anew."""
    path = results.path / "plan.json"
    if not path.exists():
        return None
    try:
        return results.plan_record()
    except CorruptFile as error:
        progress.line(f"{error.problem}; it is kept as {set_aside(path).name} and written anew")
        return None


def _readable(plan: Plan, results: Results, progress: Progress, options: RunOptions) -> Plan:
    """The plan with the learning rates that trials have chosen, after damaged files are out of the way."""
    repair_cells(plan.cells, results, progress.line)
    if not plan.pending:
        return plan
    trials = {planned.cell.id for planned in plan.cells}
    # Trials that will be tried again choose nothing yet.
    waiting = [cell.cell.id for cell in plan.cells if status_of(cell, results, options.retry_failed) in TO_RUN]
    plan = settle(plan, results, waiting)
    repair_cells([planned for planned in plan.cells if planned.cell.id not in trials], results, progress.line)
    return plan


def _chosen(plan: Plan, options: RunOptions) -> list[PlannedCell]:
    """The cells that match `options.only`. Raises UserError if none does."""
    cells = [planned for planned in plan.cells if matches(planned, options.only)]
    if not cells and options.only:
        names = ", ".join(planned.cell.name for planned in plan.cells[:NAMED_CELLS])
        raise UserError(f"--only {options.only!r} matches no cell", f"Cells are {names}, ... (see `bench plan`).")
    return cells


def _check(plan: Plan, results: Results, cells: Sequence[PlannedCell], options: RunOptions) -> None:
    """Raises UserError if a cell needs more memory than the device has."""
    if cells and options.ray is None and (problem := too_large(cells, make_estimator(plan, results))):
        raise UserError(problem, "Use a smaller base model, a quantized method (qlora), or a larger device.")


def _download(plan: Plan, progress: Progress) -> None:
    """Get the base models of the plan's cells, and check their weights and chat templates, before anything is
    written."""
    planned = (*plan.cells, *plan.further)
    used = {cell.base.id for cell in planned}
    trained = sorted((cell.cell.samples, cell.cell.seed) for cell in planned if cell.cell.data is not None)
    most = {seed: samples for samples, seed in trained}
    for config in (base for base in plan.sweep.base_model if base.id in used):
        base = find_base(config.id, config.revision, config.trust_remote_code)
        skeleton = load_skeleton(config.id, config.revision, config.trust_remote_code)
        check_headers(base.id, base.path, skeleton)
        check_finite(base.id, base.path, skeleton)
        tokenizer = load_tokenizer(base)
        check_special_tokens(base.id, tokenizer, skeleton)
        check_generation_config(base.id, base.path)
        if plan.data.has_instructions or plan.data.open_questions:
            make_template(plan.data.config.template, tokenizer)
        if plan.data.has_instructions and plan.data.config.template == "chat":
            plan.data.check_template(tokenizer, most)
        if base.commit and config.revision is None:
            progress.line(f"{base.id}: main is {base.commit} now; pin it with base_model.revision")


def _record_plan(plan: Plan, results: Results, before: PlanRecord | None, progress: Progress) -> None:
    """Write plan.json and sweep.yaml, and say which recorded scores the new plan does not ask for."""
    record = plan.record()
    scored = _evaluated(record, plan.lm_eval_tasks)
    dropped = (
        [] if before is None else [name for name in _evaluated(before, _lm_eval_tasks(results)) if name not in scored]
    )
    results.write_plan(plan.sweep.resolved(), record)
    if dropped:
        them = "it" if len(dropped) == 1 else "them"
        progress.line(
            f"{', '.join(dropped)}: scored in this folder, but not part of this sweep; the report leaves {them} out "
            f"until the sweep names {them} (the scores are kept)"
        )


def _evaluated(record: PlanRecord, lm_eval_tasks: Sequence[str]) -> list[str]:
    """Tasks, protocols and sets of open questions of a plan."""
    return [*lm_eval_tasks, *record.tasks, *record.protocols, *record.open_questions]


def _lm_eval_tasks(results: Results) -> list[str]:
    """The tasks of lm-eval in the recorded sweep.yaml, which plan.json does not list; none if it cannot be read."""
    tasks = read_sweep_file(results).section("evaluation").get("tasks")
    names = tasks if isinstance(tasks, list) else [tasks]
    return [name for name in names if isinstance(name, str) and name.startswith(LM_EVAL)]


def _judge_with_references(plan: Plan, results: Results, progress: Progress) -> None:
    """Keep the open questions, and check the offline judge on them.

    Answers of earlier runs are judged again, since their reference answers may have changed.
    """
    save_questions(results, plan.data.open_questions)
    judge = SimilarityJudge()
    with judging(results, judge.identity.label) as held:
        if not held:
            return
        write_judge(results, judge.identity)
        run_check(results, judge, plan.data.open_questions, progress)
        for planned in plan.cells:
            folder = results.folder(planned.cell)
            recorded = folder.record().answers if planned.answers else {}
            for wanted in planned.answers:
                if wanted.id in recorded:
                    try:
                        answers = read_answers(folder, recorded[wanted.id].file)
                    except CorruptFile:  # `repair_cells` has said so
                        continue
                    similarity.rate_cell(folder, wanted, plan.data.open_questions[wanted.set], answers)


def _outcome(plan: Plan, results: Results, tried: set[str]) -> SweepOutcome:
    """Cells by how they ended; a waiting cell among `tried` (ids) has failed in this run."""
    statuses = {planned.cell.id: status_of(planned, results) for planned in plan.cells}
    done = sum(status == Status.DONE for status in statuses.values())
    failed = sum(status != Status.DONE and (id in tried or status not in TO_RUN) for id, status in statuses.items())
    return SweepOutcome(done, failed, len(plan.cells) + len(plan.further) - done - failed)
