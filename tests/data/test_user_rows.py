"""Rows of a user's data set, by its column map."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.questions import HELD_OUT, data_of, question_rows, question_set

from bench.data.examples import Dialogue
from bench.data.open_questions import Turn
from bench.errors import UserError


def test_labels_as_numbers_letters_and_texts(tmp_path: Path) -> None:
    rows = [{"q": "x", "c": ["a", "b"], "a": label} for label in (1, "1", "B", "b")]
    data = data_of(question_set(tmp_path, question_rows(3), rows))
    assert [row.label for row in data.questions["mine"]] == [1, 1, 1, 1]


def test_a_set_of_messages(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    messages.append({"role": "assistant", "content": "A"})
    path.write_text(json.dumps({"talk": messages}) + "\n")
    data = {"train": "mine", "sets": {"mine": {"train": str(path), "columns": {"messages": "talk"}}}, "held_out": 0}
    with pytest.raises(UserError, match="no instruction is held out"):
        data_of(data, HELD_OUT)
    (row,) = data_of(data, {"questions": "world_talk"}).pools["mine"]
    assert row == Dialogue("mine", (Turn("U"),), ("A",), "S")
    path.write_text(json.dumps({"talk": messages[:2]}) + "\n")
    with pytest.raises(UserError, match="row 1: messages must be user and assistant in turns"):
        data_of(data, {"questions": "world_talk"})
