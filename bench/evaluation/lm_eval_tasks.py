"""lm-eval's own multiple-choice tasks, `lm_eval:NAME` in `evaluation.tasks`, scored as lm-eval defines them.

Their prompts, few-shot examples and splits are lm-eval's; the questions of a limit are drawn by the data seed like
those of every other task. They are not looked through for questions that stand in the training data.
"""

from __future__ import annotations

import difflib
import functools
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.evaluation.loglikelihood_protocol import choice_row
from bench.evaluation.scoring import check, samples_of
from bench.hashing import short_hash
from bench.sweep.identity import EvaluationIdentity
from bench.sweep.sections import LM_EVAL

if TYPE_CHECKING:
    import pandas as pd

    from bench.data.sweep_data import SweepData


PROTOCOL = "lm_eval"
FEWSHOT_SEED = 1234
"""As lm-eval's own runs have it."""


@dataclass(frozen=True)
class Harness:
    """A task of lm-eval with the questions that are drawn from it."""

    name: str
    task: Any
    version: str
    documents: tuple[int, ...]
    """Places in the task's evaluation split, ascending."""
    fingerprint: str
    """Hash of all that is asked: contexts, few-shot examples among them, and choices."""

    @property
    def primary(self) -> str:
        """acc_norm where the task reports it: its authors' word that lengths should not decide."""
        return "acc_norm" if "acc_norm" in self.task.aggregation() else "acc"


@functools.cache
def load(name: str, seed: int, limit: int | None) -> Harness:
    """A task of lm-eval by its name, `lm_eval:hellaswag`, or by its file, `lm_eval:my_task.yaml`; fetches its data.

    Raises UserError for one that lm-eval does not know, a group of several, one that is not multiple choice, and one
    that has several right answers to a question or scores of another kind than the share of right ones.
    """
    import lm_eval.tasks

    spec = name.removeprefix(LM_EVAL)
    is_file = spec.endswith(".yaml")
    if is_file and not Path(spec).is_file():
        raise UserError(f"evaluation.tasks: there is no file {spec}", f"Give {LM_EVAL}NAME or {LM_EVAL}PATH.yaml.")
    manager = lm_eval.tasks.TaskManager(include_defaults=not is_file)  # the index of all takes nine seconds
    if not is_file and spec not in manager.all_subtasks:
        if spec in manager.all_tasks:
            raise UserError(
                f"evaluation.tasks: {name} is a group of tasks", "Name its tasks one by one: each has its own scores."
            )
        near = difflib.get_close_matches(spec, manager.all_subtasks, n=3)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"lm-eval has no task {spec!r}", f"{hint}`lm-eval ls tasks` lists them.")
    (task,) = manager.load([spec])["tasks"].values()
    if task.OUTPUT_TYPE != "multiple_choice":
        raise UserError(
            f"evaluation.tasks: {name} is of the kind {task.OUTPUT_TYPE}", "Only multiple_choice tasks have choices."
        )
    documents = list(task.eval_docs)
    drawn = list(range(len(documents)))
    random.Random(f"{seed}:{name}:limit").shuffle(drawn)
    drawn = sorted(drawn[:limit])
    _check(name, task, [documents[i] for i in drawn])
    task.set_fewshot_seed(FEWSHOT_SEED)
    task.build_all_requests(samples=drawn, rank=0, world_size=1)
    asked = [list(one.arguments) for one in sorted(task.instances, key=lambda one: (one.doc_id, one.idx))]
    content = json.dumps(asked, ensure_ascii=False)
    fingerprint = short_hash(content)
    return Harness(name, task, str(task.VERSION), tuple(drawn), fingerprint)


def _check(name: str, task: Any, documents: list[Any]) -> None:
    """Raises UserError for a task whose score is not the share of questions with the right choice on top."""
    metrics = task.aggregation()
    other = [metric for metric in ("acc", "acc_norm") if getattr(metrics.get(metric), "__name__", "mean") != "mean"]
    if "acc" not in metrics or other or task.config.process_results is not None:
        raise UserError(
            f"evaluation.tasks: {name} is scored by {', '.join(metrics)}, in a way of its own",
            "Only tasks whose acc is the share of right answers can be scored here; lm-eval alone can score it.",
        )
    for document in documents:
        right, choices = _right(task, document), task.doc_to_choice(document)
        if not isinstance(right, int) or not 0 <= right < len(choices):
            raise UserError(
                f"evaluation.tasks: {name} has a question whose right answer is {right!r} of {len(choices)} choices",
                "Only tasks with one right choice a question can be scored here; lm-eval alone can score it.",
            )


def _right(task: Any, document: Any) -> Any:
    """The place of the right choice of a document; whatever the task gives where it is no such place."""
    # A fill-in task has its answer where others have their text.
    right = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    if isinstance(right, str):
        choices = task.doc_to_choice(document)
        return choices.index(right) if right in choices else int(right) if right.isdigit() else right
    return right


def evaluate(lm: Any, data: SweepData, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task by the protocol `lm_eval`; rows as those of the `loglikelihood` protocol.

    Raises Diverged where a log-likelihood is not finite.
    """
    import pandas as pd

    harness = load(identity.task, data.config.seed, identity.limit)
    task = harness.task
    task.set_fewshot_seed(FEWSHOT_SEED)  # else each cell would see other examples in its prompts
    rows = []
    for sample in samples_of(lm, task.task_name, task, harness.documents):
        choices = task.doc_to_choice(sample["doc"])
        scores = [float(response[0]) for response in sample["filtered_resps"]][: len(choices)]
        rows.append(
            {
                "question_id": sample["doc_hash"][:16],
                "prompt_hash": sample["prompt_hash"][:16],
                **choice_row(scores, [len(choice) for choice in choices], _right(task, sample["doc"])),
                "acc": float(sample["acc"]),
                "protocol": identity.label,
                "task_version": identity.task_version,
            }
        )
    return check(pd.DataFrame(rows))
