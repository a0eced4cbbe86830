"""Tiny real models, made on the spot: a two-layer llama with a byte-level tokenizer, saved as a folder."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import torch
from helpers.generation import load
from helpers.paths import SHARED
from helpers.questions import CHATML
from helpers.sweeps import bench, make_tiny_model, sweep_file
from transformers import AutoTokenizer

from bench.environment import without_collection

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests begin: two workers share two cores


@pytest.fixture(scope="session", autouse=True)
def little_garbage() -> None:
    """A cell collects garbage several times: the libraries' own objects, a second's worth, are not looked at."""
    with without_collection():
        for library in ("lm_eval", "peft", "datasets", "bench.runner.run_cell"):
            importlib.import_module(library)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared, which is not here")
    return SHARED


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer llama (hidden 32, grouped-query attention) and its tokenizer."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path]:
    """(sweep file, results folder) of a sweep that was run undisturbed."""
    folder = tmp_path_factory.mktemp("finished")
    path = sweep_file(folder, tiny_model)
    done = bench("run", path, "--results", folder)
    assert done.exit_code == 0, done.output
    return path, folder / "tiny"


@pytest.fixture
def chatting(tmp_path: Path) -> Path:
    """A tiny model whose tokenizer has a chat template."""
    folder = make_tiny_model(tmp_path / "chatting")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sharp(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model with louder layers: it says different things after different prompts."""
    folder = tmp_path_factory.mktemp("sharp")
    model, tokenizer = load(tiny_model)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(30)
            layer.mlp.down_proj.weight.mul_(30)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
