"""Members that are trained together: one forward and backward pass for all of them, and a step of each member's own.

The members' parameters are stacked inside the forward pass (`torch.func.vmap` of one model): products with the frozen
base grow with the number of members, and the number of operations does not. All else is each member's own: its batches,
loss, clipping, optimizer, schedule, random numbers, validation and events. What a member comes to is what it would
come to alone, up to the rounding of float32 (`bench.training.parity` checks it for a group before it is trained).

K members, B rows and T tokens of a micro-batch, N supervised positions of a member, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.func import functional_call, vmap
from torch.nn.functional import pad

from bench.data.encoding import IGNORED, Encoded
from bench.models.compat.torch_parameters import has_gradient_hook
from bench.models.compat.torch_vmap import MemberNoise, functions_of_members
from bench.models.hooks import causal_lm
from bench.models.rotary import alone_from
from bench.training.batches import Batch, Batches, MicroBatch
from bench.training.events import Event, Logged
from bench.training.loop import StepEvents, add_gradients, finish_step, summed_loss
from bench.training.member import Member
from bench.training.random_stream import RandomStream
from bench.training.stacking import CannotGroup, StackedTensors
from bench.training.validation import Validator


@dataclass(eq=False)
class GroupMember:
    """A member of a group, with what is its own besides its model and optimizer."""

    member: Member
    batches: Batches
    stream: RandomStream
    """Its random numbers, as they are where its training alone would begin."""
    validator: Validator[Encoded] | None = None
    leaves: bool = field(default=False, init=False)
    """Set it to let the member leave the group at the end of the step."""


class Group:
    """Members that take their steps together, all at the same step.

    Raises CannotGroup if their trainings or models are not alike, or are of a kind that no group has.
    """

    def __init__(self, members: Sequence[GroupMember]) -> None:
        if len(members) > 1:
            _check_trainings(members)
        self.members = list(members)
        self.stacked: StackedTensors | None = None
        """None while there is one member: it is trained as it would be alone."""
        self._stack()

    def _stack(self) -> None:
        self.stacked = StackedTensors([peer.member.model for peer in self.members]) if len(self.members) > 1 else None

    def add_gradients(self, batches: Sequence[Batch]) -> None:
        """The gradients of one batch for each member, and their losses: what `bench.training.loop.add_gradients` adds
        for one."""
        if self.stacked is None:
            for peer, batch in zip(self.members, batches, strict=True):
                with peer.stream.active():
                    add_gradients(peer.member, batch)
            return
        # At least 1: a batch whose answers are all cut away has a loss of 0.
        counts = self.members[0].batches.on_device(torch.tensor([max(1, batch.supervised) for batch in batches]))
        for micro_batches in zip(*(batch.micro_batches for batch in batches), strict=True):
            losses = self._losses(micro_batches)
            losses = losses / counts  # (K,)
            losses.sum().backward()  # no two members share a parameter: each gets the gradient of its own loss
            for peer, loss in zip(self.members, losses.detach().unbind(), strict=True):
                peer.member.loss += loss
        self.stacked.hand_out_gradients()
        for peer in self.members:
            with peer.stream.active():
                penalty = peer.member.method.penalty(peer.member.model, peer.member.cell)
                if penalty is not None:
                    penalty.backward()

    def _losses(self, micro_batches: Sequence[MicroBatch]) -> torch.Tensor:
        """The sum of the losses of each member's supervised tokens (K,)."""
        assert self.stacked is not None
        member = self.members[0].member  # its modules compute for all
        noise = [
            MemberNoise(peer.stream.active, part.inputs["input_ids"].shape[1])
            for peer, part in zip(self.members, micro_batches, strict=True)
        ]
        batch = stack_micro_batches(micro_batches, self.members[0].batches.collate.pad_token_id)

        def loss(
            tensors: dict[str, torch.Tensor],
            inputs: dict[str, torch.Tensor],
            supervised: torch.Tensor,
            targets: torch.Tensor,
        ) -> torch.Tensor:
            micro_batch = MicroBatch(inputs, supervised, targets, batch.padded, batch.tokens)
            return summed_loss(
                member,
                micro_batch,
                lambda **inputs: functional_call(member.prepared, tensors, kwargs=inputs, tie_weights=False),
            )

        with functions_of_members(noise):
            # Other random numbers would not be a member's own.
            losses: torch.Tensor = vmap(loss, randomness="error")(
                self.stacked.by_place(), batch.inputs, batch.supervised, batch.targets
            )
        return losses

    def end_step(self) -> None:
        """Called when all members have finished a step: those that leave do, with the memory of their own."""
        if self.stacked is not None:
            self.stacked.refresh()
        if any(peer.leaves for peer in self.members):
            self.release()
            self.members = [peer for peer in self.members if not peer.leaves]
            self._stack()

    def release(self) -> None:
        """Give each member's model memory of its own again; the group is not used after that."""
        if self.stacked is not None:
            self.stacked.release()
            self.stacked = None


