"""The model as lm-eval sees it: HFLM, with shared prefixes computed once and the head only where a token is scored.

B rows of a batch, T tokens of its longest, N tokens of the batch that predict a scored one, V vocabulary.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.data.encoding import encode_pair
from bench.errors import out_of_memory
from bench.evaluation.generation import generate_until
from bench.evaluation.prefix_tree import Row, Scored, rows
from bench.methods.method import SharedPrefix
from bench.models.attention_masks import shares_rows
from bench.models.dtype import computing_in
from bench.models.hooks import HeadAt, drop_prompt_mask
from bench.progress import Advance, ignore_progress

logging.getLogger("lm_eval").setLevel(logging.ERROR)


BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}
"""Tokens per forward pass to begin with, padding among them: on a CPU more gains nothing; on a GPU they are halved
until they fit."""

CACHE_BYTES = 2_000_000_000
"""Of keys and values of one batch of answers on a CPU; on a GPU half of what is free. A batch is decoded a token of
each row at a time, for which all weights are read: many rows cost little more than one."""


def takes_tree_mask(model: PreTrainedModel) -> bool:
    """Whether branches of one row cannot see one another in this model."""
    return shares_rows(model.config) and model.config._attn_implementation in ("sdpa", "eager")


CHECKED_QUESTIONS = 4
"""Scored both ways, with shared prefixes and without, before a model is scored with them."""

EXACT = 1e-3
"""Nats: what sharing may change in float32, where the shape of a batch moves a log-likelihood by about 2e-5."""

NOISE = 3
"""In half precision the shape of a batch alone moves a log-likelihood by some tenths of a nat: sharing is wrong where
it moves them by more than this many times as much, on the mean, and by more than the logits' own rounding."""


@dataclass(frozen=True)
class SharingCheck:
    """How far scores with shared prefixes are from those of texts computed whole, on a few questions."""

    questions: int
    difference: float | None
    """Nats: the largest in float32, the mean in half precision; None where the model refuses such rows, or the scores
    are no numbers."""
    allowed: float

    @property
    def passed(self) -> bool:
        return self.difference is not None and self.difference <= self.allowed


@dataclass
class Counted:
    """What a model has computed for the requests that it was given; texts that are computed twice count once."""

    tokens: int = 0
    """Padding apart."""
    at_head: int = 0
    """Those that went through the output head."""
    pairs: float = 0
    """Of a token and one that it attends to."""

    def add(self, tokens: int, at_head: int, pairs: float) -> None:
        self.tokens += tokens
        self.at_head += at_head
        self.pairs += pairs


