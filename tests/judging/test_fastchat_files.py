"""FastChat's files: written as its own scripts read them, and its judgments read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.judge_server import Handler, Server, completion
from helpers.sweeps import bench

from bench.analysis.judgments import JudgmentTables, read_judgments
from bench.errors import UserError
from bench.judging.endpoint_settings import Endpoint
from bench.judging.fastchat_files import export_fastchat
from bench.judging.fastchat_import import import_fastchat
from bench.judging.judge_folder import JudgingOptions, judge_folder
from bench.judging.judges import EndpointJudge
from bench.progress import Progress
from bench.store.folder import Results


def judges(handler: Handler) -> None:
    """Rates by the length of what it is shown; prefers the first answer, or none. One reply in five has no rating."""
    system, user = (message["content"] for message in handler.body["messages"])
    if "two AI assistants" in system:
        text = "[[A]]" if len(user) % 3 else "[[C]]"
    else:
        text = f"Fine. Rating: [[{1 + len(user) % 10}]]" if len(handler.server.seen) % 5 else "I would rather not."
    handler.answer(200, completion(text))


@pytest.fixture
def judged(results: Path, server: Server) -> Results:
    server.usual = judges
    judge = EndpointJudge(Endpoint("org/gpt-4", server.url, None))
    options = JudgingOptions(sets=("held_out",), pairs="baseline")
    judge_folder(Results(results), judge, options, Progress())
    return Results(results)


def tables(results: Results) -> JudgmentTables:
    return read_judgments(results, results.plan_record())


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_ratings_are_written_as_show_result_reads_them(judged: Results, tmp_path: Path) -> None:
    lines = export_fastchat(judged, tmp_path / "data")
    assert lines[0].startswith(f"{tmp_path}/data/held_out: 20 ratings and 16 comparisons by org/gpt-4")
    rows = pd.read_json(tmp_path / "data/held_out/model_judgment/org_gpt-4_single.jsonl", lines=True)
    assert (rows["score"] == -1).any() and set(rows["turn"]) == {1} and len(rows) == 20
    assert {tuple(judge) for judge in rows["judge"]} == {("org/gpt-4", "single-v1")}
    assert rows["user_prompt"].str.contains("[The Start of Assistant's Answer]", regex=False).all()
    # show_result's mean of a model, which leaves out -1, is FastChat's mean of the report.
    means = rows[rows["score"] != -1].groupby("model")["score"].mean()
    scores = tables(judged).scores()
    scores = scores[scores["judge"].str.startswith("org-gpt-4")]
    names = {cell.folder: cell.name for cell in judged.plan_record().cells}
    assert dict(zip(scores["folder"].map(names), scores["fastchat"], strict=True)) == pytest.approx(means.to_dict())


def test_comparisons_are_written_as_show_result_reads_them(judged: Results, tmp_path: Path) -> None:
    export_fastchat(judged, tmp_path)
    rows = pd.read_json(tmp_path / "held_out/model_judgment/org_gpt-4_pair.jsonl", lines=True)
    fields = {"question_id", "model_1", "model_2", "g1_winner", "g2_winner", "judge", "turn", "tstamp"}
    assert fields | {f"g{n}_{what}" for n in (1, 2) for what in ("user_prompt", "judgment")} == set(rows.columns)
    pairs = tables(judged).pairs
    assert len(rows) == len(pairs) / 2 == 16
    # The judge prefers the answer that it is shown first: a different model in each game.
    for row in rows.itertuples():
        assert {row.g1_winner, row.g2_winner} <= {"model_1", "model_2", "tie"}
        assert row.g1_winner == {"[[A]]": "model_1", "[[C]]": "tie"}[row.g1_judgment]
        assert row.g2_winner == {"[[A]]": "model_2", "[[C]]": "tie"}[row.g2_judgment]


def test_questions_and_answers_are_written_as_gen_judgment_reads_them(judged: Results, tmp_path: Path) -> None:
    export_fastchat(judged, tmp_path)
    for name in ("held_out", "world_talk"):
        questions = read(tmp_path / name / "question.jsonl")
        models = sorted((tmp_path / name / "model_answer").glob("*.jsonl"))
        assert len(questions) == 4 and len(models) == 5
        for path in models:
            answers = {row["question_id"]: row["choices"][0]["turns"] for row in read(path)}
            assert all(len(answers[row["question_id"]]) == len(row["turns"]) for row in questions)
    references = read(tmp_path / "world_talk/reference_answer/org_gpt-4.jsonl")
    assert {row["model_id"] for row in references} == {"org/gpt-4"}


def test_what_is_exported_and_imported_again_gives_the_same_scores(judged: Results, tmp_path: Path) -> None:
    export_fastchat(judged, tmp_path)
    before = tables(judged)
    lines = import_fastchat(judged, tmp_path / "held_out")
    assert lines == ["52 judgments imported, 0 were there"]
    after = tables(judged)
    labels = [label for label, judge in after.judges.items() if judge.name == "org/gpt-4"]
    assert len(labels) == 2 and not after.problems
    columns = ["set", "folder", "question_id", "turn", "score", "fastchat"]
    frames = [
        after.ratings[after.ratings["judge"] == label].sort_values(columns[:4])[columns].reset_index(drop=True)
        for label in labels
    ]
    pd.testing.assert_frame_equal(*frames)
    assert len(after.pairs) == 2 * len(before.pairs)
    assert import_fastchat(judged, tmp_path / "held_out") == ["0 judgments imported, 52 were there"]


def changed(folder: Path, name: str, change: dict[str, Any]) -> None:
    path = next((folder / "model_judgment").glob(name))
    path.write_text("".join(json.dumps({**row, **change}) + "\n" for row in read(path)))


def test_judgments_of_other_answers_models_and_questions_are_left_out(judged: Results, tmp_path: Path) -> None:
    export_fastchat(judged, tmp_path)
    folder = tmp_path / "held_out"
    next((folder / "model_judgment").glob("*_pair.jsonl")).unlink()
    path = next((folder / "model_judgment").glob("*_single.jsonl"))
    rows = read(path)
    rows[0]["model"] = "vicuna-13b"
    rows[1]["question_id"] = "another"
    rows[2]["user_prompt"] = "Another prompt of the same answer"
    rows[3] |= {"user_prompt": "", "judgment": "$ERROR$"}
    rows[4]["user_prompt"] = "Another prompt"
    answers = folder / "model_answer" / f"{rows[4]['model']}.jsonl"
    others = read(answers)
    for other in others:
        if other["question_id"] == rows[4]["question_id"]:
            other["choices"][0]["turns"] = ["Another answer."]
    answers.write_text("".join(json.dumps(row) + "\n" for row in others))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = import_fastchat(judged, folder)
    assert lines[0] == "16 judgments imported, 0 were there"
    for reason in (
        "of vicuna-13b, which is no cell of this folder",
        "of questions or turns that the cells have not answered",
        "of other answers than the recorded ones",
        "without a judgment: the endpoint did not answer",
    ):
        assert f"1 left out: {reason}" in lines


def test_what_cannot_be_imported_is_refused_in_a_sentence(judged: Results, tmp_path: Path) -> None:
    export_fastchat(judged, tmp_path)
    with pytest.raises(UserError, match="holds no judgments of FastChat") as raised:
        import_fastchat(judged, tmp_path / "world_talk" / "model_answer", ("world_talk",))
    assert "Answers alone cannot be imported" in str(raised.value.fix)
    with pytest.raises(UserError, match="unknown set of open questions"):
        import_fastchat(judged, tmp_path)
    folder = tmp_path / "held_out"
    next((folder / "model_judgment").glob("*_pair.jsonl")).unlink()
    for change, words in (
        ({"model": "vicuna-13b"}, "no judgment of .* is of an answer in .*; 20 left out: of vicuna-13b"),
        ({"score": "high"}, "row 1: score: Input should be a valid number"),
        ({"turn": 3}, "row 1: turn: "),
        ({"judge": None}, "row 1: judge: "),
    ):
        changed(folder, "*_single.jsonl", change)
        with pytest.raises(UserError, match=words):
            import_fastchat(judged, folder)


@pytest.mark.slow
def test_the_command_imports_and_exports(judged: Results, tmp_path: Path) -> None:
    done = bench("judge", judged.path, "--export", tmp_path)
    assert done.exit_code == 0 and "20 ratings and 16 comparisons by org/gpt-4" in done.output, done.output
    done = bench("judge", judged.path, "--import", tmp_path / "held_out")
    assert done.exit_code == 0 and "52 judgments imported" in done.output, done.output
    done = bench("judge", judged.path, "--import", tmp_path / "nowhere", "--sets", "held_out")
    assert done.exit_code == 2 and "holds no judgments of FastChat" in done.stderr
