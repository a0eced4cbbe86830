"""torch: functions under `torch.func.vmap` over the members of a group, where vmap's own rule does not serve.

Dropout: vmap draws the masks of all members with one call of one generator, so that the masks of a member would depend
on the others. Here they come from the member's own generator, in the shape of the member's own batch: a group pads its
batches to a common length, and the padding draws nothing.

Attention: vmap has no rule for torch's kernel on CPUs and calls it once for each member. It has no parameters, so here
the members become further rows of one batch.

Upstream: https://github.com/pytorch/pytorch/blob/v2.13.0/torch/nn/functional.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from bench.models.compat import replaced, require

LINK = "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/nn/functional.py"

require(
    list(inspect.signature(functional.dropout).parameters) == ["input", "p", "training", "inplace"]
    and "F.dropout(" in inspect.getsource(torch.nn.Dropout.forward),
    "torch",
    "nn.Dropout, which calls the function dropout of torch.nn.functional",
    LINK,
)


@dataclass(frozen=True)
class MemberNoise:
    """Where the random numbers of a member come from, and how many tokens its rows have."""

    stream: Callable[[], AbstractContextManager[None]]
    """What activates its random generator."""
    length: int
    """Tokens of its longest row."""


@contextmanager
def functions_of_members(members: Sequence[MemberNoise]) -> Iterator[None]:
    """While entered, dropout and attention in a function that is vmapped over these members, whose rows are padded to
    the longest one, compute what they compute for each member alone."""
    drop, attend = functional.dropout, functional.scaled_dot_product_attention

    def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        if not training or p == 0:
            return drop(input, p, training, inplace)
        dropped: torch.Tensor = _Dropout.apply(input, p, drop, members)
        return dropped

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        call = partial(attend, dropout_p=dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa)
        if dropout_p or query.ndim != 4:  # left to vmap, which refuses to draw random numbers
            return call(query, key, value, attn_mask)
        attended: torch.Tensor = _Attention.apply(query, key, value, attn_mask, call)
        return attended

    with replaced(functional, dropout=dropout, scaled_dot_product_attention=attention):
        yield


class _OfMembers(torch.autograd.Function):
    """A function that vmap calls with the values of all members, as an operation that has gradients by itself."""

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[object, ...], output: torch.Tensor) -> None:
        """Nothing is kept."""


class _Dropout(_OfMembers):
    """Dropout as vmap calls it: with the values of all members at hand."""

    @staticmethod
    def forward(
        values: torch.Tensor, p: float, drop: Callable[..., torch.Tensor], members: Sequence[MemberNoise]
    ) -> torch.Tensor:
        raise NotImplementedError("dropout of values that the members share")  # each would have values of its own

    @staticmethod
    def vmap(
        info: object,
        in_dims: tuple[int | None, ...],
        values: torch.Tensor,
        p: float,
        drop: Callable[..., torch.Tensor],
        members: Sequence[MemberNoise],
    ) -> tuple[torch.Tensor, int]:
        axis = in_dims[0]
        assert axis is not None
        values = values.movedim(axis, 0)  # (K, ...)
        longest = max(member.length for member in members)
        masks = [_mask(values[0], p, drop, member, longest) for member in members]
        return values * torch.stack(masks), 0


@torch.no_grad()
def _mask(
    values: torch.Tensor, p: float, drop: Callable[..., torch.Tensor], member: MemberNoise, longest: int
) -> torch.Tensor:
    """0 or 1 / (1 - p) for each value of a member, and 1 at its padding."""
    shape, padding = list(values.shape), longest - member.length
    axes = []
    if values.ndim == 3 and shape[1] == longest:  # (B, T, H)
        axes = [1]
    elif values.ndim == 4 and shape[2] == shape[3] == longest:  # (B, heads, T, T)
        axes = [2, 3]
    for axis in axes:
        shape[axis] = member.length
    with member.stream():
        mask = drop(torch.ones(shape, dtype=values.dtype, device=values.device), p)
    if axes and padding:
        mask = functional.pad(mask, (0, 0, 0, padding) if axes == [1] else (0, padding, 0, padding), value=1.0)
    return mask


class _Attention(_OfMembers):
    """Attention as vmap calls it; query, key and value (B, heads, T, D) of each of K members."""

    @staticmethod
    def forward(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        attend: Callable[..., torch.Tensor],
    ) -> torch.Tensor:
        raise NotImplementedError("attention between values that the members share")

    @staticmethod
    def vmap(
        info: object,
        in_dims: tuple[int | None, ...],
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        attend: Callable[..., torch.Tensor],
    ) -> tuple[torch.Tensor, int]:
        axis = next(dim for dim in in_dims if dim is not None)
        batched = next(t for t, dim in zip((query, key, value, mask), in_dims, strict=False) if dim is not None)
        assert batched is not None
        members = batched.shape[axis]
        rows = query.shape[0] if in_dims[0] is None else query.movedim(in_dims[0], 0).shape[1]

        def folded(tensor: torch.Tensor, dim: int | None) -> torch.Tensor:  # (K * B, heads, T, D)
            tensor = tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
            return tensor.expand(members, rows, *tensor.shape[2:]).flatten(0, 1)

        query, key, value = (folded(tensor, dim) for tensor, dim in zip((query, key, value), in_dims[:3], strict=True))
        mask = None if mask is None else folded(mask, in_dims[3])
        return attend(query, key, value, mask).unflatten(0, (members, rows)), 0
