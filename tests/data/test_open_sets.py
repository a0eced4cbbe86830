"""Open questions: held-out instructions, built-in sets and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.questions import HELD_OUT, alpaca_file, data_of

from bench.data.questions import normalize
from bench.errors import UserError
from bench.planning.build import make_plan
from bench.sweep.schema import Sweep


def test_held_out_instructions_are_never_trained_on(tmp_path: Path) -> None:
    data = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "held_out": 6}, HELD_OUT)
    questions = data.open_questions["held_out"]
    assert len(questions) == 6 and len(data.pools["alpaca"]) == 34  # and the row without an answer is left out
    taught = {row.normalized for row in data.pools["alpaca"]}
    assert not taught & {normalize(question.turns[0].full_text) for question in questions}
    assert all(len(question.references) == 1 for question in questions)
    again = data_of(
        {"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "held_out": 6, "template": "chat"}, HELD_OUT
    )
    assert again.open_questions == data.open_questions
    other = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "held_out": 6, "seed": 1}, HELD_OUT)
    assert other.open_questions != data.open_questions
    small = data_of({"train": "alpaca", "alpaca": str(alpaca_file(tmp_path))}, HELD_OUT)
    assert len(small.open_questions["held_out"]) == 8  # a fifth at most


def test_copies_of_what_is_held_out_are_never_trained_on(tmp_path: Path) -> None:
    """Whatever the policy on duplicates; and one question has one id."""
    path = tmp_path / "twice.json"
    rows = [{"instruction": f"Name {i}.", "input": "", "output": f"{i}."} for i in range(20)]
    path.write_text(json.dumps([*rows, *rows]))
    data = data_of({"train": "alpaca", "alpaca": str(path), "held_out": 5, "deduplicate": False}, HELD_OUT)
    questions = data.open_questions["held_out"]
    assert len({question.id for question in questions}) == len(questions) == 5
    assert len(data.pools["alpaca"]) == 30
    assert not {question.id for question in questions} & {row.key for row in data.pools["alpaca"]}


def test_sets_have_names_that_files_can_bear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a set"):
        Sweep.model_validate(
            {"name": "x", "base_model": "b", "methods": ["lora"], "samples": 4}
            | {"answers": {"questions": "a/b", "sets": {"a/b": {"questions": "q.jsonl"}}}}
        )


def test_real_alpaca_and_mt_bench(shared: Path) -> None:
    mt = {"questions": str(shared / "data/mt_bench/question.jsonl")}
    mt["references"] = str(shared / "data/mt_bench/reference_answer/gpt-4.jsonl")
    answers = {"questions": ["held_out", "mt_bench"], "sets": {"mt_bench": mt}}
    data = data_of({"train": "alpaca", "alpaca": str(shared / "data/alpaca/alpaca_random_9k.json")}, answers)
    assert len(data.open_questions["held_out"]) == 200 and len(data.open_questions["mt_bench"]) == 80
    assert sum(bool(question.references) for question in data.open_questions["mt_bench"]) == 30
    assert len(data.pools["alpaca"]) + 200 + data.overlap["alpaca"].removed == 9225  # four of 9,229 have no answer


def test_answers_that_leave_no_room_are_refused_in_the_plan(tmp_path: Path, tiny_model: Path) -> None:
    settings = {"name": "x", "base_model": {"id": str(tiny_model), "dtype": "float32"}, "methods": ["lora"]}
    settings |= {"samples": 4, "data": {"train": "world_talk"}, "answers": {"questions": "world_talk"}}
    with pytest.raises(UserError, match=r"max_new_tokens 1024 leaves no room for a question in .* reads 512 tokens"):
        make_plan(Sweep.model_validate(settings))
