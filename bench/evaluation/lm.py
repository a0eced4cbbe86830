"""The model as lm-eval sees it: HFLM, with the output head applied only where a token is scored.

B rows of a batch, T tokens of its longest, N scored tokens of the batch, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.costs import computing_in
from bench.head import HeadAt, drop_prompt_mask

logging.getLogger("lm_eval").setLevel(logging.ERROR)


PLAIN_CAUSAL = {"llama", "olmo", "olmo2", "qwen2", "qwen3", "granite", "smollm3"}
"""Architectures in which a token's output follows from what it attends to and its position alone. Others (sliding
windows, recurrent layers, ALiBi) could leak between branches and are scored without sharing."""


def takes_tree_mask(model: PreTrainedModel) -> bool:
    """Whether branches of one row cannot see one another in this model."""
    config = model.config
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    attention = config._attn_implementation in ("sdpa", "eager")
    return attention and config.model_type in PLAIN_CAUSAL and not windowed


class LanguageModel(HFLM):
    """Scores continuations as HFLM does: same tokens, same truncation, log-probabilities in float32.

    With `share_prefix`, requests with one context are scored in one row: the context once, the continuations as
    branches under a tree attention mask. It is for models that take such a mask (sdpa or eager attention) and
    methods that declare it valid. HFLM's one-token cache is off: it answers wrongly where two requests share a
    context but differ in length. With `autocast`, a dtype, forward passes compute in it, as in training; without, in
    that of the weights. `advance(done, total, note)` is told of the rows scored; lm-eval's bars are off.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        share_prefix: bool = False,
        autocast: str | None = None,
    ) -> None:
        # HFLM would tie the weights anew; they are, and an adapted embedding (trainable tokens) cannot bear it twice.
        model.tie_weights = lambda: None
        try:
            super().__init__(
                pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size, logits_cache=False
            )
        finally:
            del model.tie_weights
        drop_prompt_mask(model)
        self.share_prefix = share_prefix and takes_tree_mask(model)
        self.computing_dtype = autocast or "float32"
        self.advance: Callable[[int, int, str], None] = lambda done, total, note: None

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """(sum of log-probabilities in nats, whether greedy decoding would give it) a request, in their order."""
        trees: dict[tuple[int, ...], list[int]] = {}
        for i, (_, context, answer) in enumerate(requests):
            # What is over the limit is cut by HFLM depending on the choice: no prefix is shared there.
            fits = len(context) + len(answer) <= self.max_length + 1
            key = tuple(context) if self.share_prefix and fits else (*context, -1 - i)
            trees.setdefault(key, []).append(i)
        # Longest first: rows of a batch are of like length, and what does not fit in memory fails at once.
        order = sorted(trees.values(), key=lambda tree: -self._length(tree, requests))
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        batch_size, done = override_bs or self.batch_size, 0
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            scored = self._score([(requests[tree[0]][1], [requests[i][2] for i in tree]) for tree in batch])
            for i, answer in zip([i for tree in batch for i in tree], scored, strict=True):
                answers[i] = answer
            done += sum(map(len, batch))
            self.advance(done, len(requests), "rows")
        return answers

    def _length(self, tree: list[int], requests: list[tuple[Any, list[int], list[int]]]) -> int:
        return len(requests[tree[0]][1]) + sum(len(requests[i][2]) - 1 for i in tree)

    def _score(self, batch: list[tuple[list[int], list[list[int]]]]) -> list[tuple[float, bool]]:
        """One batch of contexts, each with its continuations as branches; one answer a continuation.

        A row is the context followed by each branch without its last token, which predicts nothing. A branch's token
        sees the context and its own branch, and has the position that it would have alone.
        """
        rows, branches, places, at, targets, lengths = [], [], [], [], [], []
        for row, (context, answers) in enumerate(batch):
            if len(answers) == 1:
                context = context[-(self.max_length + 1 - len(answers[0])) :]
            ids, branch, place = list(context), [0] * len(context), list(range(len(context)))
            for number, answer in enumerate(answers, start=1):  # branch 0 is the context
                begin = len(ids)
                at += [(row, len(context) - 1), *((row, begin + k) for k in range(len(answer) - 1))]
                targets += answer
                lengths.append(len(answer))
                ids += answer[:-1]
                branch += [number] * (len(answer) - 1)
                place += range(len(context), len(context) + len(answer) - 1)
            rows.append(torch.tensor(ids))
            branches.append(torch.tensor(branch))
            places.append(torch.tensor(place))
        inputs = {"input_ids": pad_sequence(rows, batch_first=True).to(self.device)}  # (B, T)
        length = inputs["input_ids"].shape[1]
        prompt = [branch == 0 for branch in branches]
        inputs["prompt_mask"] = pad_sequence(prompt, batch_first=True).to(self.device)  # (B, T)
        if any(len(answers) > 1 for _, answers in batch):
            inputs["position_ids"] = pad_sequence(places, batch_first=True).to(self.device)  # (B, T)
            branch = pad_sequence(branches, batch_first=True, padding_value=-1).to(self.device)  # (B, T)
            inputs["attention_mask"] = self._tree_mask(branch)
        # Else: right padding needs no mask under causal attention, and leaves the fast kernels their plain form.
        at = torch.tensor(at).T.to(self.device)  # (2, N)
        with HeadAt(self.model, at, length), computing_in(self.computing_dtype, self.device):
            logits = self.model(**inputs, use_cache=False).logits.float()  # (N, V)
        target = torch.tensor(targets, device=self.device)  # (N,)
        scored = logits.gather(1, target[:, None])[:, 0] - logits.logsumexp(1)
        greedy = logits.argmax(1) == target
        return [
            (float(own.double().sum()), bool(same.all()))
            for own, same in zip(scored.split(lengths), greedy.split(lengths), strict=True)
        ]

    def _tree_mask(self, branch: torch.Tensor) -> torch.Tensor:
        """Additive attention mask (B, 1, T, T) from each token's branch: 0 for the context, -1 for padding."""
        length = branch.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()
        own = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
        dtype = self.model.dtype
        mask = torch.zeros(own.shape, dtype=dtype, device=branch.device)
        return mask.masked_fill(~(own & causal), torch.finfo(dtype).min)[:, None]
