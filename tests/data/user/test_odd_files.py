"""Files that are odd in one way each: read as their writer meant them, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.data.examples import Dialogue, PromptAnswer
from bench.data.questions import Question
from bench.data.user.user_sets import UserSet, load_user_set
from bench.errors import UserError
from bench.sweep.sections import OwnSet


def load(path: Path, content: str | bytes | None = None, **settings: Any) -> UserSet:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_user_set("odd", OwnSet(train=str(path), **settings), ("train", "test"))


def lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def read(rows: UserSet) -> list[object]:
    """Each row in short: text, choices and label; prompt and answer; or the texts of a dialogue."""
    short: list[object] = []
    for row in rows.train:
        if isinstance(row, Question):
            short.append((row.text, row.choices, row.label))
        elif isinstance(row, PromptAnswer):
            short.append((row.prompt, row.answer))
        else:
            assert isinstance(row, Dialogue)
            short.append((*(turn.full_text for turn in row.turns), *row.answers))
    return short


@pytest.mark.parametrize(
    ("choices", "label", "place"),
    [
        (["[0, 1]", "[1, 0]"], "[0, 1]", 0),  # not marks of which choice is right
        (["[1, 2]", "[3]"], "[1, 2]", 0),
        (["[header] Go.", "[title] Come."], "[title] Come.", 1),
        (["stone", "apple"], "[B]", 1),
        (["stone", "apple"], "[0, 1]", 1),
        (["stone", "apple"], [0.0, 1.0], 1),
        (["café", "tea"], "cafe\u0301", 0),  # the same letter in two characters
        (["stone", "apple"], "\uff22", 1),  # a letter of full width
    ],
)
def test_a_label_is_a_choices_text_before_it_is_a_list(
    choices: list[str], label: object, place: int, tmp_path: Path
) -> None:
    rows = load(tmp_path / "quiz.jsonl", lines({"question": "Which?", "choices": choices, "label": label}))
    assert read(rows) == [("Which?", tuple(choices), place)]


def test_choices_that_look_the_same_are_the_same(tmp_path: Path) -> None:
    row = {"question": "Which?", "choices": ["café", "cafe\u0301"], "label": "A"}
    with pytest.raises(UserError, match="choices 1 and 2 in 'choices' are the same"):
        load(tmp_path / "quiz.jsonl", lines(row))


def test_a_row_may_lack_its_last_choices(tmp_path: Path) -> None:
    rows = [{"question": "1?", "A": "a", "B": "b", "C": "c", "answer": "C"}, {"question": "2?", "A": "a", "B": "b"}]
    rows[1]["answer"] = "A"
    assert read(load(tmp_path / "quiz.jsonl", lines(*rows))) == [("1?", ("a", "b", "c"), 2), ("2?", ("a", "b"), 0)]
    columns = {"question": "question", "choices": ["A", "B", "D"], "label": "answer"}
    with pytest.raises(UserError, match=r"no row has the column 'D'[\s\S]*Correct data\.sets\.odd\.columns\.choices"):
        load(tmp_path / "quiz.jsonl", columns=columns)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('question, A, B, label\n"Fruit?", "stone", "apple, red", B\n', [("Fruit?", ("stone", "apple, red"), 1)]),
        ('prompt,completion\n"2+2=", "4"\n', [("2+2=", "4")]),
        ("question, A, B, label\nFruit?, stone, apple, B\n", [("Fruit?", ("stone", "apple"), 1)]),
        ("prompt,completion\n2+2=, 4\n", [("2+2=", " 4")]),  # a space before a text alone is a part of it
        ('prompt,completion\nSay it, "hi" he said\n', [("Say it", ' "hi" he said')]),
        ('prompt,completion\nSay it," ""hi"""\nAdd, 4\n', [("Say it", ' "hi"'), ("Add", " 4")]),
        ("sep=;\r\nprompt;completion\r\n2,5;3\r\n", [("2,5", "3")]),
        ("prompt|completion\n2+2=|4\n", [("2+2=", "4")]),
        ("prompt;completion\r2,5;3\r", [("2,5", "3")]),
    ],
)
def test_dialects_of_csv(content: str, rows: list[object], tmp_path: Path) -> None:
    assert read(load(tmp_path / "rows.csv", content)) == rows


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_needs_no_mark(encoding: str, tmp_path: Path) -> None:
    row = {"prompt": "2+2=", "completion": "vier é"}
    assert read(load(tmp_path / "rows.jsonl", lines(row).encode(encoding))) == [("2+2=", "vier é")]
    assert read(load(tmp_path / "rows.csv", "prompt,completion\n2+2=,é\n".encode(encoding))) == [("2+2=", "é")]


