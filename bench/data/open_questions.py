"""Questions that are answered in one's own words, over one or two turns: MT-Bench's and their like.

A set of them is a JSONL file in FastChat's format (`question_id, category, turns, reference`). Two keys are our own:
`inputs`, the second parts of instructions in Alpaca's sense, and `references`, where there is more than one reference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.hashing import short_hash

MAX_TURNS = 2
"""FastChat's prompts for judges know no more."""


@dataclass(frozen=True)
class Turn:
    """What a user asks in one turn."""

    text: str
    input: str = ""
    """What the instruction is about, where it stands apart from it (Alpaca's `input`)."""

    @property
    def full_text(self) -> str:
        """Both parts as one text, as judges and chat templates are given it."""
        return f"{self.text}\n\n{self.input}" if self.input else self.text


@dataclass(frozen=True)
class OpenQuestion:
    """One question of one or two turns."""

    id: int | str
    category: str
    turns: tuple[Turn, ...]
    references: tuple[tuple[str, ...], ...] = ()
    """Reference answers, each with a text for every turn; none where the question has none."""

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> OpenQuestion:
        """A row of FastChat's question file. Raises ValueError, saying what is wrong with it."""
        turns = row.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(one, str) and one.strip() for one in turns):
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

    def to_row(self) -> dict[str, Any]:
        """The same as a row of such a file."""
        found: dict[str, Any] = {"question_id": self.id, "category": self.category}
        found["turns"] = [one.text for one in self.turns]
        if any(one.input for one in self.turns):
            found["inputs"] = [one.input for one in self.turns]
        if len(self.references) == 1:
            found["reference"] = list(self.references[0])
        elif self.references:
            found["references"] = [list(texts) for texts in self.references]
        return found


def open_questions_fingerprint(questions: Iterable[OpenQuestion]) -> str:
    """Hash of what is asked, in its order, 16 hex digits. References have no part in it: they change no answer."""
    contents = (
        [question.id, question.category, [[turn.text, turn.input] for turn in question.turns]] for question in questions
    )
    return short_hash(*(json.dumps(content, ensure_ascii=False) for content in contents))


def with_references(questions: Sequence[OpenQuestion], answers: Iterable[dict[str, Any]]) -> tuple[OpenQuestion, ...]:
    """The questions with reference answers from rows of FastChat's answer format, by their ids, and no others: what
    MT-Bench's question file itself calls references are notes for whoever judges (`Carefully check ...`)."""
    found = {row["question_id"]: tuple(row["choices"][0]["turns"]) for row in answers}
    return tuple(
        OpenQuestion(
            one.id, one.category, one.turns, (found[one.id],) if len(found.get(one.id, ())) == len(one.turns) else ()
        )
        for one in questions
    )


def references_hash(questions: Iterable[OpenQuestion]) -> str:
    """Hash of the reference answers, in the questions' order, 16 hex digits: other references, other scores."""
    contents = ([question.id, question.references] for question in questions)
    return short_hash(*(json.dumps(content, ensure_ascii=False) for content in contents))
