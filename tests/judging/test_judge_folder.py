"""A results folder from instructions to judged answers: run on a tiny model, judged offline and by an endpoint."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.sweeps import bench

from bench.analysis import judgments
from bench.judging import judge_check
from bench.judging.ledger import cell_ratings
from bench.judging.question_files import load_questions
from bench.store.folder import CellFolder, Results

SWEEP = """
name: talk
base_model: {{id: {model}, dtype: float32}}
data: {{train: world_talk, held_out: 4}}
methods:
  - {{method: lora, rank: 2, lr: 1e-2}}
  - {{method: vera, rank: 4, lr: 1e-2}}
samples: [8, 16]
training: {{batch_size: 4, max_length: 64}}
costs: {{inference: false}}
answers: {{questions: [held_out, world_talk], limit: 4, max_new_tokens: 6}}
"""


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The results of a sweep of open answers."""
    folder = tmp_path_factory.mktemp("talked")
    (folder / "talk.yaml").write_text(SWEEP.format(model=tiny_model))
    done = bench("run", folder / "talk.yaml", "--results", folder, "--workers", 0)
    assert done.exit_code == 0, done.output
    return folder / "talk"


@pytest.fixture
def results(talked: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(talked, tmp_path / "talk"))


def cells(results: Path) -> list[dict[str, Any]]:
    return json.loads((results / "plan.json").read_text())["cells"]


def test_every_cell_answers_and_is_judged_offline(talked: Path) -> None:
    read = judgments.read(Results(talked), Results(talked).plan())
    assert len(cells(talked)) == 5
    for cell in cells(talked):
        folder = CellFolder(talked / "cells" / cell["folder"])
        metrics = folder.metrics()
        assert metrics["status"] == "done" and metrics["evaluations"] == {}
        answered = list(metrics["answers"].values())
        assert [(one["set"], one["n"]) for one in answered] == [("held_out", 4), ("world_talk", 8)]
        assert all(one["seconds"] > 0 and one["new_tokens"] <= 6 * one["n"] for one in answered)
        mine = read.rows[read.rows["folder"] == cell["folder"]]
        assert len(mine) == 12 and mine["score"].between(0, 100).all()
    assert read.problems == ()


def test_the_same_command_does_nothing_more(talked: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in talked.glob("cells/*/*/*")}
    done = bench("run", talked.parent / "talk.yaml", "--results", talked.parent, "--workers", 0)
    assert done.exit_code == 0 and "5 recorded already, 0 to run" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in talked.glob("cells/*/*/*")} == before


def test_the_report_draws_scores_against_samples(talked: Path) -> None:
    assert (talked / "report/figures/samples_vs_score.png").is_file()
    page = (talked / "report/report.md").read_text()
    assert (
        "held_out, judged by reference (likeness to a reference answer, which is not quality, 0 to 100): the " in page
    )
    assert "No trained cell is done yet" not in page and "No cell is scored yet" not in page
    assert "## Can the judges judge?" in page and "not checkable: no second reference answer" in page
    assert "| vera-r4-n16-s0 |" in page


def test_judging_again_changes_nothing(results: Path) -> None:
    before = {path: path.read_text() for path in results.glob("cells/*/judgments/*")}
    done = bench("judge", results, "--check")
    assert done.exit_code == 0, done.output
    assert re.search(r"(\d+) judgments wanted, \1 were there, 0 made", done.output)
    assert {path: path.read_text() for path in results.glob("cells/*/judgments/*")} == before


def test_a_fresh_clone_finds_the_questions_again(results: Path) -> None:
    kept = load_questions(Results(results))
    shutil.rmtree(results / "questions")
    assert load_questions(Results(results)) == kept
    plan = json.loads((results / "plan.json").read_text())
    plan["open_questions"]["held_out"]["fingerprint"] = "0" * 16
    (results / "plan.json").write_text(json.dumps(plan))
    done = bench("judge", results)
    assert done.exit_code == 2 and "are not those that were answered" in done.stderr


def test_judgments_of_replaced_answers_count_for_nothing(results: Path) -> None:
    folder = CellFolder(results / "cells" / cells(results)[0]["folder"])
    (path,) = (folder.path / "answers").glob("held_out-*")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["choices"][0]["turns"][0] += " and more"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = "1 judgments are of answers that are no longer there; they count for nothing"
    assert judgments.read(Results(results), Results(results).plan()).problems == (said,)
    assert bench("judge", results).exit_code == 0
    again = judgments.read(Results(results), Results(results).plan())
    assert len(again.rows) == 5 * 12 and again.problems == (said,)  # judged anew, beside the old one


