"""Which choice a label means. A label is a choice's name or text, a letter, or a number that counts from 0 or from 1.

One label alone may be read in several ways (`2` of the choices 1, 2, 3 and 4). The ways that fit every row of a set
decide; where they disagree, the user is asked.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.data.files.bad_rows import RowError, shown
from bench.data.files.row_values import scalar_text
from bench.data.user.choices import Choices
from bench.errors import UserError

Kind = Literal["number", "letter", "text"]
TEXT, LETTER = "its text", "a letter"
COUNTS = {0: "a number that counts from 0", 1: "a number that counts from 1"}
"""Ways to read a label."""

_NUMBER = re.compile(r"([+-]?[0-9]{1,15})(\.0+)?")
_YES = {"true": ("true", "yes"), "false": ("false", "no")}
_AROUND = " \t\r\n()[]{}\"'"


@dataclass(frozen=True)
class Label:
    """A label with its choices, before it is decided how the set's labels are read."""

    given: object
    kind: Kind
    readings: dict[str, int]
    """Index of the choice that it means, by the way in which it is read."""
    choices: int


def read_label(value: object, choices: Choices) -> Label:
    """A label in every way in which it may be read. Raises RowError for a label that is missing or no label at all."""
    count = len(choices.texts)
    if isinstance(value, (list, tuple)) and len(value) == 1:
        (value,) = value
    if isinstance(value, (list, tuple)):
        return Label(value, "text", {TEXT: _marked(value, count)}, count)
    text = scalar_text(value)
    if text is None or not text.strip():
        got = "null" if value is None else shown(value)
        raise RowError(f"the label must be a number, a letter or a choice's text, got {got}")
    named = _find(text, choices.names) if len(set(choices.names)) == count else None
    if named is not None:
        return Label(value, "text", {TEXT: named}, count)
    number = _NUMBER.fullmatch(_bare(text))
    forms = [*_YES.get(text.strip().casefold(), (text,)), *([number[1]] if number else [])]
    places = [place for form in forms if (place := _find(form, choices.texts)) is not None]
    readings = {TEXT: places[0]} if places else {}
    if number:
        readings |= {
            way: int(number[1]) - start for start, way in COUNTS.items() if 0 <= int(number[1]) - start < count
        }
        return Label(value, "number", readings, count)
    letter = _bare(text).upper()
    if len(letter) == 1 and letter in string.ascii_uppercase:
        place = string.ascii_uppercase.index(letter)
        return Label(value, "letter", readings | ({LETTER: place} if place < count else {}), count)
    return Label(value, "text", readings, count)


def is_text_of(text: str, choices: Choices) -> bool:
    """Whether a label is the text of one of the choices."""
    return _find(text, choices.texts) is not None


@dataclass(frozen=True)
class LabelRules:
    """How the labels of a set are read, by their kind."""

    number: str
    letter: str

    def index(self, label: Label) -> int:
        """The index of the right choice. Raises RowError for a label that means none."""
        way = {"number": self.number, "letter": self.letter, "text": TEXT}[label.kind]
        if way not in label.readings:
            last = string.ascii_uppercase[min(label.choices, 26) - 1]
            start = 1 if self.number == COUNTS[1] else 0
            raise RowError(
                f"label {shown(label.given)} is none of the choices, no letter up to {last} and no number from {start} "
                f"to {start + label.choices - 1}"
            )
        return label.readings[way]


def decide(name: str, labels: Sequence[Label], label_from: int | None) -> LabelRules:
    """The ways that fit every label of the set `name`; `label_from`: what the user says that numbers count from.

    Raises UserError if several ways fit and mean different choices.
    """
    counts = [COUNTS[start] for start in COUNTS if label_from in (None, start)]
    return LabelRules(
        _decide(name, [label for label in labels if label.kind == "number"], [*counts, TEXT]),
        _decide(name, [label for label in labels if label.kind == "letter"], [LETTER, TEXT]),
    )


def _decide(name: str, labels: Sequence[Label], ways: Sequence[str]) -> str:
    """The first of the ways that fit most labels."""
    fitting = {way: sum(way in label.readings for label in labels) for way in ways}
    best = max(ways, key=lambda way: fitting[way])
    for way in ways:
        if fitting[best] < len(labels) or fitting[way] < len(labels):
            continue  # a way that fits some labels only is refused, row by row
        differing = next((label for label in labels if label.readings[way] != label.readings[best]), None)
        if differing is not None:
            raise UserError(
                f"data set {name}: labels such as {shown(differing.given)} could each be {best} or {way}, and mean "
                "different choices",
                f"Set data.sets.{name}.label_from to 0 or 1."
                if way != TEXT and best != TEXT
                else "Write each label as a choice's text, with texts that are no labels of other choices.",
            )
    return best


def _marked(value: Sequence[object], count: int) -> int:
    """The place of the 1 in marks such as `[0, 1, 0]`."""
    marks = [int(mark) for mark in value if isinstance(mark, (int, float)) and mark in (0, 1)]
    if len(marks) == len(value) == count and sum(marks) == 1:
        return marks.index(1)
    raise RowError(f"there must be one label, got {shown(value)}", "Leave out questions with several right choices.")


def _bare(text: str) -> str:
    """`(A)`, `a.` and `"A "` without what stands around the letter, and each character in its plain form."""
    return unicodedata.normalize("NFKC", text).strip(_AROUND).rstrip(".:)").rstrip()


def _find(text: str, among: Sequence[str]) -> int | None:
    """The place of a text: as it is written, or else without regard to case and what stands around it."""
    if text in among:
        return among.index(text)
    bare = _bare(text).casefold()
    places = [place for place, other in enumerate(among) if bare and _bare(other).casefold() == bare]
    return places[0] if len(places) == 1 else None
