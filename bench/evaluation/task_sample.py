"""One of lm-eval's task objects run on a model, and what lm-eval records of each question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.environment import errors_only
from bench.errors import Diverged

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task


@dataclass(frozen=True)
class TaskSample:
    """What lm-eval recorded of one question of a task."""

    content: Mapping[str, Any]
    """lm-eval's own mapping."""

    @property
    def document(self) -> Mapping[str, Any]:
        return self.content["doc"]

    @property
    def document_hash(self) -> str:
        return self.content["doc_hash"]

    @property
    def prompt_hash(self) -> str:
        return self.content["prompt_hash"]

    @property
    def loglikelihoods(self) -> list[float]:
        """Of the choices, in nats; in some tasks followed by further log-likelihoods."""
        return [float(response[0]) for response in self.content["filtered_resps"]]

    @property
    def generated(self) -> str:
        """The generated text as it was."""
        return self.content["resps"][0][0]

    @property
    def parsed(self) -> str:
        """What the task's filter extracted from the generated text."""
        return self.content["filtered_resps"][0]

    def metric(self, name: str) -> float:
        return float(self.content[name])


@errors_only("lm_eval")
def run_lm_eval_task(lm: LM, name: str, task: Task, documents: Sequence[int] | None = None) -> list[TaskSample]:
    """Run one of lm-eval's task objects, on the documents at these indices (all of them by default).

    Returns the samples in the order of the documents. Raises Diverged if a log-likelihood is not finite.
    """
    import lm_eval

    indices = None if documents is None else {name: list(documents)}
    # Not simple_evaluate: it indexes every task of lm-eval, which takes nine seconds a call.
    results = lm_eval.evaluate(lm, {name: task}, samples=indices, log_samples=True, bootstrap_iters=0)
    samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    # The response to a log-likelihood request is a pair, the response to a generation request is a text.
    responses = [response for sample in samples for response in sample["filtered_resps"]]
    if not all(isinstance(response, str) or math.isfinite(response[0]) for response in responses):
        raise Diverged(f"the model's log-likelihoods on {name} are not finite")
    return [TaskSample(sample) for sample in samples]