def test_other_reference_answers_are_another_judgment(results: Path) -> None:
    """By `bench judge`, and by the next `bench run`; the later one counts."""
    (path,) = (results / "questions").glob("held_out-*")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["reference"] = ["Quite another answer."]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = bench("judge", results, "--sets", "held_out")
    assert "20 judgments wanted, 0 were there, 20 made" in done.output
    again = bench("judge", results, "--sets", "held_out")
    assert "20 judgments wanted, 20 were there, 0 made" in again.output
    read = judgments.read(Results(results), Results(results).plan())
    assert len(read.rows) == 5 * 12 and read.problems == ()


def test_a_torn_line_is_cut_off_and_its_judgment_made_again(results: Path) -> None:
    folder = CellFolder(results / "cells" / cells(results)[1]["folder"])
    (path,) = (folder.path / "judgments").iterdir()
    whole = path.read_text()
    path.write_text(whole[:-30])  # killed in mid-line
    before = judgments.read(Results(results), Results(results).plan())
    assert len(before.rows) == 5 * 12 - 1
    assert "60 judgments wanted, 59 were there, 1 made" in bench("judge", results).output
    assert path.read_text() == whole


def test_a_file_that_cannot_be_believed_is_a_problem_and_no_end(results: Path) -> None:
    folder = CellFolder(results / "cells" / cells(results)[1]["folder"])
    (path,) = (folder.path / "judgments").iterdir()
    path.write_text("{broken\n" + path.read_text())
    assert bench("report", results).exit_code == 0
    assert "is corrupt" in (results / "report/report.md").read_text()


