"""lm-eval's own multiple-choice tasks, `lm_eval:NAME` in `evaluation.tasks`, scored as lm-eval defines them.

Prompts, few-shot examples and splits are lm-eval's. With a limit, the questions are drawn by the data seed, as for
every other task. The questions are not checked for overlap with the training data.
"""

from __future__ import annotations

import difflib
import functools
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import OutOfReach, UserError, first_line
from bench.evaluation.loglikelihood_protocol import ChoiceColumns
from bench.evaluation.scoring import check_rows
from bench.evaluation.task_file import TaskFile, read_task_file
from bench.evaluation.task_sample import run_lm_eval_task
from bench.hashing import short_hash
from bench.sweep.evaluation_identity import EvaluationIdentity
from bench.sweep.sections import LM_EVAL

if TYPE_CHECKING:
    import pandas as pd
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task as LmEvalTask
    from lm_eval.tasks import TaskManager

    from bench.data.sweep_data import SweepData


PROTOCOL = "lm_eval"
FEWSHOT_SEED = 1234
"""lm-eval's default."""


@dataclass(frozen=True)
class HarnessTask:
    """A task of lm-eval with the questions that were drawn from it."""

    name: str
    task: LmEvalTask
    version: str
    documents: tuple[int, ...]
    """Indices into the task's evaluation split, ascending."""
    fingerprint: str
    """Hash of the contexts (with their few-shot examples) and the choices."""

    @property
    def other_metrics(self) -> list[str]:
        """Metrics of the task that are not scored here: acc and acc_norm are."""
        return [metric for metric in self.task.aggregation() if metric not in ("acc", "acc_norm")]

    @property
    def primary_metric(self) -> str:
        """acc_norm if the task reports it: its authors then decided that lengths should not matter."""
        return "acc_norm" if "acc_norm" in self.task.aggregation() else "acc"


@functools.cache
def load_lm_eval_task(name: str, seed: int, limit: int | None) -> HarnessTask:
    """A task of lm-eval by its name, `lm_eval:hellaswag`, or by its file, `lm_eval:my_task.yaml`; fetches its data.

    Raises OutOfReach if its data cannot be fetched. Raises UserError if lm-eval does not know the task, if it is a
    group of tasks or not multiple choice, if a question has several right answers, or if its score is not the share of
    right answers.
    """
    from bench.models.compat.lm_eval_templates import sandbox_templates

    spec = name.removeprefix(LM_EVAL)
    is_file = spec.endswith(".yaml")
    if is_file:
        _check_single(name, read_task_file(Path(spec)))
    if not is_file:
        _check_known(spec)
    sandbox_templates()
    manager = _task_manager(include_defaults=not is_file)
    if not is_file and spec not in manager.all_subtasks:
        if spec in manager.all_tasks:
            raise UserError(
                f"evaluation.tasks: {name} is a group of tasks", "List its tasks one by one: each has its own scores."
            )
        raise _unknown_task(spec, manager.all_subtasks)
    try:
        (task,) = manager.load([spec])["tasks"].values()
        return _with_questions(name, task, seed, limit)
    except UserError:
        raise
    except OSError as error:
        raise OutOfReach(
            f"evaluation.tasks: the data of {name} cannot be loaded: {first_line(error)}",
            "They would be downloaded from the hub: connect once, or leave the task out.",
        ) from error
    except Exception as error:  # a task's definition may raise anything
        raise UserError(
            f"evaluation.tasks: lm-eval cannot load {name}: {type(error).__name__}: {first_line(error)}",
            f"`lm-eval validate --tasks {spec}` says more.",
        ) from error


def _with_questions(name: str, task: LmEvalTask, seed: int, limit: int | None) -> HarnessTask:
    """The task with its questions drawn. Raises UserError for a task that cannot be scored here."""
    if task.OUTPUT_TYPE != "multiple_choice":
        raise UserError(f"evaluation.tasks: {name} is of the kind {task.OUTPUT_TYPE}", "Choose a multiple_choice task.")
    documents = list(task.eval_docs)
    drawn = list(range(len(documents)))
    random.Random(f"{seed}:{name}:limit").shuffle(drawn)
    drawn = sorted(drawn[:limit])
    _check(name, task, [documents[i] for i in drawn])
    task.set_fewshot_seed(FEWSHOT_SEED)
    task.build_all_requests(samples=drawn, rank=0, world_size=1)
    instances = sorted(task.instances, key=lambda instance: (instance.doc_id, instance.idx))
    content = json.dumps([list(instance.arguments) for instance in instances], ensure_ascii=False)
    fingerprint = short_hash(content)
    return HarnessTask(name, task, str(task.VERSION), tuple(drawn), fingerprint)


@functools.cache
def _task_manager(include_defaults: bool) -> TaskManager:
    """lm-eval's index of its tasks, which takes half a minute to build, or of none."""
    import lm_eval.tasks

    return lm_eval.tasks.TaskManager(include_defaults=include_defaults)


