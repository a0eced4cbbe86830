"""Tensors and modules by their private parts."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from bench.models.compat.torch_parameters import NeverCastModules, set_orthogonal_columns, tensor_state


def test_the_state_of_a_tensor_changes_when_it_is_written_to_or_cast() -> None:
    tensor = torch.zeros(3)
    before = tensor_state(tensor)
    assert tensor_state(tensor) == before
    tensor.add_(1)
    assert tensor_state(tensor) != before and tensor_state(tensor) != tensor_state(tensor.double())
    with torch.inference_mode():
        assert tensor_state(torch.zeros(3))[3] == 0


def test_modules_that_are_never_cast_keep_their_dtype() -> None:
    model = nn.Sequential(nn.Linear(2, 2), NeverCastModules([nn.Linear(2, 2)])).to(torch.bfloat16)
    assert [parameter.dtype for parameter in model.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2


def test_orthogonal_columns_are_set_bit_for_bit() -> None:
    torch.manual_seed(0)
    layer = orthogonal(nn.Linear(3, 8, bias=False))
    columns = torch.linalg.qr(torch.randn(8, 3))[0]
    with torch.no_grad():
        set_orthogonal_columns(layer, columns)
    assert torch.equal(layer.weight, columns)
