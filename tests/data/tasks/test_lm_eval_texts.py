"""The format `lm_eval`: the texts of lm-eval's own task files, as lm-eval makes them of the same rows."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from datasets import Dataset
from helpers.questions import HUB_ROWS, data_of
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from bench.data.questions import Question, render
from bench.data.tasks import commonsense_tasks
from bench.data.tasks.rows import from_hub, from_llm_adapters
from bench.errors import UserError
from bench.evaluation.loglikelihood_protocol import loglikelihood_lm_eval_task
from bench.evaluation.plan_evaluations import evaluation_identities
from bench.evaluation.protocols import primary_metric
from bench.sweep.sections import EvaluationConfig

TASKS = Path(lm_eval.__file__).parent / "tasks"
FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "piqa": "piqa/piqa.yaml",
    "siqa": "siqa/siqa.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
}
"""The task files that lm-eval ships."""

AWKWARD = (
    "a b",
    "Is it {{so}}?",
    "it's “quoted”, \"and\" 'so'",
    "back\\slash",
    "two\nlines",
    " spaces ",
    "12",
    "é 日本 🙂",
)


def awkward_rows(task: str) -> list[dict[str, Any]]:
    """Rows with the hub's columns, and texts that templates and lists of texts may trip over."""
    rows = []
    for number, text in enumerate(AWKWARD):
        choices = [AWKWARD[(number + place) % len(AWKWARD)] for place in range(1, 5)]
        listed = {"text": choices, "label": ["A", "B", "C", "D"] if number % 2 else ["1", "2", "3", "4"]}
        key = listed["label"][number % 4]
        steps = f"[header] How to {text} [title] Begin.  [step] {text}"
        rows.append(
            {
                "arc_easy": {"question": text, "choices": listed, "answerKey": key},
                "openbookqa": {"question_stem": text, "choices": listed, "answerKey": key},
                "piqa": {"goal": text, "sol1": choices[0], "sol2": choices[1], "label": number % 2},
                "siqa": {
                    **{"context": text, "question": f"Why {text}?", "label": str(number % 3 + 1)},
                    **{f"answer{letter}": choice for letter, choice in zip("ABC", choices, strict=False)},
                },
                "hellaswag": {
                    **{"activity_label": text, "ctx_a": steps if number % 2 else text},
                    **{"ctx_b": "" if number % 2 else f"he Sees {text}", "endings": [f"[step] {c}" for c in choices]},
                    "label": str(number % 4),
                },
                "winogrande": {
                    **{"sentence": f"{text} _ {text} and _ .", "option1": choices[0], "option2": choices[1]},
                    "answer": str(number % 2 + 1),
                },
            }[task.replace("challenge", "easy")]
        )
    if task == "hellaswag":
        for row in rows:
            row["ctx"] = f"{row['ctx_a']} {row['ctx_b']}".strip()
    return rows


def lm_evals_task(task: str, rows: Sequence[dict[str, Any]]) -> ConfigurableTask:
    """lm-eval's task, from its own file, over these rows in the place of the hub's."""
    config = load_yaml(TASKS / FILES[task], resolve_func=True)
    splits = {config.get(name) for name in ("training_split", "validation_split", "test_split")} - {None}
    dataset = Dataset.from_list(list(rows))
    made = ConfigurableTask(config={**config, "custom_dataset": lambda **_: dict.fromkeys(splits, dataset)})
    made.build_all_requests(rank=0, world_size=1)
    return made


