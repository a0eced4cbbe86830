"""The functions for programs: load, run, read and report a sweep, as the commands do."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.analysis.result_tables import ResultTables
    from bench.planning.plan import Plan
    from bench.runner.options import RunOptions
    from bench.runner.run_sweep import SweepOutcome
    from bench.store.folder import Results
    from bench.sweep.schema import Sweep
    from bench.sweep.sections import Average


def load_sweep(path: Path | str, overrides: tuple[str, ...] = (), allow_code: Collection[str] = ()) -> Sweep:
    """A sweep file (YAML), with `overrides` in the form of `--set` ("training.epochs=2").

    Raises UserError for a file that is missing, is not YAML, or does not describe a sweep, and for one of a results
    folder that names classes of methods which `allow_code` does not.
    """
    from bench.sweep.load import load_sweep
    from bench.sweep.named_code import check_recorded_sweep

    sweep = load_sweep(path, overrides)
    check_recorded_sweep(Path(path), sweep, allow_code)
    return sweep


def run_sweep(
    sweep: Sweep,
    results: Path | str = "results",
    *,
    workers: int | None = None,
    only: str | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    train: bool = True,
    strict: bool = False,
    seconds: float | None = None,
    ray: str | None = None,
    cpus_per_cell: float = 1.0,
    gpus_per_cell: float = 0.0,
    notify: str | None = None,
    allow_code: Collection[str] = (),
) -> SweepOutcome:
    """Run the missing cells of a sweep in `results/<its name>`, as `bench run` does, and keep its report up to date.

    The keywords are the fields of `bench.runner.options.RunOptions`, and `allow_code`: the lm-eval task files whose
    functions may run (`lm_eval:FILE.yaml`). The outcome has the numbers of cells that are done, failed and left;
    failed cells raise no error. Workers are separate processes, so call this function under
    `if __name__ == "__main__":`. Raises UserError for a configuration or environment error that stops all cells.
    """
    from bench.planning.build import make_plan
    from bench.runner.options import RunOptions
    from bench.store.folder import Results

    planned = make_plan(sweep, strict=strict, allow_code=allow_code)
    options = RunOptions(
        workers=workers,
        only=only,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        train=train,
        strict=strict,
        seconds=seconds,
        ray=ray,
        cpus_per_cell=cpus_per_cell,
        gpus_per_cell=gpus_per_cell,
        notify=notify,
    )
    return run_plan(planned, Results(Path(results) / planned.sweep.name), options)


def run_plan(planned: Plan, results: Results, options: RunOptions) -> SweepOutcome:
    """Run the missing cells of a plan, show the progress on the terminal, and keep the report up to date.

    Processes with the same sweep share the work; with another one, waits until no process runs it.
    """
    from bench.deciding.run_looks import run_looks
    from bench.planning.recorded_cells import recorded_in_another_dtype
    from bench.progress import Progress
    from bench.report import write_report as write
    from bench.store.plan_lock import using_plan

    with Progress() as progress:
        for base, choice in planned.dtypes.items():
            progress.line(f"{base}: computes in {choice.value} ({choice.reason})")
        for sentence in recorded_in_another_dtype(planned, results):
            progress.line(sentence)
        started = time.monotonic()
        with using_plan(results, planned.sweep.plan_hash(), progress.line):
            if options.seconds is not None:
                options = replace(options, seconds=max(0.0, options.seconds - (time.monotonic() - started)))
            outcome = run_looks(planned, results, progress, options, refresh=lambda: write(results))
            write(results)
    return outcome


def load_results(folder: Path | str, average: Average | None = None) -> ResultTables:
    """A results folder as pandas tables: `cells` (one row per cell, with its settings, its average in points and its
    costs), `scores` (one row per cell, protocol and task) and `questions` (one row per cell and question: was the
    answer right? and the probability of the right choice). `average`: the tasks that averages and questions are of, in
    the place of `report.average` ("auto", "all", or names of tasks).

    Raises UserError for a folder that holds no sweep.
    """
    from bench.analysis.result_tables import read_results
    from bench.store.folder import Results

    return read_results(Results(Path(folder)), average)


def write_report(folder: Path | str) -> Path:
    """Write the report of a results folder; returns the path of `report.html`.

    Raises UserError for a folder that holds no sweep.
    """
    from bench.report import write_report
    from bench.store.folder import Results

    return write_report(Results(Path(folder)))