class LanguageModel(HFLM):
    """Scores continuations as HFLM does: same tokens, same truncation, log-probabilities in float32.

    With `share` "any", the requests of one question are scored in one row, in which what their texts have in common at
    the beginning is computed once, under a tree attention mask; with "context", those of them that have the same
    context; with "none", and in models that take no such mask, each text is computed whole. The first call scores a
    few questions both ways; where they differ, nothing is shared and `warnings` says so (`checked` keeps the figures).
    HFLM's one-token cache is off: it answers wrongly where two requests share a context but differ in length.

    A forward pass takes as many rows as fit `batch_tokens`, at most `batch_size` where that is given; when memory runs
    out, `batch_tokens` is halved and stays so. With `autocast`, a dtype, forward passes compute in it, as in training;
    without, in that of the weights. `advance(done, total, note)` is told of the requests scored, lm-eval is silent.
    `counted` is the work of all calls so far.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int | None = None,
        share: SharedPrefix = "none",
        autocast: str | None = None,
        pads_left: bool = True,
    ) -> None:
        # HFLM would tie the weights anew; they are, and an adapted embedding (trainable tokens) cannot bear it twice.
        model.tie_weights = lambda: None
        try:
            super().__init__(
                pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size or 1, logits_cache=False
            )
        finally:
            del model.tie_weights
        drop_prompt_mask(model)
        self.share: SharedPrefix = share if takes_tree_mask(model) else "none"
        self.checked: SharingCheck | None = None
        self.warnings: list[str] = []
        self.counted = Counted()
        self.most_rows, self.pads_left = batch_size, pads_left
        self.batch_tokens = BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cpu"])
        self.computing_dtype = autocast or "float32"
        self.advance: Advance = ignore_progress

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(sum of log-probabilities in nats, whether greedy decoding would give it) a request, in their order."""
        scored = [Scored(*encode_pair(self.tokenizer, *one.args)) for one in requests]
        groups: list[Hashable] = []
        for request, one in zip(requests, scored, strict=True):
            context = tuple(one.context)
            question = (request.task_name, request.doc_id)
            # Requests of no question (made by hand) are of one where their contexts are the same.
            groups.append(question if self.share == "any" and request.doc_id is not None else (*question, context))
        if self.share != "none" and self.checked is None:
            self._check_sharing(scored, groups)
        return self._answers(scored, groups if self.share != "none" else [None] * len(scored))

    def _check_sharing(self, scored: Sequence[Scored], groups: Sequence[Hashable]) -> None:
        """Score a few questions both ways, and share nothing where that changes what they come to."""
        members: dict[Hashable, list[int]] = {}
        for number, group in enumerate(groups):
            members.setdefault(group, []).append(number)
        asked = list(members.values())
        step = max(1, len(asked) // CHECKED_QUESTIONS)  # spread over the task
        kept: list[int] = []
        questions = 0
        for place in sorted(range(len(asked)), key=lambda place: (place % step, place)):
            if self._branches([scored[number] for number in asked[place]]):
                kept += asked[place]
                questions += 1
            if questions == CHECKED_QUESTIONS:
                break
        if not kept:  # nothing is shared here that could be wrong; the next call looks again
            return
        few, alone = [scored[number] for number in kept], [None] * len(kept)
        exact = self.computing_dtype == "float32" and self.model.dtype == torch.float32
        advance, self.advance = self.advance, ignore_progress
        counted, self.counted = self.counted, Counted()  # a measurement, no part of the scoring's work
        most, self.most_rows = self.most_rows, 1
        try:
            whole = self._values(few, alone)
            self.most_rows = None
            noise = 0.0 if exact else np.abs(self._values(few, alone) - whole).mean()
            try:
                apart = np.abs(self._values(few, [groups[number] for number in kept]) - whole)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                if out_of_memory(error):
                    raise
                apart = np.array([np.nan])  # it does not take such rows at all
        finally:
            self.advance, self.most_rows, self.counted = advance, most, counted
        difference = apart.max() if exact else apart.mean()
        allowed = EXACT if exact else max(NOISE * noise, self._resolution(few[0]))
        known = float(difference) if np.isfinite(difference) else None
        self.checked = SharingCheck(questions, known, float(allowed))
        if not self.checked.passed:
            self.share = "none"
            kind = "at most" if exact else "on the mean"
            self.warnings.append(
                f"with shared prefixes the log-likelihoods of {questions} questions are {difference:.2g} nats from "
                f"those of whole texts ({kind}; {self.checked.allowed:.2g} allowed), so every text was computed whole"
            )

    def _branches(self, question: list[Scored]) -> bool:
        """Whether the texts of a question make a row with branches, none of them over the limit."""
        if len(question) < 2 or any(len(one.inputs) > self.max_length for one in question):
            return False
        return any(row.branches for row in rows(question, [0] * len(question), self.max_length))

    def _resolution(self, one: Scored) -> float:
        """Nats by which rounding moves the model's largest logits on the mean, a quarter of what lies between two
        neighbouring values: two recomputes may agree to the last bit and still be no finer than this."""
        length = len(one.inputs)
        inputs = {
            "input_ids": torch.tensor([one.inputs], device=self.device),
            "prompt_mask": torch.tensor([[place < len(one.context) for place in range(length)]], device=self.device),
        }
        last = torch.tensor([[0], [length - 1]], device=self.device)
        with torch.inference_mode(), HeadAt(self.model, last, length), computing_in(self.computing_dtype, self.device):
            logits = self.model(**inputs, use_cache=False).logits
        return float(logits.abs().max()) * torch.finfo(logits.dtype).eps / 4

    def _values(self, scored: Sequence[Scored], groups: Sequence[Hashable]) -> np.ndarray:
        return np.array([value for value, _ in self._answers(scored, groups)])

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The text generated for each request, in their order (`generation.generate_until`)."""
        limits = (self.batch_tokens, self.most_rows, self.computing_dtype)
        return generate_until(
            self, requests, *limits, advance=self.advance, pads_left=self.pads_left, count=self.counted.add
        )

    def answer(
        self,
        prompts: Sequence[str],
        kwargs: Sequence[dict[str, Any]],
        advance: Advance,
        done_with: Callable[[int, str], None],
    ) -> None:
        """Generate a text for each prompt, by its own generation kwargs; `done_with` is told of each by its place.

        White space at a prompt's end is left to the model, as training had it learn (`encoding.encode_pair`).
        """
        from lm_eval.api.instance import Instance

        requests = [
            Instance("generate_until", {}, (prompt.rstrip(), one), number)
            for number, (prompt, one) in enumerate(zip(prompts, kwargs, strict=True))
        ]
        generate_until(
            self,
            requests,
            self._cached_tokens(),
            self.most_rows,
            self.computing_dtype,
            advance=advance,
            pads_left=self.pads_left,
            count=self.counted.add,
            done_with=done_with,
        )

    def _cached_tokens(self) -> int:
        """Tokens whose keys and values a batch of answers may keep: what is to be generated among them."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        each = 2 * config.num_hidden_layers * heads * width * (4 if self.computing_dtype == "float32" else 2)
        free = torch.cuda.mem_get_info()[0] // 2 if self.device.type == "cuda" else CACHE_BYTES
        return free // each

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """The same of tokens, each request for itself: what lm-eval's perplexities call."""
        scored = [Scored(context, continuation) for _, context, continuation in requests]
        return self._answers(scored, [None] * len(scored))

    @torch.inference_mode()
    def _answers(self, scored: Sequence[Scored], groups: Sequence[Hashable]) -> list[tuple[float, bool]]:
        """Score continuations; those of one group may share a row."""
        kept, allowed = [], []
        for one, group in zip(scored, groups, strict=True):
            if not one.context:
                raise ValueError("a context of white space alone has no token that predicts the choice")
            if not 0 < len(one.continuation) <= self.max_length:
                raise ValueError(
                    f"a choice of {len(one.continuation)} tokens; from 1 to {self.max_length} can be scored"
                )
            fits = len(one.inputs) <= self.max_length
            # What is over the limit is cut by HFLM depending on the choice: no prefix is shared there.
            kept.append(
                one if fits else Scored(one.context[-(self.max_length + 1 - len(one.continuation)) :], one.continuation)
            )
            allowed.append(group if fits else None)
        waiting = rows(kept, allowed, self.max_length)
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(kept)
        done = 0
        while waiting:
            size = max(1, self.batch_tokens // len(waiting[0]))
            batch = waiting[: min(size, self.most_rows or size)]
            try:
                found = self._score(batch, kept)
            except RuntimeError as error:
                if len(batch) == 1 or not out_of_memory(error):
                    raise
                self.batch_tokens = len(batch) * len(batch[0]) // 2
                gc.collect()
                continue
            waiting = waiting[len(batch) :]
            for number, answer in found.items():
                answers[number] = answer
            done += len(found)
            self.advance(done, len(kept), "rows")
        return answers

    def _score(self, batch: list[Row], scored: Sequence[Scored]) -> dict[int, tuple[float, bool]]:
        """The answers of one batch of rows, the longest first, by the continuations' numbers."""
        length = len(batch[0])
        inputs = {
            "input_ids": self._padded([row.tokens for row in batch]),  # (B, T)
            "prompt_mask": self._padded([row.prompt for row in batch]),  # (B, T)
        }
        if any(row.branches for row in batch):
            inputs["position_ids"] = self._padded([row.positions for row in batch])  # (B, T)
            seen = torch.from_numpy(np.stack([row.visible(length) for row in batch])).to(self.device)
            mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=self.device)
            mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)
            inputs["attention_mask"] = mask[:, None]  # (B, 1, T, T)
        # Else: right padding needs no mask under causal attention, and leaves the fast kernels their plain form.

        # Each predicting token goes through the head once, however many continuations it predicts.
        places: dict[tuple[int, int], int] = {}
        numbers, at, targets, lengths = [], [], [], []
        for i, row in enumerate(batch):
            for number, path in row.paths:
                numbers.append(number)
                at += [places.setdefault((i, token), len(places)) for token in path]
                targets += scored[number].continuation
                lengths.append(len(path))
        read = sum(position + 1 for row in batch for position in row.positions)
        self.counted.add(sum(map(len, batch)), len(places), read)
        head = torch.tensor(list(places)).T.to(self.device)  # (2, N)
        with HeadAt(self.model, head, length), computing_in(self.computing_dtype, self.device):
            logits = self.model(**inputs, use_cache=False).logits  # (N, V)
        index = torch.tensor(at, device=self.device)
        target = torch.tensor(targets, device=self.device)
        largest = logits.amax(1).float()  # (N,)
        # Float32 copies of a few rows at a time stay in the processor's cache: five times as fast as all at once.
        few = max(16, len(logits) // 64)
        normalizer = torch.cat([part.float().logsumexp(1) for part in logits.split(few)])  # (N,)
        chosen = logits[index, target].float()
        own = (chosen - normalizer[index]).double().split(lengths)
        greedy = (chosen == largest[index]).split(lengths)
        return {
            number: (float(one.sum()), bool(same.all())) for number, one, same in zip(numbers, own, greedy, strict=True)
        }

    def _padded(self, values: list[list[int]] | list[list[bool]]) -> torch.Tensor:
        """(B, T), padded on the right with zeros."""
        return pad_sequence([torch.tensor(one) for one in values], batch_first=True).to(self.device)
