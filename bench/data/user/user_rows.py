"""How a row of a user's data set becomes a training row, by the set's column map (`data.sets.NAME.columns`).

A reader raises RowError, saying what is wrong with the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.data.examples import Dialogue, PromptAnswer, TrainingRow
from bench.data.files.bad_rows import RowError
from bench.data.files.json_rows import Row
from bench.data.files.row_values import answer_of, checked_text, has_column, structure_of, text_of, value_of
from bench.data.open_questions import Turn
from bench.data.questions import Question
from bench.data.user.chats import read_chat
from bench.data.user.choices import Choices, read_choices
from bench.data.user.columns import Columns
from bench.data.user.labels import Label, LabelRules, is_text_of, read_label

ALPACA_COLUMNS: Columns = {part: part for part in ("instruction", "input", "output")}
"""Alpaca's columns."""


@dataclass(frozen=True)
class UnlabelledQuestion:
    """A question whose label is yet to be decided: that takes the labels of the whole set."""

    text: str
    choices: Choices
    label: Label

    def question(self, name: str, rules: LabelRules) -> Question:
        """The question of the set `name`. Raises RowError for a label that means none of the choices."""
        return Question(name, self.text, self.choices.texts, rules.index(self.label))


ReadRow = UnlabelledQuestion | PromptAnswer | Dialogue
"""A row as the readers give it."""


def row_reader(name: str, columns: Columns) -> Callable[[Row], ReadRow]:
    """The reader of the rows of the set `name`."""
    reader = next(reader for column, reader in READERS.items() if column in columns)
    return lambda row: reader(name, columns, row)


def has_answer(row: ReadRow | TrainingRow) -> bool:
    """False for a row with nothing to learn: its answer is empty."""
    return not isinstance(row, (PromptAnswer, Dialogue)) or bool(
        (row.answer if isinstance(row, PromptAnswer) else row.answers[-1]).strip()
    )


def read_instruction(name: str, columns: Columns, row: Row) -> Dialogue:
    """Instruction, output and, where there are such, input and system text."""
    about = _optional(row, str(columns.get("input", "input"))).strip()
    turn = Turn(text_of(row, str(columns["instruction"])).strip(), about)
    answer = answer_of(row, str(columns["output"])).strip()
    return Dialogue(name, (turn,), (answer,), _optional(row, str(columns.get("system", ""))).strip())


def _question(name: str, columns: Columns, row: Row) -> UnlabelledQuestion:
    named = columns["question"]
    if isinstance(named, list):  # what the question is about, which a row may lack, and the question itself
        texts = [*(_optional(row, column, needed=True) for column in named[:-1]), text_of(row, named[-1])]
        text = "\n".join(text for text in texts if text.strip())
    else:
        text = text_of(row, named)
    choices = read_choices(row, columns["choices"])
    column = str(columns["label"])
    return UnlabelledQuestion(text, choices, read_label(_label_value(row, column, choices), choices))


def _label_value(row: Row, column: str, choices: Choices) -> object:
    """The label; a list in a text, as CSV files have it, as a list, unless that text is a choice's ("[0, 1]")."""
    value = value_of(row, column)
    if not isinstance(value, str) or value.strip()[:1] != "[" or is_text_of(value, choices):
        return value
    try:
        return structure_of(row, column)
    except RowError:
        return value  # a text in brackets


def _pair(name: str, columns: Columns, row: Row) -> PromptAnswer:
    return PromptAnswer(name, text_of(row, str(columns["prompt"])), answer_of(row, str(columns["answer"])))


def _messages(name: str, columns: Columns, row: Row) -> Dialogue:
    column = str(columns["messages"])
    chat = read_chat(structure_of(row, column), column)
    system = _optional(row, str(columns.get("system", ""))).strip() or chat.system
    if chat.system and chat.system != system:
        raise ValueError(f"it has two system texts, one in {column!r} and one in {columns['system']!r}")
    return Dialogue(name, tuple(map(Turn, chat.questions)), chat.answers, system)


READERS: dict[str, Callable[[str, Columns, Row], ReadRow]] = {
    "prompt": _pair,
    "instruction": read_instruction,
    "messages": _messages,
    "question": _question,
}
"""By a column that only this kind of set maps."""


def _optional(row: Row, column: str, needed: bool = False) -> str:
    """The text in a column that may be blank, null or, unless `needed`, missing."""
    if not needed and not (column and has_column(row, column)):
        return ""
    value = value_of(row, column)
    blank = value is None or (isinstance(value, str) and not value.strip())
    return "" if blank else checked_text(value, repr(column))
