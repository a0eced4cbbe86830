"""A results folder from instructions to judged answers: run on a tiny model, judged offline and by an endpoint.

Judging itself is called as a function; the tests that read the report as well are slow.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.sweeps import bench

from bench.analysis.judgments import JudgmentTables, read_judgments
from bench.judging.endpoint_settings import Endpoint
from bench.judging.fastchat_files import export_fastchat
from bench.judging.judge_folder import JudgingOptions, JudgingSummary, judge_folder
from bench.judging.judges import EndpointJudge, Judge, SimilarityJudge
from bench.judging.judgment_records import ModelRating
from bench.judging.ledger import cell_ratings
from bench.judging.prompts import NEED_REFERENCE
from bench.judging.question_files import load_questions
from bench.progress import Progress
from bench.report.judged_finding import judge_warnings
from bench.report.sweep_report import sweep_report
from bench.store.folder import CellFolder, Results
from bench.store.pack import pack


def cells(results: Path) -> list[CellFolder]:
    """The folders of the plan's cells."""
    return [CellFolder(results / "cells" / cell.folder) for cell in Results(results).plan_record().cells]


def read(results: Path) -> JudgmentTables:
    return read_judgments(Results(results), Results(results).plan_record())


def judge(results: Path, by: Judge | None = None, **options: Any) -> JudgingSummary:
    """As `bench judge` without the report."""
    return judge_folder(Results(results), by or SimilarityJudge(), JudgingOptions(**options), Progress())


def counts(summary: JudgingSummary) -> tuple[int, int, int]:
    """Judgments that were wanted, were there before, and were made."""
    return summary.wanted, summary.present, summary.new


def test_every_cell_answers_and_is_judged_offline(talked: Path) -> None:
    judged = read(talked)
    assert len(cells(talked)) == 5
    for folder in cells(talked):
        record = folder.record()
        assert record.status == "done" and record.evaluations == {}
        answers = list(record.answers.values())
        assert [(of_set.set, of_set.n) for of_set in answers] == [("held_out", 4), ("world_talk", 8)]
        assert all((of_set.seconds or 0) > 0 and of_set.new_tokens <= 6 * of_set.n for of_set in answers)
        rows = judged.ratings[judged.ratings["folder"] == folder.path.name]
        assert len(rows) == 12 and rows["score"].between(0, 100).all()
    assert judged.problems == ()


@pytest.mark.slow
def test_the_same_command_does_nothing_more(talked: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in talked.glob("cells/*/*/*")}
    assert before
    done = bench("run", talked.parent / "talk.yaml", "--results", talked.parent, "--workers", 0)
    assert done.exit_code == 0 and "5 recorded already, 0 to run" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in talked.glob("cells/*/*/*")} == before


@pytest.mark.slow
def test_the_report_draws_scores_against_samples(results: Path) -> None:
    assert bench("report", results).exit_code == 0
    assert (results / "report/figures/samples_vs_score.png").is_file()
    page = (results / "report/report.md").read_text()
    assert (
        "held_out, judged by reference (likeness to a reference answer, which is not quality, 0 to 100): the " in page
    )
    assert "No trained cell is done yet" not in page and "No cell is scored yet" not in page
    assert "## Can the judges judge?" in page and "not checkable: no second reference answer" in page
    assert "| vera-r4-n16-s0 |" in page


def test_judging_again_changes_nothing(results: Path) -> None:
    before = {path: path.read_text() for path in results.glob("cells/*/judgments/*")}
    assert before
    summary = judge(results, check=True)
    assert summary.wanted == summary.present > 60 and summary.new == 0 and not summary.failed
    assert {path: path.read_text() for path in results.glob("cells/*/judgments/*")} == before


def test_a_fresh_clone_finds_the_questions_again(results: Path) -> None:
    saved = load_questions(Results(results))
    shutil.rmtree(results / "questions")
    assert load_questions(Results(results)) == saved
    plan = json.loads((results / "plan.json").read_text())
    plan["open_questions"]["held_out"]["fingerprint"] = "0" * 16
    (results / "plan.json").write_text(json.dumps(plan))
    done = bench("judge", results)
    assert done.exit_code == 2 and "are not those that were answered" in done.stderr


