"""Open questions of one or two turns, which a model answers in free text: MT-Bench's and similar sets.

A set is a JSONL file in FastChat's format (`question_id, category, turns, reference`). Two keys are additions of ours:
`inputs`, the second parts of instructions in Alpaca's sense, and `references`, for more than one reference answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.data.json_rows import Row
from bench.hashing import short_hash

MAX_TURNS = 2
"""FastChat's judge prompts have no form for more turns."""


@dataclass(frozen=True)
class Turn:
    """A user's text in one turn."""

    text: str
    input: str = ""
    """The text that the instruction is about, where it is given separately (Alpaca's `input`)."""

    @property
    def full_text(self) -> str:
        """Text and input as one text, for judges and chat templates."""
        return f"{self.text}\n\n{self.input}" if self.input else self.text


@dataclass(frozen=True)
class OpenQuestion:
    """A question of one or two turns."""

    id: int | str
    category: str
    turns: tuple[Turn, ...]
    references: tuple[tuple[str, ...], ...] = ()
    """Reference answers, each with a text for every turn; may be empty."""

    @classmethod
    def from_row(cls, row: Row) -> OpenQuestion:
        """From a row of FastChat's question file. Raises ValueError with what is wrong with the row."""
        turns = row.get("turns")
        if (
            not isinstance(turns, list)
            or not turns
            or not all(isinstance(turn, str) and turn.strip() for turn in turns)
        ):
            raise ValueError(f"'turns' must be a list of texts, got {turns!r}")
        if len(turns) > MAX_TURNS:
            raise ValueError(f"it has {len(turns)} turns; questions of at most {MAX_TURNS} can be judged")
        if not isinstance(row.get("question_id"), (int, str)):
            raise ValueError(f"'question_id' must be a number or a text, got {row.get('question_id')!r}")
        inputs = row.get("inputs") or [""] * len(turns)
        given = row.get("references") or ([row["reference"]] if row.get("reference") else [])
        references = tuple(tuple(texts) for texts in given if texts and all(texts))
        if len(inputs) != len(turns) or any(len(texts) != len(turns) for texts in references):
            raise ValueError(f"it has {len(turns)} turns and another number of inputs or reference answers")
        return cls(
            row["question_id"],
            str(row.get("category", "")),
            tuple(Turn(*both) for both in zip(turns, inputs, strict=True)),
            references,
        )

    def to_row(self) -> Row:
        """As a row of such a file."""
        row: Row = {"question_id": self.id, "category": self.category}
        row["turns"] = [turn.text for turn in self.turns]
        if any(turn.input for turn in self.turns):
            row["inputs"] = [turn.input for turn in self.turns]
        if len(self.references) == 1:
            row["reference"] = list(self.references[0])
        elif self.references:
            row["references"] = [list(texts) for texts in self.references]
        return row


def open_questions_fingerprint(questions: Iterable[OpenQuestion]) -> str:
    """Hash of the questions, in their order, 16 hex digits. Without the references, which change no answer."""
    contents = (
        [question.id, question.category, [[turn.text, turn.input] for turn in question.turns]] for question in questions
    )
    return short_hash(*(json.dumps(content, ensure_ascii=False) for content in contents))


def with_references(questions: Sequence[OpenQuestion], answers: Iterable[Row]) -> tuple[OpenQuestion, ...]:
    """The questions with their reference answers replaced by those of rows in FastChat's answer format, matched by id.

    References of a question without a row are dropped: what MT-Bench's question file itself calls references are notes
    for the judge (`Carefully check ...`).
    """
    texts: dict[int | str, tuple[str, ...]] = {row["question_id"]: tuple(row["choices"][0]["turns"]) for row in answers}
    return tuple(
        replace(
            question,
            references=(texts[question.id],) if len(texts.get(question.id, ())) == len(question.turns) else (),
        )
        for question in questions
    )


def references_hash(questions: Iterable[OpenQuestion]) -> str:
    """Hash of the reference answers, in the questions' order, 16 hex digits: other references give other scores."""
    contents = ([question.id, question.references] for question in questions)
    return short_hash(*(json.dumps(content, ensure_ascii=False) for content in contents))
