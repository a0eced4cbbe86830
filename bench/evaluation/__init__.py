"""How a model is scored: lm-eval runs the tasks; a question's row keeps all that its score was made from.

Protocols are named and versioned; two protocols never share a column of a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.evaluation import generative, loglikelihood, of_lm_eval
from bench.evaluation.asked import answer_identities, identities
from bench.evaluation.identity import PROTOCOLS, AnswersIdentity, EvaluationIdentity, check_protocols, label
from bench.evaluation.items import check, right, scores
from bench.evaluation.loglikelihood import lm_eval_task

if TYPE_CHECKING:
    import pandas as pd

    from bench.data import Data

__all__ = [
    "PROTOCOLS",
    "AnswersIdentity",
    "EvaluationIdentity",
    "answer_identities",
    "check",
    "check_protocols",
    "evaluate",
    "identities",
    "label",
    "lm_eval_task",
    "primary",
    "right",
    "scores",
]

EVALUATE = {
    "loglikelihood": loglikelihood.evaluate,
    **dict.fromkeys(generative.GENERATIVE, generative.evaluate),
    of_lm_eval.PROTOCOL: of_lm_eval.evaluate,
}
"""How each protocol scores a task."""


def evaluate(lm: Any, data: Data, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task by its protocol; one row a question, in the task's order. `lm` is any lm-eval model.

    Raises Diverged where the model's outputs are not finite.
    """
    return EVALUATE[identity.protocol](lm, data, identity)


def primary(data: Data, identity: EvaluationIdentity) -> str:
    """The metric that stands for the task in averages."""
    if identity.protocol == of_lm_eval.PROTOCOL:
        return of_lm_eval.load(identity.task, data.config.seed, identity.limit).primary
    return data.tasks[identity.task].primary_in(identity.format)
