"""The judgments of a results folder as tables (pandas): one row a judgment, one row a cell and set of questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from bench.errors import UserError
from bench.evaluation.open_answers import Answers, answers_hash, read_answers
from bench.judging.judge_check import CheckResult, check_results
from bench.judging.judgment_records import JudgmentType, ModelRating, PairwiseVerdict, Rating, latest_judgments
from bench.judging.ledger import (
    JudgmentFile,
    cell_ratings,
    check_ratings,
    pairwise_verdicts,
    read_check_counts,
    read_judge,
)
from bench.judging.measures import interval_over_questions
from bench.judging.prompts import lacks_reference
from bench.store.damage import CorruptFile, CorruptPack
from bench.store.folder import Results
from bench.store.judge_record import JudgeRecord
from bench.store.records import OpenSetRecord, PlannedRecord, PlanRecord

RATINGS = ("judge", "set", "folder", "question_id", "category", "turn", "repeat", "score", "fastchat")
"""The columns of `JudgmentTables.ratings`."""
PAIRS = ("judge", "set", "question_id", "turn", "game", "model_1", "model_2", "winner")
"""The columns of `JudgmentTables.pairs`."""
SCORES = ("judge", "set", "folder", "n", "missing", "disagree", "mean", "low", "high", "fastchat", "fastchat_missing")
"""The columns of `JudgmentTables.scores`, without those of the turns."""
CATEGORIES = ("judge", "set", "folder", "category", "mean", "low", "high", "count")
"""The columns of `JudgmentTables.by_category`."""

SetAnswers = Mapping[str, Answers]
"""A cell's answers by set of questions."""


@dataclass(frozen=True)
class JudgmentTables:
    """The judgments of a results folder."""

    judges: dict[str, JudgeRecord]
    """By label."""
    ratings: pd.DataFrame
    """One row a judgment of a recorded answer. `score` is the one that is reported: of an endpoint the strict parser's
    rating, missing where it found none; `fastchat` is FastChat's own reading."""
    pairs: pd.DataFrame
    """One row a comparison; `winner` is `A`, `B` or `tie`, by the strict parser."""
    checks: dict[str, list[CheckResult]]
    """By judge: the results of its check, one for each set. A judge that was not checked is not in it."""
    expected: dict[tuple[str, str, str], int]
    """By judge, set and cell: the number of judgments that its answers call for, failed ones included."""
    served: dict[str, list[str]]
    """By judge, the model names under which the endpoint answered."""
    problems: tuple[str, ...]
    """Corrupt files, and judgments that are excluded."""
    without_reference: dict[tuple[str, str], int] = field(default_factory=dict)
    """By judge and set: questions that call for a reference answer, and that a model rated without one."""
    refused_parameters: dict[str, list[str]] = field(default_factory=dict)
    """By judge: the parameters that its endpoint refuses, so that it was asked without them."""

    def scores(self) -> pd.DataFrame:
        """One row a judge, set and cell: the mean of its judgments with the question bootstrap's interval, and the mean
        by turn (`turn_1`, ...); over all categories. `missing` counts failed and unreadable judgments."""
        rows = []
        groups = self.ratings.groupby(["judge", "set", "folder"], sort=False, observed=True)
        for (judge, name, folder), ratings in groups:
            rated = ratings[ratings["score"].notna()]
            interval = interval_over_questions(name, rated["score"], rated["question_id"]) if len(rated) else None
            both_missing = ratings["score"].isna() & ratings["fastchat"].isna()
            expected = self.expected[judge, name, folder]
            rows.append(
                {
                    "judge": judge,
                    "set": name,
                    "folder": folder,
                    "n": expected,
                    "missing": expected - len(rated),
                    "disagree": int((ratings["score"].ne(ratings["fastchat"]) & ~both_missing).sum()),
                    "mean": rated["score"].mean(),
                    "low": interval.low if interval else None,
                    "high": interval.high if interval else None,
                    "fastchat": ratings["fastchat"].mean(),
                    "fastchat_missing": expected - int(ratings["fastchat"].notna().sum()),
                    **{f"turn_{turn}": of_turn["score"].mean() for turn, of_turn in rated.groupby("turn")},
                }
            )
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=SCORES)

    def by_category(self) -> pd.DataFrame:
        """One row a judge, set, cell and category: the mean, its interval and the number of judgments."""
        rated = self.ratings[self.ratings["score"].notna()]
        rows = []
        for keys, ratings in rated.groupby(["judge", "set", "folder", "category"], sort=False):
            interval = interval_over_questions(keys[1], ratings["score"], ratings["question_id"])
            bounds = (interval.low, interval.high) if interval else (None, None)
            rows.append((*keys, ratings["score"].mean(), *bounds, len(ratings)))
        return pd.DataFrame(rows, columns=CATEGORIES)


@dataclass
class _Reading:
    """What is collected while the judgments of a folder are read."""

    judges: dict[str, JudgeRecord] = field(default_factory=dict)
    ratings: list[dict[str, object]] = field(default_factory=list)
    pairs: list[dict[str, object]] = field(default_factory=list)
    checks: dict[str, list[CheckResult]] = field(default_factory=dict)
    expected: dict[tuple[str, str, str], int] = field(default_factory=dict)
    served: dict[str, list[str]] = field(default_factory=dict)
    without_reference: dict[tuple[str, str], int] = field(default_factory=dict)
    refused_parameters: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    stale: int = 0
    """Judgments of answers that are no longer there."""

    def judgments(self, file: JudgmentFile[JudgmentType]) -> list[JudgmentType]:
        """The judgments of a file, the last of each key. A corrupt line is a problem, and a corrupt file has none."""
        try:
            self.problems += file.problems()
            return latest_judgments(file.read())
        except UserError as error:
            self.problems.append(error.problem)
            return []


