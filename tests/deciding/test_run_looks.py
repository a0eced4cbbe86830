"""Real sweeps of a tiny model with `decide`: they end by themselves, and go on where they were stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.sweeps import bench, outcome, sweep_file

from bench.store.folder import Results

SETTINGS = (
    *("--set", "methods=[{method: lora, rank: 2, lr: 1e-2}, {method: dora, rank: 2, lr: 1e-2}]"),
    *("--set", "decide={looks: [3, 5]}"),
    *("--set", "evaluation.tasks=[world_two]"),
    *("--set", "samples=8"),
)


def in_folder(folder: Path, model: Path) -> tuple[Any, ...]:
    return (sweep_file(folder, model), "--results", folder, *SETTINGS)


def test_a_sweep_runs_look_by_look_and_ends(tmp_path: Path, tiny_model: Path) -> None:
    """Two random models answer alike, so their contrast stays open, and the looks are used up."""
    arguments = in_folder(tmp_path, tiny_model)
    planned = bench("plan", *arguments, "--json")
    content = json.loads(planned.stdout)
    assert len(content["cells"]) == 7 and content["decide"]["largest"]["cells"] == 10
    done = bench("run", *arguments, "--workers", 0)
    assert done.exit_code == 0, done.output
    assert "tiny: 7 cells, 0 recorded already" in done.output
    assert "tiny: 11 cells, 7 recorded already, 4 to run" in done.output
    assert "Look 1 (3 seeds): dora - lora open:" in done.output
    assert "2 more seeds where it is open, 4 cells" in done.output
    assert "Look 2 (5 seeds): dora - lora open:" in done.output and "the looks are used up" in done.output
    report = (tmp_path / "tiny" / "report" / "report.md").read_text()
    assert "Look 1 (3 seeds)" in report and "Look 2 (5 seeds)" in report
    before = (tmp_path / "tiny" / "looks.json").read_text()
    again = bench("run", *arguments, "--workers", 0)
    assert "tiny: 11 cells, 11 recorded already, 0 to run" in again.output and "Look 2" in again.output
    assert (tmp_path / "tiny" / "looks.json").read_text() == before
    assert "decide: 10 trained cells at least, 10 expected, 10 at most" in bench("plan", *arguments).output


@pytest.mark.slow
def test_a_run_that_ran_out_of_time_goes_on_with_several_workers(tmp_path: Path, tiny_model: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert bench("run", *in_folder(whole, tiny_model), "--workers", 0).exit_code == 0
    arguments = in_folder(parts, tiny_model)
    first = bench("run", *arguments, "--workers", 0, "--only", "lora*")
    assert "the next look is taken when all cells are done" in first.output, first.output
    assert not (parts / "tiny" / "looks.json").exists()
    for _ in range(2):
        assert bench("run", *arguments, "--workers", 2).exit_code == 0
    assert outcome(parts / "tiny").keys() == outcome(whole / "tiny").keys()
    # More tasks of the same cells: those that looks added are cells of the sweep, too.
    more = bench("evaluate", parts / "tiny", "--tasks", "world_three", "--workers", 0)
    assert more.exit_code == 0 and len(Results(parts / "tiny").plan_record().cells) == 11, more.output
    looks = [json.loads((folder / "tiny" / "looks.json").read_text())["looks"] for folder in (whole, parts)]
    assert [(look["seeds"], look["added"]) for look in looks[0]] == [
        (look["seeds"], look["added"]) for look in looks[1]
    ]


def test_a_sweep_without_a_contrast_is_an_error(tmp_path: Path, tiny_model: Path) -> None:
    arguments = (*in_folder(tmp_path, tiny_model), "--set", "methods=[{method: lora, rank: 2}]")
    for command in ("plan", "run"):
        refused = bench(command, *arguments)
        assert refused.exit_code == 2 and "lora is compared with nothing" in refused.output, refused.output
