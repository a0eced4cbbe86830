"""lm-eval's HFLM with a scorer of tokens of its own, which does not tie the model's weights a second time.

HFLM's `_loglikelihood_tokens` is private, and so is that its constructor calls `model.tie_weights()`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from torch import nn
from transformers import PreTrainedTokenizerBase

from bench.environment import errors_only
from bench.models.compat import require

UPSTREAM = "https://github.com/EleutherAI/lm-evaluation-harness/blob/v0.4.13/lm_eval/models/huggingface.py"

_parameters = list(inspect.signature(HFLM._loglikelihood_tokens).parameters)
require(
    _parameters == ["self", "requests", "disable_tqdm", "override_bs"],
    "lm-eval",
    "HFLM._loglikelihood_tokens",
    UPSTREAM,
)
require(
    {"backend", "batch_size", "logits_cache"} <= inspect.signature(HFLM.__init__).parameters.keys(),
    "lm-eval",
    "HFLM.__init__ with backend, batch_size and logits_cache",
    UPSTREAM,
)

Tokens = tuple[Sequence[int], Sequence[int]]
"""A context and its continuation."""


class TokenScoringLM(HFLM):
    """HFLM for a model that is loaded already. Subclasses implement `score_tokens`.

    HFLM's one-token cache is off: it gives wrong answers if two requests share a context but differ in length.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        # HFLM would tie the weights again. They are tied, and an adapted embedding (trainable tokens) breaks if it is
        # tied a second time.
        vars(model)["tie_weights"] = lambda: None
        try:
            with errors_only("lm_eval"):
                super().__init__(
                    pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size, logits_cache=False
                )
        finally:
            del vars(model)["tie_weights"]

    def score_tokens(self, requests: Sequence[Tokens]) -> list[tuple[float, bool]]:
        """(sum of log-probabilities in nats, whether greedy decoding gives the continuation) of each request."""
        raise NotImplementedError

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[object, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Called by HFLM's perplexities."""
        return self.score_tokens([(context, continuation) for _, context, continuation in requests])


def generation_request(prompt: str, kwargs: object, number: int) -> Instance:
    """A request of lm-eval to generate a text."""
    return Instance("generate_until", {}, (prompt, kwargs), number)
