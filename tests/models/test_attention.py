"""Which attention implementation a base runs with."""

from __future__ import annotations

import pytest
import torch
from helpers.families import tiny_config

from bench.errors import UserError
from bench.models.attention import resolve_attention
from bench.models.load import build_model


@pytest.mark.parametrize(
    ("family", "value"),
    [("llama", "sdpa"), ("gemma3", "sdpa"), ("bloom", "eager"), ("gpt_oss", "eager"), ("mamba", "eager")],
)
def test_a_model_without_sdpa_falls_back_to_eager(family: str, value: str) -> None:
    with torch.device("meta"):
        model = build_model(tiny_config(family))
    choice = resolve_attention("sdpa", model)
    assert choice.value == value
    assert (family in choice.reason) == (value == "eager")
    assert resolve_attention("eager", model).value == "eager"


def test_flash_attention_that_cannot_run_is_refused() -> None:
    with torch.device("meta"):
        model = build_model(tiny_config("bloom"))
    with pytest.raises(UserError, match="flash_attention_2 does not work") as error:
        resolve_attention("flash_attention_2", model)
    assert "sdpa or eager" in str(error.value.fix)
    assert resolve_attention("flash_attention_2", model, elsewhere=True).value == "flash_attention_2"
