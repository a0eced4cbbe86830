"""transformers' Trainer with its private hooks for the sampler and for checkpoints as public methods.

Trainer documents no way to give it an order of examples, or to write and restore checkpoints in another format.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from bench.models.compat import require

UPSTREAM = "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/trainer.py"

_OVERRIDDEN = {
    "_get_train_sampler": ["self", "train_dataset"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_load_scaler": ["self", "checkpoint"],
    "_load_rng_state": ["self", "checkpoint"],
    "_prepare_inputs": ["self", "inputs"],
}
for _name, _parameters in _OVERRIDDEN.items():
    require(
        hasattr(Trainer, _name) and list(inspect.signature(getattr(Trainer, _name)).parameters) == _parameters,
        "transformers",
        f"Trainer.{_name}({', '.join(_parameters[1:])})",
        UPSTREAM,
    )
require(hasattr(Trainer, "loss_is_scaled_for_ga"), "transformers", "Trainer.loss_is_scaled_for_ga", UPSTREAM)


class HookedTrainer(Trainer):
    """Trainer whose sampler and checkpoints are those of the subclass.

    `compute_loss` of the subclass returns a loss that is divided by the items of the whole accumulated batch.
    """

    def __init__(self, model: nn.Module, **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)
        self.trained_model = model
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def train_sampler(self) -> Sampler[int] | None:
        """The order of the examples; None for Trainer's own."""
        return None

    def save_checkpoint(self) -> None:
        """Write a checkpoint: called when a callback has set `control.should_save`."""
        raise NotImplementedError

    def restore_model(self) -> None:
        """Restore the model, when a training is resumed."""
        raise NotImplementedError

    def restore_optimizer(self) -> None:
        """Restore the optimizer, the learning rate schedule and the gradient scaler."""
        raise NotImplementedError

    def restore_generators(self) -> None:
        """Restore the random generators."""
        raise NotImplementedError

    def prepare_batch(self, inputs: dict[str, torch.Tensor | Any]) -> Mapping[str, torch.Tensor]:
        """A collated batch on the device."""
        return self._prepare_inputs(inputs)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int] | None:
        sampler = self.train_sampler()
        return super()._get_train_sampler(train_dataset) if sampler is None else sampler

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        self.save_checkpoint()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.restore_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.restore_optimizer()

    def _load_scaler(self, checkpoint: str | None) -> None:
        pass  # restored with the optimizer

    def _load_rng_state(self, checkpoint: str | None) -> None:
        self.restore_generators()


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Train on one GPU of this process: Trainer would split a batch over all GPUs that it sees (DataParallel)."""
    gpus = arguments.n_gpu
    require(hasattr(arguments, "_n_gpu"), "transformers", "TrainingArguments._n_gpu", UPSTREAM)
    arguments._n_gpu = min(1, gpus)


def tensorboard_callback(folder: Path) -> TrainerCallback:
    """Trainer's callback for TensorBoard, with the log in `folder`.

    Its documented setting is an environment variable, which would last for the whole process.
    """
    from transformers.integrations.integration_utils import TensorBoardCallback

    callback = TensorBoardCallback()
    link = UPSTREAM.replace("trainer.py", "integrations/integration_utils.py")
    require(hasattr(callback, "logging_dir"), "transformers", "TensorBoardCallback.logging_dir", link)
    callback.logging_dir = str(folder)
    return callback
