"""The judgments of a results folder as tables (pandas): one row a judgment, one row a cell and set of questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.evaluation.answers import answers_hash, read_answers
from bench.judging.checking import Checked, checked
from bench.judging.judgments import JudgeIdentity, read_rows
from bench.judging.measures import mean_interval
from bench.store import CellFolder, Results

JUDGMENTS = ("judge", "set", "folder", "question_id", "category", "turn", "repeat", "score", "fastchat")
COMPARISONS = ("judge", "set", "question_id", "turn", "game", "model_1", "model_2", "winner")
SCORES = ("judge", "set", "folder", "n", "missing", "disagree", "mean", "low", "high", "fastchat")


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
    """By judge: what its check came to, a set each; empty where it was checked and nothing could be. A judge that was
    not checked is not in it."""
    stale: int
    """Judgments of answers that have been replaced since: they count for nothing."""

    def scores(self) -> pd.DataFrame:
        """One row a judge, set and cell: the mean of its judgments with the question bootstrap's interval, and the same
        by turn (`turn_1`, ...); over all categories."""
        found = []
        for (judge, name, folder), own in self.rows.groupby(["judge", "set", "folder"], sort=False, observed=True):
            known = own[own["score"].notna()]
            if known.empty:
                continue
            interval = mean_interval(name, known["score"], known["question_id"])
            turns = {f"turn_{turn}": rows["score"].mean() for turn, rows in known.groupby("turn")}
            both = own[own["score"].notna() & own["fastchat"].notna()]
            found.append(
                {"judge": judge, "set": name, "folder": folder, "n": len(own), "missing": len(own) - len(known)}
                | {"disagree": int((both["score"] != both["fastchat"]).sum()), "mean": known["score"].mean()}
                | {"low": interval.low if interval else None, "high": interval.high if interval else None}
                | {"fastchat": own["fastchat"].mean(), **turns}
            )
        return pd.DataFrame(found) if found else pd.DataFrame(columns=SCORES)

    def by_category(self) -> pd.DataFrame:
        """The means of each judge, set and cell by category."""
        known = self.rows[self.rows["score"].notna()]
        keys = ["judge", "set", "folder", "category"]
        return known.groupby(keys, sort=False)["score"].agg(["mean", "count"]).reset_index()


def read(results: Results, plan: dict[str, Any]) -> Judged:
    """All judgments of the cells of a plan, of whatever judge.

    Raises UserError for a file that cannot be believed.
    """
    judges: dict[str, JudgeIdentity] = {}
    checks: dict[str, list[Checked]] = {}
    comparisons: list[dict[str, Any]] = []
    for path in sorted(results.path.glob("judges/*/judge.json")):
        identity = JudgeIdentity.of(json.loads(path.read_text(encoding="utf-8")))
        judges[path.parent.name] = identity
        if (path.parent / "check.jsonl").is_file() or identity.kind == "reference":
            checks[path.parent.name] = checked(read_rows(path.parent / "check.jsonl"), _believed(identity))
        games = read_rows(path.parent / "pairs.jsonl")
        comparisons += [{**row, "judge": path.parent.name, "winner": row["strict"]} for row in games]
    rows, stale = [], 0
    for planned in plan["cells"]:
        folder = CellFolder(results.path / "cells" / planned["folder"])
        answers = dict(_answers(folder, planned))
        for label, identity in judges.items():
            for row in read_rows(folder.judgments(label)):
                turns = answers.get((row["set"], row["question_id"]))
                if turns is None or answers_hash(turns[: row["turn"]]) != row["answers"]:
                    stale += 1
                    continue
                rating = {"score": row[_believed(identity)]}
                rating["fastchat"] = row["score"] if identity.kind == "openai" else None
                rows.append({**row, **rating, "judge": label, "folder": planned["folder"]})
    return Judged(
        judges,
        pd.DataFrame(rows, columns=list(JUDGMENTS)).astype({"score": float, "fastchat": float}),
        pd.DataFrame(comparisons, columns=list(COMPARISONS)),
        checks,
        stale,
    )


def _believed(identity: JudgeIdentity) -> str:
    """The column of the rows that holds the score which is believed: of FastChat's two readings the strict one, because
    the other takes `[[95]]` for a rating from 1 to 10."""
    return "strict" if identity.kind == "openai" else "score"


def _answers(folder: CellFolder, planned: dict[str, Any]) -> Iterator[tuple[tuple[str, int | str], list[str]]]:
    recorded = folder.metrics().get("answers", {}) if planned.get("answers") else {}
    for identity in (recorded[id] for id in planned.get("answers", ()) if id in recorded):
        for question, turns in read_answers(folder.answers(identity["file"])).items():
            yield (identity["set"], question), turns
