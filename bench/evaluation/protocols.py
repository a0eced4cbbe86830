"""How each protocol scores a task, and which metric stands for the task.

Protocols are named and versioned; two protocols never share a column of a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.evaluation import generative_protocol, lm_eval_tasks, loglikelihood_protocol
from bench.sweep.identity import EvaluationIdentity

if TYPE_CHECKING:
    import pandas as pd

    from bench.data.sweep_data import SweepData

EVALUATE = {
    "loglikelihood": loglikelihood_protocol.evaluate,
    **dict.fromkeys(generative_protocol.GENERATIVE, generative_protocol.evaluate),
    lm_eval_tasks.PROTOCOL: lm_eval_tasks.evaluate,
}
"""How each protocol scores a task."""


def evaluate(lm: Any, data: SweepData, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task by its protocol; one row a question, in the task's order. `lm` is any lm-eval model.

    Raises Diverged where the model's outputs are not finite.
    """
    return EVALUATE[identity.protocol](lm, data, identity)


def primary(data: SweepData, identity: EvaluationIdentity) -> str:
    """The metric that stands for the task in averages."""
    if identity.protocol == lm_eval_tasks.PROTOCOL:
        return lm_eval_tasks.load(identity.task, data.config.seed, identity.limit).primary
    return data.tasks[identity.task].primary_in(identity.format)
