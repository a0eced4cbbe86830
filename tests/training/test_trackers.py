"""What a training reports to the trackers of `training.report_to`."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.training import cell_of, trained
from transformers import AutoModelForCausalLM

from bench.sweep.sections import TrainingConfig
from bench.training.trackers import make_trackers


def test_each_tracker_is_accelerates_and_gets_the_name_of_the_cell(tiny_model: Path, tmp_path: Path) -> None:
    """Made, but not started: none of them needs to be installed for that."""
    cell = cell_of("lora", AutoModelForCausalLM.from_pretrained(tiny_model))
    config = TrainingConfig.model_validate({"report_to": ["tensorboard", "wandb", "mlflow", "trackio"]})
    trackers = {tracker.name: tracker for tracker in make_trackers(config, cell, tmp_path / "log")}
    assert list(trackers) == list(config.report_to)
    assert Path(trackers["tensorboard"].logging_dir_param, trackers["tensorboard"].run_name) == tmp_path / "log"
    assert trackers["wandb"].init_kwargs["name"] == trackers["mlflow"].run_name == cell.folder
    assert trackers["trackio"].init_kwargs["name"] == cell.folder
    assert make_trackers(TrainingConfig(), cell, tmp_path) == []


def test_tensorboard_has_the_log_in_its_folder(tiny_model: Path, tmp_path: Path) -> None:
    """Every logged number, at its step, in the folder `tensorboard` of the training and nowhere else. A row of the
    training's own log has its epoch to four places."""
    pytest.importorskip("tensorboard", reason="a tracker that the user installs")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {"epochs": 2, "batch_size": 8, "report_to": "tensorboard", "logging_steps": 2}
    _, log = trained(tmp_path, tiny_model, "lora", settings)
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    names = {"loss": "loss", "grad_norm": "grad_norm", "lr": "learning_rate", "epoch": "epoch"}
    assert set(events.Tags()["scalars"]) == {f"train/{name}" for name in names.values()}
    for key, name in names.items():
        points = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert [step for step, _ in points] == [2, 4, 6]
        assert [value for _, value in points] == pytest.approx(
            [row[key] for row in log], rel=1e-6, abs=5e-5 if key == "epoch" else 0
        )
