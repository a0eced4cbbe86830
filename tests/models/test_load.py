"""Loading a base model: configuration, skeleton, tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.models.load import ARCHITECTURES, load_skeleton, load_tokenizer
from bench.models.locate import find_base


def test_a_folder_without_a_tokenizer_or_a_known_architecture(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "m", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(UserError, match="has no tokenizer that can be loaded"):
        load_tokenizer(find_base(str(tmp_path / "m")))
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no causal language model"):
        load_skeleton(str(tmp_path / "m"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shipped_architectures_need_no_network(name: str) -> None:
    sizes = {"smollm2-135m-instruct": 134_515_008, "llama-7b": 6_738_415_616, "llama-13b": 13_015_864_320}
    sizes |= {"llama2-7b": 6_738_415_616, "llama3-8b": 8_030_261_248}
    model = load_skeleton(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == sizes[ARCHITECTURES[name]]
