"""Prepared data, and a row of each task as the hub has it: (row, instruction and answer as LLM-Adapters have them)."""

from __future__ import annotations

from bench.data.prepare import prepare_data
from bench.data.sweep_data import SweepData
from bench.sweep.schema import Sweep


def data_of(data: dict, **evaluation: object) -> SweepData:
    sweep = {"name": "t", "base_model": "smollm2-135m-instruct", "methods": ["lora"], "samples": 1}
    return prepare_data(Sweep.model_validate({**sweep, "data": data, "evaluation": evaluation}))


HUB_ROWS = {
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
