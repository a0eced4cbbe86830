"""Tables of cells made up for tests, finished sweeps to change, and how far a simulated share may stray."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from bench.analysis import comparison
from bench.report.finding import comparison_sentences
from bench.report.published import COMMONSENSE
from bench.store.records import PlannedRecord
from bench.sweep.baseline import choose_baseline
from bench.sweep.cell import Settings
from bench.sweep.sections import ReportConfig


def cells_of(rows: list[dict]) -> pd.DataFrame:
    """A cells table as `read_results` gives it, with what the figure and the differences need."""
    base = {
        "status": "done",
        "base": "b",
        "samples": 100,
        "seed": 0,
        "question_noise": 2.0,
        "half_width": 2.0,
        "interval": "questions",
        "probability": None,
        "lr": None,
        "options": {},
        "training": {},
    }
    cells = [{**base, "series": row["method"], "folder": f"c{i}", **row} for i, row in enumerate(rows)]
    return pd.DataFrame([{"average_all": cell.get("average"), **cell} for cell in cells])


def asked(correct: dict[str, list[int]], task: str = "t", cluster: list[str] | None = None) -> pd.DataFrame:
    """Rows of `ResultTables.questions`: whether each cell's answers to the questions of a task were right."""
    rows = [
        {
            "folder": folder,
            "protocol": "loglikelihood-v1",
            "task": task,
            "question_id": f"q{place:03}",
            "cluster": cluster[place] if cluster else None,
            "correct": bool(right),
        }
        for folder, answers in correct.items()
        for place, right in enumerate(answers)
    ]
    return pd.DataFrame(rows)


def two_runs(*more: dict) -> pd.DataFrame:
    """One run each of LoRA and DoRA, and more."""
    rows = [{"method": "lora", "rank": 4, "average": 50.0}, {"method": "dora", "rank": 4, "average": 60.0}, *more]
    return cells_of(rows)


def scores_of(tasks: set[str], protocol: str) -> pd.DataFrame:
    """Averaged scores, over all test questions of a commonsense task."""
    rows = [
        {
            "folder": "c",
            "task": task,
            "protocol": protocol,
            "majority": 50.0,
            "n": COMMONSENSE.get(task, 100),
            "counted": True,
            "near_chance": False,
        }
        for task in sorted(tasks)
    ]
    return pd.DataFrame(rows)


def copied(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the finished sweep, to change."""
    return Path(shutil.copytree(finished[1], tmp_path / "tiny"))


def change_metrics(folder: Path, cell: str, change: dict) -> None:
    """Overwrite keys of a cell's metrics.json; None takes a key away."""
    path = next(folder.glob(f"cells/{cell}-*/metrics.json"))
    metrics = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in metrics.items() if value is not None}))


def change_evaluations(folder: Path, cell: str, change: Callable[[dict], dict]) -> None:
    path = next(folder.glob(f"cells/{cell}-*/metrics.json"))
    found = json.loads(path.read_text())["evaluations"]
    change_metrics(folder, cell, {"evaluations": {id: change(one) for id, one in found.items()}})


ONE_SETTING = [
    {"method": "full", "rank": None, "average": 55.0},
    {"method": "lora", "rank": 32, "average": 58.0},
    {"method": "vera", "rank": 256, "average": 50.0},
    *({"method": f"peft{i}", "rank": 32 if i < 20 else i, "average": 40.0 + i} for i in range(28)),
    {"method": "base", "rank": None, "samples": 0, "average": 42.0},
]
"""31 methods, each at one setting."""


def baseline_of(cells: pd.DataFrame, chosen: str | None = None) -> str | None:
    """The baseline that a plan of these cells has."""
    trained = cells[cells["method"] != "base"]
    pairs = [
        (method, None if pd.isna(rank) else int(rank))
        for method, rank in zip(trained["method"], trained["rank"], strict=True)
    ]
    return choose_baseline(pairs, chosen)


def compared(
    cells: pd.DataFrame, questions: pd.DataFrame | None = None, rules: ReportConfig = comparison.RULES
) -> pd.DataFrame:
    """The paired differences of cells with the baseline of their plan."""
    return comparison.differences(cells, baseline_of(cells, rules.baseline), questions, rules)


def said(rows: list[dict]) -> list[str]:
    cells = cells_of(rows)
    return comparison_sentences(cells, compared(cells))


def planned_cell(method: str, options: Settings, base: str = "b", tuned: bool = False) -> PlannedRecord:
    """A cell of a plan, of the rank that its options have."""
    rank = options.get("rank")
    return PlannedRecord(
        folder=method,
        name=method,
        base=base,
        method=method,
        rank=rank if isinstance(rank, int) else None,
        samples=100,
        seed=0,
        options=options,
        tuned=tuned,
        training={},
        evaluations=[],
    )


def within(share: float, n: int) -> float:
    """How far a share estimated from n runs strays: less than this but once in 16,000."""
    return 4 * math.sqrt(share * (1 - share) / n)


def right_by_hand(loglikelihoods: Sequence[float], lengths: Sequence[int], gold: int, metric: str) -> float:
    """The probability of the right choice, by its definition."""
    scores = np.array(loglikelihoods)
    if metric == "acc_norm":
        scores = scores / np.array(lengths) * np.mean(lengths)
    return float(special.softmax(scores)[gold])
