"""Loss and gradient norm by step, and the spread over seeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from helpers.tables import cells_of

from bench.analysis.result_tables import read_results
from bench.report.figures import training_curves
from bench.store.folder import Results


def test_a_line_is_the_running_mean_of_the_logged_steps() -> None:
    random = np.random.default_rng(0)
    log = [{"step": step, "loss": float(random.normal())} for step in range(1, 401)]
    line = training_curves._line(log, "loss")
    assert len(line) == training_curves.POINTS and line[0, 0] == 1 and line[-1, 0] == 400
    values = [row["loss"] for row in log]
    for step, mean in line:
        at = int(step)
        np.testing.assert_allclose(mean, np.mean(values[max(0, at - 40) : at]), atol=1e-12)


def test_what_is_not_finite_or_was_not_logged_draws_nothing() -> None:
    log = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": float("inf")}, {"step": 3, "loss": 1.0}, {"step": 4}]
    assert len(training_curves._line(log, "loss")) == 0


def test_every_trained_setting_has_a_panel(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = Results(Path(shutil.copytree(finished[1], tmp_path / "tiny")))
    cells = read_results(copy).cells
    drawn = {one.name: one for one in training_curves.draw(copy, cells)}
    assert set(drawn) == {"losses", "gradient_norms"}
    panels = training_curves._panels(copy, cells)
    assert set(panels) == {"lora r2", "lora r4", "dora r2", "dora r4", "full"}
    # A line that a kill cut off ends the log, and is no error.
    log = next(copy.path.glob("cells/full-*/training.jsonl"))
    log.write_text(log.read_text() + '{"step": 99, "lo')
    assert training_curves._panels(copy, cells)["full"] == panels["full"]
    for log in copy.path.glob("cells/*/training.jsonl"):
        log.unlink()
    assert training_curves.draw(copy, cells) == []


def test_the_spread_needs_two_seeds() -> None:
    rows = [{"method": "lora", "rank": 8, "seed": seed, "average": 50.0 + 2 * seed} for seed in range(3)]
    (table,) = training_curves.table(cells_of([*rows, {"method": "dora", "rank": 8, "average": 50.0}]))
    assert table.rows == [["lora r8", "3", "52.00", "2.00", "50.00", "54.00"]]
    assert training_curves.table(cells_of(rows[:1])) == []