def test_bad_words_are_mended(results: Path) -> None:
    for given, said in (
        (["--judge", "gpt"], "unknown judge 'gpt'"),
        (["--judge", "openai"], "needs the name of a model"),
        (["--sets", "held"], "unknown set of open questions 'held'"),
        (["--cells", "dora*"], "no cell's name fits 'dora*'"),
        (["--pairwise", "all"], "reference does not compare two answers"),
        (["--judge", "openai", "--model", "m", "--cells", "vera*", "--pairwise", "baseline"], "no two of these cells"),
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


def test_an_endpoint_judges_what_is_there(
    results: Path, server: Callable[[Say], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that rates by the length of what it is shown: gold answers are the longer ones."""

    def say(system: str, user: str) -> str:
        answer = user.rpartition("Assistant's Answer]\n")[0] or user
        return f"Fine. Rating: [[{1 + len(answer) % 10}]]"

    monkeypatch.setenv("A_KEY", SECRET)
    command = ("judge", results, "--judge", "openai", "--model", "a/judge", "--base-url", server(say))
    command = (*command, "--key-variable", "A_KEY")
    done = bench(*command, "--check", "--price-in", 1, "--price-out", 2)
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    assert not [path for path in results.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert "dollars" in done.output
    read = judgments.read(Results(results), Results(results).plan())
    (label,) = (name for name, one in read.judges.items() if one.kind == "openai")
    assert label.startswith("a-judge-")
    mine = read.rows[read.rows["judge"] == label]
    assert len(mine) == 5 * 12 and (mine["score"] == mine["fastchat"]).all()
    rating = cell_ratings(CellFolder(results / "cells" / cells(results)[1]["folder"]), label).read()[0]
    assert rating.judgment.startswith("Fine.") and rating.prompt_hash and rating.judge[1] == "single-v1"
    assert [(one.set, one.complete) for one in read.checks[label]] == [("held_out", True), ("world_talk", True)]
    assert read.checks[label][0].noise == 0 and read.served[label] == ["served"]
    again = bench(*command)
    assert "60 judgments wanted, 60 were there, 0 made" in again.output
    twice = bench(*command, "--repeats", 2)
    assert "120 judgments wanted, 60 were there, 60 made" in twice.output


def test_what_cannot_be_read_is_missing_and_never_zero(results: Path, server: Callable[[Say], str]) -> None:
    def say(system: str, user: str) -> str:
        return "I would rather not." if len(user) % 2 else "Rating: [[95]] no, [[7]]"

    done = bench("judge", results, "--judge", "openai", "--model", "mute", "--base-url", server(say))
    assert done.exit_code == 0, done.output
    scores = judgments.read(Results(results), Results(results).plan()).scores()
    mute = scores[scores["judge"].str.startswith("mute-")]
    assert (mute["missing"] > 0).any() and set(mute["mean"].dropna()) == {7.0}
    assert (mute["disagree"] == mute["n"] - mute["missing"]).all() and set(mute["fastchat"].dropna()) == {95.0}
    page = (results / "report/report.md").read_text()
    assert "mute was not checked" in page


def test_a_judge_that_guesses_carries_a_warning(results: Path, server: Callable[[Say], str]) -> None:
    done = bench(
        "judge", results, "--judge", "openai", "--model", "dice", "--check", "--sets", "world_talk",
        "--base-url", server(lambda system, user: "Rating: [[5]]"),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for name in ("report.md", "report.html"):
        page = (results / "report" / name).read_text()
        assert "dice cannot tell gold answers from others" in page
        assert "dice failed the check of judges: these scores say nothing" in page
        assert page.count("This judge failed its check") >= 4  # scores, categories, differences, the finding


def test_pairs_are_shown_in_both_orders(results: Path, server: Callable[[Say], str]) -> None:
    """A judge that always takes the first: every match is a tie."""
    shown: list[str] = []

    def first(system: str, user: str) -> str:
        shown.append(user)
        return "[[A]]" if "two AI assistants" in system else "Rating: [[5]]"

    done = bench(
        "judge", results, "--judge", "openai", "--model", "first", "--pairwise", "baseline", "--sets", "held_out",
        "--base-url", server(first),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    pairs = judgments.read(Results(results), Results(results).plan()).pairs
    # lora against vera at 8 and at 16 samples, and each lora against the base: 4 questions, both orders.
    assert len(pairs) == (2 + 2) * 4 * 2 and set(pairs["winner"]) == {"A"}
    table = (results / "report/report.md").read_text().partition("## Compared in pairs: held_out, by first")[2]
    assert "| lora r2 n=8 | 50.0 | 0 | 8 | 0 |" in table


def test_what_others_say_stays_text_in_the_report(results: Path, server: Callable[[Say], str]) -> None:
    name = "<img src=x onerror=alert(1)></script>"
    say = server(lambda system, user: f"{name}\x00\u202e Rating: [[5]]")
    done = bench("judge", results, "--judge", "openai", "--model", name, "--check", "--base-url", say)
    assert done.exit_code == 0, done.output
    for path in ("report/report.html", "report/report.md"):
        page = (results / path).read_text()
        assert "<img" not in page and "&lt;img" in page
        assert page.count("</script>") == path.endswith("html")  # the page's own


def test_more_questions_for_trained_cells(results: Path, tmp_path: Path) -> None:
    """The cells are not trained again, and what they had answered stays."""
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"question_id": 1, "category": "c", "turns": ["Is it?"]}) + "\n")
    before = {path: path.read_text() for path in results.glob("cells/*/answers/*")}
    done = bench(
        "evaluate", results, "--answers", "own", "--set", f"answers.sets.own.questions={own}", "--workers", 0
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    after = {path: path.read_text() for path in results.glob("cells/*/answers/*")}
    assert before.items() <= after.items() and len(after) == len(before) + 5
    sets = [
        one["set"] for one in CellFolder(results / "cells" / cells(results)[1]["folder"]).metrics()["answers"].values()
    ]
    assert sets == ["held_out", "world_talk", "own"]


def test_a_sweep_without_answers_can_be_given_some(finished: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished[1], tmp_path / "tiny"))
    scored = {path: path.read_bytes() for path in folder.glob("cells/*/items/*")}
    more = ("answers.questions=world_talk", "answers.limit=2", "answers.max_new_tokens=3")
    given = [word for one in more for word in ("--set", one)]
    done = bench("evaluate", folder, *given, "--workers", 0)
    assert done.exit_code == 0, done.output
    assert {path: path.read_bytes() for path in folder.glob("cells/*/items/*")} == scored
    page = (folder / "report/report.md").read_text()
    assert "world_talk, judged by reference (likeness to a reference answer, which is not quality, 0 to 100)" in page
    assert "| reference | world_talk | answers of other questions |" in page
    assert not (folder / "report/figures/samples_vs_score.png").is_file()  # one sample count


def test_gold_is_never_its_own_stranger() -> None:
    from bench.data.open_questions import OpenQuestion, Turn

    def question(number: int, references: int) -> OpenQuestion:
        turns = (Turn(f"{number}?"), Turn("And?"))
        gold = tuple((f"gold {number} one {one} x y", f"gold {number} two {one} x y") for one in range(references))
        return OpenQuestion(number, "math", turns, gold)

    questions = [question(number, 2) for number in range(5)]
    wanted = judge_check.check_answers(
        {"s": questions, "single": [question(9, 1), question(8, 1)]}, needs_reference=True
    )
    assert {one.set for one in wanted} == {"s"}  # the second reference is what the reference judge is checked by
    for one in wanted:
        own = f"gold {one.question.id} {'one' if one.turn == 1 else 'two'} 1"
        assert one.question.references == question(one.question.id, 1).references
        if one.model == judge_check.OTHER:
            assert own not in one.answers[-1]
        elif one.model == judge_check.GOLD:
            assert one.answers[-1] == f"{own} x y"
        else:
            assert one.answers[-1] == "gold " + str(one.question.id)
        assert one.answers[:-1] == ((f"gold {one.question.id} one 1 x y",) if one.turn == 2 else ())
    short = [OpenQuestion(n, "math", (Turn("?"),), ((str(n),),)) for n in range(5)]
    assert judge_check.check_answers({"short": short}, needs_reference=False) == []  # cut off, they are what they were
    blind = judge_check.check_answers({"single": [question(9, 1), question(8, 1)]}, needs_reference=False)
    assert len(blind) == 2 * 2 * 4 and all(one.blind for one in blind)
