"""Cells of a plan with made-up results, recorded as a run records them: sweeps of any outcome, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from bench.evaluation.scoring import compute_scores
from bench.planning.plan import PlannedCell
from bench.store.folder import Results
from bench.store.records import CellRecord, Costs, EvaluationRecord, Status


def record_cells(
    cells: Iterable[PlannedCell],
    results: Results,
    accuracy: Callable[[PlannedCell], float | None],
    questions: int = 200,
    seconds: float = 60.0,
    churn: float = 0.01,
) -> None:
    """Record those of the cells that are not recorded yet. `accuracy`: 0 to 1 of a cell; None for one that diverged.

    The easiest questions are answered rightly, but for a share of `churn` that is answered by chance."""
    for planned in cells:
        folder = results.folder(planned.cell)
        if folder.exists():
            continue
        folder.write_cell(planned.cell)
        share = accuracy(planned)
        if share is None:
            folder.write_record(CellRecord(status=Status.DIVERGED, reason="made up"))
            continue
        record = CellRecord(status=Status.DONE)
        record.costs = Costs(trainable=planned.trainable, total=planned.total, wall_seconds=seconds)
        random = np.random.default_rng(int(planned.cell.id, 16))
        for wanted in planned.every_evaluation:
            right = np.arange(questions) < round(questions * share)
            right ^= random.random(questions) < churn
            rows = pd.DataFrame(
                {
                    "question_id": [f"q{number}" for number in range(questions)],
                    "gold": np.arange(questions) % 2,
                    "prediction": np.where(right, np.arange(questions) % 2, 1 - np.arange(questions) % 2),
                    "acc": right.astype(float),
                    "choices": np.full(questions, 2),
                }
            )
            folder.write_items(wanted.file, rows)
            settings = {key: getattr(wanted, key) for key in type(wanted).model_fields}
            scores = compute_scores(rows, "acc").model_dump()
            fields = {key: value for key, value in settings.items() if key in EvaluationRecord.model_fields}
            record.evaluations = {
                **record.evaluations,
                wanted.id: EvaluationRecord(**fields, **scores, file=wanted.file),
            }
        folder.write_record(record)
