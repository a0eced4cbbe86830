"""What tensors weigh, against sizes worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from bench.costs import optimizer_state_bytes

OUT, IN = 5, 3
WEIGHTS = OUT * IN + OUT


def stepped(make: Any) -> torch.optim.Optimizer:
    """An optimizer over one linear layer of WEIGHTS parameters, after one step."""
    layer = nn.Linear(IN, OUT)
    optimizer = make(layer.parameters())
    layer(torch.ones(2, IN)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), 0),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 4 * WEIGHTS),
        (lambda p: torch.optim.Adam(p, lr=0.1), 4 * (2 * WEIGHTS + 2)),  # two moments, and a step count per parameter
        (lambda p: torch.optim.AdamW(p, lr=0.1), 4 * (2 * WEIGHTS + 2)),
        (lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True), 4 * (3 * WEIGHTS + 2)),
        # A row and a column sum of the matrix, the bias whole, and two step counts.
        (lambda p: torch.optim.Adafactor(p, lr=0.1), 4 * (OUT + IN + OUT + 2)),
    ],
)
def test_torchs_own_optimizers_hold_what_their_papers_say(make: Any, expected: int) -> None:
    assert optimizer_state_bytes(stepped(make)) == expected


def test_nothing_is_held_before_the_first_step() -> None:
    assert optimizer_state_bytes(torch.optim.AdamW(nn.Linear(IN, OUT).parameters())) == 0


def test_half_precision_counts_half() -> None:
    layer = nn.Linear(IN, OUT).bfloat16()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(2, IN, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    assert optimizer_state_bytes(optimizer) == 2 * WEIGHTS


def test_tensors_are_found_in_containers_and_objects_and_scalars_are_not_counted() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([parameter])
    inner = SimpleNamespace(matrix=torch.zeros(10), rank=3, name="x", more=[torch.zeros(100), None])
    inner.itself = inner
    optimizer.state[parameter] = {
        "step": 7,
        "nested": {"a": (torch.zeros(1000), {"b": torch.zeros(10_000)})},
        "object": inner,
    }
    assert optimizer_state_bytes(optimizer) == 4 * 11_110


def test_shared_memory_is_counted_once_and_whole() -> None:
    parameter, other = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))
    optimizer = torch.optim.SGD([parameter, other])
    table = torch.zeros(6, 4)
    optimizer.state[parameter] = {"whole": table, "rows": table[:2], "again": table}
    optimizer.state[other] = {"column": table.view(-1)[3:]}
    assert optimizer_state_bytes(optimizer) == 4 * 24
    del optimizer.state[parameter]
    assert optimizer_state_bytes(optimizer) == 4 * 24  # a slice keeps its whole matrix alive


def test_parameters_and_gradients_are_no_state() -> None:
    parameter = nn.Parameter(torch.zeros(8))
    parameter.sum().backward()
    optimizer = torch.optim.SGD([parameter])
    optimizer.state[parameter] = {"weight": parameter, "view": parameter.data[:2], "gradient": parameter.grad}
    assert optimizer_state_bytes(optimizer) == 0
