"""The judgments of a results folder as tables (pandas): one row a judgment, one row a cell and set of questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.errors import UserError
from bench.evaluation.open_answers import answers_hash, read_answers
from bench.judging.judge_check import CheckResult, check_results
from bench.judging.judgment_records import (
    JudgmentType,
    ModelRating,
    PairwiseVerdict,
    SimilarityRating,
    latest_judgments,
)
from bench.judging.ledger import (
    JudgmentFile,
    cell_ratings,
    check_ratings,
    pairwise_verdicts,
    read_check_counts,
    read_judge,
)
from bench.judging.measures import interval_over_questions
from bench.store.folder import CellFolder, Results
from bench.store.records import JudgeRecord

JUDGMENTS = ("judge", "set", "folder", "question_id", "category", "turn", "repeat", "score", "fastchat")
COMPARISONS = ("judge", "set", "question_id", "turn", "game", "model_1", "model_2", "winner")
SCORES = ("judge", "set", "folder", "n", "missing", "disagree", "mean", "low", "high", "fastchat", "fastchat_missing")


@dataclass(frozen=True)
class Judged:
    """What the judges of a folder say."""

    judges: dict[str, JudgeRecord]
    """By label."""
    rows: pd.DataFrame
    """One row a judgment of an answer that is there. `score` is what is believed: of an endpoint the strict parser's
    rating, missing where it found none; `fastchat` is FastChat's own reading."""
    pairs: pd.DataFrame
    """One row a comparison; `winner` is `A`, `B` or `tie`, by the strict parser."""
    checks: dict[str, list[CheckResult]]
    """By judge: what its check came to, a set each. A judge that was not checked is not in it."""
    wanted: dict[tuple[str, str, str], int]
    """By judge, set and cell: the judgments that its answers call for, those that could not be had among them."""
    served: dict[str, list[str]]
    """By judge, as which models the endpoint answered."""
    problems: tuple[str, ...]
    """Files that cannot be believed, and judgments that count for nothing."""

    def scores(self) -> pd.DataFrame:
        """One row a judge, set and cell: the mean of its judgments with the question bootstrap's interval, and the mean
        by turn (`turn_1`, ...); over all categories. `missing` counts what could not be had or read."""
        found = []
        for (judge, name, folder), own in self.rows.groupby(["judge", "set", "folder"], sort=False, observed=True):
            known = own[own["score"].notna()]
            interval = interval_over_questions(name, known["score"], known["question_id"]) if len(known) else None
            turns = {f"turn_{turn}": rows["score"].mean() for turn, rows in known.groupby("turn")}
            apart = own["score"].ne(own["fastchat"]) & ~(own["score"].isna() & own["fastchat"].isna())
            wanted = self.wanted[judge, name, folder]
            found.append(
                {"judge": judge, "set": name, "folder": folder, "n": wanted, "missing": wanted - len(known)}
                | {"disagree": int(apart.sum()), "mean": known["score"].mean()}
                | {"low": interval.low if interval else None, "high": interval.high if interval else None}
                | {"fastchat": own["fastchat"].mean(), "fastchat_missing": wanted - int(own["fastchat"].notna().sum())}
                | turns
            )
        return pd.DataFrame(found) if found else pd.DataFrame(columns=SCORES)

    def by_category(self) -> pd.DataFrame:
        """Of each judge, set, cell and category the mean, its interval and how many judgments it has."""
        known = self.rows[self.rows["score"].notna()]
        found = []
        for keys, own in known.groupby(["judge", "set", "folder", "category"], sort=False):
            interval = interval_over_questions(keys[1], own["score"], own["question_id"])
            bounds = (interval.low, interval.high) if interval else (None, None)
            found.append((*keys, own["score"].mean(), *bounds, len(own)))
        columns = ["judge", "set", "folder", "category", "mean", "low", "high", "count"]
        return pd.DataFrame(found, columns=columns)


