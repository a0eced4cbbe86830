"""How a dtype is resolved."""

from __future__ import annotations

import pytest
import torch

from bench.errors import UserError
from bench.models.dtype import resolve_dtype


def test_dtype_is_chosen_with_a_reason() -> None:
    choice = resolve_dtype("auto")
    assert choice.value in {"float32", "bfloat16"} and choice.reason
    assert resolve_dtype("float32").value == "float32"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="float16 needs a CUDA device"):
            resolve_dtype("float16")
