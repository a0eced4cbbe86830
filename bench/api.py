"""What a program calls: a sweep is loaded, run, read back and reported, as the commands do it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.analysis.result_tables import ResultTables
    from bench.planning.plan import Plan
    from bench.runner.options import RunOptions
    from bench.runner.run_sweep import SweepOutcome
    from bench.store.folder import Results
    from bench.sweep.schema import Sweep


def load_sweep(path: Path | str, overrides: tuple[str, ...] = ()) -> Sweep:
    """A sweep file (YAML), with `overrides` as `--set` takes them ("training.epochs=2").

    Raises UserError for a file that is missing, is no YAML or does not describe a sweep.
    """
    from bench.sweep.load import load_sweep

    return load_sweep(path, overrides)


def run_sweep(sweep: Sweep, results: Path | str = "results", **options: Any) -> SweepOutcome:
    """Run what is missing of a sweep in `results/<its name>`, as `bench run` does, and keep its report up to date.

    `options` are those of `bench.runner.options.RunOptions` (workers, only, retry_failed, fail_fast, seconds, ...). The
    outcome says how many cells failed and how many are left; it is no error if some did. Workers are processes of
    their own: call it under `if __name__ == "__main__":`. Raises UserError for an error that the user must fix before a
    cell can run.
    """
    from bench.planning.build import make_plan
    from bench.runner.options import RunOptions
    from bench.store.folder import Results

    planned = make_plan(sweep)
    return run_plan(planned, Results(Path(results) / planned.sweep.name), RunOptions(**options))


def run_plan(planned: Plan, folder: Results, options: RunOptions) -> SweepOutcome:
    """Run what is missing of a plan, told on the terminal, and leave its report up to date."""
    from bench.progress import Progress
    from bench.report import write_report as write
    from bench.runner.run_sweep import run_sweep as run

    with Progress() as progress:
        for base, choice in planned.dtypes.items():
            progress.line(f"{base}: computes in {choice.value} ({choice.reason})")
        outcome = run(planned, folder, progress, options, refresh=lambda: write(folder))
    write(folder)
    return outcome


def load_results(folder: Path | str) -> ResultTables:
    """A results folder as tables of pandas: `cells` (a row a cell, with its settings, its average in points and its
    costs), `scores` (a row a cell, protocol and task) and `questions` (a row a cell and question: was it right?).

    Raises UserError for a folder that holds no sweep.
    """
    from bench.analysis.result_tables import read_results
    from bench.store.folder import Results

    return read_results(Results(Path(folder)))


def write_report(folder: Path | str) -> Path:
    """Write the report of a results folder anew; returns the path of `report.html`.

    Raises UserError for a folder that holds no sweep.
    """
    from bench.report import write_report
    from bench.store.folder import Results

    return write_report(Results(Path(folder)))
