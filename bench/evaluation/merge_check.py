"""Merging an adapter into its base model, and how far the answers of the merged model differ from the unmerged ones.

B rows, T tokens of the longest row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from bench.data.collator import Collator
from bench.data.encoding import encode
from bench.data.examples import Example
from bench.data.sweep_data import SweepData
from bench.evaluation.development import development_accuracy, development_questions
from bench.evaluation.loglikelihood_protocol import choice_loglikelihoods
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.methods.method import Method
from bench.models.dtype import computing_in, resolve_dtype
from bench.store.records import DevelopmentRecord, MergeFlips
from bench.sweep.cell import Cell
from bench.sweep.sections import TrainingConfig

PROBED_QUESTIONS = 2
"""Questions of each task on which the logits of the merged and the unmerged model are compared."""

FLIP_MARGIN = {"float32": 0.01}
HALF_PRECISION_FLIP_MARGIN = 0.5
"""Nats between the two most likely choices. A flip beyond the margin means that merging changed the model itself:
rounding alone moves a log-likelihood by up to 0.4 in half precision."""
LOGIT_MARGIN = 0.01
"""Where no answers are compared: a logit that merging moves by more, in float32, is moved by more than rounding."""


@dataclass(frozen=True)
class MergeOutcome:
    """The merged model, and what is recorded of the merge."""

    lm: LanguageModel | None
    """Ready to be scored, in the cell's dtype (rounded once); None if the method cannot merge."""
    reason: str = ""
    """Why the method cannot merge."""
    max_abs_diff: dict[str, float] | None = None
    """By dtype, the largest difference of a logit; None if it was not measured."""
    flips: MergeFlips | None = None
    """None where answers were not compared."""
    development: DevelopmentRecord | None = None
    """Of the merged model; of the unmerged one where merging changed it."""
    changed: str = ""
    """How merging changed the model's answers; empty if it did not, beyond near ties. Such a model is not scored."""
    warnings: tuple[str, ...] = ()
    """Of scoring the unmerged model; scoring the merged model gives its own."""


def merge_and_compare(
    model: nn.Module,
    method: Method,
    cell: Cell,
    training: TrainingConfig,
    data: SweepData,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int | None = None,
    in_full: bool = True,
) -> MergeOutcome:
    """Merge the model's adapter and compare logits and answers before and after.

    The merged model is scored with at most `batch_size` rows at a time. Without `in_full` only logits in float32 are
    compared. `model` may have been taken apart.
    """
    facts = method.facts_for(cell.options)
    if not facts.mergeable:
        return MergeOutcome(None, reason=facts.cannot_merge)
    batch = probe_batch(data, tokenizer, training)
    if not in_full:
        before_merging = probe(model.eval().float(), batch, "float32")
        model = method.merge(model).eval()
        difference = float((probe(model, batch, "float32") - before_merging).abs().max())
        lm = LanguageModel(model.to(getattr(torch, cell.base.dtype)), tokenizer, batch_size, "any")
        return MergeOutcome(lm, max_abs_diff={"float32": difference}, changed=_changed(difference, None))
    questions = development_questions(data)
    unmerged_lm = LanguageModel(model, tokenizer, None, facts.shared_prefix, cell.base.dtype)
    before = choice_loglikelihoods(unmerged_lm, questions) if questions else []
    # Besides float32, the cell's own half precision. For a float32 cell: bfloat16 by autocast on both sides, but only
    # if the device supports it, because emulated it takes as long as a short training.
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
    after = choice_loglikelihoods(merged_lm, questions) if questions else []
    flips = count_flips(before, after, FLIP_MARGIN.get(cell.base.dtype, HALF_PRECISION_FLIP_MARGIN))
    differences = {
        dtype: float((merged[dtype] - unmerged[dtype]).abs().max()) for dtype in dict.fromkeys(("float32", half))
    }
    changed = _changed(differences["float32"], flips)
    return MergeOutcome(
        merged_lm,
        max_abs_diff=differences,
        flips=flips,
        development=development_accuracy(questions, before if changed else after),
        changed=changed,
        warnings=tuple(f"unmerged: {text}" for text in unmerged_lm.warnings),
    )


def _changed(difference: float, flips: MergeFlips | None) -> str:
    """`MergeOutcome.changed`, from the answers where there are any, else from the largest difference of a logit."""
    if flips is not None and flips.n:
        several = f"merging changes {flips.flips_above_margin} of {flips.n} answers by more than {flips.margin:g} nats"
        return several if flips.flips_above_margin else ""
    return "" if difference <= LOGIT_MARGIN else f"merging moves a logit by {difference:.2g}, beyond rounding"


@torch.no_grad()
def probe(model: nn.Module, batch: Mapping[str, torch.Tensor], dtype: str) -> torch.Tensor:
    """Logits (tokens, V) in float32 at the real tokens of a batch, computed in `dtype` by autocast (see
    `computing_in`). `batch` holds input_ids, attention_mask and, unless a plain model is probed, prompt_mask (B, T)."""
    device = next(model.parameters()).device
    names = ("input_ids", "attention_mask", "prompt_mask")
    inputs = {name: batch[name].to(device) for name in names if name in batch}
    length = inputs["input_ids"].shape[1]
    with computing_in(dtype, device):
        logits = model(**inputs, use_cache=False).logits[:, -length:]  # virtual tokens come before the text
    return logits[inputs["attention_mask"].bool()].float().cpu()


def count_flips(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], margin: float) -> MergeFlips:
    """How many answers differ between two scorings (log-likelihoods of the choices of each question), and how many of
    these are more than `margin` nats apart in the first scoring."""
    answers = [int(np.argmax(values)) for values in after]
    # By how much the second scoring's answer is less likely in the first scoring; 0 if they agree.
    gaps = [max(values) - values[answer] for values, answer in zip(before, answers, strict=True)]
    return MergeFlips(
        n=len(gaps),
        flips=sum(int(np.argmax(values)) != answer for values, answer in zip(before, answers, strict=True)),
        flips_above_margin=sum(not gap <= margin for gap in gaps),  # a NaN is above it, too
        margin=margin,
    )


def probe_batch(
    data: SweepData, tokenizer: PreTrainedTokenizerBase, config: TrainingConfig
) -> Mapping[str, torch.Tensor]:
    """A few questions of every task with their right answers, as a training batch, for `probe`."""
    examples = []
    for task in data.questions:
        for question, rendered in data.rendered(task)[:PROBED_QUESTIONS]:
            examples.append(Example(rendered.contexts[question.label], rendered.continuations[question.label]))
    if not examples:  # only lm-eval's own tasks or open answers are scored
        examples = data.subset(PROBED_QUESTIONS, 0, tokenizer)
    rows = [
        encode(tokenizer, example, config.max_length, data.config.append_eos, config.truncate) for example in examples
    ]
    return Collator(tokenizer.pad_token_id, config.loss)(rows)
