"""What a cell of a sweep is asked: the identities of its evaluations and of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.evaluation import lm_eval_tasks
from bench.evaluation.spec import PROTOCOLS, check_protocols
from bench.sweep.identity import AnswersIdentity, EvaluationIdentity
from bench.sweep.schema import Sweep
from bench.sweep.sections import EvaluationConfig

if TYPE_CHECKING:
    from bench.data.sweep_data import SweepData


def identities(data: SweepData, config: EvaluationConfig, dtype: str, mergeable: bool) -> list[EvaluationIdentity]:
    """The evaluations that a cell of this sweep must have: every task by the first protocol, then by the next; at
    last lm-eval's own tasks, each as lm-eval defines it.

    Raises UserError for a protocol that is unknown or does not fit the data's format.
    """
    check_protocols(config, data.config.format)
    common = {"limit": config.limit, **_arithmetic(config, dtype, mergeable)}
    found = [
        EvaluationIdentity(
            task=task,
            task_version=data.tasks[task].version,
            protocol=protocol,
            protocol_version=PROTOCOLS[protocol].version,
            format=data.config.format,
            questions=data.questions_fingerprint(task),
            **common,
        )
        for protocol in config.protocols
        for task in data.questions
    ]
    for name in config.of_lm_eval:
        harness = lm_eval_tasks.load(name, data.config.seed, config.limit)
        found.append(
            EvaluationIdentity(
                task=name,
                task_version=harness.version,
                protocol=lm_eval_tasks.PROTOCOL,
                protocol_version=1,
                format="lm_eval",
                questions=harness.fingerprint,
                **common,
            )
        )
    return found


def answer_identities(data: SweepData, sweep: Sweep, dtype: str, mergeable: bool) -> list[AnswersIdentity]:
    """The open questions that a cell of this sweep must answer, set by set."""
    return [
        AnswersIdentity(
            set=name,
            questions=data.open_fingerprint(name),
            template=data.config.template,
            temperature=sweep.answers.temperature,
            max_new_tokens=sweep.answers.max_new_tokens,
            **_arithmetic(sweep.evaluation, dtype, mergeable),
        )
        for name in data.open_questions
    ]


def _arithmetic(config: EvaluationConfig, dtype: str, mergeable: bool) -> dict[str, Any]:
    merged = mergeable and config.merge == "always"
    return {"dtype": dtype, "merged": merged, "autocast": True if not merged and dtype != "float32" else None}