def read(results: Results, plan: dict[str, Any]) -> Judged:
    """All judgments of the cells of a plan, of whatever judge. What cannot be believed is a problem and no end: a
    report is written while a night goes on."""
    judges: dict[str, JudgeRecord] = {}
    problems: list[str] = []
    answers = {cell["folder"]: dict(_answers(results, cell, problems)) for cell in plan["cells"]}
    rows: list[dict[str, Any]] = []
    games: list[dict[str, Any]] = []
    checks: dict[str, list[CheckResult]] = {}
    wanted: dict[tuple[str, str, str], int] = {}
    served: dict[str, list[str]] = {}
    stale = 0
    sets = plan.get("open_questions", {})
    for label in results.judges():
        judge = read_judge(results, label)
        judges[label] = judge
        counts = read_check_counts(results, label)
        if counts:
            checks[label] = check_results(_read(check_ratings(results, label), problems), counts)
        ratings: list[tuple[str, SimilarityRating | ModelRating]] = []
        for folder, turns in answers.items():
            for rating in latest_judgments(
                _read(cell_ratings(CellFolder(results.path / "cells" / folder), label), problems)
            ):
                if rating.set not in sets:
                    continue
                if _hash(turns, rating) != rating.answers:
                    stale += 1
                    continue
                ratings.append((folder, rating))
        rows += [_rating_row(label, folder, rating) for folder, rating in ratings]
        served[label] = sorted({rating.served for _, rating in ratings if isinstance(rating, ModelRating)} - {""})
        wanted |= _wanted(label, judge, ratings, sets)
        for verdict in latest_judgments(_read(pairwise_verdicts(results, label), problems)):
            both = ((verdict.model_1, verdict.answers_1), (verdict.model_2, verdict.answers_2))
            if all(_hash(answers.get(model, {}), verdict) == known for model, known in both):
                games.append({**verdict.model_dump(), "judge": label, "winner": verdict.strict})
            else:
                stale += 1
    if stale:
        problems.append(f"{stale} judgments are of answers that are no longer there; they count for nothing")
    return Judged(
        judges,
        pd.DataFrame(rows, columns=list(JUDGMENTS)).astype({"score": float, "fastchat": float}),
        pd.DataFrame(games, columns=list(COMPARISONS)),
        checks,
        wanted,
        served,
        tuple(dict.fromkeys(problems)),
    )


def _rating_row(label: str, folder: str, rating: SimilarityRating | ModelRating) -> dict[str, Any]:
    return {
        "judge": label,
        "set": rating.set,
        "folder": folder,
        "question_id": rating.question_id,
        "category": rating.category,
        "turn": rating.turn,
        "repeat": rating.repeat,
        "score": rating.reported_score,
        "fastchat": rating.fastchat_score,
    }


def _wanted(
    label: str,
    judge: JudgeRecord,
    ratings: list[tuple[str, SimilarityRating | ModelRating]],
    sets: dict[str, dict[str, Any]],
) -> dict[tuple[str, str, str], int]:
    """How many judgments each set of a cell calls for, where it has any: its turns times the judge's repeats there."""
    repeats: dict[tuple[str, str], int] = {}
    for folder, rating in ratings:
        key = folder, rating.set
        repeats[key] = max(repeats.get(key, 0), rating.repeat + 1)
    turns = "with_reference" if judge.kind == "reference" else "turns"
    return {(label, name, folder): sets[name][turns] * count for (folder, name), count in repeats.items()}


def _read(file: JudgmentFile[JudgmentType], problems: list[str]) -> list[JudgmentType]:
    try:
        return file.read()
    except UserError as error:
        problems.append(error.problem)
        return []


def _hash(
    answers: dict[tuple[str, int | str], list[str]], judgment: SimilarityRating | ModelRating | PairwiseVerdict
) -> str:
    """Of the answers that are there to what a judgment is of."""
    return answers_hash(answers.get((judgment.set, judgment.question_id), [])[: judgment.turn])


def _answers(
    results: Results, planned: dict[str, Any], problems: list[str]
) -> Iterator[tuple[tuple[str, int | str], list[str]]]:
    """What a cell of the plan answered, by set and question."""
    folder = CellFolder(results.path / "cells" / planned["folder"])
    recorded = folder.metrics().get("answers", {}) if planned.get("answers") else {}
    for identity in (recorded[id] for id in planned.get("answers", ()) if id in recorded):
        try:
            found = read_answers(folder, identity["file"])
        except UserError as error:
            problems.append(error.problem)
            found = {}
        if not found:
            problems.append(f"{planned['name']}: its answers to {identity['set']} are not there")
        for question, turns in found.items():
            yield (identity["set"], question), turns
