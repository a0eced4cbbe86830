"""Writes and reads FastChat's files of questions, answers and judgments.

A folder is what FastChat calls `data/BENCH_NAME`: question.jsonl, model_answer/MODEL.jsonl,
reference_answer/JUDGE.jsonl, model_judgment/JUDGE_single.jsonl and JUDGE_pair.jsonl. Its models are the cells of a
results folder, by their names. The formats are those of fastchat/llm_judge (common.py, gen_judgment.py,
show_result.py), commit 0e6d3e4.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data.open_questions import OpenQuestion
from bench.evaluation.open_answers import answers_hash
from bench.judging import prompts
from bench.judging.judge_folder import recorded_answers
from bench.judging.judgment_records import AnswersToCompare, AnswerToRate, PairwiseVerdict, latest_judgments
from bench.judging.ledger import cell_ratings, pairwise_verdicts, read_judge
from bench.judging.parsers import Verdict
from bench.judging.prompts import Prompt
from bench.judging.question_files import load_questions, plan_with_questions
from bench.store.files import write_text
from bench.store.folder import Results
from bench.store.judge_record import JudgeRecord
from bench.store.records import PlanRecord

AnswerKey = tuple[str, int | str, int]
"""A cell's folder, a question and a turn."""

FastChatRow = dict[str, object]


@dataclass(frozen=True)
class FastChatBench:
    """The answers of a results folder to one set of questions, as FastChat names them."""

    results: Results
    set: str
    questions: Sequence[OpenQuestion]
    names: Mapping[str, str]
    """FastChat's model of each cell, by the cell's folder."""
    answers: Mapping[AnswerKey, AnswerToRate]

    @property
    def folders(self) -> dict[str, str]:
        """The folder of each model's cell."""
        return {name: folder for folder, name in self.names.items()}


def fastchat_benches(results: Results, sets: Sequence[str] = ()) -> list[FastChatBench]:
    """The sets of questions of a results folder; `sets` chooses some of them."""
    plan = plan_with_questions(results)
    questions = {name: of_set for name, of_set in load_questions(results).items() if not sets or name in sets}
    by_cell = recorded_answers(results, plan, "*", questions)
    benches = []
    for name, of_set in questions.items():
        answers = {
            (folder, answer.question.id, answer.turn): answer
            for folder, of_cell in by_cell.items()
            for answer in of_cell
            if answer.set == name
        }
        benches.append(FastChatBench(results, name, of_set, _model_names(plan), answers))
    return benches


def _model_names(plan: PlanRecord) -> dict[str, str]:
    """The names of the cells, where no two have the same, else the names of their folders."""
    counts = Counter(cell.name for cell in plan.cells)
    return {cell.folder: cell.name if counts[cell.name] == 1 else cell.folder for cell in plan.cells}


def rating_prompts(answer: AnswerToRate) -> list[Prompt]:
    """The prompts by which an answer may have been rated: with the reference answer, and without it."""
    return [
        prompts.rating_prompt(answer.question, answer.turn, answer.answers, reference) for reference in (True, False)
    ]


def comparison_prompts(pair: AnswersToCompare) -> list[Prompt]:
    """The prompts by which two answers may have been compared."""
    first, second = pair.first, pair.second
    return [
        prompts.comparison_prompt(first.question, first.turn, first.answers, second.answers, reference)
        for reference in (True, False)
    ]


def export_fastchat(results: Results, folder: Path) -> list[str]:
    """Write the answers and judgments of all sets into `folder`, which FastChat calls `data`; returns what was written,
    in sentences. Judgments of answers that have been replaced are left out, and so is `reference`, which FastChat does
    not have."""
    labels = [label for label in results.judges() if read_judge(results, label).kind == "openai"]
    judges = {label: read_judge(results, label) for label in labels}
    counts = Counter(judge.name for judge in judges.values())
    lines = []
    for bench in fastchat_benches(results):
        target = folder / bench.set
        rows: list[FastChatRow] = [
            {"question_id": question.id, "category": question.category, "turns": [t.full_text for t in question.turns]}
            for question in bench.questions
        ]
        _write(target / "question.jsonl", rows)
        for cell_folder, name in bench.names.items():
            _write(target / "model_answer" / f"{_file_name(name)}.jsonl", _answer_rows(bench, cell_folder, name))
        for label, judge in judges.items():
            name = _file_name(judge.name if counts[judge.name] == 1 else label)
            ratings, pairs = _rating_rows(bench, label, judge), _pair_rows(bench, label, judge)
            _write(target / "model_judgment" / f"{name}_single.jsonl", ratings)
            _write(target / "model_judgment" / f"{name}_pair.jsonl", pairs)
            _write(target / "reference_answer" / f"{name}.jsonl", _reference_rows(bench, judge))
            lines.append(f"{target}: {len(ratings):,} ratings and {len(pairs):,} comparisons by {judge.name}")
    return lines or [f"{folder}: questions and answers; no judging model has rated them yet"]


