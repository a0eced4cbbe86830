"""Loss and gradient norm by step, and the spread over seeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from helpers.tables import cells_of

from bench.analysis.result_tables import read_results
from bench.report.figures import training_curves
from bench.report.score_tables import seed_spread_table
from bench.store.folder import Results
from bench.store.records import TrainingLogRow


def test_a_line_is_the_running_mean_of_the_logged_steps() -> None:
    random = np.random.default_rng(0)
    log = [TrainingLogRow(step=step, loss=float(random.normal())) for step in range(1, 401)]
    line = training_curves._line(log, training_curves.LOSS)
    assert len(line) == training_curves.POINTS and line[0, 0] == 1 and line[-1, 0] == 400
    values = [row.loss for row in log]
    for step, mean in line:
        at = int(step)
        np.testing.assert_allclose(mean, np.mean(values[max(0, at - 40) : at]), atol=1e-12)


def test_what_is_not_finite_or_was_not_logged_draws_nothing() -> None:
    losses = (float("nan"), float("inf"), 1.0, None)
    log = [TrainingLogRow(step=step, loss=loss) for step, loss in enumerate(losses, start=1)]
    assert len(training_curves._line(log, training_curves.LOSS)) == 0


def test_every_trained_setting_has_a_panel(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = Results(Path(shutil.copytree(finished[1], tmp_path / "tiny")))
    cells = read_results(copy).cells
    logs = training_curves.read_training_logs(copy, cells)
    assert [figure.name for figure in training_curves.draw(logs)] == ["losses", "gradient_norms"]
    assert set(logs.settings) == {"lora r2", "lora r4", "dora r2", "dora r4", "full"} and not logs.problems
    # An incomplete last line, which a killed process leaves, ends the log, and is no error.
    path = next(copy.path.glob("cells/full-*/training.jsonl"))
    path.write_text(path.read_text() + '{"step": 99, "lo')
    assert training_curves.read_training_logs(copy, cells) == logs
    # A corrupt line is a problem that the report shows.
    path.write_text("no JSON\n" + path.read_text())
    (problem,) = training_curves.read_training_logs(copy, cells).problems
    assert problem == f"{path.parent.name}: its training.jsonl cannot be read; the training curves lack it"
    for path in copy.path.glob("cells/*/training.jsonl"):
        path.unlink()
    assert training_curves.draw(training_curves.read_training_logs(copy, cells)) == []


def test_the_spread_needs_two_seeds() -> None:
    rows = [{"method": "lora", "rank": 8, "seed": seed, "average": 50.0 + 2 * seed} for seed in range(3)]
    (table,) = seed_spread_table(cells_of([*rows, {"method": "dora", "rank": 8, "average": 50.0}]))
    assert table.rows == [["lora r8", "3", "52.00", "2.00", "50.00", "54.00"]]
    assert seed_spread_table(cells_of(rows[:1])) == []
