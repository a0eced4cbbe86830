"""The model as lm-eval calls it: HFLM with shared prefixes computed once, and with a batched decoder."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from bench.data.encoding import encode_pair, encode_prompt
from bench.evaluation.batch_limit import BATCH_TOKENS, BatchLimit
from bench.evaluation.continuation_scorer import ContinuationScorer, TokenCounts
from bench.evaluation.generation import GenerationKwargs, generate_until
from bench.evaluation.prefix_tree import Continuation
from bench.evaluation.sharing_check import check_sharing, passed, warning_of
from bench.methods.method import SharedPrefix
from bench.models.compat.lm_eval import Tokens, TokenScoringLM, generation_request
from bench.models.compat.transformers_models import attention_implementation
from bench.models.embedded_tokens import check_embedded
from bench.models.hooks import drop_prompt_mask
from bench.models.shared_rows import row_sharing
from bench.progress import Advance, ignore_progress
from bench.store.records import SharingCheck

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


CPU_CACHE_BYTES = 2_000_000_000
"""Of the keys and values of one batch of answers on a CPU; on a GPU it is half of the free memory. Decoding reads all
weights for each token of a batch: many rows cost little more than one."""


class LanguageModel(TokenScoringLM):
    """Scores continuations as HFLM does: the same tokens, the same truncation, log-probabilities in float32.

    `share` says which requests may share a row, in which their common prefix is computed once under a tree attention
    mask: with "any" all requests of a question, with "context" those that have the same context, with "none" no
    requests. It is "none" for models that do not support such a mask (`bench.models.shared_rows`). The first call
    scores a few questions both ways (`sharing_check`); if they differ, nothing is shared and `warnings` says so.
    Prompts of a batch are padded on the left if the method (`pads_left`) and the model support it.

    A forward pass takes at most `batch_size` rows, and the tokens of `limit`. With `autocast`, a dtype, forward passes
    compute in it, as in training; without, in the dtype of the weights. `advance(done, total, note)` is called after
    each batch; lm-eval itself prints nothing. `counts` is the work of all calls so far.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int | None = None,
        share: SharedPrefix = "none",
        autocast: str | None = None,
        pads_left: bool = True,
    ) -> None:
        super().__init__(model, tokenizer, batch_size or 1)
        drop_prompt_mask(model)
        sharing = row_sharing(self.model.config)
        masked = sharing.rows and attention_implementation(self.model) in ("sdpa", "eager")
        self.share: SharedPrefix = share if masked else "none"
        self.sharing_check: SharingCheck | None = None
        self.warnings: list[str] = []
        self.pads_left = pads_left and sharing.left_padding and (share != "none" or sharing.padding_after_prefix)
        self.computing_dtype = autocast or "float32"
        self.limit = BatchLimit(BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cpu"]), batch_size)
        self.scorer = ContinuationScorer(self.model, self.device, self.max_length, self.computing_dtype, self.limit)
        self.advance: Advance = ignore_progress

    @property
    def counts(self) -> TokenCounts:
        """The work of all requests so far."""
        return self.scorer.counts

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(sum of log-probabilities in nats, whether greedy decoding gives it) of each request, in their order.

        Raises ValueError for a context of white space alone: as in HFLM, it has no token that predicts the choice,
        and CellProblem for a token that the model has no embedding of.
        """
        pairs = [request.args for request in requests]
        begins_with_token = bool(encode_prompt(self.tokenizer, ""))
        if not begins_with_token and any(context and not context.strip() for context, _ in pairs):
            raise ValueError("a context of white space alone has no token that predicts the choice")
        continuations = [Continuation(*encode_pair(self.tokenizer, *pair)) for pair in pairs]
        texts = [[*continuation.context, *continuation.tokens] for continuation in continuations]
        check_embedded(self.model, self.tokenizer, texts)
        groups: list[Hashable] = []
        for request, continuation in zip(requests, continuations, strict=True):
            question = (request.task_name, request.doc_id)
            # Requests without a question (made by hand) are grouped by their contexts.
            by_question = self.share == "any" and request.doc_id is not None
            groups.append(question if by_question else (*question, tuple(continuation.context)))
        if self.share != "none" and self.sharing_check is None:
            self._check_sharing(continuations, groups)
        return self.scorer.score(continuations, groups if self.share != "none" else [None] * len(groups), self.advance)

    def _check_sharing(self, continuations: Sequence[Continuation], groups: Sequence[Hashable]) -> None:
        check = check_sharing(self.scorer, continuations, groups, self.share)
        if check is None:  # no prefix is shared here; the next call checks
            return
        if not passed(check):
            self.share = "none"
            check.share = "none"
            exact = self.computing_dtype == "float32" and self.model.dtype == torch.float32
            self.warnings.append(warning_of(check, exact))
        self.sharing_check = check

    def score_tokens(self, requests: Sequence[Tokens]) -> list[tuple[float, bool]]:
        """Each request for itself: lm-eval's perplexities call this."""
        continuations = [Continuation(context, continuation) for context, continuation in requests]
        return self.scorer.score(continuations, [None] * len(continuations), self.advance)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text generated for each request, in their order (`bench.evaluation.generation.generate_until`)."""
        return generate_until(
            self,
            requests,
            self.limit,
            self.computing_dtype,
            pads_left=self.pads_left,
            advance=self.advance,
            count=self.counts.add,
        )

    def answer(
        self,
        prompts: Sequence[str],
        kwargs: Sequence[GenerationKwargs],
        advance: Advance,
        on_text: Callable[[int, str], None],
    ) -> None:
        """Generate a text for each prompt with its own generation kwargs; calls `on_text(index, text)` for each.

        White space at the end of a prompt is left to the model, as in training (`bench.data.encoding.encode_pair`).
        """
        requests = [
            generation_request(prompt.rstrip(), settings, number)
            for number, (prompt, settings) in enumerate(zip(prompts, kwargs, strict=True))
        ]
        generate_until(
            self,
            requests,
            BatchLimit(self._cached_tokens(), self.limit.max_rows),
            self.computing_dtype,
            pads_left=self.pads_left,
            advance=advance,
            count=self.counts.add,
            on_text=on_text,
        )

    def _cached_tokens(self) -> int:
        """Tokens of a batch of answers, new ones included, whose keys and values fit in memory."""
        config = self.model.config.get_text_config()
        all_heads = getattr(config, "num_attention_heads", None) or 1  # a recurrent model has none, and a smaller state
        heads = getattr(config, "num_key_value_heads", None) or all_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // all_heads
        number_bytes = 4 if self.computing_dtype == "float32" else 2
        token_bytes = 2 * config.num_hidden_layers * heads * width * number_bytes
        free = torch.cuda.mem_get_info()[0] // 2 if self.device.type == "cuda" else CPU_CACHE_BYTES
        return free // token_bytes
