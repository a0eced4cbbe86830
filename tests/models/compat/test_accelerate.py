"""Two trainings of one process have each its own precision."""

from __future__ import annotations

import pytest
from accelerate import Accelerator

from bench.models.compat.accelerate import forget_accelerators


def test_an_accelerator_has_its_own_precision() -> None:
    forget_accelerators()
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"
    with pytest.raises(ValueError, match="already been initialized"):  # why this is needed
        Accelerator(cpu=True, mixed_precision="no")
    forget_accelerators()
    assert Accelerator(cpu=True, mixed_precision="no").mixed_precision == "no"


def test_an_interrupted_accumulation_stops_no_later_step() -> None:
    """accelerate's optimizers take no step where an earlier Accelerator waits for more gradients."""
    forget_accelerators()
    accelerator = Accelerator(cpu=True)
    accelerator.sync_gradients = False
    assert not Accelerator(cpu=True).sync_gradients
    forget_accelerators()
    assert Accelerator(cpu=True).sync_gradients
