"""How a model is scored: lm-eval runs the tasks; a question's row keeps all that its score was made from.

Protocols are named and versioned; two protocols never share a column of a table.
"""

from __future__ import annotations

from bench.evaluation.identity import PROTOCOLS, EvaluationIdentity, identities
from bench.evaluation.items import check, scores
from bench.evaluation.loglikelihood import evaluate, lm_eval_task

__all__ = ["PROTOCOLS", "EvaluationIdentity", "check", "evaluate", "identities", "lm_eval_task", "scores"]
