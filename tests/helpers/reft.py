"""Edits of a tiny model's hidden states, and batches to run them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from bench.methods.reft import REFT_METHODS
from bench.models.hooks import PromptMaskInGeneration
from bench.sweep.cell import BaseIdentity, Cell

METHODS = {method.name: method for method in REFT_METHODS}


NAMES = list(METHODS)


LENGTHS = [(20, 26), (5, 9), (15, 22), (2, 6), (1, 4)]
"""(tokens of the prompt, of the whole row): long, short, and too short to be edited."""


def cell_of(name: str, model: Any, **options: Any) -> Cell:
    return Cell(
        base=BaseIdentity(id="tiny", revision="-", dtype="float32"),
        method=name,
        method_version="1",
        options=METHODS[name].resolve(options, model),
        samples=1,
        seed=0,
    )


def attached(tiny: Path, name: str, **options: Any) -> Any:
    model = AutoModelForCausalLM.from_pretrained(tiny)
    torch.manual_seed(0)
    return METHODS[name].attach(model, cell_of(name, model, **options)).eval()


def rows_of(lengths: list[tuple[int, int]] = LENGTHS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 259, (total,), generator=generator) for _, total in lengths]


def batch_of(
    rows: list[torch.Tensor], prompts: list[int], side: str = "right", extra: int = 0
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Padded to the longest row and `extra` columns more; and the column at which each row begins, with right padding
    after `extra`."""
    length = max(map(len, rows)) + extra
    begins = [extra if side == "right" else length - len(row) for row in rows]
    batch = {
        "input_ids": torch.full((len(rows), length), 2),
        "attention_mask": torch.zeros(len(rows), length, dtype=torch.long),
        "prompt_mask": torch.zeros(len(rows), length, dtype=torch.bool),
    }
    for i, (row, begin, prompt) in enumerate(zip(rows, begins, prompts, strict=True)):
        batch["input_ids"][i, begin : begin + len(row)] = row
        batch["attention_mask"][i, begin : begin + len(row)] = 1
        batch["prompt_mask"][i, begin : begin + prompt] = True
    return batch, begins


def real(logits: torch.Tensor, rows: list[torch.Tensor], begins: list[int]) -> torch.Tensor:
    """Logits (N, V) of all real tokens, row after row."""
    return torch.cat(
        [row_logits[begin : begin + len(row)] for row_logits, row, begin in zip(logits, rows, begins, strict=True)]
    )


def greedy(model: Any, batch: dict[str, torch.Tensor], **options: Any) -> torch.Tensor:
    """Eight new tokens a row."""
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with PromptMaskInGeneration(model, batch["prompt_mask"]):
        return model.generate(**inputs, max_new_tokens=8, min_new_tokens=8, do_sample=False, **options)[:, -8:]