def _answer_rows(bench: FastChatBench, cell_folder: str, name: str) -> list[FastChatRow]:
    """A cell's answers, a row for each question."""
    texts: dict[int | str, tuple[str, ...]] = {}
    for (folder, question_id, _), answer in bench.answers.items():
        if folder == cell_folder:  # later turns come later, and hold those before
            texts[question_id] = answer.answers
    return [_answer_row(question_id, name, turns) for question_id, turns in texts.items()]


def _reference_rows(bench: FastChatBench, judge: JudgeRecord) -> list[FastChatRow]:
    return [
        _answer_row(question.id, judge.name, question.references[0])
        for question in bench.questions
        if question.references
    ]


def _answer_row(question_id: int | str, model: str, turns: Sequence[str]) -> FastChatRow:
    choice = {"index": 0, "turns": list(turns)}
    return {
        "question_id": question_id,
        "answer_id": answers_hash(turns),
        "model_id": model,
        "choices": [choice],
        "tstamp": 0,
    }


def _rating_rows(bench: FastChatBench, label: str, judge: JudgeRecord) -> list[FastChatRow]:
    """Rows as FastChat's gen_judgment.py writes them: -1 where its parser finds no rating."""
    rows: list[FastChatRow] = []
    for folder, name in bench.names.items():
        for rating in latest_judgments(cell_ratings(bench.results.folder_named(folder), label).read()):
            answer = bench.answers.get((folder, rating.question_id, rating.turn))
            if rating.set != bench.set or answer is None or answer.hash != rating.answers:
                continue
            score = rating.fastchat_score
            rows.append(
                {
                    "question_id": rating.question_id,
                    "model": name,
                    "judge": [judge.name, rating.judge[1]],
                    "user_prompt": _user_prompt(rating_prompts(answer), rating.prompt_hash),
                    "judgment": getattr(rating, "judgment", ""),
                    "score": -1 if score is None else score,
                    "turn": rating.turn,
                    "tstamp": getattr(rating, "tstamp", 0),
                }
            )
    return rows


def _pair_rows(bench: FastChatBench, label: str, judge: JudgeRecord) -> list[FastChatRow]:
    """Rows as FastChat's gen_judgment.py writes them: both games in one. A comparison that lacks a game is left out."""
    games: dict[tuple[int, AnswerKey, AnswerKey], PairwiseVerdict] = {}
    for verdict in latest_judgments(pairwise_verdicts(bench.results, label).read()):
        keys = [(model, verdict.question_id, verdict.turn) for model in (verdict.model_1, verdict.model_2)]
        hashes = [bench.answers[key].hash if key in bench.answers else None for key in keys]
        if verdict.set == bench.set and hashes == [verdict.answers_1, verdict.answers_2]:
            games[verdict.game, keys[0], keys[1]] = verdict
    rows: list[FastChatRow] = []
    for (game, first, second), verdict in games.items():
        other = games.get((2, second, first))
        if game != 1 or other is None:
            continue
        row: FastChatRow = {
            "question_id": verdict.question_id,
            "model_1": bench.names[first[0]],
            "model_2": bench.names[second[0]],
            "judge": [judge.name, verdict.judge[1]],
            "turn": verdict.turn,
            "tstamp": max(verdict.tstamp, other.tstamp),
        }
        sides = {"A": "model_1", "B": "model_2"}, {"A": "model_2", "B": "model_1"}
        shown = (first, second), (second, first)
        for number, (played, models, order) in enumerate(zip((verdict, other), sides, shown, strict=True), start=1):
            pair = AnswersToCompare(bench.answers[order[0]], bench.answers[order[1]], number)
            row[f"g{number}_winner"] = _winner(played.fastchat_winner, models)
            row[f"g{number}_user_prompt"] = _user_prompt(comparison_prompts(pair), played.prompt_hash)
            row[f"g{number}_judgment"] = played.judgment
        rows.append(row)
    return rows


def _winner(verdict: Verdict | None, models: Mapping[str, str]) -> str:
    return "error" if verdict is None else models.get(verdict, verdict)


def _user_prompt(candidates: Iterable[Prompt], prompt_hash: str) -> str:
    """The prompt of a hash; empty for one that was made from other references."""
    return next((prompt.user for prompt in candidates if prompt.hash == prompt_hash), "")


def _write(path: Path, rows: Sequence[FastChatRow]) -> None:
    """A JSONL file; none without rows."""
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _file_name(name: str) -> str:
    return name.replace("/", "_")
