"""The `loglikelihood` protocol: lm-eval's score of a choice is the log-probability of its text after the context."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.data.questions import Question, Rendered, cluster
from bench.data.sweep_data import SweepData
from bench.data.tasks import lm_eval_config
from bench.data.tasks.rows import document
from bench.evaluation.scoring import check, samples_of
from bench.hashing import short_hash
from bench.sweep.identity import EvaluationIdentity

if TYPE_CHECKING:
    import pandas as pd


def evaluate(lm: Any, data: SweepData, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task. One row a question, in the task's order, with per-choice log-likelihoods in nats.

    `lm` is any lm-eval model. Raises Diverged where a log-likelihood is not finite.
    """
    import pandas as pd

    items = data.rendered(identity.task)
    samples = samples_of(lm, identity.task, lm_eval_task(items, identity))
    rows = []
    for (question, rendered), sample in zip(items, samples, strict=True):
        scores = [float(response[0]) for response in sample["filtered_resps"]]
        # What acc_norm divides by, as lm-eval has it: characters of the scored text without its leading space.
        lengths = [len(text.removeprefix(" ")) for text in rendered.continuations]
        text = json.dumps([rendered.contexts, rendered.continuations], ensure_ascii=False)
        rows.append(
            {
                "question_id": question.key,
                "cluster": cluster(question),
                "prompt_hash": short_hash(text),
                **choice_row(scores, lengths, rendered.label),
                "acc": float(sample["acc"]),
                "protocol": identity.label,
                "task_version": identity.task_version,
            }
        )
    return check(pd.DataFrame(rows))


def choice_row(scores: list[float], lengths: list[int], gold: int) -> dict[str, Any]:
    """What a row says of a question's choices: log-likelihoods (nats), lengths (characters), and what is predicted
    from them, as they are (acc) and divided by the lengths (acc_norm)."""
    by_length = [score / max(length, 1) for score, length in zip(scores, lengths, strict=True)]
    return {
        "loglikelihoods": scores,
        "lengths": lengths,
        "gold": gold,
        "prediction": _argmax(scores),
        "prediction_norm": _argmax(by_length),
    }


def choice_scores(lm: Any, items: list[tuple[Question, Rendered]]) -> list[list[float]]:
    """Log-likelihoods (nats) of the choices of questions, in their order, without lm-eval's bookkeeping."""
    from lm_eval.api.instance import Instance

    requests = [
        Instance("loglikelihood", {}, pair, number, metadata=(question.task, doc, 1))
        for doc, (question, rendered) in enumerate(items)
        for number, pair in enumerate(zip(rendered.contexts, rendered.continuations, strict=True))
    ]
    found = iter(lm.loglikelihood(requests, disable_tqdm=True))
    return [[float(next(found)[0]) for _ in rendered.contexts] for _, rendered in items]


def lm_eval_task(items: list[tuple[Question, Rendered]], identity: EvaluationIdentity) -> Any:
    """lm-eval's task over these questions: the package's template with our documents in it."""
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
    """The first of the largest, as numpy has it."""
    return max(range(len(values)), key=values.__getitem__)
