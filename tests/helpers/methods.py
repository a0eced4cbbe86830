"""Every method of the registry, and settings that fit a tiny model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from bench import methods
from bench.data.collator import Collator
from bench.data.encoding import encode
from helpers.training import EXAMPLES

SETTINGS: dict[str, dict[str, Any]] = {
    "full": {"lr": 3e-3},
    "peft": {"peft": {"peft_type": "LORA", "r": 4}},
    "galore": {"lr": 3e-3, "rank": 8},
    "prompt": {"lr": 0.2},
    "p_tuning": {"peft": {"encoder_hidden_size": 32}},
    # CPT keeps its offsets within a small ball, in which a random model hardly moves.
    "cpt": {
        "opt_projection_epsilon": 10.0,
        "opt_projection_format_epsilon": 10.0,
        "peft": {"cpt_token_ids": [5, 6, 7], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 3]},
    },
    "trainable_tokens": {"peft": {"token_indices": [3, 4, 80, 81, 82, 83]}},
    "oft": {"rank": 8},
    "randlora": {"rank": 4},
    "miss": {"rank": 8},
    "road": {"group_size": 16},
    "shira": {"rank": 2},
    "psoft": {"rank": 8},
    "vblora": {"num_vectors": 64},
    "fourierft": {"rank": 50, "scaling": 1.0},  # PEFT's 150 is for matrices a hundred times as wide
    "waveft": {"rank": 50},
    "adamss": {"rank": 8, "num_subspaces": 2},
    "supertuning": {"sparsity": 0.9},
}
"""Where a method's own settings do not fit a model of hidden size 32 and two layers."""

TRAINED = [name for name in methods.METHODS if name != "base"]
# bitsandbytes' matrix product on a CPU rounds to bfloat16; tests/methods/test_quantization.py has QLoRA's tests.
EXACT = [name for name in TRAINED if name not in ("qlora", "qdora")]
FAMILIES = ("full", "galore", "lora", "dora", "loreft", "ia3")
"""A method of each family. The fast tests train these alone."""


def slow_beyond_families(names: Iterable[str]) -> list[Any]:
    """The names as parameters of a test; those that are not in `FAMILIES` are marked slow."""
    return [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in names]


def batch(tiny: Path) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    return Collator(tokenizer.pad_token_id, "answer")(
        [encode(tokenizer, example, 256, True) for example in EXAMPLES[:6]]
    )
