"""A training in the middle: all that the rest of it follows from, so that a killed cell goes on instead of anew.

Kept are what is trained and every buffer, the optimizer's, the schedule's and the scaler's state, the states of all
random generators, where Trainer is, and what the training had come to by then (its log, its costs). The order of the
examples follows from the seed. Tensors are safetensors, the rest is JSON; a checkpoint is a folder that is put in place
whole. On a CPU the resumed training ends with the weights, bit for bit, of one that was never stopped.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from bench.store.files import writing_folder

PREFIX = "checkpoint-"
STATE, TENSORS = "state.json", "tensors.safetensors"


class NotKept(Exception):
    """What a training holds cannot be written as tensors and JSON."""


@dataclass(frozen=True)
class Checkpoint:
    """One that lies on the disk."""

    path: Path
    content: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps that were done."""
        return self.content["step"]

    @property
    def so_far(self) -> Mapping[str, Any]:
        """What `save` was given."""
        return self.content["so_far"]

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Those whose names begin so, without it."""
        held = load_file(self.path / TENSORS)
        return {name.removeprefix(prefix): one for name, one in held.items() if name.startswith(prefix)}


def latest(folder: Path) -> Checkpoint | None:
    """The last checkpoint in a folder that can be read."""
    found = sorted(folder.glob(f"{PREFIX}*"), key=lambda path: int(path.name.removeprefix(PREFIX)), reverse=True)
    for path in found:
        try:
            return Checkpoint(path, json.loads((path / STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return None


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: Any,
    schedule: Any,
    scaler: Any,
    trainer_state: TrainerState,
    so_far: Mapping[str, Any],
    best: Mapping[str, torch.Tensor],
) -> None:
    """Keep a training, instead of the checkpoint before it; `best`: the weights of the lowest validation loss.

    Raises NotKept for an optimizer's state that is neither numbers nor tensors, and UserError where it cannot be
    written.
    """
    tensors = {f"model.{name}": one for name, one in _held(model).items()}
    tensors |= {f"best.{name}": one for name, one in best.items()}
    state = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for number, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                plain.setdefault(str(number), {})[name] = value
    tensors |= {f"random.{name}": one for name, one in _generators().items()}
    kind, keys, *rest = np.random.get_state()
    content = {
        "step": step,
        "optimizer": {"state": plain, "param_groups": state["param_groups"]},
        "schedule": schedule.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "python": random.getstate(),
        "numpy": [kind, keys.tolist(), *rest],
        "so_far": so_far,
    }
    try:
        text = json.dumps(content)
    except TypeError as error:
        raise NotKept(str(error)) from None
    with writing_folder(folder / f"{PREFIX}{step}") as part:
        copies = {name: one.detach().to("cpu", copy=True).contiguous() for name, one in tensors.items()}
        save_file(copies, part / TENSORS)
        (part / STATE).write_text(text, encoding="utf-8")
        trainer_state.save_to_json(str(part / TRAINER_STATE_NAME))
    for path in folder.glob(f"{PREFIX}*"):
        if path.name != f"{PREFIX}{step}":
            shutil.rmtree(path, ignore_errors=True)


def restore_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put what was trained, and the buffers, back in place."""
    held, kept = _held(model), checkpoint.tensors("model.")
    if held.keys() != kept.keys():
        raise RuntimeError(f"the checkpoint is of another model: {sorted(held.keys() ^ kept.keys())[:3]}")
    with torch.no_grad():
        for name, place in held.items():
            place.copy_(kept[name])


def restore_optimizer(checkpoint: Checkpoint, optimizer: Any, schedule: Any, scaler: Any) -> None:
    """Put the state of the optimizer, the schedule and the scaler back."""
    states: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in checkpoint.content["optimizer"]["state"].items()
    }
    for name, value in checkpoint.tensors("optimizer.").items():
        number, key = name.split(".", 1)
        states.setdefault(int(number), {})[key] = value
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in checkpoint.content["optimizer"]["param_groups"]
    ]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    schedule.load_state_dict(checkpoint.content["schedule"])
    if scaler is not None and checkpoint.content["scaler"]:
        scaler.load_state_dict(checkpoint.content["scaler"])


def restore_generators(checkpoint: Checkpoint) -> None:
    """Have every random generator go on where it was."""
    version, numbers, gauss = checkpoint.content["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = checkpoint.content["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    states = checkpoint.tensors("random.")
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _held(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters that are trained, and all buffers, each once."""
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    return trained | {name: one for name, one in model.named_buffers() if name not in trained}


def _generators() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
