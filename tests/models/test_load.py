"""Loading a base model: configuration, skeleton, tokenizer, dtype, and no progress bars meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

from bench.errors import UserError
from bench.models.device import compute_device
from bench.models.dtype import resolve_dtype
from bench.models.load import ARCHITECTURES, load_model, load_skeleton, load_tokenizer
from bench.models.locate import find_base
from bench.models.progress_bars import no_progress_bars


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


def test_the_methods_keywords_win_and_a_seed_fixes_the_random_state(tiny_model: Path) -> None:
    base = find_base(str(tiny_model))
    states = []
    for kwargs in ({}, {"dtype": "bfloat16"}):
        model = load_model(base, "float32", method_kwargs=kwargs, seed=5)
        states.append(torch.get_rng_state())
        assert model.dtype == (torch.bfloat16 if kwargs else torch.float32)
        assert model.device.type == compute_device().type
    torch.manual_seed(5)
    assert all(torch.equal(state, torch.get_rng_state()) for state in states)


def test_a_folder_that_holds_no_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_text("nothing")
    with pytest.raises(UserError, match=r"(?s)cannot load m: .*The folder must hold"):
        load_model(find_base(str(tmp_path / "m")), "float32")


def test_dtype_is_chosen_with_a_reason() -> None:
    choice = resolve_dtype("auto")
    assert choice.value in {"float32", "bfloat16"} and choice.reason
    assert resolve_dtype("float32").value == "float32"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="float16 needs a CUDA device"):
            resolve_dtype("float16")


def test_bars_are_off_for_the_duration_only() -> None:
    logging.enable_progress_bar()
    with no_progress_bars():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled()


def test_bars_that_the_user_has_switched_off_stay_off() -> None:
    logging.disable_progress_bar()
    with no_progress_bars():
        assert not logging.is_progress_bar_enabled()
    assert not logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
