"""A model in training: the model, its optimizer and its learning rate schedule, prepared by accelerate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, get_scheduler

from bench.errors import CellProblem
from bench.methods.method import Method
from bench.models.compat.accelerate import forget_accelerators
from bench.models.compat.transformers_optimizers import decaying_parameters
from bench.models.device import compute_device
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""accelerate's name of what the forward pass computes in, by the cell's dtype."""


@dataclass
class Member:
    """What a training step reads and changes."""

    cell: Cell
    method: Method
    model: nn.Module
    """As the method has attached it."""
    prepared: nn.Module
    """The same, as it is called: with autocast and, on several devices, DDP."""
    parameters: list[nn.Parameter]
    """Those that are trained."""
    optimizer: Optimizer
    schedule: LRScheduler
    accelerator: Accelerator
    max_grad_norm: float
    step: int = 0
    """Optimizer steps taken."""
    loss: torch.Tensor = field(init=False)
    """The sum of the losses of the steps since the last logged one, on the device."""

    def __post_init__(self) -> None:
        self.forget_losses()

    def forget_losses(self) -> None:
        """Start a new sum of losses."""
        self.loss = torch.zeros((), device=self.accelerator.device)

    @contextmanager
    def gradients_stay_here(self) -> Iterator[None]:
        """While entered, a backward pass adds to the gradients of this process, and does not exchange them with the
        other processes."""
        if self.accelerator.num_processes == 1:
            yield
        elif is_sharded(self.model):
            self.model.set_requires_gradient_sync(False)  # type: ignore[operator]  # of torch's FSDPModule
            try:
                yield
            finally:
                self.model.set_requires_gradient_sync(True)  # type: ignore[operator]
        else:
            with self.accelerator.no_sync(self.prepared):
                yield


def is_sharded(model: nn.Module) -> bool:
    """Whether this process has only its part of each parameter (FSDP, by torch's `fully_shard`)."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def make_accelerator(
    model: nn.Module, cell: Cell, config: TrainingConfig, trackers: Sequence[GeneralTracker]
) -> Accelerator:
    """accelerate's view of this process: its device, the other processes, the precision, the trackers."""
    forget_accelerators()
    # DDP must look for parameters without a gradient, which checkpointed layers do not permit.
    find_unused = not (isinstance(model, PreTrainedModel) and config.gradient_checkpointing)
    return Accelerator(
        cpu=compute_device().type == "cpu",
        mixed_precision=MIXED_PRECISION[cell.base.dtype],
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused)],
        log_with=list(trackers) or None,
    )


def prepare_member(
    model: nn.Module, method: Method, cell: Cell, config: TrainingConfig, steps: int, accelerator: Accelerator
) -> Member:
    """The model with its optimizer and the schedule of so many steps; gradients are cleared.

    The optimizer is the method's, or AdamW as transformers' Trainer makes it: its fused form, betas of 0.9 and 0.999,
    epsilon 1e-8, no weight decay of biases and norms.

    Raises CellProblem if the method's optimizer holds parameters that are not the model's.
    """
    if is_sharded(model):  # it has its place and exchanges its gradients by itself
        prepared = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    else:
        prepared = accelerator.prepare_model(model)
    optimizer = accelerator.prepare_optimizer(method.optimizer(model, cell) or _adamw(model, cell, config))
    parameters = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in parameters for group in optimizer.param_groups for parameter in group["params"]):
        raise CellProblem(
            f"method {cell.method}: its optimizer holds parameters that are not the model's",
            "It must look for them in the model that it is given: sharding has replaced the earlier parameters.",
        )
    warmup = config.warmup_steps if config.warmup_steps is not None else math.ceil(steps * config.warmup_ratio)
    model.zero_grad()
    return Member(
        cell=cell,
        method=method,
        model=model,
        prepared=prepared,
        parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
        optimizer=optimizer,
        schedule=get_scheduler(config.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps),
        accelerator=accelerator,
        max_grad_norm=config.max_grad_norm,
    )


def _adamw(model: nn.Module, cell: Cell, config: TrainingConfig) -> AdamW:
    if cell.lr is None:
        raise ValueError(f"{cell.name} has no learning rate")
    decaying = decaying_parameters(model)
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [value for name, value in trained if name in decaying], "weight_decay": config.weight_decay},
        {"params": [value for name, value in trained if name not in decaying], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=cell.lr, betas=(0.9, 0.999), eps=1e-8, fused=True)
