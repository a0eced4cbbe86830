"""Placeholders for the rows of a hub, so that a sweep can be planned without a network: as many as the data sets have,
and about as long. No cell is ever trained or scored on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.examples import Dialogue
from bench.data.open_questions import OpenQuestion, Turn
from bench.data.questions import Question


@dataclass(frozen=True)
class TaskSize:
    """The size of a task's data set."""

    train: int
    test: int
    """Rows of LLM-Adapters' files (arXiv 2304.01933, Table 2; 170,420 to train on)."""
    text: int
    """Characters of a question, approximately."""
    choices: int
    choice: int
    """Characters of a choice, approximately."""


COMMONSENSE = {
    "boolq_closed": TaskSize(9_427, 3_270, 45, 2, 5),
    "piqa": TaskSize(16_113, 1_838, 40, 2, 100),
    "siqa": TaskSize(33_410, 1_954, 140, 3, 22),
    "hellaswag": TaskSize(39_905, 10_042, 230, 4, 110),
    "winogrande": TaskSize(63_238, 1_267, 110, 2, 8),
    "arc_easy": TaskSize(2_251, 2_376, 105, 4, 22),
    "arc_challenge": TaskSize(1_119, 1_172, 130, 4, 30),
    "openbookqa": TaskSize(4_957, 500, 55, 4, 20),
}
ALPACA_ROWS = 51_760
ALPACA_LENGTHS = (80, 40, 620)
"""Of cleaned Alpaca: approximate characters of an instruction, its input and its answer."""
MT_BENCH_COUNT = 80
MT_BENCH_WITH_REFERENCE = 30
"""MT-Bench's questions for which FastChat has reference answers."""
MT_BENCH_LENGTHS = (220, 130)
"""Approximate characters of MT-Bench's first and second turns."""


def task_questions(task: str, split: str) -> list[Question]:
    """Placeholders for a commonsense task's questions."""
    size = COMMONSENSE[task]
    count = size.train if split == "train" else size.test
    choices = tuple(_text(f"choice {place}", size.choice) for place in range(size.choices))
    # With a blank for fill-in tasks; every row has another text, so that no row is a duplicate.
    return [
        Question(task, _text(f"_ stands for {task}, {split} {row}", size.text), choices, row % size.choices)
        for row in range(count)
    ]


def alpaca_rows(task: str) -> list[Dialogue]:
    """Placeholders for Alpaca's rows."""
    instruction, input, answer = ALPACA_LENGTHS
    return [
        Dialogue(
            task,
            (Turn(_text(f"stands for instruction {row}", instruction), _text("input", input)),),
            (_text("", answer),),
        )
        for row in range(ALPACA_ROWS)
    ]


def mt_bench_questions(references: bool) -> tuple[OpenQuestion, ...]:
    """Placeholders for MT-Bench's questions, the first 30 of them with a reference answer if `references`."""
    lengths = MT_BENCH_LENGTHS
    answered = MT_BENCH_WITH_REFERENCE if references else 0
    return tuple(
        OpenQuestion(
            row,
            "",
            tuple(Turn(_text(f"turn {turn} of {row}", length)) for turn, length in enumerate(lengths)),
            (("reference",) * len(lengths),) if row < answered else (),
        )
        for row in range(MT_BENCH_COUNT)
    )


def _text(start: str, length: int) -> str:
    return start.ljust(length, ".")
