"""How a model is scored: lm-eval runs the tasks; a question's row keeps all that its score was made from.

Protocols are named and versioned; two protocols never share a column of a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.evaluation import generative, loglikelihood
from bench.evaluation.identity import PROTOCOLS, EvaluationIdentity, check_protocols, identities, label
from bench.evaluation.items import check, scores
from bench.evaluation.loglikelihood import lm_eval_task

if TYPE_CHECKING:
    import pandas as pd

    from bench.data import Data

__all__ = [
    "PROTOCOLS",
    "EvaluationIdentity",
    "check",
    "check_protocols",
    "evaluate",
    "identities",
    "label",
    "lm_eval_task",
    "scores",
]

EVALUATE = {"loglikelihood": loglikelihood.evaluate, **dict.fromkeys(generative.GENERATIVE, generative.evaluate)}
"""How each protocol scores a task."""


def evaluate(lm: Any, data: Data, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task by its protocol; one row a question, in the task's order. `lm` is any lm-eval model.

    Raises Diverged where the model's outputs are not finite.
    """
    return EVALUATE[identity.protocol](lm, data, identity)
