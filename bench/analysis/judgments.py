"""The judgments of a results folder as tables (pandas): one row a judgment, one row a cell and set of questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UserError
from bench.evaluation.open_answers import answers_hash, read_answers
from bench.judging.judge_check import Checked, checked, read_wanted
from bench.judging.ledger import JudgeIdentity, Row, latest, read_rows
from bench.judging.measures import interval_over_questions
from bench.store.folder import CellFolder, Results

JUDGMENTS = ("judge", "set", "folder", "question_id", "category", "turn", "repeat", "score", "fastchat")
COMPARISONS = ("judge", "set", "question_id", "turn", "game", "model_1", "model_2", "winner")
SCORES = ("judge", "set", "folder", "n", "missing", "disagree", "mean", "low", "high", "fastchat", "fastchat_missing")


@dataclass(frozen=True)
class Judged:
    """What the judges of a folder say."""

    judges: dict[str, JudgeIdentity]
    """By label."""
    rows: pd.DataFrame
    """One row a judgment of an answer that is there. `score` is what is believed: of an endpoint the strict parser's
    rating, missing where it found none; `fastchat` is FastChat's own reading."""
    pairs: pd.DataFrame
    """One row a comparison; `winner` is `A`, `B` or `tie`, by the strict parser."""
    checks: dict[str, list[Checked]]
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
    judges: dict[str, JudgeIdentity] = {}
    problems: list[str] = []
    answers = {cell["folder"]: dict(_answers(results, cell, problems)) for cell in plan["cells"]}
    rows: list[Row] = []
    games: list[Row] = []
    checks, wanted, served, stale = {}, {}, {}, 0
    sets = plan.get("open_questions", {})
    for path in sorted(results.path.glob("judges/*/judge.json")):
        label, identity = path.parent.name, JudgeIdentity.of(json.loads(path.read_text(encoding="utf-8")))
        judges[label] = identity
        asked = read_wanted(path.parent)
        if asked:
            checks[label] = checked(_rows(path.parent / "check.jsonl", problems), _believed(identity), asked)
        mine: list[Row] = []
        for folder, turns in answers.items():
            for row in latest(_rows(CellFolder(results.path / "cells" / folder).judgments(label), problems)):
                if row["set"] not in sets:
                    continue
                if _hash(turns, row) != row["answers"]:
                    stale += 1
                    continue
                rating = {"score": row[_believed(identity)]}
                rating["fastchat"] = row["score"] if identity.kind == "openai" else None
                mine.append({**row, **rating, "judge": label, "folder": folder})
        rows += mine
        served[label] = sorted({row["served"] for row in mine if row.get("served")})
        wanted |= _wanted(label, identity, mine, sets)
        for row in latest(_rows(path.parent / "pairs.jsonl", problems)):
            both = [(row[f"model_{place}"], row[f"answers_{place}"]) for place in (1, 2)]
            if all(_hash(answers.get(model, {}), row) == known for model, known in both):
                games.append({**row, "judge": label, "winner": row["strict"]})
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


def _wanted(
    label: str, identity: JudgeIdentity, rows: list[Row], sets: dict[str, dict[str, Any]]
) -> dict[tuple[str, str, str], int]:
    """How many judgments each set of a cell calls for, where it has any: its turns times the judge's repeats there."""
    repeats: dict[tuple[str, str], int] = {}
    for row in rows:
        key = row["folder"], row["set"]
        repeats[key] = max(repeats.get(key, 0), row["repeat"] + 1)
    turns = "with_reference" if identity.kind == "reference" else "turns"
    return {(label, name, folder): sets[name][turns] * count for (folder, name), count in repeats.items()}


def _rows(path: Path, problems: list[str]) -> list[Row]:
    try:
        return read_rows(path)
    except UserError as error:
        problems.append(error.problem)
        return []


def _hash(answers: dict[tuple[str, int | str], list[str]], row: Row) -> str:
    """Of the answers that are there to what a judgment is of."""
    return answers_hash(answers.get((row["set"], row["question_id"]), [])[: row["turn"]])


def _believed(identity: JudgeIdentity) -> str:
    """The column of the rows that holds the score which is believed: of FastChat's two readings the strict one, because
    the other takes `[[95]]` for a rating from 1 to 10."""
    return "strict" if identity.kind == "openai" else "score"


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
