"""Tiny real models, made on the spot: a two-layer llama with a byte-level tokenizer, saved as a folder."""

from __future__ import annotations

import gc
import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bench.cli import app

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests begin: two workers share two cores
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def little_garbage() -> None:
    """A cell collects garbage several times: the libraries' own objects, a second's worth, are not looked at."""
    for library in ("lm_eval", "peft", "datasets", "bench.run"):
        importlib.import_module(library)
    gc.collect()
    gc.freeze()


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


def make_tiny_model(folder: Path, bos: bool = False, hidden: int = 32) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<s>", "</s>", "<pad>"]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(specials + alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


SWEEP = """
name: tiny
base_model: {{id: {model}, dtype: float32}}
methods:
  - {{method: lora, rank: [2, 4], lr: 1e-2}}
  - {{method: dora, rank: [2, 4], lr: 1e-2}}
  - {{method: full, lr: 1e-3}}
samples: 32
training: {{batch_size: 8, logging_steps: 1}}
costs: {{inference: false}}
evaluation: {{limit: 6, tasks: [world_two, world_blank, world_ending, world_true_false]}}
"""


def sweep_file(folder: Path, model: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SWEEP.format(model=model))
    return path


def bench(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path]:
    """(sweep file, results folder) of a sweep that was run undisturbed."""
    folder = tmp_path_factory.mktemp("finished")
    path = sweep_file(folder, tiny_model)
    done = bench("run", path, "--results", folder)
    assert done.exit_code == 0, done.output
    return path, folder / "tiny"
