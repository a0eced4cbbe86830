"""The ways into PEFT that it does not offer; its modules without a synchronisation train exactly as its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.methods import SETTINGS
from helpers.training import trained
from peft import PeftType
from torch import nn

from bench.models.compat import peft_sync_free
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


@pytest.mark.parametrize(
    "name, peft",
    [
        ("poly", {}),
        ("vblora", {}),
        # Balls of which some are left in three steps, and one of no width.
        ("cpt", {"opt_projection_epsilon": 0.3, "opt_projection_format_epsilon": 0.0}),
    ],
)
def test_training_is_that_of_pefts_own_modules(
    name: str, peft: dict[str, Any], tmp_path: Path, tiny_model: Path
) -> None:
    """The trained parameters are those of PEFT's own modules, bit for bit."""
    options = {"lr": 3e-2, **SETTINGS.get(name, {}), **peft}
    models = []
    for replaced in (peft_sync_free.SYNC_FREE, {}):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peft_sync_free, "SYNC_FREE", replaced)
            models.append(trained(tmp_path, tiny_model, name, {"epochs": 1, "batch_size": 4}, **options)[0])
    assert any(type(module) in peft_sync_free.SYNC_FREE.values() for module in models[0].modules())
    assert not any(type(module) in peft_sync_free.SYNC_FREE.values() for module in models[1].modules())
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)
