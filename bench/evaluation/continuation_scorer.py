"""Log-likelihoods of continuations: packed rows, batches that fit in memory, the output head only where it is needed.

B rows of a batch, T tokens of its longest row, N tokens of the batch that predict a scored token, V vocabulary.
"""

from __future__ import annotations

import gc
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from bench.errors import out_of_memory
from bench.evaluation.batch_limit import BatchLimit
from bench.evaluation.prefix_tree import Continuation, PackedRow, pack_rows
from bench.models import rotary
from bench.models.dtype import computing_in
from bench.models.hooks import HeadAt
from bench.progress import Advance, ignore_progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class TokenCounts:
    """What a model has computed for its requests; a text that is computed again after memory ran out counts once."""

    tokens: int = 0
    """Without padding."""
    rows: int = 0
    """Texts, each with the continuations that share its prefix."""
    at_head: int = 0
    """Tokens that went through the output head."""
    pairs: float = 0
    """Pairs of a token and a token that it attends to."""

    def add(self, tokens: int, rows: int, at_head: int, pairs: float) -> None:
        self.tokens += tokens
        self.rows += rows
        self.at_head += at_head
        self.pairs += pairs


@dataclass
class ContinuationScorer:
    """Scores continuations with a model."""

    model: PreTrainedModel
    device: torch.device
    max_length: int
    """Tokens of a row."""
    dtype: str
    """Of the forward passes (see `computing_in`)."""
    limit: BatchLimit
    counts: TokenCounts = field(default_factory=TokenCounts)

    @torch.inference_mode()
    def score(
        self,
        continuations: Sequence[Continuation],
        groups: Sequence[Hashable],
        advance: Advance = ignore_progress,
    ) -> list[tuple[float, bool]]:
        """(sum of log-probabilities in nats, whether greedy decoding gives it) of each continuation.

        Continuations of one group may share a row. Raises ValueError for a context or a continuation without tokens
        and for a continuation longer than `max_length`.
        """
        fitting, fitting_groups = [], []
        alone_from = rotary.alone_from(self.model.config) or self.max_length + 1
        for continuation, group in zip(continuations, groups, strict=True):
            self._check(continuation)
            fits = len(continuation.inputs) <= self.max_length
            if not fits:  # cut as HFLM does, which depends on the continuation: such a text shares no prefix
                room = self.max_length + 1 - len(continuation.tokens)
                continuation = Continuation(continuation.context[-room:], continuation.tokens)
            fitting.append(continuation)
            fitting_groups.append(group if fits and len(continuation.inputs) < alone_from else None)
        waiting = pack_rows(fitting, fitting_groups, self.max_length)
        alone = [row for row in waiting if max(row.positions) + 1 >= alone_from]
        if alone:  # before the others, so that no other row is in their batches
            waiting = alone + [row for row in waiting if max(row.positions) + 1 < alone_from]
        scores: list[tuple[float, bool]] = [(0.0, False)] * len(fitting)
        done = 0
        while waiting:
            batch = waiting[:1] if done < len(alone) else waiting[: self.limit.rows(len(waiting[0]))]
            try:
                batch_scores = self._score_batch(batch, fitting)
            except RuntimeError as error:
                if len(batch) == 1 or not out_of_memory(error):
                    raise
                self.limit.halve(len(batch), len(batch[0]))
                gc.collect()
                continue
            waiting = waiting[len(batch) :]
            for number, score in batch_scores.items():
                scores[number] = score
            done += len(batch_scores)
            advance(done, len(fitting), "rows")
        return scores

    def values(self, continuations: Sequence[Continuation], groups: Sequence[Hashable]) -> np.ndarray:
        """The log-probabilities (continuations,) alone."""
        return np.array([value for value, _ in self.score(continuations, groups)])

    def _check(self, continuation: Continuation) -> None:
        if not continuation.context:
            raise ValueError("a context of white space alone has no token that predicts the choice")
        if not 0 < len(continuation.tokens) <= self.max_length:
            raise ValueError(
                f"a choice has {len(continuation.tokens)} tokens; from 1 to {self.max_length} can be scored"
            )

    def _score_batch(
        self, batch: list[PackedRow], continuations: Sequence[Continuation]
    ) -> dict[int, tuple[float, bool]]:
        """The scores of a batch of rows (the longest first) by the numbers of the continuations."""
        length = len(batch[0])
        # Each predicting token goes through the head once, however many continuations it predicts.
        head_rows: dict[tuple[int, int], int] = {}
        numbers: list[int] = []
        indices: list[int] = []
        targets: list[int] = []
        lengths: list[int] = []
        for i, row in enumerate(batch):
            for number, path in row.paths:
                numbers.append(number)
                indices += [head_rows.setdefault((i, token), len(head_rows)) for token in path]
                targets += continuations[number].tokens
                lengths.append(len(path))
        pairs = sum(position + 1 for row in batch for position in row.positions)
        self.counts.add(sum(map(len, batch)), len(batch), len(head_rows), pairs)
        head = torch.tensor(list(head_rows)).T.to(self.device)  # (2, N)
        with HeadAt(self.model, head, length), computing_in(self.dtype, self.device):
            logits = self.model(**self._inputs(batch, length), use_cache=False).logits  # (N, V)
        index = torch.tensor(indices, device=self.device)
        target = torch.tensor(targets, device=self.device)
        largest = logits.amax(1).float()  # (N,)
        # Float32 copies of a few rows at a time stay in the processor's cache: five times as fast as all at once.
        few = max(16, len(logits) // 64)
        normalizer = torch.cat([part.float().logsumexp(1) for part in logits.split(few)])  # (N,)
        chosen = logits[index, target].float()
        log_probs = (chosen - normalizer[index]).double().split(lengths)
        greedy = (chosen == largest[index]).split(lengths)
        return {
            number: (float(values.sum()), bool(equal.all()))
            for number, values, equal in zip(numbers, log_probs, greedy, strict=True)
        }

    def _inputs(self, batch: list[PackedRow], length: int) -> dict[str, torch.Tensor]:
        inputs = {
            "input_ids": self._padded([row.tokens for row in batch]),  # (B, T)
            "prompt_mask": self._padded([row.prompt for row in batch]),  # (B, T)
        }
        # Rows without branches need no mask: right padding is not seen under causal attention.
        if any(row.has_branches for row in batch):
            inputs["position_ids"] = self._padded([row.positions for row in batch])  # (B, T)
            visible = torch.from_numpy(np.stack([row.visible(length) for row in batch])).to(self.device)
            mask = torch.zeros(visible.shape, dtype=self.model.dtype, device=self.device)
            mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)
            inputs["attention_mask"] = mask[:, None]  # (B, 1, T, T)
        return inputs

    def _padded(self, values: list[list[int]] | list[list[bool]]) -> torch.Tensor:
        """(B, T), padded on the right with zeros."""
        return pad_sequence([torch.tensor(row) for row in values], batch_first=True).to(self.device)
