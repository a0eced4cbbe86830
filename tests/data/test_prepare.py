"""Drawing and cleaning of data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.questions import alpaca_file, data_of, question_rows, question_set

from bench.errors import UserError


def test_limit_is_a_seeded_sample_and_nested(tmp_path: Path) -> None:
    config = question_set(tmp_path, question_rows(50), question_rows(200, "other"))
    every = data_of(config).questions["mine"]
    some = data_of(config, limit=20).questions["mine"]
    assert some == every[:20]
    assert [row.text for row in some] != [f"other {i}" for i in range(20)]
    assert data_of({**config, "seed": 1}, limit=20).questions["mine"] != some


def test_duplicates_are_removed_and_counted_two_ways(tmp_path: Path) -> None:
    twin = {"q": "  Question 3? ", "c": ["other", "choices"], "a": 0}  # the same question, other choices
    same_choices = {"q": "question 5", "c": ["no 5", "yes 5"], "a": 1}  # the same choices, in another order
    config = question_set(tmp_path, question_rows(40), [twin, same_choices, *question_rows(5, "other")]) | {
        "development": 0
    }
    data = data_of(config)
    assert vars(data.overlap["mine"]) == {"by_question": 2, "by_question_and_choices": 1, "removed": 2}
    assert not {"question 3", "question 5"} & {row.text for row in data.pools["mine"]}
    not_removed = data_of({**config, "deduplicate": False})
    assert vars(not_removed.overlap["mine"]) == {"by_question": 2, "by_question_and_choices": 1, "removed": 0}
    assert len(not_removed.pools["mine"]) == 40


def test_development_is_held_out(tmp_path: Path) -> None:
    data = data_of(question_set(tmp_path, question_rows(100), question_rows(5, "other")) | {"development": 30})
    held = {row.text for row in data.development["mine"]}
    assert len(held) == 20  # a fifth of a set at most
    assert len(data.pools["mine"]) == 80
    assert not held & {row.text for row in data.pools["mine"]}


def test_prompt_and_answer_pairs_train_but_do_not_score(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"p": f"Say {i}:", "r": f" {i}"}) for i in range(30)))
    pairs = {"train": str(tmp_path / "p.jsonl"), "columns": {"prompt": "p", "answer": "r"}}
    config = {"train": ["pairs"], "sets": {"pairs": pairs}}
    data = data_of(config, tasks=["world_two"], limit=5)
    assert data.subset(1, 0)[0].answer == " " + data.subset(1, 0)[0].prompt[4:-1]
    with pytest.raises(UserError, match="nothing to be scored on"):
        data_of(config)


def test_real_folder_counts(shared: Path) -> None:
    train = ["arc_easy", "arc_challenge", "openbookqa", "boolq_closed"]
    data = data_of({"train": train, "dir": str(shared / "data" / "commonsense")}, limit=500)
    assert {task: len(rows) for task, rows in data.questions.items()} == dict.fromkeys(train, 500)
    assert sum(map(len, data.development.values())) >= 500
    assert all(overlap.removed == overlap.by_question for overlap in data.overlap.values())


def test_real_overlap_is_the_known_one(shared: Path) -> None:
    train = ["arc_easy", "arc_challenge", "openbookqa", "boolq_closed"]
    config = {"train": train, "dir": str(shared / "data" / "commonsense"), "development": 0}
    not_removed = data_of({**config, "deduplicate": False})
    repeated = {}
    for task, rows in not_removed.questions.items():
        trained = {row.normalized for row in not_removed.pools[task]}
        repeated[task] = sum(row.normalized in trained for row in rows)
    # ../shared/data/README.md, which also names one of BoolQ: in the files as they are here no two agree, not even
    # without spaces and case (six do when punctuation is dropped too).
    assert repeated == {"arc_easy": 7, "arc_challenge": 7, "openbookqa": 23, "boolq_closed": 0}
    cleaned = data_of(config)
    texts = {row.normalized for pool in cleaned.pools.values() for row in pool}
    assert not any(row.normalized in texts for rows in cleaned.questions.values() for row in rows)


def test_a_training_row_that_asks_an_open_question_is_removed(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question_id": 1, "category": "c", "turns": ["name number 5", "Why?"]}) + "\n")
    answers = {"questions": "mine", "sets": {"mine": {"questions": str(questions)}}}
    data = {"train": "alpaca", "alpaca": str(alpaca_file(tmp_path)), "held_out": 0}
    assert "Name number 5." not in {row.turns[0].text for row in data_of(data, answers).pools["alpaca"]}
    not_removed = data_of({**data, "deduplicate": False}, answers)
    assert not_removed.overlap["alpaca"].by_question == 1 and not_removed.overlap["alpaca"].removed == 0
