"""The training loop, from the batch to the step: batches in, events out.

It is transformers' Trainer's on the same batches (losses and weights, tested), with the output head and the loss at
supervised positions only, and it never waits for the device between two logged steps. It does not know which method it
trains, writes nothing and decides nothing: whoever takes its events does (`bench.training.trainer`).

N supervised positions of a micro-batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import CausalLMOutputWithPast

from bench.data.encoding import IGNORED, Encoded
from bench.models.compat.transformers_masks import KnownPadding
from bench.models.hooks import HeadAt
from bench.training.batches import Batch, Batches, MicroBatch
from bench.training.events import Event, Logged, StepDone, Validated
from bench.training.member import Member
from bench.training.validation import Validator


def train_member(
    member: Member, batches: Batches, logging_steps: int, validator: Validator[Encoded] | None = None
) -> Iterator[Event]:
    """Take all steps that are left.

    While an event is handled, the training stands between two steps: a checkpoint can be written, best at a `Logged`,
    where the mean of the losses starts anew. All processes of a training must take all events.
    """
    events = StepEvents(member, batches.steps, logging_steps, validator)
    member.prepared.train()
    for batch in batches.after(member.step):
        yield from events.of(batch, take_step(member, batch))


class StepEvents:
    """What is said of the steps of a member: that each is done, what the validation gives, and the mean of losses.

    `steps` is the number of all steps of the training.
    """

    def __init__(self, member: Member, steps: int, logging_steps: int, validator: Validator[Encoded] | None) -> None:
        self.member, self.steps, self.logging_steps, self.validator = member, steps, logging_steps, validator
        self.logged = member.step
        """The last step that was logged."""

    def of(self, batch: Batch, step: StepTaken) -> Iterator[Event]:
        """The events of the step that the member has just taken, with this batch."""
        member, validator = self.member, self.validator
        yield StepDone(member.step, batch.tokens, batch.places, batch.supervised)
        last = member.step == self.steps
        if validator is not None and (last or member.step % validator.steps == 0):
            yield Validated(member.step, validator.validate(member.prepared, member.step))
        if last or member.step % self.logging_steps == 0:  # the last, so that divergence in the last steps is seen
            loss = member.accelerator.gather(member.loss).mean().item() / (member.step - self.logged)
            member.forget_losses()
            self.logged = member.step
            yield Logged(member.step, batch.epoch, loss, step.lr, step.grad_norm.item())


@dataclass(frozen=True)
class StepTaken:
    """What is known of an optimizer step without waiting for the device."""

    grad_norm: torch.Tensor
    """Of all gradients together, before clipping (a scalar)."""
    lr: float
    """The learning rate that it was taken with."""


def take_step(member: Member, batch: Batch) -> StepTaken:
    """One optimizer step: the gradient of the mean loss over the supervised tokens of the whole batch, clipped."""
    add_gradients(member, batch)
    return finish_step(member)


def add_gradients(member: Member, batch: Batch) -> None:
    """The first half of a step: the gradients of a batch, and its loss."""
    accelerator, passes = member.accelerator, len(batch.micro_batches)
    supervised = _of_all_processes(member, batch.supervised)
    for number, micro_batch in enumerate(batch.micro_batches, start=1):
        with nullcontext() if number == passes else member.gradients_stay_here():
            # Gradients and logged losses become means over the processes, and each divides by the tokens of all.
            loss = summed_loss(member, micro_batch) * accelerator.num_processes / supervised
            penalty = member.method.penalty(member.model, member.cell)
            if penalty is not None:
                # Once a step, however the batch is split; in the gradient, but not in the logged loss.
                penalty = penalty / passes
                loss = loss + penalty - penalty.detach()
            accelerator.backward(loss)
        member.loss += loss.detach()


def finish_step(member: Member) -> StepTaken:
    """The second half of a step: clip the gradients, move the parameters, and clear the gradients."""
    accelerator = member.accelerator
    grad_norm = accelerator.clip_grad_norm_(member.parameters, member.max_grad_norm)
    member.optimizer.step()
    member.step += 1
    member.method.after_step(member.model, member.cell, member.step)
    lr = member.schedule.get_last_lr()[0]
    if not accelerator.optimizer_step_was_skipped:  # float16's scaler skips a step whose gradient overflows
        member.schedule.step()
    for parameter in member.parameters:
        parameter.grad = None
    return StepTaken(grad_norm, float(lr))


def summed_loss(
    member: Member, micro_batch: MicroBatch, forward: Callable[..., CausalLMOutputWithPast] | None = None
) -> torch.Tensor:
    """The sum of the losses of the supervised tokens (a scalar), by the member's own forward pass or another one of the
    same modules."""
    head = HeadAt(member.model, micro_batch.supervised, micro_batch.inputs["input_ids"].shape[1])
    with KnownPadding(micro_batch.padded), head:
        logits = (forward or member.prepared)(**micro_batch.inputs, use_cache=False).logits  # (N, V)
    assert logits is not None
    return cross_entropy(logits.float(), micro_batch.targets, ignore_index=IGNORED, reduction="sum")


def _of_all_processes(member: Member, supervised: int) -> int | torch.Tensor:
    """The supervised tokens of all processes together, at least 1: a batch whose answers are all cut away
    (training.truncate: end) has none, and a loss of 0."""
    accelerator = member.accelerator
    if accelerator.num_processes == 1:
        return max(1, supervised)
    count = torch.full((), supervised, device=accelerator.device)  # filled there: a copy would wait for the device
    return accelerator.gather(count).sum().clamp(min=1)