def _check_trainings(members: Sequence[GroupMember]) -> None:
    """Raises CannotGroup for what no group does, whatever the method."""
    lengths = {(peer.member.step, len(peer.batches.rows), peer.batches.steps) for peer in members}
    if len(lengths) > 1:
        raise CannotGroup("they differ in their number of steps or examples")
    if len({(peer.batches.batch_size, peer.batches.micro_batch) for peer in members}) > 1:
        raise CannotGroup("they differ in the size of their batches")
    for peer in members:
        member = peer.member
        if member.accelerator.mixed_precision != "no":
            raise CannotGroup(f"they compute in {member.cell.base.dtype}, and only float32 is compared")
        if member.accelerator.num_processes > 1:
            raise CannotGroup("they are trained on several devices")
        if peer.batches.collate.packed:
            raise CannotGroup("packed rows are not padded to a common length")
        if any(has_gradient_hook(parameter) for parameter in member.parameters):
            raise CannotGroup("the method has hooks on the gradients of its parameters")
        limit = alone_from(causal_lm(member.model).config)
        if limit is not None and max(len(row.ids) for row in peer.batches.rows) >= limit:
            raise CannotGroup("the base's rotary frequencies change with the length of the longest text")


def train_group(group: Group, logging_steps: int) -> Iterator[tuple[GroupMember, Event]]:
    """Take all steps that are left, of all members; the events of each member are those of `train_member`.

    While an event is handled, its member stands between two steps, and the random generators are the member's. A member
    whose logged loss or gradient is not finite leaves the group after that event, and so does one whose `leaves` is
    set. The others go on. A member that is left alone is trained as `train_member` does it.
    """
    events = {
        peer: StepEvents(peer.member, peer.batches.steps, logging_steps, peer.validator) for peer in group.members
    }
    batches = {peer: peer.batches.after(peer.member.step) for peer in group.members}
    for peer in group.members:
        peer.member.prepared.train()
    try:
        for _ in range(group.members[0].member.step, group.members[0].batches.steps):
            members = list(group.members)
            if not members:
                return
            drawn = [_next_batch(peer, batches[peer]) for peer in members]
            group.add_gradients(drawn)
            for peer, batch in zip(members, drawn, strict=True):
                with peer.stream.active():
                    for event in events[peer].of(batch, finish_step(peer.member)):
                        yield peer, event
                        peer.leaves |= has_diverged(event)
            group.end_step()
    finally:
        group.release()


def _next_batch(peer: GroupMember, batches: Iterator[Batch]) -> Batch:
    with peer.stream.active():
        return next(batches)


def has_diverged(event: Event) -> bool:
    """Whether an event holds a loss or a gradient that is not finite."""
    return isinstance(event, Logged) and not (math.isfinite(event.loss) and math.isfinite(event.grad_norm))


def stack_micro_batches(micro_batches: Sequence[MicroBatch], pad_token_id: int) -> MicroBatch:
    """A micro-batch of each member as one with a new first axis (K, ...): padded on the right to the longest row of
    all, and to the largest number of supervised positions with places whose target is ignored.
    """
    lengths = [part.inputs["input_ids"].shape[1] for part in micro_batches]
    counts = [part.targets.numel() for part in micro_batches]
    longest, most = max(lengths), max(counts)
    fill = {"input_ids": pad_token_id, "attention_mask": 0, "prompt_mask": False}
    return MicroBatch(
        inputs={
            name: torch.stack([_filled(part.inputs[name], longest, fill[name]) for part in micro_batches])  # (K, B, T)
            for name in micro_batches[0].inputs
        },
        supervised=torch.stack([_filled(part.supervised, most, 0) for part in micro_batches]),  # (K, 2, N)
        targets=torch.stack([_filled(part.targets, most, IGNORED) for part in micro_batches]),  # (K, N)
        padded=min(lengths) < longest or any(part.padded for part in micro_batches),
        tokens=sum(part.tokens for part in micro_batches),
    )


def _filled(tensor: torch.Tensor, length: int, value: int) -> torch.Tensor:
    """The tensor with its last axis filled up to a length."""
    return pad(tensor, (0, length - tensor.shape[-1]), value=value)
