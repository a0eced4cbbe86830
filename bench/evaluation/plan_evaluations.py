"""Which evaluations and which open answers a cell of a sweep must have, as identities."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from bench.evaluation import lm_eval_tasks
from bench.evaluation.protocols import PROTOCOLS, check_protocols
from bench.sweep.evaluation_identity import AnswersIdentity, EvaluationIdentity, autocast
from bench.sweep.schema import Sweep
from bench.sweep.sections import EvaluationConfig

if TYPE_CHECKING:
    from bench.data.sweep_data import SweepData


def evaluation_identities(
    data: SweepData, config: EvaluationConfig, dtype: str, mergeable: bool
) -> list[EvaluationIdentity]:
    """The evaluations of a cell of this sweep: every task by the first protocol, then by the next, and so on; last
    come lm-eval's own tasks, each scored as lm-eval defines it.

    Raises UserError for a protocol that is unknown or does not fit the data's format.
    """
    check_protocols(config, data.config.format)
    arithmetic = _arithmetic(config, dtype, mergeable)
    identities = [
        EvaluationIdentity(
            task=task,
            task_version=data.tasks[task].version,
            protocol=protocol,
            protocol_version=PROTOCOLS[protocol].version,
            format=data.config.format,
            questions=data.questions_fingerprint(task),
            limit=config.limit,
            **arithmetic,
        )
        for protocol in config.protocols
        for task in data.questions
    ]
    for name in config.of_lm_eval:
        harness_task = lm_eval_tasks.load_lm_eval_task(name, data.config.seed, config.limit)
        identities.append(
            EvaluationIdentity(
                task=name,
                task_version=harness_task.version,
                protocol=lm_eval_tasks.PROTOCOL,
                protocol_version=PROTOCOLS[lm_eval_tasks.PROTOCOL].version,
                format="lm_eval",
                questions=harness_task.fingerprint,
                limit=config.limit,
                **arithmetic,
            )
        )
    return identities


def answer_identities(data: SweepData, sweep: Sweep, dtype: str, mergeable: bool) -> list[AnswersIdentity]:
    """The open questions that a cell of this sweep must answer, set by set."""
    if sweep.answers is None:
        return []
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


class _Arithmetic(TypedDict):
    dtype: str
    merged: bool
    autocast: bool | None


def _arithmetic(config: EvaluationConfig, dtype: str, mergeable: bool) -> _Arithmetic:
    merged = mergeable and config.merge == "always"
    return {"dtype": dtype, "merged": merged, "autocast": autocast(dtype, merged)}