def read_judgments(results: Results, plan: PlanRecord) -> JudgmentTables:
    """All judgments of the cells of a plan, by every judge. A corrupt file is a problem in the tables, and no error: a
    report is also written while a sweep is running."""
    reading = _Reading()
    answers = {cell.folder: _cell_answers(results, cell, reading) for cell in plan.cells}
    for label in results.judges():
        try:
            reading.judges[label] = read_judge(results, label)
        except UserError as error:
            reading.problems.append(error.problem)
            continue
        try:
            check_counts = read_check_counts(results, label)
        except UserError as error:
            reading.problems.append(error.problem)
            check_counts = {}
        if check_counts:
            reading.checks[label] = check_results(reading.judgments(check_ratings(results, label)), check_counts)
        _read_ratings(results, label, plan.open_questions, answers, reading)
        _read_pairs(results, label, answers, reading)
    if reading.stale:
        reading.problems.append(
            f"{reading.stale} judgments are of answers that are no longer there; they count for nothing"
        )
    return JudgmentTables(
        reading.judges,
        pd.DataFrame(reading.ratings, columns=RATINGS).astype({"score": float, "fastchat": float}),
        pd.DataFrame(reading.pairs, columns=PAIRS),
        reading.checks,
        reading.expected,
        reading.served,
        tuple(dict.fromkeys(reading.problems)),
        reading.without_reference,
        reading.refused_parameters,
    )


def _read_ratings(
    results: Results,
    label: str,
    sets: Mapping[str, OpenSetRecord],
    answers: Mapping[str, SetAnswers],
    reading: _Reading,
) -> None:
    """The ratings of a judge, of all cells."""
    ratings: list[tuple[str, Rating]] = []
    for folder, by_set in answers.items():
        for rating in reading.judgments(cell_ratings(results.folder_named(folder), label)):
            if rating.set not in sets:
                continue
            if _hash(by_set, rating) == rating.answers:
                ratings.append((folder, rating))
            else:
                reading.stale += 1
    reading.ratings += [_rating_row(label, folder, rating) for folder, rating in ratings]
    by_model = [rating for _, rating in ratings if isinstance(rating, ModelRating)]
    reading.served[label] = sorted({rating.served for rating in by_model} - {""})
    reading.refused_parameters[label] = sorted({name for rating in by_model for name in rating.refused_parameters})
    lacking = {(r.set, r.question_id) for r in by_model if lacks_reference(r.category, r.judge[1])}
    counts = Counter(name for name, _ in lacking)
    reading.without_reference |= {(label, name): count for name, count in counts.items()}
    reading.expected |= _expected(label, reading.judges[label], ratings, sets)


def _read_pairs(results: Results, label: str, answers: Mapping[str, SetAnswers], reading: _Reading) -> None:
    """The pairwise comparisons of a judge."""
    for verdict in reading.judgments(pairwise_verdicts(results, label)):
        sides = ((verdict.model_1, verdict.answers_1), (verdict.model_2, verdict.answers_2))
        if all(_hash(answers.get(model, {}), verdict) == of_answers for model, of_answers in sides):
            reading.pairs.append({**verdict.model_dump(), "judge": label, "winner": verdict.reported_winner})
        else:
            reading.stale += 1


def _rating_row(label: str, folder: str, rating: Rating) -> dict[str, object]:
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


def _expected(
    label: str, judge: JudgeRecord, ratings: Sequence[tuple[str, Rating]], sets: Mapping[str, OpenSetRecord]
) -> dict[tuple[str, str, str], int]:
    """How many judgments each set of a cell calls for, where it has any: its turns times the judge's repeats there."""
    repeats: dict[tuple[str, str], int] = {}
    for folder, rating in ratings:
        key = folder, rating.set
        repeats[key] = max(repeats.get(key, 0), rating.repeat + 1)
    needs_reference = judge.kind == "reference"
    turns = {name: record.with_reference if needs_reference else record.turns for name, record in sets.items()}
    return {(label, name, folder): turns[name] * count for (folder, name), count in repeats.items()}


def _hash(answers: SetAnswers, judgment: Rating | PairwiseVerdict) -> str:
    """The hash of the recorded answers that a judgment should be of."""
    return answers_hash(answers.get(judgment.set, {}).get(judgment.question_id, [])[: judgment.turn])


def _cell_answers(results: Results, planned: PlannedRecord, reading: _Reading) -> SetAnswers:
    """The answers of a cell of the plan."""
    if not planned.answers:
        return {}
    folder = results.folder_named(planned.folder)
    try:
        recorded = folder.record().answers
    except (CorruptFile, CorruptPack):  # `read_results` says so
        return {}
    by_set: dict[str, Answers] = {}
    for record in (recorded[id] for id in planned.answers if id in recorded):
        try:
            answers = read_answers(folder, record.file)
        except UserError as error:
            reading.problems.append(error.problem)
            answers = {}
        if not answers:
            reading.problems.append(
                f"{planned.name}: its answers to {record.set} (answers/{record.file}) are not there"
            )
        elif (count := sum(map(len, answers.values()))) != record.n:
            reading.problems.append(
                f"{planned.name}: {count} of its {record.n} answers to {record.set} (answers/{record.file}) are there; "
                "`bench run` answers the questions again"
            )
        by_set[record.set] = {**by_set.get(record.set, {}), **answers}
    return by_set