def _check_known(spec: str) -> None:
    """Raises UserError at once for a name that occurs in none of lm-eval's files, before they are all parsed."""
    import lm_eval

    folder = Path(lm_eval.__file__).parent / "tasks"
    names: list[str] = []
    for path in folder.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if spec and spec in text:
            return
        names += re.findall(r"""^["']?task["']?: *["']?([\w.-]+)""", text, re.MULTILINE)
    raise _unknown_task(spec, names)


def _unknown_task(spec: str, names: Sequence[str]) -> UserError:
    nearest = difflib.get_close_matches(spec, names, n=3)
    hint = f"Did you mean {' or '.join(nearest)}? " if nearest else ""
    return UserError(f"lm-eval has no task {spec!r}", f"{hint}`lm-eval ls tasks` lists them.")


def _check_single(name: str, file: TaskFile) -> None:
    """Raises UserError for a file that is not one task."""
    if "group" in file.content or file.children:
        tasks = ",".join(LM_EVAL + child for child in file.children) or "none"
        raise UserError(
            f"evaluation.tasks: {name} is a group of tasks",
            f"List its tasks one by one, by name or by file: each has its own scores. Its tasks: {tasks}.",
        )
    if not isinstance(file.content.get("task"), str):
        raise UserError(
            f"evaluation.tasks: {name} names no task", "A task file of lm-eval has `task: NAME` and its settings."
        )


def unscored_metrics(names: Iterable[str], seed: int, limit: int | None) -> list[str]:
    """A sentence for each task that has more metrics than those that are scored here."""
    return [
        f"{name}: {', '.join(others)} {'is' if len(others) == 1 else 'are'} not scored here; "
        f"{' and '.join(metric for metric in ('acc', 'acc_norm') if metric in task.task.aggregation())} of the same "
        "answers is what the tables have. lm-eval alone scores the rest."
        for name in names
        if (others := (task := load_lm_eval_task(name, seed, limit)).other_metrics)
    ]


def code_of_task_files(names: Iterable[str]) -> dict[str, str]:
    """By task, the code that lm-eval would run for its file; nothing is run. The tasks that lm-eval brings are not
    among them. Raises UserError for a file that cannot be read."""
    files = {name: name.removeprefix(LM_EVAL) for name in names}
    code = {name: read_task_file(Path(path)).code for name, path in files.items() if path.endswith(".yaml")}
    return {name: "; ".join(functions) for name, functions in code.items() if functions}


def _check(name: str, task: LmEvalTask, documents: list[Mapping[str, Any]]) -> None:
    """Raises UserError for a task whose score is not the share of questions whose right choice scores highest."""
    metrics = task.aggregation()
    other = [metric for metric in ("acc", "acc_norm") if getattr(metrics.get(metric), "__name__", "mean") != "mean"]
    if "acc" not in metrics or other or task.config.process_results is not None:
        raise UserError(
            f"evaluation.tasks: {name} is scored by {', '.join(metrics)}, in a way of its own",
            "Only tasks whose acc is the share of right answers can be scored here; lm-eval alone can score it.",
        )
    for document in documents:
        gold, choices = _gold(task, document), task.doc_to_choice(document)
        if not isinstance(gold, int) or not 0 <= gold < len(choices):
            raise UserError(
                f"evaluation.tasks: {name} has a question whose right answer is {gold!r} of {len(choices)} choices",
                "Only tasks with one right choice a question can be scored here; lm-eval alone can score it.",
            )


def _gold(task: LmEvalTask, document: Mapping[str, Any]) -> object:
    """The index of the right choice of a document; the task's own value if that is no index."""
    # A fill-in task has its answer where other tasks have their text.
    gold = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    if isinstance(gold, str):
        choices = task.doc_to_choice(document)
        return choices.index(gold) if gold in choices else int(gold) if gold.isdigit() else gold
    return gold


def evaluate_lm_eval_task(lm: LM, data: SweepData, identity: EvaluationIdentity) -> pd.DataFrame:
    """Score one task by the protocol `lm_eval`; the rows are like those of the `loglikelihood` protocol.

    Raises Diverged if a log-likelihood is not finite.
    """
    import pandas as pd

    harness_task = load_lm_eval_task(identity.task, data.config.seed, identity.limit)
    task = harness_task.task
    task.set_fewshot_seed(FEWSHOT_SEED)  # otherwise each cell would see other examples in its prompts
    rows = []
    for sample in run_lm_eval_task(lm, task.task_name, task, harness_task.documents):
        choices = task.doc_to_choice(sample.document)
        loglikelihoods = sample.loglikelihoods[: len(choices)]
        lengths = [len(choice) for choice in choices]
        gold = _gold(task, sample.document)
        assert isinstance(gold, int)  # `_check` has refused the others
        rows.append(
            {
                "question_id": sample.document_hash[:16],
                "prompt_hash": sample.prompt_hash[:16],
                **vars(ChoiceColumns.of(loglikelihoods, lengths, gold)),
                "acc": sample.metric("acc"),
                "protocol": identity.label,
                "task_version": identity.task_version,
            }
        )
    return check_rows(pd.DataFrame(rows))
