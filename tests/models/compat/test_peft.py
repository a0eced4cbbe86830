"""The ways into PEFT that it does not offer."""

from __future__ import annotations

import pytest
from peft import PeftType
from torch import nn

from bench.models.compat.peft import add_peft_type, replace_classes


class Doubled(nn.Linear):
    """A linear layer under another class."""


def test_only_modules_of_the_class_itself_are_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Bilinear(2, 2, 2), nn.Linear(2, 2))
    replace_classes(model, {nn.Linear: Doubled})
    assert [type(module) for module in model] == [Doubled, nn.Bilinear, Doubled]


def test_a_class_that_is_not_built_alike_is_refused() -> None:
    with pytest.raises(TypeError, match="Bilinear cannot replace Linear"):
        replace_classes(nn.Linear(2, 2), {nn.Linear: nn.Bilinear})


def test_a_type_that_is_there_is_returned() -> None:
    members = list(PeftType)
    assert add_peft_type("LORA") is PeftType.LORA and list(PeftType) == members
