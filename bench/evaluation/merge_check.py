"""A trained method folded into its base, and how alike the two answer.

B rows, T tokens of the longest row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from bench.data.encoding import Collator, encode
from bench.data.examples import Example
from bench.data.questions import Question, Rendered, render
from bench.data.sweep_data import SweepData
from bench.evaluation.loglikelihood_protocol import choice_scores
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.methods.method import Method
from bench.models.dtype import computing_in, resolve_dtype
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig

PROBED_QUESTIONS = 2
"""Questions of each task on which merged and unmerged logits are compared."""

FLIP_QUESTIONS = 60
"""Development questions, over all training sets, whose answers are compared between merged and unmerged."""

FLIP_MARGIN = {"float32": 0.01}
HALF_MARGIN = 0.5
"""Nats between the two likeliest choices: where an answer flips beyond it, merging has changed the model and not just
its rounding, which moves a log-likelihood by up to 0.4 in half precision."""


def merge(
    model: nn.Module,
    method: Method,
    cell: Cell,
    training: TrainingConfig,
    data: SweepData,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int | None = None,
    trial: bool = False,
) -> tuple[LanguageModel | None, dict[str, Any]]:
    """The model with its adapter folded in, in the cell's dtype (rounded once), ready to be scored with so many rows at
    a time, and what is recorded of it: how far its logits are from the unmerged model's, which answers flip, and
    warnings. Of a method that cannot merge None, and the reason. Of a trial nothing is recorded. `model` may have been
    taken apart."""
    facts = method.facts_for(cell.options)
    if not facts.mergeable:
        return None, {"merge_max_abs_diff": None, "merge_reason": facts.cannot_merge}
    if trial:  # it chooses a learning rate; its final cell is compared
        model = method.merge(model.eval().float()).eval().to(getattr(torch, cell.base.dtype))
        return LanguageModel(model, tokenizer, batch_size, "any"), {}
    batch = _probe_batch(data, tokenizer, training)
    asked = development(data)
    unmerged_lm = LanguageModel(model, tokenizer, None, facts.shared_prefix, cell.base.dtype)
    before = choice_scores(unmerged_lm, asked) if asked else []
    # Beside float32 the cell's own half precision; of a float32 cell, bfloat16 by autocast on both sides, where the
    # device has it: emulated, it takes as long as a short training.
    half = cell.base.dtype if cell.base.dtype != "float32" else resolve_dtype("auto").value
    unmerged = {half: probe(model.eval(), batch, half)} if half != "float32" else {}
    unmerged["float32"] = probe(model.float(), batch, "float32")
    model = method.merge(model).eval()
    merged = {"float32": probe(model, batch, "float32")}
    if cell.base.dtype != "float32":
        model = model.to(getattr(torch, cell.base.dtype))
        merged[half] = probe(model, batch, "float32")  # no autocast: in the dtype of its weights
    elif half != "float32":
        merged[half] = probe(model, batch, half)
    merged_lm = LanguageModel(model, tokenizer, batch_size, "any")
    after = choice_scores(merged_lm, asked) if asked else []
    return merged_lm, {
        "development": right_answers(asked, after),
        "merge_max_abs_diff": {
            dtype: float((merged[dtype] - unmerged[dtype]).abs().max()) for dtype in dict.fromkeys(("float32", half))
        },
        "merge_flips": _flips(before, after, FLIP_MARGIN.get(cell.base.dtype, HALF_MARGIN)),
        # Of the merged model the scoring itself says it.
        "warnings": [f"unmerged: {text}" for text in unmerged_lm.warnings],
    }


@torch.no_grad()
def probe(model: nn.Module, batch: Mapping[str, torch.Tensor], dtype: str) -> torch.Tensor:
    """Logits (tokens, V) in float32 at the real tokens of a batch, computed in `dtype` by autocast (see
    `computing_in`). `batch` holds input_ids, attention_mask and prompt_mask (B, T)."""
    where = next(model.parameters()).device
    inputs = {name: batch[name].to(where) for name in ("input_ids", "attention_mask", "prompt_mask")}
    length = inputs["input_ids"].shape[1]
    with computing_in(dtype, where):
        logits = model(**inputs, use_cache=False).logits[:, -length:]  # virtual tokens stand before the text
    return logits[inputs["attention_mask"].bool()].float().cpu()


def development(data: SweepData) -> list[tuple[Question, Rendered]]:
    """A few development questions of every training set, in equal shares, with their texts."""
    share = -(-FLIP_QUESTIONS // max(1, len(data.development)))
    drawn = [question for questions in data.development.values() for question in questions[:share]]
    return [(one, render(one, data.tasks[one.task].wording, data.config.format)) for one in drawn]


def right_answers(asked: list[tuple[Question, Rendered]], found: list[list[float]]) -> dict[str, Any]:
    """How many of the development questions the likeliest choice answers rightly (0 to 1). It is what chooses among
    cells where something must: test questions never do."""
    right = [int(np.argmax(scores)) == question.label for (question, _), scores in zip(asked, found, strict=True)]
    return {"n": len(right), "acc": sum(right) / len(right) if right else None}


def _flips(before: list[list[float]], after: list[list[float]], margin: float) -> dict[str, Any]:
    """How many answers differ between two scorings, and how many of these were no near ties in the first."""
    gaps = [
        max(one) - one[int(np.argmax(other))] for one, other in zip(before, after, strict=True)
    ]  # what the first scoring lost by the second's answer: 0 where they agree
    return {
        "n": len(gaps),
        "flips": sum(int(np.argmax(a)) != int(np.argmax(b)) for a, b in zip(before, after, strict=True)),
        "flips_above_margin": sum(not gap <= margin for gap in gaps),
        "margin": margin,
    }


def _probe_batch(data: SweepData, tokenizer: PreTrainedTokenizerBase, config: TrainingConfig) -> dict[str, Any]:
    """A few questions of every task with their right answers, as a training batch."""
    examples = []
    for task in data.questions:
        for question, rendered in data.rendered(task)[:PROBED_QUESTIONS]:
            examples.append(Example(rendered.contexts[question.label], rendered.continuations[question.label]))
    if not examples:  # where lm-eval's own tasks or open answers are all that is scored
        examples = data.subset(PROBED_QUESTIONS, 0, tokenizer)
    rows = [encode(tokenizer, one, config.max_length, data.config.append_eos) for one in examples]
    return Collator(tokenizer.pad_token_id, config.loss)(rows)
