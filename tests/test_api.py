"""The functions that a program calls do what the commands do."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
from pathlib import Path

import pytest

import bench
from bench.errors import UserError
from bench.runner.options import RunOptions


def test_a_finished_sweep_is_read_as_tables(finished: tuple[Path, Path]) -> None:
    assert bench.load_sweep(finished[0], ("seeds=[1]",)).seeds == (1,)
    tables = bench.load_results(finished[1])
    assert set(tables.cells["method"]) == {"base", "lora", "dora", "full"} and len(tables.cells) == 6
    assert len(tables.scores) == 6 * 4 and len(tables.questions) == 6 * 3 * 6  # one task is near chance
    assert len(bench.load_results(finished[1], "all").questions) == 6 * 4 * 6


@pytest.mark.slow
def test_a_sweep_is_loaded_run_read_and_reported(finished: tuple[Path, Path], tmp_path: Path) -> None:
    """On a finished sweep: all that is recorded is kept, and one removed cell is run again to the same scores."""
    config, results = finished
    folder = Path(shutil.copytree(results, tmp_path / "tiny"))
    before = bench.load_results(folder)
    shutil.rmtree(next(folder.glob("cells/lora-r2-*")))
    outcome = bench.run_sweep(bench.load_sweep(config), tmp_path, workers=0)
    assert (outcome.failed, outcome.left) == (0, 0)
    after = bench.load_results(folder)
    assert after.cells["average"].equals(before.cells["average"]) and after.questions.equals(before.questions)
    report = (folder / "report" / "report.md").read_text()
    assert bench.write_report(folder) == folder / "report" / "report.html"
    assert (folder / "report" / "report.md").read_text() == report


def test_running_takes_every_option_by_name_with_the_same_default() -> None:
    parameters = inspect.signature(bench.run_sweep).parameters.values()
    named = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    options = {field.name: field.default for field in dataclasses.fields(RunOptions)}
    assert named == {**options, "allow_code": ()}  # which the plan takes, and not the run


def test_what_is_not_a_sweep_is_an_error(tmp_path: Path) -> None:
    for call in (bench.load_results, bench.write_report, lambda path: bench.load_sweep(path / "none.yaml")):
        with pytest.raises(UserError):
            call(tmp_path)
