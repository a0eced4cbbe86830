"""Rows in the place of data that cannot be had, so that a sweep can be planned without a network: as many as the data
sets hold, and about as long. No cell is ever trained or scored on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.examples import Dialogue
from bench.data.open_questions import OpenQuestion, Turn
from bench.data.questions import Question


@dataclass(frozen=True)
class Size:
    """What a task's data set holds."""

    train: int
    test: int
    """Rows of LLM-Adapters' files (arXiv 2304.01933, Table 2; 170,420 to train on)."""
    text: int
    """Characters of a question, about."""
    choices: int
    choice: int
    """Characters of one, about."""


COMMONSENSE = {
    "boolq_closed": Size(9_427, 3_270, 45, 2, 5),
    "piqa": Size(16_113, 1_838, 40, 2, 100),
    "siqa": Size(33_410, 1_954, 140, 3, 22),
    "hellaswag": Size(39_905, 10_042, 230, 4, 110),
    "winogrande": Size(63_238, 1_267, 110, 2, 8),
    "arc_easy": Size(2_251, 2_376, 105, 4, 22),
    "arc_challenge": Size(1_119, 1_172, 130, 4, 30),
    "openbookqa": Size(4_957, 500, 55, 4, 20),
}
ALPACA_SIZE = (51_760, 80, 40, 620)
"""Cleaned Alpaca: rows, and about how many characters an instruction, its input and its answer have."""
MT_BENCH_SIZE = (80, 30, 220, 130)
"""MT-Bench: questions, how many FastChat has references of, and about how many characters each turn has."""


def task_questions(task: str, split: str) -> list[Question]:
    """Placeholders for a commonsense task's questions."""
    size = COMMONSENSE[task]
    count = size.train if split == "train" else size.test
    choices = tuple(_text(f"choice {place}", size.choice) for place in range(size.choices))
    # A fill-in task has a blank, and another question for each row, so that none is another's duplicate.
    return [
        Question(task, _text(f"_ stands for {task}, {split} {row}", size.text), choices, row % size.choices)
        for row in range(count)
    ]


def alpaca_rows(task: str) -> list[Dialogue]:
    """Placeholders for Alpaca's rows."""
    count, asked, more, answer = ALPACA_SIZE
    return [
        Dialogue(
            task, (Turn(_text(f"stands for instruction {row}", asked), _text("input", more)),), (_text("", answer),)
        )
        for row in range(count)
    ]


def mt_bench_questions(references: bool) -> tuple[OpenQuestion, ...]:
    """Placeholders for MT-Bench's questions; with references the 30 that have one."""
    count, with_reference, *lengths = MT_BENCH_SIZE
    answered = with_reference if references else 0
    return tuple(
        OpenQuestion(
            row,
            "",
            tuple(Turn(_text(f"turn {turn} of {row}", length)) for turn, length in enumerate(lengths)),
            (("reference",) * len(lengths),) if row < answered else (),
        )
        for row in range(count)
    )


def _text(start: str, length: int) -> str:
    return start.ljust(length, ".")
