"""Overrides of the command line, and settings of a program: read however they are written, or refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench.errors import UserError
from bench.sweep.load import load_sweep
from bench.sweep.schema import Sweep

TEXT = "name: s\nbase_model: tiny\nmethods: [lora, dora]\nsamples: 8\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(TEXT)
    return tmp_path / "s.yaml"


def test_a_name_alone_is_short_for_a_mapping(path: Path) -> None:
    sweep = load_sweep(path, ("base_model.dtype=float32", "methods.1.rank=4"))
    assert [(base.id, base.dtype) for base in sweep.base_model] == [("tiny", "float32")]
    assert sweep.methods == ({"method": "lora"}, {"method": "dora", "rank": 4})
    for override in ("name.first=1", "methods.0.method.rank=4"):
        with pytest.raises(UserError, match="fits nowhere"):
            load_sweep(path, ("methods=[{method: lora}]", override))


@pytest.mark.parametrize("value", ["[a", "@a", "%a", "*a", "a\nb: c"])
def test_a_value_that_is_no_yaml_says_so(value: str, path: Path) -> None:
    with pytest.raises(UserError, match=r"its value is not YAML: .*\n.*may need quotes"):
        load_sweep(path, (f"note={value}",))


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("training=", r"training: must be a mapping, .* \(got null\)"),
        ("data=", r"data: must be a mapping, .* \(got null\)"),
        ("samples=", r"samples: must be a value or a list, .* \(got null\)"),
    ],
)
def test_an_empty_section_is_refused_in_terms_of_yaml(override: str, why: str, path: Path) -> None:
    with pytest.raises(UserError, match=why):
        load_sweep(path, (override,))


@pytest.mark.parametrize("seeds", [range(2), np.arange(2), pd.Series([0, 1]), torch.arange(2), {0, 1}])
def test_seeds_of_a_program_may_be_any_list(seeds: Any) -> None:
    assert Sweep(name="s", base_model="tiny", methods="lora", samples=np.int64(8), seeds=seeds).seeds == (0, 1)


def test_a_dtype_of_torch_is_its_name() -> None:
    bases: Any = {"id": "tiny", "dtype": torch.float32}
    assert Sweep(name="s", base_model=bases, methods="lora", samples=8).base_model[0].dtype == "float32"


def test_extends_may_begin_at_home(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(path.parent))
    child = path.parent / "child.yaml"
    child.write_text("extends: ~/s.yaml\nseeds: 3\n")
    assert load_sweep(child).seeds == (3,)
