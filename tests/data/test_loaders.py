"""Reading rows from files and hubs, and the errors that name a row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.questions import HELD_OUT, data_of, question_rows, question_set

from bench.data import hub, loaders
from bench.data.examples import Dialogue
from bench.data.open_questions import OpenQuestion, Turn, open_questions_fingerprint
from bench.data.tasks import commonsense_tasks
from bench.errors import UserError
from bench.sweep.sections import OpenSet


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('{"q": "x", "c": ["a", "b"], "a": 2}', "label 2"),
        ('{"q": "x", "c": ["a", "b"], "a": "C"}', "label 'C'"),
        ('{"q": "x", "c": ["a"], "a": 0}', "two or more"),
        ('{"q": "", "c": ["a", "b"], "a": 0}', "must be a text"),
        ('{"c": ["a", "b"], "a": 0}', "no column 'q'"),
        ('{"q": "x", "c"', "not valid JSON"),
        ("[1]", "no object"),
    ],
)
def test_a_row_that_does_not_parse_is_named(row: str, why: str, tmp_path: Path) -> None:
    config = question_set(tmp_path, question_rows(3), question_rows(3, "other"))
    path = tmp_path / "train.jsonl"
    path.write_text(path.read_text() + "\n" + row + "\n")
    with pytest.raises(UserError, match=f"train.jsonl, row 4: .*{why}"):
        data_of(config)


def test_every_hub_data_set_is_pinned_by_a_whole_commit() -> None:
    """A short one is a prefix, which the hub may not find, and which another commit may come to share."""
    revisions = [task.source.revision for task in commonsense_tasks().values() if task.source]
    revisions += [loaders.ALPACA_HUB[1], loaders.MT_BENCH_HUB[1]]
    assert len(revisions) == 10
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in revisions), revisions
    assert commonsense_tasks()["siqa"].source.revision == "54c6a1f8cb6daf4f5abf24a601852612fb35eb25"


def test_missing_folder_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "boolq").mkdir()
    with pytest.raises(UserError, match=r"no data file .*train\.json"):
        data_of({"train": "arc_easy", "dir": str(tmp_path)})


def test_questions_in_fastchats_format(tmp_path: Path) -> None:
    path, references = tmp_path / "q.jsonl", tmp_path / "r.jsonl"
    rows = [{"question_id": i, "category": "math", "turns": [f"{i}?", "Sure?"]} for i in (1, 2)]
    path.write_text("\n".join(map(json.dumps, rows)))
    references.write_text(json.dumps({"question_id": 2, "choices": [{"index": 0, "turns": ["Two.", "Yes."]}]}))
    first, second = loaders.load_open_questions("own", OpenSet(questions=str(path), references=str(references)))
    assert first.references == () and second.references == (("Two.", "Yes."),)
    assert OpenQuestion.from_row(second.to_row()) == second
    changed = OpenQuestion(2, "math", second.turns)
    assert (
        open_questions_fingerprint([second])
        == open_questions_fingerprint([changed])
        != open_questions_fingerprint([first])
    )
    path.write_text(json.dumps({"question_id": 1, "category": "generic", "text": "Of one turn?"}))
    (early,) = loaders.load_open_questions("own", OpenSet(questions=str(path)))
    assert early.turns == (Turn("Of one turn?"),)  # as in FastChat's vicuna_bench of 2023
    path.write_text(json.dumps({"question_id": 1, "turns": "?"}))
    with pytest.raises(UserError, match="row 1: 'turns' must be a list"):
        loaders.load_open_questions("own", OpenSet(questions=str(path)))


def test_mt_bench_as_the_hub_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's columns, on a data set of the same columns made here; its notes for judges are no reference answers."""
    from datasets import Dataset

    hub_rows = Dataset.from_list(
        [
            {"prompt": ["1?", "2?"], "prompt_id": 101, "category": "math", "reference": ["1", "Carefully check."]},
            {"prompt": ["3?", "4?"], "prompt_id": 81, "category": "writing", "reference": []},
        ]
    )
    monkeypatch.setattr(hub, "hub_rows", lambda *arguments: hub_rows)
    first, second = loaders.load_open_questions("mt_bench", None)
    assert (first.id, first.turns) == (101, (Turn("1?"), Turn("2?")))
    assert first.references == second.references == ()
    answers = tmp_path / "gpt-4.jsonl"
    answers.write_text(json.dumps({"question_id": 101, "choices": [{"index": 0, "turns": ["One.", "Two."]}]}))
    first, second = loaders.load_open_questions("mt_bench", OpenSet(references=str(answers)))
    assert first.references == (("One.", "Two."),) and second.references == ()


def test_a_question_of_three_turns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question_id": 1, "category": "c", "turns": ["1?", "2?", "3?"]}))
    with pytest.raises(UserError, match="row 1: it has 3 turns; questions of at most 2 can be judged"):
        loaders.load_open_questions("own", OpenSet(questions=str(path)))


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
    with pytest.raises(UserError, match="row 1: 'talk' must be user and assistant in turns"):
        data_of(data, {"questions": "world_talk"})


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"turns": ["1?", "2?"], "reference": "42"}, "'reference' must be a list of texts, got '42'"),
        ({"turns": ["1?"], "reference": [5]}, r"'reference' must be a list of texts, got \[5\]"),
        ({"turns": ["1?"], "references": "x"}, "'references' must be a list of lists"),
        ({"turns": ["1?"], "inputs": "x"}, "'inputs' must be a list of texts, got 'x'"),
        ({"turns": ["\ud83d"]}, "'turns' holds half of a character"),
        ({"turns": ["1?"], "question_id": True}, "'question_id' must be a number or a text"),
    ],
)
def test_a_text_is_never_taken_for_its_letters(row: dict[str, object], why: str, tmp_path: Path) -> None:
    """A `reference` of two characters on a question of two turns would be a reference answer for each."""
    path = tmp_path / "q.jsonl"
    good = {"question_id": 1, "category": "c", "turns": ["1?"], "reference": "1"}
    path.write_text("\n".join(map(json.dumps, [good, {"question_id": 2, "category": "c", **row}])))
    with pytest.raises(UserError, match=f"row 2: {why}"):
        loaders.load_open_questions("own", OpenSet(questions=str(path)))
    path.write_text(json.dumps(good))
    (question,) = loaders.load_open_questions("own", OpenSet(questions=str(path)))
    assert question.references == (("1",),)


@pytest.mark.parametrize("choices", [None, [], [None], [{"turns": "No."}], [{"turns": [5]}]])
def test_reference_answers_of_another_form_are_named(choices: object, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps({"question_id": 1, "category": "c", "turns": ["1?", "2?"]}))
    rows = [{"question_id": 1, "choices": [{"turns": ["1", "2"]}]}, {"question_id": 2, "choices": choices}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = OpenSet(questions=str(tmp_path / "q.jsonl"), references=str(tmp_path / "r.jsonl"))
    with pytest.raises(UserError, match=r"r.jsonl, row 2: "):
        loaders.load_open_questions("own", settings)


@pytest.mark.parametrize("row", [{"instruction": 5, "answer": "true"}, {"instruction": "x", "answer": None}, 5, None])
def test_llm_adapters_rows_that_hold_no_text_are_named(row: object, tmp_path: Path) -> None:
    (tmp_path / "boolq").mkdir()
    (tmp_path / "boolq" / "train.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match=r"train.json, row 1: "):
        data_of({"train": "boolq_closed", "dir": str(tmp_path)}, tasks="world_two")
