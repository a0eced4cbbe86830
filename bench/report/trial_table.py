"""The trials that chose each setting's learning rate, and their table."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping

import pandas as pd

from bench.analysis.result_tables import ResultTables
from bench.methods.learning_rate_grid import without_learning_rate
from bench.report.table import ReportTable
from bench.store.damage import CorruptFile, CorruptPack
from bench.store.folder import CellFolder, Results
from bench.store.records import CellRecord, PlannedRecord, PlanRecord, Status

COLUMNS = (
    "folder",
    "setting",
    "method",
    "rank",
    "lr",
    "samples",
    "seed",
    "score",
    "loss",
    "development_loss",
    "status",
    "chosen",
)


def read_trials(results: Results, plan: PlanRecord, tables: ResultTables | None) -> pd.DataFrame:
    """One row a trial: its development accuracy (points), its last loss, and for how many seeds its learning rate was
    chosen. In a crossed design, whose trials are `tables`, each sample count is a setting, and `accuracy` is that on
    the test questions (points)."""
    chosen: dict[str, list[float | None]] = {}
    crossed = any(trial.evaluations or trial.answers for trial in plan.trials)
    for cell in plan.cells:
        if cell.tuned:
            chosen.setdefault(_setting(cell, crossed), []).append(cell.lr)
    rows = [_trial_row(results.folder_named(trial.folder), trial, chosen, crossed) for trial in plan.trials]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    averages = {} if tables is None else dict(zip(tables.cells["folder"], tables.cells["average"], strict=True))
    return frame.assign(accuracy=pd.to_numeric(frame["folder"].map(averages)))


def _trial_row(
    folder: CellFolder, trial: PlannedRecord, chosen: Mapping[str, Collection[float | None]], crossed: bool
) -> dict[str, object]:
    try:
        record = folder.record() if folder.exists() else CellRecord()
    except (CorruptFile, CorruptPack):  # it is run again
        record = CellRecord()
    evaluations = [record.evaluations.get(id) for id in trial.development]
    scored = [evaluation for evaluation in evaluations if evaluation is not None]
    loss = record.costs.final_loss if record.costs else None
    setting = _setting(trial, crossed)
    return {
        "folder": trial.folder,
        "setting": setting,
        "method": trial.method,
        "rank": trial.rank,
        "lr": trial.lr,
        "samples": trial.samples,
        "seed": trial.seed,
        "score": 100 * sum(evaluation.score for evaluation in scored) / len(scored)
        if scored and len(scored) == len(evaluations)
        else math.nan,
        "loss": math.nan if loss is None else loss,
        "development_loss": record.development_loss.loss if record.development_loss else math.nan,
        "status": "missing" if record.status is Status.TODO else record.status.value,
        "chosen": sum(rate == trial.lr for rate in chosen.get(setting, ())),
    }


def _setting(cell: PlannedRecord, crossed: bool) -> str:
    samples = cell.samples if crossed else None
    return json.dumps(
        [cell.base, cell.method, without_learning_rate(cell.options), cell.training, samples], sort_keys=True
    )


def trial_table(frame: pd.DataFrame, largest: int) -> list[ReportTable]:
    """A row a setting; no table where nothing was tuned. `largest`: the most samples of a final cell."""
    if frame.empty:
        return []
    crossed = frame["seed"].notna().any()
    several = crossed and frame["samples"].nunique() > 1
    rows = []
    for _, of_setting in frame.groupby("setting", sort=False):
        by_rate = of_setting.groupby("lr", sort=True)
        chosen = by_rate["chosen"].first()
        chosen = chosen[chosen > 0]
        ends = {of_setting["lr"].min(), of_setting["lr"].max()}
        at_edge = bool(ends & set(chosen.index))
        rank = of_setting["rank"].iloc[0]
        rows.append(
            [
                of_setting["method"].iloc[0],
                "-" if pd.isna(rank) else f"{rank:g}",
                *([f"{of_setting['samples'].iloc[0]:,}"] if several else []),
                ", ".join(f"{rate:g}: {_score_text(trials)}" for rate, trials in by_rate),
                ", ".join(f"{rate:g}" + (f" ({count})" if crossed else "") for rate, count in chosen.items()) or "-",
                "yes" if at_edge else "no" if len(chosen) else "-",
            ]
        )
    heads = ["method", "rank", *(["samples"] if several else []), "rate: score", "chosen", "at the edge"]
    return [ReportTable("Learning rates tried", heads, rows, _note(frame, bool(crossed), largest))]


def _score_text(trials: pd.DataFrame) -> str:
    """The mean development accuracy of the trials at a rate, and how those ended that are not done."""
    score, digits = trials["score"].mean(), 1
    if math.isnan(score):
        score, digits = trials["development_loss"].mean(), 3
    ends = trials["status"][~trials["status"].isin(["done", "missing"])]
    ended = ", ".join(f"{count} {status}" if len(trials) > 1 else str(status) for status, count in _counted(ends))
    return ("-" if math.isnan(score) else f"{score:.{digits}f}") + (f" ({ended})" if ended else "")


def _counted(values: pd.Series) -> list[tuple[str, int]]:
    return [(str(value), int(count)) for value, count in values.value_counts().items()]


def _note(frame: pd.DataFrame, crossed: bool, largest: int) -> str:
    edge = (
        " At the edge: a chosen rate is the lowest or the highest that was tried, so that a better one may lie beyond."
    )
    if frame["development_loss"].notna().any():
        edge += (
            " These data have no questions: the numbers are the loss of held-back answers, in nats a token, and the "
            "lowest is the best."
        )
    if crossed:
        return (
            "Every setting had the same number of rates, each with every seed, scored on development questions (per "
            "cent, the mean over training sets and seeds). The rate of a seed is the best of the other seeds (in "
            "brackets: of how many seeds); ties go to the lower loss of the right answers. Intervals have a part for "
            "the noise of the choice. The cells of the other rates are in no other table." + edge
        )
    note = (
        "Every setting had the same number of trials, each with a seed that no final cell has, scored on development "
        "questions (per cent, the mean over training sets). The final cells of all seeds run at the best rate; ties go "
        "to the lower loss. One trial a rate chooses for all seeds: the noise of the choice is in no interval. Between "
        "settings of unequal rates it can pass for a difference: in simulations two equal methods differed "
        "significantly in up to 11, 19 and 30 % of sweeps of 3, 5 and 10 seeds (docs/statistics.md)." + edge
    )
    if frame["samples"].max() < largest:
        note += (
            f" The trials saw {frame['samples'].max():,} samples, and the final cells up to {largest:,}: short runs "
            "favour high rates."
        )
    return note
