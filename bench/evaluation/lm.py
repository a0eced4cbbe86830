"""lm-eval's HFLM with the harness's own progress."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

logging.getLogger("lm_eval").setLevel(logging.ERROR)


class LanguageModel(HFLM):
    """A model as lm-eval sees it.

    Its one-token cache is off: it answers wrongly where two requests share a context but differ in length.
    `advance(done, total, note)` is told of the rows scored; lm-eval's own bars are off.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        super().__init__(
            pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size, logits_cache=False
        )
        self.advance: Callable[[int, int, str], None] = lambda done, total, note: None

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        self._done, self._total = 0, len(requests)
        return super().loglikelihood(requests, disable_tqdm=True)

    def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
        logits = super()._model_call(inps, *args, **kwargs)
        self._done += len(inps)
        self.advance(self._done, self._total, "rows")
        return logits
