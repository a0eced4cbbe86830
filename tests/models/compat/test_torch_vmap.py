"""Dropout and attention of members under vmap are those of each member alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.func import vmap
from torch.nn import functional

from bench.models.compat.torch_vmap import MemberNoise, functions_of_members


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While entered, torch draws the numbers of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def noise(*lengths: int) -> list[MemberNoise]:
    return [MemberNoise(lambda seed=seed: seeded(seed), length) for seed, length in enumerate(lengths)]  # type: ignore[misc]


def test_masks_are_those_of_each_member_and_of_its_own_length() -> None:
    """Rows of 5 and 3 tokens, padded to 5: (K, B, T, H) = (2, 4, 5, 6)."""
    values = torch.randn(2, 4, 5, 6, requires_grad=True)
    with functions_of_members(noise(5, 3)):
        dropped = vmap(lambda own: functional.dropout(own, 0.4), randomness="error")(values)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)
    for number, length in enumerate((5, 3)):
        alone = values.detach()[number, :, :length].requires_grad_()
        with seeded(number):
            expected = functional.dropout(alone, 0.4)
        assert torch.equal(dropped[number, :, :length], expected)
        assert torch.equal(gradient[number, :, :length], torch.autograd.grad(expected.sum(), alone)[0])
        assert torch.equal(dropped[number, :, length:], values[number, :, length:])


def test_dropout_that_is_off_draws_nothing() -> None:
    values = torch.randn(2, 3, 4)
    with functions_of_members(noise(3, 3)):
        assert torch.equal(vmap(lambda own: functional.dropout(own, 0.4, training=False))(values), values)
        assert torch.equal(vmap(lambda own: functional.dropout(own, 0.0))(values), values)


def test_dropout_of_what_members_share_is_refused() -> None:
    shared = torch.ones(3, 4)
    with functions_of_members(noise(3, 3)), pytest.raises(NotImplementedError, match="that the members share"):
        vmap(lambda own: own * functional.dropout(shared, 0.4))(torch.randn(2, 3, 4))


@pytest.mark.parametrize("mask", ["none", "each", "one"])
def test_attention_is_that_of_each_member(mask: str) -> None:
    """(K, B, heads, T, D) = (3, 2, 4, 5, 8), values and gradients; grouped keys; a mask of each or one of all."""
    query, key, value = (torch.randn(3, 2, heads, 5, 8, requires_grad=True) for heads in (4, 2, 2))
    masks = torch.rand(3, 2, 1, 5, 5) > 0.2
    masks[..., 0] = True

    def attend(own: tuple[torch.Tensor, ...], own_mask: torch.Tensor) -> torch.Tensor:
        chosen = {"none": None, "each": own_mask, "one": masks[0, :1]}[mask]
        return functional.scaled_dot_product_attention(
            *own, attn_mask=chosen, is_causal=mask == "none", enable_gqa=True
        )

    with functions_of_members(noise(5, 5, 5)):
        together = vmap(attend)((query, key, value), masks)
    alone = torch.stack([attend(own, masks[number]) for number, own in enumerate(zip(query, key, value, strict=True))])
    assert torch.allclose(together, alone, atol=1e-6)
    weight = torch.randn_like(alone)
    gradients = [torch.autograd.grad((output * weight).sum(), (query, key, value)) for output in (together, alone)]
    assert all(torch.allclose(own, other, atol=1e-5) for own, other in zip(*gradients, strict=True))
