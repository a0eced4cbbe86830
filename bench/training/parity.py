"""Whether members can be trained together: the gradients of a first step, computed both ways.

Nothing here knows a method. What a group cannot compute, or computes differently, is found by computing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bench.errors import first_line, out_of_memory
from bench.training.batches import Batch
from bench.training.group import Group, GroupMember
from bench.training.loop import add_gradients
from bench.training.stacking import CannotGroup, owned_names, tensors_of

TOLERANCE = 1e-5
"""Largest difference of a loss, and of a gradient relative to its norm. Both ways add the same float32 numbers in other
orders, which is worth 1e-7 to 1e-6."""


def why_alone(members: Sequence[GroupMember]) -> str | None:
    """Why these members must be trained alone, as a clause; None if they can be trained together.

    Nothing of the members changes: parameters, buffers, random numbers and positions are as before.
    """
    try:
        Group(members).release()
    except CannotGroup as error:
        return str(error)
    for peer in members:
        peer.member.prepared.train()
    owned = owned_names([peer.member.model for peer in members])
    starts = [_Start.of(peer, owned) for peer in members]
    batches = [start.first_batch(peer) for start, peer in zip(starts, members, strict=True)]
    alone = []
    for peer, start, batch in zip(members, starts, batches, strict=True):
        with peer.stream.active():
            add_gradients(peer.member, batch)
        alone.append(_Outcome.of(peer, owned))
        start.restore(peer)
        start.first_batch(peer)  # draws what it drew
    group = Group(members)
    try:
        group.add_gradients(batches)
        together = [_Outcome.of(peer, owned) for peer in members]
    except Exception as error:  # of any library: whatever it is, it is no error alone
        if out_of_memory(error):
            raise
        return _clause(error)
    finally:
        group.release()
        for peer, start in zip(members, starts, strict=True):
            start.restore(peer)
    return next((clause for pair in zip(alone, together, strict=True) if (clause := _difference(*pair))), None)


def _clause(error: Exception) -> str:
    """What torch says of a pass that it cannot vmap, as a clause."""
    sentence = first_line(error).removeprefix("vmap: ").partition(". ")[0].partition(" because ")[0]
    if "random operation" in sentence:
        return "its forward pass draws random numbers other than dropout's"
    sentence = sentence.replace("`", "'").rstrip(".")
    return f"torch cannot vmap its forward pass: {sentence}"


@dataclass(frozen=True)
class _Start:
    """What computing a gradient changes of a member, as it was before."""

    stream: list[torch.Tensor]
    loss: torch.Tensor
    frozen: dict[str, torch.Tensor]
    """Its own frozen parameters and buffers."""

    @classmethod
    def of(cls, peer: GroupMember, owned: Sequence[str]) -> _Start:
        return cls(peer.stream.states, peer.member.loss.clone(), _frozen(peer, owned))

    def first_batch(self, peer: GroupMember) -> Batch:
        with peer.stream.active():
            return next(peer.batches.after(peer.member.step))

    @torch.no_grad()
    def restore(self, peer: GroupMember) -> None:
        peer.stream.states = self.stream
        peer.member.loss = self.loss.clone()
        for parameter in peer.member.parameters:
            parameter.grad = None
        tensors = tensors_of(peer.member.model)
        for name, value in self.frozen.items():
            if not torch.equal(tensors[name], value):
                tensors[name].copy_(value)


@dataclass(frozen=True)
class _Outcome:
    """What computing a gradient comes to."""

    loss: float
    gradients: list[torch.Tensor | None]
    stream: list[torch.Tensor]
    frozen: dict[str, torch.Tensor]

    @classmethod
    def of(cls, peer: GroupMember, owned: Sequence[str]) -> _Outcome:
        gradients = [None if value.grad is None else value.grad.clone() for value in peer.member.parameters]
        return cls(peer.member.loss.item(), gradients, peer.stream.states, _frozen(peer, owned))


def _frozen(peer: GroupMember, owned: Sequence[str]) -> dict[str, torch.Tensor]:
    tensors = tensors_of(peer.member.model)
    return {name: tensors[name].clone() for name in owned if name in tensors and not tensors[name].requires_grad}


def _difference(alone: _Outcome, together: _Outcome) -> str | None:
    """What differs, as a clause; None if nothing does."""
    if not abs(alone.loss - together.loss) <= TOLERANCE:
        return f"the loss differs by {abs(alone.loss - together.loss):.1g}"
    pairs = list(zip(alone.gradients, together.gradients, strict=True))
    if any((first is None) != (second is None) for first, second in pairs):
        return "other parameters have a gradient"
    norm = sum(float(first.square().sum()) for first, _ in pairs if first is not None) ** 0.5
    apart = (
        sum(
            float((first - second).square().sum())
            for first, second in pairs
            if first is not None and second is not None
        )
        ** 0.5
    )
    if not apart <= TOLERANCE * norm:
        return f"the gradient differs by {apart / max(norm, 1e-30):.1g} of its norm"
    if not all(torch.equal(first, second) for first, second in zip(alone.stream, together.stream, strict=True)):
        return "other random numbers are drawn"
    for name, value in alone.frozen.items():
        if name not in together.frozen or not torch.allclose(value, together.frozen[name], atol=TOLERANCE):
            return f"its forward pass changes the buffer {name}"
    return None
