"""Prepared data, files of rows, and a row of each commonsense task.

`HUB_ROWS` has for each task a row with the hub's columns, and the instruction and answer that LLM-Adapters has for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.data.prepare import prepare_data
from bench.data.sweep_data import SweepData
from bench.sweep.schema import Sweep

CHATML = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A chat template."""


HELD_OUT = {"questions": "held_out"}
"""The section `answers` of a sweep whose open questions are its held-out instructions."""


def data_of(data: dict[str, Any], answers: dict[str, Any] | None = None, **evaluation: object) -> SweepData:
    """The prepared data of a sweep with these sections."""
    sweep = {"name": "t", "base_model": "smollm2-135m-instruct", "methods": ["lora"], "samples": 1}
    return prepare_data(Sweep.model_validate({**sweep, "data": data, "answers": answers, "evaluation": evaluation}))


def question_rows(count: int, prefix: str = "question", answer: int = 0) -> list[dict[str, Any]]:
    """Rows of a user's set of questions: text `q`, choices `c`, label `a`."""
    return [{"q": f"{prefix} {i}", "c": [f"yes {i}", f"no {i}"], "a": answer} for i in range(count)]


def question_set(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> dict[str, Any]:
    """The data section of a sweep on these rows, written to files."""
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {"question": "q", "choices": "c", "label": "a"}
    files = {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl"), "columns": columns}
    return {"train": ["mine"], "sets": {"mine": files}}


def alpaca_file(folder: Path, rows: int = 40) -> Path:
    """A file of instructions in Alpaca's columns, and one without an answer."""
    path = folder / "alpaca.json"
    content = [
        {"instruction": f"Name number {i}.", "input": f"It is {i}." if i % 3 == 0 else "", "output": f"Number {i}."}
        for i in range(rows)
    ]
    path.write_text(json.dumps([*content, {"instruction": "Say nothing.", "input": "", "output": ""}]))
    return path


HUB_ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "boolq_closed": (
        {"question": "is water wet", "answer": False, "passage": "unused"},
        "Please answer the following question with true or false, question: is water wet?\n\nAnswer format: true/false",
        "false",
    ),
    "piqa": (
        {"goal": "Cut bread.", "sol1": "Use a knife.", "sol2": "Use a spoon.", "label": 0},
        "Please choose the correct solution to the question: Cut bread.\n\nSolution1: Use a knife.\n\n"
        "Solution2: Use a spoon.\n\nAnswer format: solution1/solution2",
        "solution1",
    ),
    "siqa": (
        {"context": "Ash fell.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"},
        "Please choose the correct answer to the question: Ash fell. Why?\n\nAnswer1: a Answer2: b Answer3: c\n\n"
        "Answer format: answer1/answer2/answer3",
        "answer3",
    ),
    "hellaswag": (
        {"activity_label": "Baking", "ctx": "[header] A man kneads. he", "endings": ["w", "x", "y", "z"], "label": "1"},
        "Please choose the correct ending to complete the given sentence: Baking: [header] A man kneads. he\n\n"
        "Ending1: w Ending2: x Ending3: y Ending4: z\n\nAnswer format: ending1/ending2/ending3/ending4",
        "ending2",
    ),
    "winogrande": (
        {"sentence": "The cup fell off _ .", "option1": "table", "option2": "floor", "answer": "1"},
        "Please choose the correct answer to fill in the blank to complete the given sentence: The cup fell off _ ."
        "\n\nOption1: table Option2: floor Answer format: option1/option2",
        "option1",
    ),
    "arc_easy": (
        {"question": "Why?", "choices": {"text": ["p", "q", "r"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        "Please choose the correct answer to the question: Why?\n\nAnswer1: p Answer2: q Answer3: r\n\n"
        "Answer format: answer1/answer2/answer3",
        "answer2",
    ),
}
HUB_ROWS["arc_challenge"] = HUB_ROWS["arc_easy"]
HUB_ROWS["openbookqa"] = (
    {"question_stem": "Ice is", "choices": {"text": ["hot", "cold"], "label": ["A", "B"]}, "answerKey": "B"},
    "Please choose the correct answer to the question: Ice is\n\nAnswer1: hot Answer2: cold\n\n"
    "Answer format: answer1/answer2",
    "answer2",
)
