"""The trials that chose each method's learning rate, and their table."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping

import pandas as pd

from bench.methods.learning_rate_grid import without_learning_rate
from bench.report.table import ReportTable
from bench.store.damage import CorruptFile, CorruptPack
from bench.store.folder import CellFolder, Results
from bench.store.records import CellRecord, PlannedRecord, PlanRecord, Status

COLUMNS = ("setting", "method", "rank", "lr", "samples", "score", "loss", "status", "chosen", "edge")


def read_trials(results: Results, plan: PlanRecord) -> pd.DataFrame:
    """One row a trial: its development accuracy (points), its last loss, whether its learning rate was chosen, and
    whether a chosen one lies at the edge of the grid."""
    chosen: dict[str, set[float | None]] = {}
    for cell in plan.cells:
        if cell.tuned:
            chosen.setdefault(_setting(cell), set()).add(cell.lr)
    rows = [_trial_row(results.folder_named(trial.folder), trial, chosen) for trial in plan.trials]
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "edge"])
    ends = frame.groupby("setting")["lr"].transform("min"), frame.groupby("setting")["lr"].transform("max")
    return frame.assign(edge=frame["chosen"] & (frame["lr"].eq(ends[0]) | frame["lr"].eq(ends[1])))


def _trial_row(
    folder: CellFolder, trial: PlannedRecord, chosen: Mapping[str, Collection[float | None]]
) -> dict[str, object]:
    try:
        record = folder.record() if folder.exists() else CellRecord()
    except (CorruptFile, CorruptPack):  # it is run again
        record = CellRecord()
    evaluations = [record.evaluations.get(id) for id in trial.evaluations]
    complete = bool(evaluations) and None not in evaluations
    scored = [evaluation for evaluation in evaluations if evaluation is not None]
    scores = [evaluation.score for evaluation in scored if evaluation.protocol == scored[0].protocol]
    loss = record.costs.final_loss if record.costs else None
    return {
        "setting": _setting(trial),
        "method": trial.method,
        "rank": trial.rank,
        "lr": trial.lr,
        "samples": trial.samples,
        "score": 100 * sum(scores) / len(scores) if complete else math.nan,
        "loss": math.nan if loss is None else loss,
        "status": "missing" if record.status is Status.TODO else record.status.value,
        "chosen": trial.lr in chosen.get(_setting(trial), ()),
    }


def _setting(cell: PlannedRecord) -> str:
    return json.dumps([cell.base, cell.method, without_learning_rate(cell.options), cell.training], sort_keys=True)


def trial_table(frame: pd.DataFrame, largest: int) -> list[ReportTable]:
    """A row a setting; no table where nothing was tuned. `largest`: the most samples of a final cell."""
    if frame.empty:
        return []
    rows = []
    for _, rows_of_setting in frame.groupby("setting", sort=False):
        setting = rows_of_setting.sort_values("lr")
        tried = [
            f"{row.lr:g}: {'-' if math.isnan(row.score) else format(row.score, '.1f')}"
            + (f" ({row.status})" if row.status not in ("done", "missing") else "")
            for row in setting.itertuples()
        ]
        best = setting[setting["chosen"]]
        rank = setting["rank"].iloc[0]
        rows.append(
            [
                setting["method"].iloc[0],
                "-" if pd.isna(rank) else f"{rank:g}",
                ", ".join(tried),
                ", ".join(f"{rate:g}" for rate in best["lr"]) or "-",
                "yes" if best["edge"].any() else "no" if len(best) else "-",
            ]
        )
    note = (
        "Every method and setting had the same number of trials, each with a seed that no final cell has, scored on "
        "development questions (per cent, the mean over training sets). The final cells run at the best rate; ties go "
        "to the lower loss. At the edge: the best is the lowest or the highest that was tried, so that a better one "
        "may lie beyond."
    )
    if frame["samples"].max() < largest:
        note += (
            f" The trials saw {frame['samples'].max():,} samples, and the final cells up to {largest:,}: short runs "
            "favour high rates."
        )
    return [ReportTable("Learning rates tried", ["method", "rank", "rate: score", "chosen", "at the edge"], rows, note)]