def test_nan_is_a_missing_value(tmp_path: Path) -> None:
    content = (
        '[{"instruction": "a", "input": NaN, "output": "b"}, {"instruction": "c", "input": "d", "output": "e"},'
        ' {"instruction": "f", "input": "", "output": NaN}]'
    )
    rows = load(tmp_path / "rows.json", content)
    assert read(rows) == [("a", "b"), ("c\n\nd", "e")]
    assert "1 rows left out because their answer is empty" in rows.reading
    content = '[{"question": "Which?", "choices": ["a", "b", NaN], "answer": "A"}]'
    assert read(load(tmp_path / "quiz.json", content)) == [("Which?", ("a", "b"), 0)]
    table = pa.table({"question": ["x?", "y?"], "answer": pa.array([1.5, float("nan")])})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert read(load(tmp_path / "rows.parquet")) == [("x?", "1.5")]


def test_numbers_are_texts_wherever_texts_are(tmp_path: Path) -> None:
    assert read(load(tmp_path / "a.jsonl", lines({"instruction": "Double", "input": 5, "output": 10}))) == [
        ("Double\n\n5", "10")
    ]
    assert read(load(tmp_path / "b.jsonl", lines({"prompt": 5, "completion": 10}))) == [("5", "10")]
    turns = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": 4}]
    assert read(load(tmp_path / "c.jsonl", lines({"messages": turns}))) == [("2+2", "4")]


def test_a_map_of_parquet_is_an_object(tmp_path: Path) -> None:
    choices = pa.array([[("A", "stone"), ("B", "apple")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"question": ["Which?"], "choices": choices, "answer": ["B"]}), tmp_path / "quiz.parquet")
    assert read(load(tmp_path / "quiz.parquet")) == [("Which?", ("stone", "apple"), 1)]


def test_a_line_is_a_row_however_few_there_are(tmp_path: Path) -> None:
    row = {"instruction": "Name a fruit.", "output": "Apple.", "examples": [{"instruction": "Other", "output": "x"}]}
    assert read(load(tmp_path / "one.jsonl", lines(row))) == [("Name a fruit.", "Apple.")]
    assert read(load(tmp_path / "two.jsonl", lines(row, row))) == [("Name a fruit.", "Apple.")] * 2


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}])
def test_an_answer_that_is_not_to_be_learnt_is_not_trained(mark: dict[str, object], tmp_path: Path) -> None:
    turns: list[dict[str, object]] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    with pytest.raises(UserError, match="turn 2 in 'messages' is marked as not to be learnt"):
        load(tmp_path / "chat.jsonl", lines({"messages": [turns[0], {**turns[1], **mark}]}))
    earlier = [turns[0], {**turns[1], **mark}, *turns]
    assert read(load(tmp_path / "chat.jsonl", lines({"messages": earlier}))) == [("Hi", "Hi", "Yo", "Yo")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"dialogue": "M: hi", "question": "Who?", "choices": ["x", "y"], "answer": "x"},
            ("M: hi\nWho?", ("x", "y"), 0),
        ),
        ({"dialogue": ["M: hi"], "question": "Who?", "choice": ["x", "y"], "answer": "x"}, None),
        ({"turns": 3, "question": "Who?", "choices": ["x", "y"], "answer": "x"}, ("Who?", ("x", "y"), 0)),
        ({"chat": True, "instruction": "Hi", "output": "Yo"}, ("Hi", "Yo")),
    ],
)
def test_a_column_that_holds_no_chat_is_none(row: dict[str, object], expected: object, tmp_path: Path) -> None:
    if expected is not None:
        assert read(load(tmp_path / "rows.jsonl", lines(row))) == [expected]
        return
    with pytest.raises(UserError, match=r"Or say which column is what: data\.sets\.odd\.columns"):
        load(tmp_path / "rows.jsonl", lines(row))


def test_a_test_file_without_choices_is_refused(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    test = tmp_path / "test.jsonl"
    test.write_text(lines({"messages": turns}))
    with pytest.raises(UserError, match=r"data\.sets\.odd\.test cannot be scored"):
        load(tmp_path / "chat.jsonl", lines({"messages": turns}), test=str(test))
