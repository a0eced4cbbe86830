"""Checkpoints: all that the rest of a training depends on, so that a killed cell is resumed and not started again.

A checkpoint holds the trained parameters and all buffers, the state of the optimizer, the schedule and the gradient
scaler, the states of all random generators, and the log and costs so far. The order of the examples follows from the
seed. Tensors are safetensors, the rest is JSON, and the folder is written atomically. On a CPU, a
resumed training ends with the same weights, bit for bit, as one that was never stopped.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from bench.costs import Reading
from bench.errors import first_line
from bench.store.files import writing_folder
from bench.store.records import TrainingLogRow
from bench.training.throughput import ThroughputState
from bench.training.validation import ValidationState

if TYPE_CHECKING:
    from torch.amp import GradScaler
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

PREFIX = "checkpoint-"
STATE, TENSORS = "state.json", "tensors.safetensors"


class CannotCheckpoint(Exception):
    """The state of a training cannot be written as tensors and JSON."""


class DamagedCheckpoint(Exception):
    """A checkpoint is not whole, or does not fit the training."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingProgress(_Frozen):
    """How far a training has come, besides its tensors."""

    resumed: int
    """How often it was resumed."""
    micro_batch: int
    """Examples of a forward pass."""
    pace: ThroughputState
    cost: Reading
    """Of all parts of the training."""
    log: tuple[TrainingLogRow, ...]
    validation: ValidationState | None
    """None without validation."""


class OptimizerState(_Frozen):
    """The part of an optimizer's `state_dict` that is no tensor."""

    state: dict[int, dict[str, JsonValue]]
    """By the parameter's number."""
    param_groups: list[dict[str, JsonValue]]


class CheckpointState(_Frozen):
    """The content of a checkpoint's JSON file."""

    step: int
    """Optimizer steps."""
    optimizer: OptimizerState
    schedule: dict[str, JsonValue]
    scaler: dict[str, JsonValue] | None
    """Of float16's gradient scaler."""
    python: tuple[int, tuple[int, ...], float | None]
    """`random.getstate()`."""
    numpy: tuple[str, list[int], int, int, float]
    """`numpy.random.get_state()`."""
    so_far: TrainingProgress
    tensors: tuple[str, ...] | None = None
    """Names of all tensors; None in checkpoints of earlier versions."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path
    state: CheckpointState

    @property
    def step(self) -> int:
        """Optimizer steps."""
        return self.state.step

    @property
    def progress(self) -> TrainingProgress:
        return self.state.so_far

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names start with the prefix, by their names without it."""
        tensors = load_file(self.path / TENSORS)
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint in a folder that is whole; None without one."""
    checkpoints = []
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(DamagedCheckpoint):
            checkpoints.append(_read(path))
    return max(checkpoints, key=lambda checkpoint: checkpoint.step, default=None)


def remove_damaged(folder: Path) -> list[str]:
    """Remove the checkpoints in a folder that are not whole; what is wrong with each, a sentence without its end."""
    problems = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        try:
            _read(path)
        except DamagedCheckpoint as error:
            problems.append(f"{path.name} is damaged ({error})")
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)  # a file in a checkpoint's place
    return problems


def _read(path: Path) -> Checkpoint:
    """A checkpoint whose files are complete. Raises DamagedCheckpoint."""
    try:
        content = json.loads((path / STATE).read_text(encoding="utf-8"))
        state = CheckpointState.model_validate(content)
        with safe_open(path / TENSORS, framework="pt") as file:  # raises for a file of another length
            names = set(file.keys())
    except ValidationError as error:
        raise DamagedCheckpoint(f"{STATE}: {error.error_count()} fields are missing or impossible") from error
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise DamagedCheckpoint(first_line(error)) from error
    if path.name != f"{PREFIX}{state.step}":
        raise DamagedCheckpoint(f"it holds step {state.step}")
    if state.tensors is not None and (lacking := set(state.tensors) ^ names):
        raise DamagedCheckpoint(f"{len(lacking)} tensors are missing or too many, such as {min(lacking)}")
    return Checkpoint(path, state)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    scaler: GradScaler | None,
    progress: TrainingProgress,
    best: Mapping[str, torch.Tensor],
) -> None:
    """Write a checkpoint and remove the one before it; `best`: the weights of the lowest validation loss.

    Raises CannotCheckpoint if the optimizer's state holds anything but numbers and tensors, and UserError if the folder
    cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in _trained_and_buffers(model).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    state = optimizer.state_dict()
    plain: dict[str, dict[str, object]] = {}
    for number, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                plain.setdefault(str(number), {})[name] = value
    tensors |= {f"random.{name}": tensor for name, tensor in _generator_states().items()}
    kind, keys, *rest = cast(tuple[str, np.ndarray, int, int, float], np.random.get_state())
    content = {
        "step": step,
        "optimizer": {"state": plain, "param_groups": state["param_groups"]},
        "schedule": schedule.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "python": random.getstate(),
        "numpy": [kind, keys.tolist(), *rest],
        "so_far": progress.model_dump(exclude_unset=True),
        "tensors": sorted(tensors),
    }
    try:
        text = json.dumps(content)
    except TypeError as error:
        raise CannotCheckpoint(str(error)) from None
    with writing_folder(folder / f"{PREFIX}{step}") as part:
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        save_file(copies, part / TENSORS)
        (part / STATE).write_text(text, encoding="utf-8")
    for path in folder.glob(f"{PREFIX}*"):
        if path.name != f"{PREFIX}{step}":
            shutil.rmtree(path, ignore_errors=True)


def restore_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Restore the trained parameters and the buffers in place. Raises DamagedCheckpoint if it is of another model."""
    tensors, saved = _trained_and_buffers(model), checkpoint.tensors("model.")
    others = sorted(tensors.keys() ^ saved.keys())
    others += [name for name in tensors.keys() & saved.keys() if tensors[name].shape != saved[name].shape]
    if others:
        raise DamagedCheckpoint(f"{checkpoint.path.name} is of another model: {', '.join(others[:3])}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(saved[name])


def restore_optimizer(
    checkpoint: Checkpoint, optimizer: Optimizer, schedule: LRScheduler, scaler: GradScaler | None
) -> None:
    """Restore the state of the optimizer, the schedule and the gradient scaler. Raises DamagedCheckpoint if the
    optimizer refuses it."""
    state = checkpoint.state
    states: dict[int, dict[str, object]] = {number: dict(values) for number, values in state.optimizer.state.items()}
    for name, value in checkpoint.tensors("optimizer.").items():
        number, key = name.split(".", 1)
        states.setdefault(int(number), {})[key] = value
    groups = [
        {key: tuple(value) if key == "betas" and isinstance(value, list) else value for key, value in group.items()}
        for group in state.optimizer.param_groups
    ]
    try:
        optimizer.load_state_dict({"state": states, "param_groups": groups})
        schedule.load_state_dict(dict(state.schedule))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"{checkpoint.path.name} is of another optimizer: {first_line(error)}") from error
    if scaler is not None and state.scaler:
        scaler.load_state_dict(dict(state.scaler))


def restore_generators(checkpoint: Checkpoint) -> None:
    """Restore the states of all random generators."""
    random.setstate(checkpoint.state.python)
    kind, keys, position, has_gauss, gauss = checkpoint.state.numpy
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    states = checkpoint.tensors("random.")
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _trained_and_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The trained parameters and all buffers, by name."""
    tensors: dict[str, torch.Tensor] = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return tensors | {name: value for name, value in model.named_buffers() if name not in tensors}


def _generator_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
