"""How a row of a user's data set becomes a training row, by the set's column map (`data.sets.NAME.columns`).

A reader raises ValueError, saying what is wrong with the row.
"""

from __future__ import annotations

import string
from collections.abc import Callable

from bench.data.examples import Dialogue, PromptAnswer, TrainingRow
from bench.data.json_rows import Row
from bench.data.open_questions import Turn
from bench.data.questions import Question
from bench.sweep.sections import OwnSet

INSTRUCTION_COLUMNS = OwnSet(columns={part: part for part in ("instruction", "input", "output")})
"""Alpaca's columns."""


def read_user_row(name: str, settings: OwnSet, row: Row) -> TrainingRow:
    """A row of the set `name`: a question, a prompt-and-answer pair, an instruction or a dialogue."""
    reader = next(reader for column, reader in READERS.items() if column in settings.columns)
    return reader(name, settings, row)


def read_instruction(name: str, settings: OwnSet, row: Row) -> Dialogue:
    """Instruction, output and, where there is one, input."""
    columns = settings.columns
    column = columns.get("input", "input")
    about = row.get(column) if isinstance(column, str) else None
    about = about or ""
    if not isinstance(about, str):
        raise ValueError(f"{column!r} must be a text, got {about!r}")
    turn = Turn(_text(row, columns["instruction"]).strip(), about.strip())
    return Dialogue(name, (turn,), (_text(row, columns["output"]).strip(),))


def _question(name: str, settings: OwnSet, row: Row) -> Question:
    columns = settings.columns
    text = _text(row, columns["question"])
    named = columns["choices"]
    choices = [_text(row, column) for column in named] if isinstance(named, list) else _value(row, named)
    if (
        not isinstance(choices, list)
        or len(choices) < 2
        or not all(isinstance(choice, str) and choice for choice in choices)
    ):
        raise ValueError(f"{named!r} must hold two or more texts, got {choices!r}")
    label = _value(row, columns["label"])
    return Question(name, text, tuple(choices), _label(label, choices, settings.label_from))


def _label(label: object, choices: list[str], label_from: int) -> int:
    """The index of the right choice, from a number, a letter or the choice's own text."""
    letters = string.ascii_uppercase[: len(choices)]
    readings = set()
    if isinstance(label, str) and label in choices:
        readings.add(choices.index(label))
    if isinstance(label, str) and len(label) == 1 and label in letters:
        readings.add(letters.index(label))
    if (isinstance(label, int) and not isinstance(label, bool)) or (
        isinstance(label, str) and label.strip().isdecimal()
    ):
        readings.add(int(label) - label_from)
    readings = {number for number in readings if 0 <= number < len(choices)}
    if len(readings) > 1:
        raise ValueError(
            f"label {label!r} could mean choices {sorted(readings)}; give numbers that are no choice's text"
        )
    if not readings:
        raise ValueError(
            f"label {label!r} is none of the choices, no letter up to {letters[-1]} and no number from "
            f"{label_from} to {label_from + len(choices) - 1}"
        )
    return readings.pop()


def _pair(name: str, settings: OwnSet, row: Row) -> PromptAnswer:
    prompt, answer = (_text(row, settings.columns[part]) for part in ("prompt", "answer"))
    return PromptAnswer(name, prompt, answer)


def _messages(name: str, settings: OwnSet, row: Row) -> Dialogue:
    """A list of {role, content}: first a system text where there is one, then user and assistant in turns."""
    messages = _value(row, settings.columns["messages"])
    if not isinstance(messages, list):
        raise ValueError(f"messages must be a list of {{role, content}}, got {messages!r}")
    roles = [message["role"] for message in messages]
    texts = [_text(message, "content").strip() for message in messages]
    system = texts.pop(0) if roles[:1] == ["system"] else ""
    speakers = [role for role in roles if role != "system"]
    if not speakers or speakers != ["user", "assistant"] * (len(speakers) // 2) or len(speakers) != len(texts):
        raise ValueError(f"messages must be user and assistant in turns, ending with assistant; got {', '.join(roles)}")
    return Dialogue(name, tuple(map(Turn, texts[::2])), tuple(texts[1::2]), system)


READERS: dict[str, Callable[[str, OwnSet, Row], TrainingRow]] = {
    "prompt": _pair,
    "instruction": read_instruction,
    "messages": _messages,
    "question": _question,
}
"""By a column that only this kind of set maps."""


def _value(row: Row, column: str | list[str]) -> object:
    if isinstance(column, list):
        raise ValueError(f"one column is needed, not {column!r}; only choices may be several")
    if column not in row:
        raise ValueError(f"no column {column!r}; it has {', '.join(map(repr, row))}")
    return row[column]


def _text(row: Row, column: str | list[str]) -> str:
    value = _value(row, column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{column!r} must be a text, got {value!r}")
    return value