def test_judgments_of_replaced_answers_count_for_nothing(results: Path) -> None:
    folder = cells(results)[0]
    (path,) = (folder.path / "answers").glob("held_out-*")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["choices"][0]["turns"][0] += " and more"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problem = "1 judgments are of answers that are no longer there; they count for nothing"
    assert read(results).problems == (problem,)
    assert counts(judge(results)) == (60, 59, 1)
    again = read(results)
    assert len(again.ratings) == 5 * 12 and again.problems == (problem,)  # rated anew, beside the old rating


def test_other_reference_answers_are_another_judgment(results: Path) -> None:
    """The later judgment counts. `bench run` judges again in the same way."""
    (path,) = (results / "questions").glob("held_out-*")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["reference"] = ["Quite another answer."]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert counts(judge(results, sets=("held_out",))) == (20, 0, 20)
    assert counts(judge(results, sets=("held_out",))) == (20, 20, 0)
    judged = read(results)
    assert len(judged.ratings) == 5 * 12 and judged.problems == ()


def test_an_incomplete_line_is_removed_and_its_judgment_made_again(results: Path) -> None:
    (path,) = (cells(results)[1].path / "judgments").iterdir()
    complete = path.read_text()
    path.write_text(complete[:-30])  # killed while it was written
    assert len(read(results).ratings) == 5 * 12 - 1
    assert counts(judge(results)) == (60, 59, 1)
    assert path.read_text() == complete


