"""The `loglikelihood` protocol of lm-eval: a choice's score is the log-probability of its text after the context."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.data.questions import Question, Rendered
from bench.data.sweep_data import SweepData
from bench.data.tasks import lm_eval_config
from bench.data.tasks.rows import document
from bench.environment import errors_only
from bench.evaluation.scoring import check_rows
from bench.evaluation.task_sample import run_lm_eval_task
from bench.hashing import short_hash
from bench.sweep.evaluation_identity import EvaluationIdentity

if TYPE_CHECKING:
    import pandas as pd
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task as LmEvalTask


@dataclass(frozen=True)
class ChoiceColumns:
    """What a row records of a question's choices."""

    loglikelihoods: list[float]
    """Nats."""
    lengths: list[int]
    """Characters."""
    gold: int
    """Index of the right choice."""
    prediction: int
    """The choice with the highest log-likelihood: acc."""
    prediction_norm: int
    """The choice with the highest log-likelihood divided by its length: acc_norm."""

    @classmethod
    def of(cls, loglikelihoods: list[float], lengths: list[int], gold: int) -> ChoiceColumns:
        normalized = [value / max(length, 1) for value, length in zip(loglikelihoods, lengths, strict=True)]
        return cls(loglikelihoods, lengths, gold, _argmax(loglikelihoods), _argmax(normalized))


def evaluate_by_loglikelihood(lm: LM, data: SweepData, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task. One row for each question, in the task's order, with per-choice log-likelihoods in nats.

    `lm` is any lm-eval model. Raises Diverged if a log-likelihood is not finite.
    """
    import pandas as pd

    items, clusters = data.rendered(identity.task), data.clusters(identity.task)
    samples = run_lm_eval_task(lm, identity.task, loglikelihood_lm_eval_task(items, identity))
    rows = []
    for (question, rendered), sample in zip(items, samples, strict=True):
        # acc_norm divides by this length, as in lm-eval: characters of the scored text without its leading space.
        lengths = [len(text.removeprefix(" ")) for text in rendered.continuations]
        text = json.dumps([rendered.contexts, rendered.continuations], ensure_ascii=False)
        rows.append(
            {
                "question_id": question.key,
                "cluster": clusters[question.key],
                "prompt_hash": short_hash(text),
                **vars(ChoiceColumns.of(sample.loglikelihoods, lengths, rendered.label)),
                "acc": sample.metric("acc"),
                "protocol": identity.label,
                "task_version": identity.task_version,
            }
        )
    return check_rows(pd.DataFrame(rows))


def choice_loglikelihoods(lm: LM, items: Sequence[tuple[Question, Rendered]]) -> list[list[float]]:
    """Log-likelihoods (nats) of the choices of each question, in their order, without running an lm-eval task."""
    from lm_eval.api.instance import Instance

    requests = [
        Instance("loglikelihood", {}, pair, number, metadata=(question.task, doc, 1))
        for doc, (question, rendered) in enumerate(items)
        for number, pair in enumerate(zip(rendered.contexts, rendered.continuations, strict=True))
    ]
    responses = iter(lm.loglikelihood(requests, disable_tqdm=True))
    return [[float(next(responses)[0]) for _ in rendered.contexts] for _, rendered in items]


@errors_only("lm_eval")
def loglikelihood_lm_eval_task(items: list[tuple[Question, Rendered]], identity: EvaluationIdentity) -> LmEvalTask:
    """An lm-eval task over these questions: the package's template with the questions as documents."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    dataset = Dataset.from_list([document(question, rendered) for question, rendered in items])
    # In the llm_adapters format a fill-in question lists its choices like any other.
    blank = any(len(set(rendered.contexts)) > 1 for _, rendered in items)
    delimited = items[0][1].continuations[0].startswith(" ")
    return ConfigurableTask(
        config={
            **lm_eval_config(blank),
            "task": identity.task,
            "target_delimiter": " " if delimited else "",
            "test_split": "test",
            "custom_dataset": lambda **_: {"test": dataset},
            "metadata": {"version": identity.task_version},
        }
    )


def _argmax(values: list[float]) -> int:
    """The index of the largest value, of the first one among equals, as in numpy."""
    return max(range(len(values)), key=values.__getitem__)
