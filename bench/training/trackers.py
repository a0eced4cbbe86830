"""Experiment trackers (`training.report_to`), by accelerate: TensorBoard, Weights & Biases, MLflow, Trackio.

Projects and runs have the names that transformers' Trainer gives them, and metrics those that it gives in TensorBoard,
so that cells of earlier versions can be compared with later ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig
from bench.training.events import Logged

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "huggingface"


def make_trackers(config: TrainingConfig, cell: Cell, tensorboard: Path) -> list[GeneralTracker]:
    """The trackers of a cell, not started. `tensorboard` is the folder of TensorBoard's log.

    A project is set by the trackers' own environment variables, such as `WANDB_PROJECT`.
    """
    trackers: list[GeneralTracker] = []
    for name in config.report_to:
        match name:
            case "tensorboard":
                trackers.append(TensorBoardTracker(tensorboard.name, tensorboard.parent))
            case "wandb":
                trackers.append(WandBTracker(os.environ.get("WANDB_PROJECT", PROJECT), name=cell.folder))
            case "mlflow":
                trackers.append(MLflowTracker("Default", run_name=cell.folder))
            case "trackio":
                trackers.append(TrackioTracker(PROJECT, name=cell.folder, resume="allow"))
    return trackers


@contextmanager
def tracking(accelerator: Accelerator, cell: Cell) -> Iterator[None]:
    """While entered, the trackers of an accelerator are on, in the first process alone, and know what they track."""
    accelerator.init_trackers(cell.folder)
    for tracker in accelerator.trackers:
        if isinstance(tracker, TensorBoardTracker):
            tracker.log({"cell": cell.model_dump_json()}, step=0)  # its hyperparameters would be runs of their own
        else:
            tracker.store_init_configuration(cell.model_dump(mode="json"))
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def track(accelerator: Accelerator, event: Logged) -> None:
    """Send what was logged to the trackers."""
    accelerator.log(
        {
            "train/loss": event.loss,
            "train/grad_norm": event.grad_norm,
            "train/learning_rate": event.lr,
            "train/epoch": event.epoch,
        },
        step=event.step,
    )