@pytest.mark.parametrize("damage", ["truncated", "removed", "removed with the questions"])
def test_a_folder_with_a_damaged_plan_is_judged_by_its_cells(
    damage: str, results: Path, talked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same judgments as of the undamaged folder, in the tables too."""
    plan = results / "plan.json"
    if damage == "truncated":
        plan.write_text(plan.read_text()[:100])
    else:
        plan.unlink()
    if damage == "removed with the questions":
        shutil.rmtree(results / "questions")
    assert counts(judge(results)) == counts(judge(Path(shutil.copytree(talked, results.parent / "undamaged" / "talk"))))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("plan.json is") == 1 and "`bench evaluate` with the folder writes plan.json anew" in said
    report = sweep_report(Results(results))
    undamaged = sweep_report(Results(results.parent / "undamaged" / "talk"))
    titles = [[table.title for section in of.sections for table in section.tables] for of in (report, undamaged)]
    judged = [title for title in titles[1] if "judged by" in title]
    assert judged and [title for title in titles[0] if "judged by" in title] == judged
    scores = [
        [row for section in of.sections for table in section.tables if table.title in judged for row in table.rows]
        for of in (report, undamaged)
    ]
    assert sorted(scores[0]) == sorted(scores[1])


def test_a_folder_with_a_damaged_plan_is_exported_for_fastchat(results: Path, talked: Path, tmp_path: Path) -> None:
    judge(results)
    expected = export_fastchat(Results(results), tmp_path / "undamaged")
    (results / "plan.json").unlink()
    assert len(export_fastchat(Results(results), tmp_path / "damaged")) == len(expected)
    files = [
        {
            str(path.relative_to(folder)): sorted(path.read_text().splitlines())
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (tmp_path / "undamaged", tmp_path / "damaged")
    ]
    assert files[0] == files[1] and files[0]


def test_a_corrupt_line_is_a_problem_and_not_an_error_and_the_others_count(results: Path) -> None:
    (path,) = (cells(results)[1].path / "judgments").iterdir()
    path.write_text("{broken\n" + path.read_text())
    (problem,) = read(results).problems
    assert "is corrupt: line 1" in problem and len(read(results).ratings) == 5 * 12


def test_judging_reads_a_packed_folder_and_adds_to_it(results: Path) -> None:
    before = read(results)
    pack(Results(results))
    assert not list(results.glob("cells/*/judgments/*"))
    assert read(results).ratings.equals(before.ratings)
    assert counts(judge(results)) == (60, 60, 0)
    assert not list(results.glob("cells/*/judgments/*"))
    (path,) = (results / "questions").glob("held_out-*")
    path.write_text(re.sub(r'"reference": \[".*?"\]', '"reference": ["Another."]', path.read_text()))
    assert counts(judge(results)) == (60, 40, 20)
    assert len(list(results.glob("cells/*/judgments/*"))) == 5
    assert len(read(results).ratings) == 60 and counts(judge(results)) == (60, 60, 0)


def test_errors_of_the_command_line(results: Path) -> None:
    for given, said in (
        (["--judge", "gpt"], "unknown judge 'gpt'"),
        (["--judge", "openai"], "needs the name of a model"),
        (["--sets", "held"], "unknown set of open questions 'held'"),
        (["--cells", "dora*"], "no cell's name fits 'dora*'"),
        (["--pairwise", "all"], "reference does not compare two answers"),
        (["--judge", "openai", "--model", "m", "--cells", "vera*", "--pairwise", "baseline"], "no two of these cells"),
        (["--judge", "openai", "--model", "m", "--temperature", "warm"], "'warm' is not a number"),
        (["--judge", "openai", "--model", "m", "--temperature", "-1"], "temperature is -1"),
        (["--judge", "openai", "--model", "m", "--token-limit", "tokens"], "unknown name of the token limit 'tokens'"),
        (["--import", "nowhere", "--sets", "held_out"], "holds no judgments of FastChat"),
        (["--judge", "openai", "--model", "m", "--spending-limit", "1"], "needs both prices"),
    ):
        done = bench("judge", results, *given)
        assert done.exit_code == 2 and said in done.stderr, done.output


Say = Callable[[str, str], str]


@pytest.fixture
def server() -> Iterator[Callable[[Say], str]]:
    """Starts an endpoint on the loopback that says `say(system, user)`; gives its address."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    made: list[ThreadingHTTPServer] = []

    def start(say: Say) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                texts = {one["role"]: one["content"] for one in asked["messages"]}
                content = say(texts.get("system", ""), texts["user"])
                choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
                body = {"id": "1", "object": "chat.completion", "created": 1, "model": "served", "choices": [choice]}
                data = json.dumps({**body, "usage": usage}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        made.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=made[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{made[-1].server_port}/v1"

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


SECRET = "sk-0123456789-not-to-be-seen"


def by_length(system: str, user: str) -> str:
    """A judge that rates by the length of what it is shown."""
    answer = user.rpartition("Assistant's Answer]\n")[0] or user
    return f"Fine. Rating: [[{1 + len(answer) % 10}]]"


def test_an_endpoint_judges_what_is_there(results: Path, server: Callable[[Say], str]) -> None:
    by = EndpointJudge(Endpoint("a/judge", server(by_length), None, price_in=1.0, price_out=2.0))
    label = by.identity.label
    summary = judge(results, by, check=True)
    assert summary.usage is not None and summary.usage.dollars == pytest.approx(summary.new * 120 / 1e6)
    assert "dollars" in summary.lines()[1] and not summary.failed
    judged = read(results)
    assert label.startswith("a-judge-") and judged.judges[label] == by.identity
    rows = judged.ratings[judged.ratings["judge"] == label]
    assert len(rows) == 5 * 12 and (rows["score"] == rows["fastchat"]).all()
    rating = cell_ratings(cells(results)[1], label).read()[0]
    assert isinstance(rating, ModelRating)
    assert rating.judgment.startswith("Fine.") and rating.prompt_hash and rating.judge[1] == "single-v1"
    assert [(check.set, check.complete) for check in judged.checks[label]] == [("held_out", True), ("world_talk", True)]
    assert judged.checks[label][0].noise == 0 and judged.served[label] == ["served"]
    assert counts(judge(results, by)) == (60, 60, 0)
    assert counts(judge(results, by, sets=("held_out",), repeats=2)) == (40, 20, 20)


@pytest.mark.slow
def test_the_command_judges_by_an_endpoint_and_shows_no_key(
    results: Path, server: Callable[[Say], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    command = ("judge", results, "--judge", "openai", "--model", "a/judge", "--key-variable", "A_KEY", "--repeats", 2)
    done = bench(*command, "--base-url", server(by_length), "--check", "--price-in", 1, "--price-out", 2)
    assert done.exit_code == 0, done.output
    assert "dollars" in done.output and SECRET not in done.output
    assert not [path for path in results.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert len(read(results).ratings) == 3 * 60


def test_what_cannot_be_read_is_missing_and_never_zero(results: Path, server: Callable[[Say], str]) -> None:
    url = server(lambda system, user: "I would rather not." if len(user) % 2 else "Rating: [[95]] no, [[7]]")
    assert not judge(results, EndpointJudge(Endpoint("mute", url, None))).failed
    scores = read(results).scores()
    mute = scores[scores["judge"].str.startswith("mute-")]
    assert (mute["missing"] > 0).any() and set(mute["mean"].dropna()) == {7.0}
    assert (mute["disagree"] == mute["n"] - mute["missing"]).all() and set(mute["fastchat"].dropna()) == {95.0}


def test_questions_of_math_without_a_reference_are_said_to_be_judged_without_one(
    results: Path, server: Callable[[Say], str]
) -> None:
    """FastChat refuses to judge them."""
    calling = sum(question.category in NEED_REFERENCE for question in load_questions(Results(results))["world_talk"])
    assert calling
    with_references = EndpointJudge(Endpoint("with", server(by_length), None))
    assert judge(results, with_references, sets=("world_talk",)).without_reference == 0
    (path,) = (results / "questions").glob("world_talk-*")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "reference": None, "references": None}) + "\n" for row in rows))
    without = EndpointJudge(Endpoint("without", server(by_length), None))
    summary = judge(results, without, sets=("world_talk",))
    assert summary.without_reference == calling
    assert any(
        line.startswith(f"{calling} questions of math, reasoning, coding have no ref") for line in summary.lines()
    )
    judged = read(results)
    assert judged.without_reference == {(without.identity.label, "world_talk"): calling}
    assert [line for line in judge_warnings([], judged) if "that call for a reference answer" in line] == [
        f"without rated {calling} questions of world_talk that call for a reference answer (math, reasoning, coding) "
        "without one; FastChat refuses to judge them"
    ]


def test_a_refused_temperature_is_said_of_the_ratings(results: Path, server: Callable[[Say], str]) -> None:
    by = EndpointJudge(Endpoint("sampled", server(by_length), None))
    judge(results, by, sets=("held_out",))
    file = cell_ratings(cells(results)[1], by.identity.label)
    ratings = [rating for rating in file.read() if isinstance(rating, ModelRating)]
    file.write([rating.model_copy(update={"refused_parameters": ("max_tokens", "temperature")}) for rating in ratings])
    assert any("the endpoint of sampled refuses temperature: " in line for line in judge_warnings([], read(results)))


def test_a_judge_that_guesses_fails_its_check(results: Path, server: Callable[[Say], str]) -> None:
    dice = EndpointJudge(Endpoint("dice", server(lambda system, user: "Rating: [[5]]"), None))
    judge(results, dice, check=True, sets=("world_talk",))
    (check,) = read(results).checks[dice.identity.label]
    assert check.complete and check.failed and check.noise == 0
    assert {separation.auc for separation in check.separations.values()} == {0.5}


@pytest.mark.slow
def test_the_report_warns_of_judges(results: Path, server: Callable[[Say], str]) -> None:
    """One that was not checked, and one that failed its check."""
    judge(results, EndpointJudge(Endpoint("mute", server(by_length), None)))
    command = ("judge", results, "--judge", "openai", "--model", "dice", "--check", "--sets", "world_talk")
    done = bench(*command, "--base-url", server(lambda system, user: "Rating: [[5]]"))
    assert done.exit_code == 0, done.output
    assert "mute was not checked" in (results / "report/report.md").read_text()
    for name in ("report.md", "report.html"):
        page = (results / "report" / name).read_text()
        assert "dice cannot tell gold answers from others" in page
        assert "dice failed the check of judges: these scores say nothing" in page
        assert page.count("This judge failed its check") >= 4  # scores, categories, differences, the finding


def always_first(system: str, user: str) -> str:
    """A judge that always prefers the first answer, so that every match is a tie."""
    return "[[A]]" if "two AI assistants" in system else "Rating: [[5]]"


def test_pairs_are_shown_in_both_orders(results: Path, server: Callable[[Say], str]) -> None:
    first = EndpointJudge(Endpoint("first", server(always_first), None))
    # LoRA and VeRA at 8 and at 16 samples, and each LoRA cell and the base: 4 questions, both orders.
    wanted = 5 * 4 + (2 + 2) * 4 * 2
    assert counts(judge(results, first, pairs="baseline", sets=("held_out",))) == (wanted, 0, wanted)
    pairs = read(results).pairs
    assert len(pairs) == (2 + 2) * 4 * 2 and set(pairs["winner"]) == {"A"}
    assert set(pairs.groupby(["question_id", "turn"])["game"].sum()) == {(2 + 2) * (1 + 2)}
    assert counts(judge(results, first, pairs="baseline", sets=("held_out",))) == (wanted, wanted, 0)
    assert judge(results, first, pairs="all", sets=("held_out",)).wanted == 5 * 4 + (2 + 4) * 4 * 2


@pytest.mark.slow
def test_the_report_has_a_table_of_pairs(results: Path, server: Callable[[Say], str]) -> None:
    command = ("judge", results, "--judge", "openai", "--model", "first", "--base-url", server(always_first))
    done = bench(*command, "--pairwise", "baseline", "--sets", "held_out")
    assert done.exit_code == 0, done.output
    table = (results / "report/report.md").read_text().partition("## Compared in pairs: held_out, by first")[2]
    assert "| lora r2 n=8 | 50.0 | 0 | 8 | 0 |" in table


@pytest.mark.slow
def test_what_others_say_stays_text_in_the_report(results: Path, server: Callable[[Say], str]) -> None:
    name = "<img src=x onerror=alert(1)></script>"
    say = server(lambda system, user: f"{name}\x00\u202e Rating: [[5]]")
    done = bench("judge", results, "--judge", "openai", "--model", name, "--check", "--base-url", say)
    assert done.exit_code == 0, done.output
    for path in ("report/report.html", "report/report.md"):
        page = (results / path).read_text()
        assert "<img" not in page and "&lt;img" in page
        assert page.count("</script>") == path.endswith("html")  # the page's own


@pytest.mark.slow
def test_more_questions_for_trained_cells(results: Path, tmp_path: Path) -> None:
    """The cells are not trained again, and what they had answered stays."""
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"question_id": 1, "category": "c", "turns": ["Is it?"]}) + "\n")
    before = {path: path.read_text() for path in results.glob("cells/*/answers/*")}
    done = bench(
        "evaluate", results, "--answers", "more", "--set", f"answers.sets.more.questions={more}", "--workers", 0
    )
    assert done.exit_code == 0, done.output
    after = {path: path.read_text() for path in results.glob("cells/*/answers/*")}
    assert before.items() <= after.items() and len(after) == len(before) + 5
    sets = [answers.set for answers in cells(results)[1].record().answers.values()]
    assert sets == ["held_out", "world_talk", "more"]


@pytest.mark.slow
def test_a_sweep_without_answers_can_be_given_some(finished: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished[1], tmp_path / "tiny"))
    scored = {path: path.read_bytes() for path in folder.glob("cells/*/items/*")}
    assert scored
    more = ("answers.questions=world_talk", "answers.limit=2", "answers.max_new_tokens=3")
    arguments = [word for setting in more for word in ("--set", setting)]
    done = bench("evaluate", folder, *arguments, "--workers", 0)
    assert done.exit_code == 0, done.output
    assert {path: path.read_bytes() for path in folder.glob("cells/*/items/*")} == scored
    page = (folder / "report/report.md").read_text()
    assert "world_talk, judged by reference (likeness to a reference answer, which is not quality, 0 to 100)" in page
    assert "| reference | world_talk | answers of other questions |" in page
    assert not (folder / "report/figures/samples_vs_score.png").is_file()  # one sample count