def check_texts(task: str, rows: Sequence[dict[str, Any]], questions: Sequence[Question]) -> None:
    """lm-eval's requests for these rows, and the right choices, are those of the questions; so are what our own task
    asks lm-eval for, and the lengths that acc_norm divides by."""
    theirs = lm_evals_task(task, rows)
    wording = commonsense_tasks()[task].wording
    requests: dict[int, list[tuple[str, str]]] = {}
    for instance in theirs.instances:
        requests.setdefault(instance.doc_id, []).append(instance.args)
    rendered = [render(question, wording, "lm_eval") for question in questions]
    identity = evaluation_identities(
        data_of({"train": "world"}, limit=1), EvaluationConfig(limit=1), "float32", mergeable=True
    )[0]
    ours = loglikelihood_lm_eval_task(list(zip(questions, rendered, strict=True)), identity)
    ours.build_all_requests(rank=0, world_size=1)
    assert [instance.args for instance in ours.instances] == [instance.args for instance in theirs.instances]
    assert len(rendered) == len(requests) == len(rows)
    for number, (text, document) in enumerate(zip(rendered, theirs.eval_docs, strict=True)):
        assert list(zip(text.contexts, text.continuations, strict=True)) == requests[number]
        gold = theirs.doc_to_text(document) if theirs.multiple_input else theirs.doc_to_target(document)
        assert text.label == int(gold)
        if not theirs.multiple_input:
            lengths = [len(choice.removeprefix(" ")) for choice in text.continuations]
            assert lengths == [len(choice) for choice in theirs.doc_to_choice(document)]


@pytest.mark.parametrize("task", FILES)
def test_every_row_is_worded_as_lm_eval_words_it(task: str) -> None:
    rows = awkward_rows(task)
    check_texts(task, rows, [from_hub(task, row) for row in rows])


@pytest.mark.parametrize("task", ["arc_easy", "arc_challenge", "openbookqa"])
def test_every_row_of_the_real_test_sets_is_worded_as_lm_eval_words_it(task: str, shared: Path) -> None:
    """Read from LLM-Adapters' files; lm-eval is given the same questions in the hub's columns."""
    definition = commonsense_tasks()[task]
    path = shared / "data" / "commonsense" / definition.source.folder / "test.json"
    questions = [from_llm_adapters(task, row, definition.wording) for row in json.loads(path.read_text())]
    column = "question_stem" if task == "openbookqa" else "question"
    rows = []
    for question in questions:
        letters = list(string.ascii_uppercase[: len(question.choices)])
        listed = {"text": list(question.choices), "label": letters}
        rows.append({column: question.text, "choices": listed, "answerKey": letters[question.label]})
    check_texts(task, rows, questions)


def test_all_tasks_but_boolq_closed_are_lm_evals() -> None:
    names = {name: task.lm_eval for name, task in commonsense_tasks().items()}
    assert names == {
        name: load_yaml(TASKS / FILES[name], resolve_func=False)["task"] if name in FILES else "" for name in names
    }
    assert [name for name, theirs in names.items() if not theirs] == ["boolq_closed"]


def test_tasks_that_lm_eval_words_otherwise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot word boolq_closed"):
        data_of({"train": "boolq_closed", "format": "lm_eval"})
    with pytest.raises(UserError, match="cannot word hellaswag from"):
        data_of({"train": "hellaswag", "format": "lm_eval", "dir": str(tmp_path)})


def test_a_set_that_lm_eval_does_not_have_is_worded_as_a_question() -> None:
    asked, theirs = (
        data_of({"train": "world", "format": format}, limit=5).rendered("world_four")
        for format in ("question", "lm_eval")
    )
    assert asked == theirs


def test_the_primary_metric_is_lm_evals(tmp_path: Path) -> None:
    """Choices are texts of several lengths, as in the format `question`."""
    rows = [HUB_ROWS["openbookqa"]]
    folder = tmp_path / "openbookqa"
    folder.mkdir()
    for split in ("train", "test"):
        content = [
            {"instruction": instruction.replace("Ice is", f"Ice {number} is {split}"), "answer": answer}
            for _, instruction, answer in rows
            for number in range(8)
        ]
        (folder / f"{split}.json").write_text(json.dumps(content))
    data = data_of({"train": "openbookqa", "format": "lm_eval", "dir": str(tmp_path), "development": 0}, limit=2)
    (identity,) = evaluation_identities(data, EvaluationConfig(limit=2), "float32", mergeable=True)
    assert primary_metric(data, identity) == "acc_norm" and identity.format == "lm_eval"
    (question, text), _ = data.rendered("openbookqa")
    assert text.contexts == (question.text,) * 2
