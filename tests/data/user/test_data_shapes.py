"""Every row of the table of shapes in docs/data.md: its file, read without a word about its columns."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from helpers.paths import ROOT

from bench.data.examples import Dialogue, PromptAnswer, TrainingRow
from bench.data.questions import Question
from bench.data.user.user_sets import load_user_set
from bench.sweep.sections import OwnSet


@dataclass(frozen=True)
class Shape:
    """A row of the table."""

    name: str
    ending: str
    content: str
    read_as: str


def shapes() -> list[Shape]:
    text = (ROOT / "docs" / "data.md").read_text()
    rows = re.findall(r"^\| (.+) \| (\.\w+) \| `(.+)` \| (.+) \|$", text, flags=re.MULTILINE)
    assert len(rows) == text.count("| .")
    return [Shape(*row) for row in rows]


def written(shape: Shape, folder: Path) -> Path:
    path = folder / f"file{shape.ending}"
    if shape.ending == ".parquet":
        pd.DataFrame([json.loads(shape.content)]).to_parquet(path)
    else:
        path.write_text(shape.content.replace("\\n", "\n").replace("\\t", "\t").replace("\\ufeff", "\ufeff"))
    return path


def in_words(row: TrainingRow) -> str:
    """A row as the table's last column has it."""
    if isinstance(row, Question):
        choices = [choice + "*" * (place == row.label) for place, choice in enumerate(row.choices)]
        return f"{row.text} → {' / '.join(choices)}".replace("\n", " ")
    if isinstance(row, PromptAnswer):
        return f"{row.prompt} → {row.answer}"
    assert isinstance(row, Dialogue)
    turns = [
        f"{turn.text}{f' ({turn.input})' * bool(turn.input)} → {answer}"
        for turn, answer in zip(row.turns, row.answers, strict=True)
    ]
    return f"[{row.system}] " * bool(row.system) + "; ".join(turns)


@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
def test_a_shape_of_the_table_is_read(shape: Shape, tmp_path: Path) -> None:
    user_set = load_user_set("mine", OwnSet(train=str(written(shape, tmp_path))), ("train",))
    assert "; ".join(map(in_words, user_set.train)) == shape.read_as
    assert "guessed from the names of the columns" in user_set.reading
    again = load_user_set("mine", user_set.settings, ("train",))  # the guess, written out
    assert again.train == user_set.train and "guessed" not in again.reading
