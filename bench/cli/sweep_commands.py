"""Commands that plan and run sweeps: `bench plan`, `bench run`, `bench evaluate`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.app import (
    SOME_FAILED,
    AllowCode,
    AsJson,
    Into,
    ResultsFolder,
    Set,
    StrictPlan,
    SweepFile,
    Workers,
    app,
    examples,
    exits_on_user_error,
    split_list,
)
from bench.environment import without_collection
from bench.errors import OutOfReach, UserError

if TYPE_CHECKING:
    from bench.planning.plan import Plan


@app.command(
    "plan",
    epilog=examples(
        "bench plan configs/quickstart.yaml",
        "bench plan configs/quickstart.yaml --set 'seeds=[0,1,2]'",
        "bench plan configs/quickstart.yaml --calibrate",
    ),
)
@exits_on_user_error
def plan_command(
    config: SweepFile,
    set: Set = None,
    results: Into = Path("results"),
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Run a few steps of each setting first, and base the estimates on them.")
    ] = False,
    tflops: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Estimate for another device with this half-precision speed in TFLOP/s (A100: 312; H100: 989).",
        ),
    ] = None,
    strict: StrictPlan = False,
    allow_code: AllowCode = None,
    as_json: AsJson = False,
) -> None:
    """List the cells of a sweep with their status and the estimated time and memory. Checks every cell; runs none.

    If a data set cannot be downloaded, the plan uses placeholders of the same number and length, and says so.
    """
    from bench.deciding.expectation import expect_cells, expectation_lines
    from bench.planning.display import format_plan, list_plan
    from bench.planning.try_settings import try_settings
    from bench.progress import Progress
    from bench.store.folder import Results

    if calibrate and tflops is not None:
        raise UserError("--calibrate measures this device, and --tflops describes another", "Give one of them.")
    elsewhere = tflops is not None
    planned = load_plan(config, set, allow_code, use_placeholders=not calibrate, elsewhere=elsewhere, strict=strict)
    folder = Results(results / planned.sweep.name)
    with Progress() as progress:
        planned = try_settings(planned, folder, progress, strict)
        if calibrate:
            from bench.runner.calibrate import calibrate as run_calibration

            run_calibration(planned, folder, progress)
    listing = list_plan(planned, folder, tflops)
    expectation = expect_cells(planned, folder, tflops)
    if as_json:
        print(json.dumps({**asdict(listing), **({"decide": asdict(expectation)} if expectation else {})}, indent=2))
    else:
        print(*format_plan(planned, listing), *(expectation_lines(expectation) if expectation else ()), sep="\n")


def load_plan(
    config: Path,
    overrides: list[str] | None,
    allow_code: list[str] | None,
    use_placeholders: bool,
    elsewhere: bool,
    strict: bool = False,
) -> Plan:
    """The plan of a sweep file; with `use_placeholders`, data that cannot be downloaded are replaced."""
    from bench.sweep.load import load_sweep
    from bench.sweep.named_code import check_recorded_sweep

    sweep, allowed = load_sweep(config, tuple(overrides or ())), tuple(allow_code or ())
    check_recorded_sweep(config, sweep, allowed)
    with without_collection():
        from bench.planning.build import make_plan

        try:
            return make_plan(sweep, elsewhere=elsewhere, strict=strict, allow_code=allowed)
        except OutOfReach as error:
            if not use_placeholders:
                raise
            print(f"{error.problem}; planned with placeholders", file=sys.stderr)
            return make_plan(sweep, use_placeholders=True, elsewhere=elsewhere, strict=strict, allow_code=allowed)


@app.command(
    "run",
    epilog=examples(
        "bench run configs/quickstart.yaml --set training.epochs=2",
        "bench run configs/quickstart.yaml --until 07:00",
        "bench run configs/quickstart.yaml --only 'dora-r16*' --retry-failed",
    ),
)
@exits_on_user_error
def run_command(
    config: SweepFile,
    set: Set = None,
    results: Into = Path("results"),
    workers: Workers = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Run on a Ray cluster: auto (the running one), local (a new one) or host:port.", metavar="ADDRESS"
        ),
    ] = None,
    cpus_per_cell: Annotated[float, typer.Option(min=0, help="CPUs of the cluster for each cell.")] = 1.0,
    gpus_per_cell: Annotated[
        float, typer.Option(min=0, help="GPUs of the cluster for each cell; with 0.5, two cells share one.")
    ] = 0.0,
    max_hours: Annotated[
        float | None, typer.Option(min=0, help="Time limit; no cell starts that cannot finish in time.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Time of day by which the run must end, e.g. 07:00.", metavar="HH:MM")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Run only cells whose names match, e.g. 'dora-r16*'.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    strict: StrictPlan = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first cell that fails.")] = False,
    notify: Annotated[
        str | None, typer.Option(help="POST JSON to this URL when a cell fails and when the run ends.", metavar="URL")
    ] = None,
    allow_code: AllowCode = None,
) -> None:
    """Run the missing cells of a sweep and keep its report up to date. Run the same command again to resume.

    Exit code 0: all cells are done; 1: some cells failed (the report says which and why); 2: configuration or
    environment error.
    """
    from bench.runner.forkserver import start_forkserver

    if workers != 0 and ray is None:
        start_forkserver()  # it starts while the plan is made
    from bench.api import run_plan
    from bench.runner.options import RunOptions, seconds_left
    from bench.runner.webhook import check_url
    from bench.store.folder import Results

    if notify is not None:
        check_url(notify)
    options = RunOptions(
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        strict=strict,
        only=only,
        workers=workers,
        ray=ray,
        cpus_per_cell=cpus_per_cell,
        gpus_per_cell=gpus_per_cell,
        notify=notify,
    )
    seconds_left(max_hours, until)  # an invalid time fails before the plan is made
    planned = load_plan(config, set, allow_code, use_placeholders=False, elsewhere=False, strict=strict)
    options = replace(options, seconds=seconds_left(max_hours, until))
    folder = Results(results / planned.sweep.name)
    outcome = run_plan(planned, folder, options)
    print(f"report: {folder.report / 'report.html'}")
    cells = outcome.done + outcome.failed + outcome.left
    if outcome.left:
        print(f"{outcome.left} of {cells} cells are left; run the same command to resume", file=sys.stderr)
    if outcome.failed:
        print(f"{outcome.failed} of {cells} cells failed; the report says why", file=sys.stderr)
        raise typer.Exit(SOME_FAILED)


@app.command("evaluate", epilog=examples("bench evaluate results/quickstart --tasks world_three,lm_eval:hellaswag"))
@exits_on_user_error
def evaluate_command(
    folder: ResultsFolder,
    tasks: Annotated[str, typer.Option(help="Tasks to add, separated by commas; default: the sweep's.")] = "",
    protocol: Annotated[str, typer.Option(help="Protocols to add, separated by commas.")] = "",
    answers: Annotated[
        str, typer.Option(help="Sets of open questions to answer, separated by commas, e.g. mt_bench.")
    ] = "",
    skip_lost: Annotated[
        bool, typer.Option("--skip-lost", help="Skip cells whose adapters were not kept, instead of stopping.")
    ] = False,
    workers: Workers = None,
    set: Set = None,
    allow_code: AllowCode = None,
) -> None:
    """Score the trained cells of a results folder on more tasks, or by more protocols, without training.

    Updates the folder's sweep.yaml and its report. Waits until no other process runs the sweep. Exit codes are those of
    `bench run`.
    """
    from bench.progress import Progress
    from bench.report import write_report
    from bench.runner.add_evaluations import add_evaluations
    from bench.runner.options import RunOptions
    from bench.runner.run_sweep import run_sweep
    from bench.store.folder import Results
    from bench.store.plan_lock import using_plan

    results = Results(folder)
    # The plan is read after the lock is held: whoever held it before may have changed the plan.
    with Progress() as progress, using_plan(results, None, progress.line):
        planned = add_evaluations(
            results,
            split_list(tasks),
            split_list(protocol),
            split_list(answers),
            tuple(set or ()),
            skip_lost,
            tuple(allow_code or ()),
        )
        options = RunOptions(train=False, workers=workers)
        outcome = run_sweep(planned, results, progress, options, refresh=lambda: write_report(results))
        report = write_report(results)
    print(f"report: {report}")
    if lacking := outcome.failed + outcome.left:
        print(f"{lacking} of {outcome.done + lacking} cells lack scores", file=sys.stderr)
        raise typer.Exit(SOME_FAILED)
