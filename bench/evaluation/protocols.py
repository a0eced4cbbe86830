"""The protocols by which tasks are scored, with their versions, and the metric that stands for a task.

Protocols are named and versioned. The scores of two protocols never share a column of a table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.data.sweep_data import SweepData
from bench.errors import UserError, unknown
from bench.evaluation import lm_eval_tasks
from bench.evaluation.generative_protocol import evaluate_by_generation
from bench.evaluation.loglikelihood_protocol import evaluate_by_loglikelihood
from bench.sweep.evaluation_identity import EvaluationIdentity
from bench.sweep.sections import EvaluationConfig

if TYPE_CHECKING:
    import pandas as pd
    from lm_eval.api.model import LM

    Evaluate = Callable[[LM, SweepData, EvaluationIdentity], pd.DataFrame]


@dataclass(frozen=True)
class ScoringProtocol:
    """A versioned way from a question to its score."""

    version: int
    """Raised when the same model and questions would get another score. The generative protocols have the version in
    their names, so that a change is a new name."""
    formats: tuple[str, ...]
    """The values of `data.format` whose answers it can score. Empty: not for `evaluation.protocol`; it comes with
    the task."""
    evaluate: Evaluate


PROTOCOLS: dict[str, ScoringProtocol] = {
    "loglikelihood": ScoringProtocol(1, ("question", "lm_eval", "llm_adapters", "loreft"), evaluate_by_loglikelihood),
    "llm-adapters-v1": ScoringProtocol(1, ("llm_adapters",), evaluate_by_generation),
    "loreft-v1": ScoringProtocol(1, ("loreft",), evaluate_by_generation),
    "generative-v2": ScoringProtocol(2, ("llm_adapters",), evaluate_by_generation),
    lm_eval_tasks.PROTOCOL: ScoringProtocol(1, (), lm_eval_tasks.evaluate_lm_eval_task),
}


def check_protocols(config: EvaluationConfig, format: str) -> None:
    """Raises UserError for a protocol that is unknown, or that cannot score answers of this format."""
    selectable = {name: protocol for name, protocol in PROTOCOLS.items() if protocol.formats}
    for name in config.protocols:
        if name not in selectable:
            raise unknown("protocol", name, selectable)
        allowed = selectable[name].formats
        if format not in allowed:
            fitting = ", ".join(other for other, protocol in selectable.items() if format in protocol.formats)
            raise UserError(
                f"evaluation.protocol {name} cannot score data.format {format}; it scores {', '.join(allowed)}",
                f"Set data.format: {allowed[0]} (the cells are then trained anew), or set evaluation.protocol to one "
                f"that scores {format}: {fitting}.",
            )


def evaluate_task(lm: LM, data: SweepData, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task by its protocol; one row for each question, in the task's order. `lm` is any lm-eval model.

    Raises Diverged if the model's outputs are not finite.
    """
    return PROTOCOLS[identity.protocol].evaluate(lm, data, identity)


def primary_metric(data: SweepData, identity: EvaluationIdentity) -> str:
    """The metric that stands for the task in averages: acc or acc_norm."""
    if identity.protocol == lm_eval_tasks.PROTOCOL:
        return lm_eval_tasks.load_lm_eval_task(identity.task, data.config.seed, identity.limit).primary_metric
    return data.tasks[identity.task].primary_in(identity.format)
