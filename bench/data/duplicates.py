"""Which rows ask the same. Mostly the text of a question says so; a text that many different questions of a set share
("Which sentence makes sense?") says nothing, and then the choices count, too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TypeVar

from bench.data.examples import TrainingRow
from bench.data.questions import Question, normalize
from bench.hashing import short_hash

Row = TypeVar("Row", bound=TrainingRow)

SHARED_BY, SHARED_SHARE = 5, 0.01
"""A text that at least 5 questions and 1 % of a set's questions share, each with another answer, is no question by
itself. (Of OpenBookQA's 5,457 questions the most common text, "which is true", has 8.)"""


def shared_texts(rows: Collection[TrainingRow]) -> frozenset[str]:
    """The normalized texts of a set that many different questions share."""
    answers: dict[str, set[str]] = defaultdict(set)
    questions = set()
    for row in rows:
        # Other distractors to the same answer do not make another question.
        answer = normalize(row.choices[row.label]) if isinstance(row, Question) else row.normalized_with_choices
        answers[row.normalized].add(answer)
        questions.add(row.normalized_with_choices)
    least = max(SHARED_BY, SHARED_SHARE * len(questions))
    return frozenset(text for text, different in answers.items() if len(different) >= least)


def compared_text(row: TrainingRow, shared: Collection[str]) -> str:
    """The text by which a row is compared: equal for rows that ask the same. `shared` are the texts that say nothing by
    themselves."""
    return row.normalized_with_choices if row.normalized in shared else row.normalized


def clusters(questions: Collection[Question]) -> dict[str, str]:
    """By key of each question the id, 16 hex digits, of the group of those that ask the same, whose answers are not
    independent."""
    shared = shared_texts(questions)
    return {question.key: short_hash(compared_text(question, shared)) for question in questions}


def distinct(rows: Iterable[Row], most: int) -> list[Row]:
    """The first rows of those with the same question and choices, `most` of them."""
    first: dict[str, Row] = {}
    for row in rows:
        if len(first) >= most:
            break
        first.setdefault(row.normalized_with_choices, row)
    return list(first.values())
