"""Generation as transformers does it, a prompt at a time: what ours is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.models.hooks import PromptMaskInGeneration

TOKENS = 12


def load(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def one_by_one(model: Any, tokenizer: Any, prompts: list[str], tokens: int = TOKENS, **kwargs: Any) -> list[list[int]]:
    """New tokens by transformers' `generate`, a prompt at a time, without padding."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer.encode(prompt)])
        mask = torch.ones_like(ids)
        with torch.inference_mode(), PromptMaskInGeneration(model, mask.bool()):
            made = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                **kwargs,
            )
        new = made[0, ids.shape[1] :].tolist()
        found.append(new[: new.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in new else new)
    return found
