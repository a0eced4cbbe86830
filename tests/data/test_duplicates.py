"""Questions that share one text: clusters, the removal of duplicates and the draw of development questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.questions import HELD_OUT, data_of, question_set

from bench.data.duplicates import clusters, shared_texts
from bench.data.questions import Question
from bench.errors import UserError


def sensible(count: int, start: int = 0) -> list[dict[str, object]]:
    """Questions of one text, each with other choices."""
    return [
        {"q": "Which sentence makes sense?", "c": [f"He ate {n}.", f"{n} ate him."], "a": n % 2}
        for n in range(start, start + count)
    ]


def test_a_text_that_many_questions_share_makes_no_cluster(tmp_path: Path) -> None:
    data = data_of(question_set(tmp_path, sensible(40), sensible(20, 100)) | {"development": 0})
    found = data.clusters("mine")
    assert len(set(found.values())) == 20
    assert len(data.pools["mine"]) == 40 and data.overlap["mine"].removed == 0


def test_the_same_choices_are_the_same_question_under_a_shared_text(tmp_path: Path) -> None:
    turned = {"q": "which sentence makes sense", "c": ["3 ate him.", "He ate 3."], "a": 0}
    data = data_of(question_set(tmp_path, sensible(40), [turned, *sensible(20, 100)]) | {"development": 0})
    assert data.overlap["mine"].removed == 1


def test_other_distractors_make_no_other_question() -> None:
    """A text with one right answer says what is asked, however often the other choices change."""
    rows = [Question("t", "Capital of France?", ("Paris", f"City {n}"), 0) for n in range(20)]
    assert shared_texts(rows) == frozenset() and len(set(clusters(rows).values())) == 1
    answers = [Question("t", "Which is true?", (f"Truth {n}", "Nothing"), 0) for n in range(20)]
    assert shared_texts(answers) == {"which is true"} and len(set(clusters(answers).values())) == 20
    assert shared_texts(answers[:4]) == frozenset()


def test_a_text_that_few_of_many_questions_share_is_a_question() -> None:
    many = [Question("t", f"Question {n}?", ("a", "b"), 0) for n in range(1000)]
    few = [Question("t", "Which is true?", (f"Truth {n}", "Nothing"), 0) for n in range(9)]
    assert shared_texts([*many, *few]) == frozenset()


def test_repeated_rows_do_not_use_up_their_set(tmp_path: Path) -> None:
    """Five questions, 20 times each: one of them is drawn for development, with its copies."""
    rows = [{"q": f"question {n}", "c": ["yes", "no"], "a": 0} for n in range(5)] * 20
    data = data_of(question_set(tmp_path, rows, [{"q": "other", "c": ["yes", "no"], "a": 1}]))
    assert len(data.development["mine"]) == 1 and len(data.pools["mine"]) == 80
    instructions = [{"instruction": f"Name {n}.", "output": f"{n}."} for n in range(5)] * 20
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(instructions))
    held = data_of({"train": "alpaca", "alpaca": str(path)}, HELD_OUT)
    assert len(held.open_questions["held_out"]) == 2 and len(held.pools["alpaca"]) == 60


def test_development_questions_are_distinct(tmp_path: Path) -> None:
    rows = [{"q": f"question {n}", "c": ["yes", "no"], "a": 0} for n in range(50)] * 2
    data = data_of(question_set(tmp_path, rows, [{"q": "other", "c": ["yes", "no"], "a": 1}]))
    texts = [row.text for row in data.development["mine"]]
    assert len(texts) == len(set(texts)) == 10


def test_a_set_that_duplicates_empty_names_the_setting(tmp_path: Path) -> None:
    rows = [{"q": f"question {n}", "c": ["yes", "no"], "a": 0} for n in range(8)]
    config = question_set(tmp_path, rows, rows)
    with pytest.raises(UserError, match=r"no training row of mine is left.*all 8.*\n.*set data.deduplicate: false"):
        data_of(config)
    assert len(data_of({**config, "deduplicate": False}).pools["mine"]) == 8
