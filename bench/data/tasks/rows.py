"""The rows of the eight commonsense tasks, from the hub's columns and from LLM-Adapters' JSON.

Both origins give the same `Question`. The YAML task files name the functions at the end as `process_docs`, so that the
files also work with lm-eval alone (`--include_path bench/data/tasks`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.data.files.json_rows import Row
from bench.data.files.row_values import text_of
from bench.data.questions import Question, Rendered, Wording, render

if TYPE_CHECKING:
    from datasets import Dataset

Parsed = tuple[str, tuple[str, ...], int]
"""Text, choices, index of the right choice."""


def _arc(row: Row) -> Parsed:
    return (
        row["question"],
        tuple(row["choices"]["text"]),
        row["choices"]["label"].index(row["answerKey"].strip()),
    )


def _openbookqa(row: Row) -> Parsed:
    return (
        row["question_stem"],
        tuple(row["choices"]["text"]),
        row["choices"]["label"].index(row["answerKey"].strip()),
    )


def _boolq(row: Row) -> Parsed:
    # LLM-Adapters adds the question mark that the data set leaves out.
    return row["question"] + "?", ("true", "false"), 0 if row["answer"] else 1


def _piqa(row: Row) -> Parsed:
    return row["goal"], (row["sol1"], row["sol2"]), int(row["label"])


def _siqa(row: Row) -> Parsed:
    choices = (row["answerA"], row["answerB"], row["answerC"])
    return f"{row['context']} {row['question']}", choices, int(row["label"]) - 1


def _hellaswag(row: Row) -> Parsed:
    return f"{row['activity_label']}: {row['ctx']}", tuple(row["endings"]), int(row["label"])


def _winogrande(row: Row) -> Parsed:
    return row["sentence"], (row["option1"], row["option2"]), int(row["answer"]) - 1


FROM_HUB: dict[str, Callable[[Row], Parsed]] = {
    "boolq_closed": _boolq,
    "piqa": _piqa,
    "siqa": _siqa,
    "hellaswag": _hellaswag,
    "winogrande": _winogrande,
    "arc_easy": _arc,
    "arc_challenge": _arc,
    "openbookqa": _openbookqa,
}


def from_hub(task: str, row: Row) -> Question:
    """A row of the task's hub data set."""
    text, choices, label = FROM_HUB[task](row)
    return Question(task, text, choices, label, _lm_eval_text(row) if task == "hellaswag" else "")


def _lm_eval_text(row: Row) -> str:
    """HellaSwag's text as lm-eval makes it, before the marks in brackets are dropped (tasks/hellaswag/utils.py): the
    beginning of the second sentence is capitalised."""
    if "ctx_a" not in row or "ctx_b" not in row:
        return ""
    return f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"


def from_llm_adapters(task: str, row: Row, wording: Wording) -> Question:
    """The question that a row of LLM-Adapters' JSON (`instruction`, `answer`) was made from.

    Raises ValueError if the question does not give the same row again.
    """
    instruction, answer = text_of(row, "instruction"), text_of(row, "answer")
    if not instruction.startswith(wording.instruction):
        raise ValueError(f"the instruction does not begin with {wording.instruction!r}")
    body, _, names = instruction.removeprefix(wording.instruction).rpartition("Answer format: ")
    answers = tuple(names.split("/"))
    if wording.noun:
        text, _, listed = body.removesuffix(wording.before_format).partition(f"\n\n{wording.noun}1: ")
        choices = []
        for number in range(2, len(answers) + 1):
            choice, _, listed = listed.partition(f"{wording.between}{wording.noun}{number}: ")
            choices.append(choice)
        choices.append(listed)
    else:
        text, choices = body.removesuffix("\n\n"), list(answers)
    if wording.llm_adapters_instruction(text, tuple(choices)) != instruction:
        raise ValueError("the instruction is not in LLM-Adapters' form for this task")
    if answer not in answers:
        raise ValueError(f"the answer {answer!r} is none of {', '.join(answers)}")
    return Question(task, text, tuple(choices), answers.index(answer))


def document(question: Question, rendered: Rendered) -> Row:
    """A question as a document of lm-eval's task, with the fields that `_choices.yaml` and `_blank.yaml` name.

    Continuations have no leading space here, because the task has it as delimiter: acc_norm divides by the choice's
    length in characters without it.
    """
    shared = len(set(rendered.contexts)) == 1
    return {
        "id": question.key,
        "context": rendered.contexts[0] if shared else "",
        "choices": [text.removeprefix(" ") for text in rendered.continuations] if shared else list(rendered.contexts),
        "continuation": "" if shared else rendered.continuations[0].removeprefix(" "),
        "label": rendered.label,
    }


def _process_docs(task: str) -> Callable[[Dataset], Dataset]:
    """`process_docs` of a task file: the hub's rows as documents in the `question` format."""

    def process(dataset: Dataset) -> Dataset:
        from bench.data.tasks import commonsense_tasks

        wording = commonsense_tasks()[task].wording

        def to_document(row: Row) -> Row:
            question = from_hub(task, row)
            return document(question, render(question, wording, "question"))

        return dataset.map(to_document, remove_columns=dataset.column_names)

    return process


boolq_closed = _process_docs("boolq_closed")
piqa = _process_docs("piqa")
siqa = _process_docs("siqa")
hellaswag = _process_docs("hellaswag")
winogrande = _process_docs("winogrande")
arc_easy = _process_docs("arc_easy")
arc_challenge = _process_docs("arc_challenge")
openbookqa = _process_docs("openbookqa")
