"""Open questions of one or two turns, which a model answers in free text: MT-Bench's and similar sets.

A set is a JSONL file in FastChat's format (`question_id, category, turns, reference`). Two keys are additions of ours:
`inputs`, the second parts of instructions in Alpaca's sense, and `references`, for more than one reference answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.data.files.bad_rows import RowError, shown
from bench.data.files.json_rows import Row
from bench.data.files.row_values import whole_characters
from bench.hashing import short_hash
from bench.store.records import OpenSetRecord

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
        early = row.get("turns") is None and isinstance(row.get("text"), str)  # FastChat's first format, of one turn
        turns = _texts([row["text"]] if early else row.get("turns"), "turns")
        if not turns:
            raise RowError("'turns' must be a list of texts, got []")
        if len(turns) > MAX_TURNS:
            raise RowError(f"it has {len(turns)} turns; questions of at most {MAX_TURNS} can be judged")
        id = _question_id(row)
        given = row.get("inputs")
        inputs = _texts(given, "inputs", blank=True) if given else ("",) * len(turns)
        references = _given_references(row, len(turns))
        if len(inputs) != len(turns) or any(len(texts) != len(turns) for texts in references):
            raise RowError(f"it has {len(turns)} turns and another number of inputs or reference answers")
        category = whole_characters(str(row.get("category", "")), "'category'")
        return cls(
            id,
            category,
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


@dataclass(frozen=True)
class ReferenceAnswer:
    """A row of FastChat's answer files."""

    id: int | str
    turns: tuple[str, ...]

    @classmethod
    def from_row(cls, row: Row) -> ReferenceAnswer:
        """Raises ValueError, KeyError, IndexError or TypeError for a row of another form."""
        return cls(_question_id(row), _texts(row["choices"][0]["turns"], "turns", blank=True))


def with_references(questions: Sequence[OpenQuestion], answers: Iterable[ReferenceAnswer]) -> tuple[OpenQuestion, ...]:
    """The questions with their reference answers replaced by those of FastChat's answer file, matched by id.

    References of a question without a row are dropped: what MT-Bench's question file itself calls references are notes
    for the judge (`Carefully check ...`).
    """
    texts = {answer.id: answer.turns for answer in answers}
    return tuple(
        replace(
            question,
            references=(texts[question.id],) if len(texts.get(question.id, ())) == len(question.turns) else (),
        )
        for question in questions
    )


def _question_id(row: Row) -> int | str:
    id = row.get("question_id")
    if isinstance(id, str):
        return whole_characters(id, "'question_id'")
    if not isinstance(id, int) or isinstance(id, bool):
        raise RowError(f"'question_id' must be a number or a text, got {shown(id)}")
    return id


def _texts(value: object, name: str, blank: bool = False) -> tuple[str, ...]:
    """A list of texts, which may be `blank`. A text alone is no list: it would be taken for its letters."""
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(text, str) and (blank or text.strip()) for text in value
    ):
        raise RowError(f"{name!r} must be a list of texts, got {shown(value)}", "Write a text for each turn.")
    return tuple(whole_characters(text, repr(name)) for text in value)


def _given_references(row: Row, turns: int) -> tuple[tuple[str, ...], ...]:
    """The reference answers that a question file has itself; those with an empty text are no references."""
    given = row.get("references") or ([row["reference"]] if row.get("reference") else [])
    if not isinstance(given, (list, tuple)):
        raise RowError(f"'references' must be a list of lists of texts, got {shown(given)}")
    alone = turns == 1  # a question of one turn may have its reference as a text
    lists = [[texts] if alone and isinstance(texts, str) else texts for texts in given]
    references = [_texts(texts, "reference", blank=True) for texts in lists if texts]
    return tuple(texts for texts in references if all(texts))


def open_set_record(questions: Sequence[OpenQuestion]) -> OpenSetRecord:
    """A set of open questions, as a plan records it for judges and the report."""
    return OpenSetRecord(
        n=len(questions),
        turns=sum(len(question.turns) for question in questions),
        with_reference=sum(len(question.turns) for question in questions if question.references),
        references=references_hash(questions),
        fingerprint=open_questions_fingerprint(questions),
    )


def references_hash(questions: Iterable[OpenQuestion]) -> str:
    """Hash of the reference answers, in the questions' order, 16 hex digits: other references give other scores."""
    contents = ([question.id, question.references] for question in questions)
    return short_hash(*(json.dumps(content, ensure_ascii=False) for content in contents))
