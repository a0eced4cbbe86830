"""Cells made up for tests whose open answers were judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.judgments import PAIRS, RATINGS, JudgmentTables
from bench.analysis.result_tables import ResultTables
from bench.report.judge_panels import JudgePanel, judge_panels
from bench.store.judge_record import JudgeRecord
from bench.store.records import PlanRecord
from bench.sweep.sections import ReportConfig

RANKS = {"lora": 8, "dvora": 128}
COUNTS, SEEDS, QUESTIONS = (100, 400), (0, 1, 2), 20
NOTHING = PlanRecord(name="judged", tasks=[], format="", protocols=[], baseline="lora", cells=[])
"""A plan of which nothing but the baseline matters."""


def judged_cells(ranks: dict[str, tuple[int, ...]] | None = None, base: str = "tiny") -> pd.DataFrame:
    """Done cells of each method, rank, count and seed, and the untuned base."""
    ranks = ranks or {name: (rank,) for name, rank in RANKS.items()}
    rows = [{"method": "base", "rank": None, "samples": 0, "seed": 0}]
    rows += [
        {"method": method, "rank": rank, "samples": count, "seed": seed}
        for method, own in ranks.items()
        for rank in own
        for count in COUNTS
        for seed in SEEDS
    ]
    frame = pd.DataFrame(rows)
    frame["folder"] = [f"{row.method}-{row.rank}-{row.samples}-{row.seed}" for row in frame.itertuples()]
    places = np.arange(len(frame))
    return frame.assign(
        name=frame["folder"],
        base=base,
        series=frame["method"],
        lr=1e-3,
        status="done",
        average=40.0 + places,
        question_noise=2.0,
        half_width=2.0,
        interval="questions",
        training=[{}] * len(frame),
        answers=40,
        answers_cut=1,
        answer_tokens=400,
    )


def ratings(frame: pd.DataFrame, name: str = "mt_bench", judge: str = "judge-1") -> pd.DataFrame:
    """Two turns of each question, scored by each cell's number, the question's and the turn's."""
    rows = [
        (judge, name, folder, question, "math" if question % 2 else "writing", turn, 0, score, score)
        for number, folder in enumerate(frame["folder"])
        for question in range(QUESTIONS)
        for turn in (1, 2)
        for score in [3 + 0.05 * number + 0.1 * question + 0.5 * turn]
    ]
    return pd.DataFrame(rows, columns=list(RATINGS))


def tables_of_cells(frame: pd.DataFrame) -> ResultTables:
    empty = pd.DataFrame()
    return ResultTables(frame, empty, (), 0, empty, ())


def judgments_of(rows: pd.DataFrame, kind: str = "openai", name: str = "judge", **more: Any) -> JudgmentTables:
    scale = (1.0, 10.0) if kind == "openai" else (0.0, 100.0)
    judges = {label: JudgeRecord(kind=kind, name=name, scale=scale, settings={}) for label in rows["judge"].unique()}
    sizes = rows.groupby(["judge", "set", "folder"]).size().to_dict()
    wanted = {key: more.get("wanted", count) for key, count in sizes.items()}
    checks, served = more.get("checks", {}), more.get("served", {})
    return JudgmentTables(judges, rows, pd.DataFrame(columns=list(PAIRS)), checks, wanted, served, ())


def panels_of(frame: pd.DataFrame, told: JudgmentTables) -> list[JudgePanel]:
    return judge_panels(tables_of_cells(frame), told, "lora", ReportConfig())
