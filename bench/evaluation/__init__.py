"""How a model is scored: lm-eval runs the tasks; a question's row keeps all that its score was made from.

Protocols are named and versioned; two protocols never share a column of a table.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from typing import Any

import pandas as pd

from bench.data import Data, Question, Rendered
from bench.data.tasks import template
from bench.data.tasks.rows import document
from bench.errors import Diverged
from bench.sweep import EvaluationConfig, Strict

PROTOCOLS = {"loglikelihood": 1}
"""Name and version: raised when the same model and questions would come to another score."""


class EvaluationIdentity(Strict):
    """What decides a score besides the weights. Its hash names the items file."""

    task: str
    task_version: int
    protocol: str
    protocol_version: int
    format: str
    questions: str
    """Hash of the questions and their wording."""
    limit: int | None
    dtype: str
    merged: bool
    autocast: bool | None = None
    """Of an unmerged model: forward passes are cast to `dtype`, trained weights stay in float32. Null where merged."""

    @functools.cached_property
    def id(self) -> str:
        """The evaluation hash, 8 hex digits."""
        content = self.model_dump(mode="json", exclude=None if self.autocast else {"autocast"})
        content = json.dumps(content, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    @property
    def file(self) -> str:
        return f"{self.task}@{self.protocol}-{self.id}.parquet"


def identities(data: Data, config: EvaluationConfig, dtype: str, mergeable: bool) -> list[EvaluationIdentity]:
    """The evaluations that a cell of this sweep must have."""
    merged = mergeable and config.merge == "always"
    return [
        EvaluationIdentity(
            task=task,
            task_version=data.tasks[task].version,
            protocol=config.protocol,
            protocol_version=PROTOCOLS[config.protocol],
            format=data.config.format,
            questions=data.questions_fingerprint(task),
            limit=config.limit,
            dtype=dtype,
            merged=merged,
            autocast=True if not merged and dtype != "float32" else None,
        )
        for task in data.questions
    ]


def evaluate(lm: Any, data: Data, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task. One row a question, in the task's order, with per-choice log-likelihoods in nats.

    `lm` is any lm-eval model. Raises Diverged where a log-likelihood is not finite.
    """
    import lm_eval

    items = data.rendered(identity.task)
    task = lm_eval_task(items, identity)
    # Not simple_evaluate: it indexes every task that lm-eval has, for nine seconds a call.
    results = lm_eval.evaluate(lm, {identity.task: task}, log_samples=True, bootstrap_iters=0)
    if not all(
        math.isfinite(one[0]) for sample in results["samples"][identity.task] for one in sample["filtered_resps"]
    ):
        raise Diverged(f"the model's log-likelihoods on {identity.task} are not finite")
    samples = sorted(results["samples"][identity.task], key=lambda sample: sample["doc_id"])
    rows = []
    for (question, rendered), sample in zip(items, samples, strict=True):
        scores = [float(response[0]) for response in sample["filtered_resps"]]
        # What acc_norm divides by, as lm-eval has it: characters of the scored text without its leading space.
        lengths = [len(text.removeprefix(" ")) for text in rendered.continuations]
        text = json.dumps([rendered.contexts, rendered.continuations], ensure_ascii=False)
        rows.append(
            {
                "question_id": question.key,
                "prompt_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
                "loglikelihoods": scores,
                "lengths": lengths,
                "gold": rendered.label,
                "prediction": _argmax(scores),
                "prediction_norm": _argmax([score / max(n, 1) for score, n in zip(scores, lengths, strict=True)]),
                "acc": float(sample["acc"]),
                "protocol": f"{identity.protocol}-v{identity.protocol_version}",
                "task_version": identity.task_version,
            }
        )
    return check(pd.DataFrame(rows))


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
            **template(blank),
            "task": identity.task,
            "target_delimiter": " " if delimited else "",
            "test_split": "test",
            "custom_dataset": lambda **_: {"test": dataset},
            "metadata": {"version": identity.task_version},
        }
    )


def check(items: pd.DataFrame) -> pd.DataFrame:
    """The rows, if every recorded accuracy follows from its log-likelihoods.

    Raises ValueError where one does not: lm-eval and the rows would disagree.
    """
    recomputed = (items["prediction"] == items["gold"]).astype(float)
    if not recomputed.equals(items["acc"].astype(float)):
        raise ValueError(f"{(recomputed != items['acc']).sum()} recorded accuracies do not follow from their rows")
    return items


def scores(items: pd.DataFrame, primary: str) -> dict[str, Any]:
    """Accuracies of an items table, from its rows alone: n, acc, acc_norm, the primary metric, the majority class
    and chance (1/k, averaged over questions)."""
    gold = items["gold"]
    values = {
        "acc": float((items["prediction"] == gold).mean()),
        "acc_norm": float((items["prediction_norm"] == gold).mean()),
    }
    return {
        "n": len(items),
        **values,
        "primary": primary,
        "score": values[primary],
        "majority": float(gold.value_counts(normalize=True).max()),
        "chance": float((1 / items["loglikelihoods"].map(len)).mean()),
    }


def _argmax(values: list[float]) -> int:
    """The first of the largest, as numpy has it."""
    return max(range(len(values)), key=values.__getitem__)
