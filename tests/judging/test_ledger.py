"""Files of judgments: every committed one reads and is rewritten byte for byte, and appending loses nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.paths import RESULTS

from bench.data.open_questions import OpenQuestion, Turn
from bench.errors import UserError
from bench.judging import similarity
from bench.judging.judgment_records import (
    AnswersToCompare,
    AnswerToRate,
    CheckRecord,
    ModelRating,
    PairwiseVerdict,
    latest_judgments,
)
from bench.judging.ledger import (
    JudgmentFile,
    Ledger,
    cell_ratings,
    check_ratings,
    line_of,
    pairwise_verdicts,
    read_check_counts,
    read_judge,
    write_check_counts,
    write_judge,
)
from bench.store.folder import CellFolder, Results
from bench.store.judge_record import JudgeRecord
from bench.store.pack import pack
from bench.store.records import Record

JUDGES = [
    (Results(path.parent.parent.parent), path.parent.name) for path in sorted(RESULTS.glob("*/judges/*/judge.json"))
]
"""(results folder, label) of the committed judges."""

ANSWER = AnswerToRate(
    "talk", OpenQuestion(7, "stem", (Turn("Why?"),), (("Because of the sun.",),)), 1, ("The sun.",), "lora-r4"
)
OTHER = AnswerToRate("talk", ANSWER.question, 1, ("Rain.",), "dora-r4")
REPLY = {
    "judge": ("judge-01234567", "single-v1"),
    "prompt_hash": "0" * 16,
    "judgment": "Fein\u2028gemacht: [[95]] \u2026 [[7]]",
    "served": "judge-2026-01-01",
    "finish_reason": "stop",
    "prompt_tokens": 100,
    "completion_tokens": None,
    "tstamp": 1784000000.125,
}


def model_rating(answer: AnswerToRate, **changes: object) -> ModelRating:
    return ModelRating(**{**answer.record().model_dump(), **REPLY, "score": 95.0, "strict": None, **changes})


def test_there_are_committed_judgments() -> None:
    assert len(JUDGES) >= 2
    files = [cell_ratings(folder, label) for results, label in JUDGES for folder in results.folders()]
    assert sum(bool(file.text()) for file in files) >= 20


@pytest.mark.parametrize(("results", "label"), JUDGES, ids=lambda value: value if isinstance(value, str) else "")
def test_committed_files_read_and_are_rewritten_byte_for_byte(results: Results, label: str) -> None:
    files = [check_ratings(results, label), *(cell_ratings(folder, label) for folder in results.folders())]
    texts = [file.folder.read_text(file.name) for file in files]
    assert any(texts)
    for file, text in zip(files, texts, strict=True):
        assert "".join(map(line_of, file.read())) == (text or "")
    assert read_judge(results, label).label == label


@pytest.mark.parametrize(("results", "label"), JUDGES, ids=lambda value: value if isinstance(value, str) else "")
def test_committed_records_of_judges_gain_their_schema_number_alone(
    results: Results, label: str, tmp_path: Path
) -> None:
    written = Results(tmp_path)
    write_judge(written, read_judge(results, label))
    write_check_counts(written, label, read_check_counts(results, label))
    for name in ("judge.json", "check.json"):
        before = json.loads((results.judge(label) / name).read_text())
        after = json.loads((written.judge(label) / name).read_text())
        assert after == {"schema": JudgeRecord.model_fields["schema_version"].default, **before}


def test_fields_are_those_of_the_files() -> None:
    """In the order in which they were always written; null is kept, since no rating is a result."""
    rating = json.loads(line_of(model_rating(ANSWER)))
    assert list(rating) == [
        *("set", "question_id", "category", "turn", "model", "repeat", "answers", "judge", "prompt_hash", "judgment"),
        *("served", "finish_reason", "refused_parameters", "prompt_tokens", "completion_tokens", "tstamp"),
        *("score", "strict"),
    ]
    assert rating["strict"] is None and rating["completion_tokens"] is None
    pair = AnswersToCompare(ANSWER, OTHER, 2)
    verdict = PairwiseVerdict(**pair.record().model_dump(), **REPLY, winner="tie", strict="A")
    assert list(json.loads(line_of(verdict))) == [
        *("set", "question_id", "category", "turn", "game", "model_1", "model_2", "answers_1", "answers_2", "judge"),
        *("prompt_hash", "judgment", "served", "finish_reason", "refused_parameters", "prompt_tokens"),
        *("completion_tokens", "tstamp", "winner", "strict"),
    ]
    assert verdict.key == pair.key and model_rating(ANSWER).key == ANSWER.key


def test_both_kinds_of_ratings_report_the_score_that_counts(tmp_path: Path) -> None:
    file = cell_ratings(CellFolder(tmp_path), "judge")
    file.write([similarity.rate(ANSWER), model_rating(ANSWER, strict=7.0), model_rating(OTHER)])
    similar, strict, missing = file.read()
    assert 0 < (similar.reported_score or 0) < 100 and similar.fastchat_score is None
    assert (strict.reported_score, strict.fastchat_score) == (7, 95)
    assert (missing.reported_score, missing.fastchat_score) == (None, 95)
    assert latest_judgments([similar, strict, missing]) == [strict, missing]


def test_a_judgment_is_known_by_its_answer_and_its_prompt(tmp_path: Path) -> None:
    ledger = Ledger(cell_ratings(CellFolder(tmp_path), "judge"))
    assert not ledger.file.path.exists()
    ledger.add(model_rating(ANSWER))
    for again in (ledger, Ledger(ledger.file)):
        assert not again.lacks(ANSWER, "0" * 16)
        assert again.lacks(ANSWER, "1" * 16) and again.lacks(OTHER, "0" * 16)
    ledger.add(model_rating(ANSWER, prompt_hash="1" * 16))
    ledger.keep_only({(ANSWER.key, "1" * 16)})
    assert [rating.prompt_hash for rating in ledger.file.read()] == ["1" * 16] and ledger.lacks(ANSWER, "0" * 16)


def test_an_incomplete_last_line_is_ignored_and_then_removed(tmp_path: Path) -> None:
    file = cell_ratings(CellFolder(tmp_path), "judge")
    file.write([model_rating(ANSWER), model_rating(OTHER)])
    complete = file.path.read_text()
    file.path.write_text(complete[:-30])
    ledger = Ledger(file)
    assert ledger.lacks(OTHER, "0" * 16) and len(file.read()) == 1
    ledger.add(model_rating(OTHER))
    assert file.path.read_text() == complete


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "line 2: Expecting property name"),
        ("[]", "line 2: "),
        (json.dumps({**json.loads(line_of(model_rating(OTHER))), "rating": 7}), "line 2: "),
        (json.dumps({**json.loads(line_of(model_rating(OTHER))), "turn": "first"}), "line 2: "),
        (json.dumps({**json.loads(line_of(model_rating(OTHER))), "turn": -1}), "line 2: "),
        (json.dumps({**json.loads(line_of(model_rating(OTHER))), "turn": 3}), "line 2: "),
        (json.dumps({**json.loads(line_of(model_rating(OTHER))), "repeat": 10**12}), "line 2: "),
        (json.dumps({**json.loads(line_of(model_rating(OTHER))), "strict": 95}), "line 2: "),
        (json.dumps({**json.loads(line_of(model_rating(OTHER))), "score": float("inf")}), "line 2: "),
        (json.dumps({**json.loads(line_of(model_rating(OTHER))), "score": 10**400}), "line 2: the number "),
    ],
)
def test_a_line_that_is_not_a_judgment_is_named_and_set_aside(tmp_path: Path, line: str, reason: str) -> None:
    file = cell_ratings(CellFolder(tmp_path), "judge")
    file.write([model_rating(ANSWER)])
    with file.path.open("a") as opened:
        opened.write(f"{line}\n")
    (problem,) = file.problems()
    assert f"judge.jsonl is corrupt: {reason}" in problem and problem.endswith("; the other judgments count")
    assert file.read() == [model_rating(ANSWER)]
    Ledger(file).add(model_rating(OTHER))
    assert file.read() == [model_rating(ANSWER), model_rating(OTHER)] and not file.problems()
    assert (file.path.parent / "judge.damaged.jsonl").read_text() == f"{line}\n"


def test_a_corrupt_line_is_set_aside_where_other_judgments_are_removed(tmp_path: Path) -> None:
    file = cell_ratings(CellFolder(tmp_path), "judge")
    file.write([model_rating(ANSWER), model_rating(OTHER)])
    with file.path.open("a") as opened:
        opened.write("[[9]]\n")
    Ledger(file).keep_only({(ANSWER.key, "0" * 16)})
    assert file.read() == [model_rating(ANSWER)]
    assert (file.path.parent / "judge.damaged.jsonl").read_text() == "[[9]]\n"


def test_bytes_that_are_no_text_cost_their_own_line(tmp_path: Path) -> None:
    file = cell_ratings(CellFolder(tmp_path), "judge")
    file.write([model_rating(ANSWER), model_rating(OTHER)])
    first, second = file.path.read_bytes().splitlines(keepends=True)
    damaged = first.replace(b"95", b"\xff5")
    file.path.write_bytes(damaged + second)
    (problem,) = file.problems()
    assert "judge.jsonl is corrupt: line 1: " in problem and file.read() == [model_rating(OTHER)]
    Ledger(file).add(model_rating(ANSWER))
    assert file.read() == [model_rating(OTHER), model_rating(ANSWER)] and not file.problems()
    assert (file.path.parent / "judge.damaged.jsonl").read_bytes() == damaged


def test_appending_to_a_packed_file_begins_with_what_is_packed(tmp_path: Path) -> None:
    results, label = next((results, label) for results, label in JUDGES if results.path.name == "quickstart")
    copy = Results(Path(shutil.copytree(results.path, tmp_path / "quickstart")))
    if not (copy.path / "packed").exists():
        pack(copy)
    folder = copy.folders()[1]
    file = cell_ratings(folder, label)
    packed = file.text()
    assert packed and not file.path.exists()
    present = file.read()[0]
    answer = AnswerToRate(present.set, OpenQuestion("new", "stem", ANSWER.question.turns), 1, ("It is.",), "lora")
    Ledger(file).add(model_rating(answer))
    assert file.path.read_text() == packed + line_of(model_rating(answer))
    assert [rating.key for rating in Ledger(file).file.read()][-1] == answer.key


def test_a_judgment_after_its_file_was_packed_joins_the_packed_ones(tmp_path: Path) -> None:
    results, label = next((results, label) for results, label in JUDGES if results.path.name == "quickstart")
    copy = Results(Path(shutil.copytree(results.path, tmp_path / "quickstart")))
    file = cell_ratings(copy.folders()[1], label)
    before, ledger = file.read(), Ledger(file)
    assert before
    ledger.add(model_rating(ANSWER))
    assert pack(copy).added == 0 or not file.path.exists()  # the judgments that stood beside the pack are in it now
    ledger.add(model_rating(OTHER))
    assert [rating.key for rating in file.read()] == [*(rating.key for rating in before), ANSWER.key, OTHER.key]


def test_a_line_cut_off_within_a_character_is_no_line(tmp_path: Path) -> None:
    file = cell_ratings(CellFolder(tmp_path), "judge")
    file.write([model_rating(ANSWER)])
    with file.path.open("ab") as opened:
        opened.write('{"judgment": "Fein \u2026'.encode()[:-1])
    assert [rating.key for rating in file.read()] == [ANSWER.key]
    Ledger(file).add(model_rating(OTHER))
    assert [rating.key for rating in file.read()] == [ANSWER.key, OTHER.key]


def test_verdicts_are_kept_beside_the_judge(tmp_path: Path) -> None:
    file: JudgmentFile[PairwiseVerdict] = pairwise_verdicts(Results(tmp_path), "judge")
    pair = AnswersToCompare(ANSWER, OTHER, 1)
    verdict = PairwiseVerdict(**pair.record().model_dump(), **REPLY, winner=None, strict="B")
    Ledger(file).add(verdict)
    assert file.path == tmp_path / "judges/judge/pairs.jsonl" and file.read() == [verdict]
    assert not Ledger(file).lacks(pair, "0" * 16)


def test_a_newer_or_missing_record_of_a_judge_is_said_to_be_so(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert read_check_counts(results, "judge") == {}
    with pytest.raises(UserError, match=r"judge\.json is missing"):
        read_judge(results, "judge")
    folder = results.judge("judge")
    folder.mkdir(parents=True)
    (folder / "check.json").write_text(json.dumps({"schema": 99, "wanted": {}}))
    with pytest.raises(UserError, match="newer version"):
        read_check_counts(results, "judge")


def test_every_record_refuses_unknown_fields() -> None:
    for kind in (ModelRating, PairwiseVerdict, CheckRecord):
        assert issubclass(kind, Record) and kind.model_config["extra"] == "forbid"
