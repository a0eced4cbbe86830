"""A tiny real base model, a small sweep of it, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from typer.testing import CliRunner

from bench.cli import app

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def tiny_tokenizer(bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: ``<s>``, ``</s>``, ``<pad>`` and a token for each byte. With `bos`, every
    text begins with ``<s>``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<s>", "</s>", "<pad>"]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(specials + alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def make_tiny_model(folder: Path, bos: bool = False, hidden: int = 32) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(bos)
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


def outcome(folder: Path) -> dict[str, Any]:
    """What a run came to, but for times and environments."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("cells/*/metrics.json")):
        metrics = json.loads(path.read_text())
        scores = {
            one["file"]: {key: one[key] for key in ("acc", "acc_norm", "n")} for one in metrics["evaluations"].values()
        }
        found[path.parent.name] = (metrics["status"], metrics["costs"].get("final_loss"), scores)
    return found
