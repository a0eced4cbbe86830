"""The report's tables: every value a text, and a dash where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench import frames
from bench.report import published
from bench.statistics import TIE_MARGIN


@dataclass(frozen=True)
class Table:
    """A table as it is shown: every value a text."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    note: str = ""


def tables(plan: dict[str, Any], read: frames.Frames, differences: pd.DataFrame) -> list[Table]:
    """All tables of a report, in their order."""
    found = [_by_task(read), _costs(read.cells), *_merging(read.cells)]
    if not differences.empty:
        heads = ["series", "baseline", "rank", "samples", "seeds", "difference", "95 % over seeds", "verdict"]
        rows = [
            [
                row.series,
                row.baseline,
                _number(row.rank, "g"),
                f"{row.samples:,}",
                str(row.seeds),
                f"{row.difference:+.2f}",
                f"[{row.low:+.2f}, {row.high:+.2f}]" if pd.notna(row.low) else "-",
                row.verdict,
            ]
            for row in differences.itertuples()
        ]
        note = (
            "Points of average accuracy, paired by seed (same examples, same questions). Student's t over seeds; below "
            "three seeds there is none. What has no rank, or no equal to be paired with, is not in it; an equal rank "
            "is an equal number, not an equal size (`bench methods` says what it counts). A tie is an interval within "
            f"{TIE_MARGIN:g} point of zero; intervals are not adjusted for the number of comparisons."
        )
        found.append(Table("Paired differences", heads, rows, note))
    overlap = [
        [name, str(one["by_question"]), str(one["by_question_and_choices"]), str(one["removed"])]
        for name, one in plan["overlap"].items()
    ]
    note = "Training rows whose question stands in a test or development set of this sweep."
    heads = ["training set", "same question", "same question and choices", "removed"]
    found.append(Table("Duplicates", heads, overlap, note))
    if set(read.scores["task"]) & published.COMMONSENSE:
        rows = [
            [row.method, row.base, str(row.rank), f"{row.average:.1f}", row.source]
            for row in published.rank_table().itertuples()
        ]
        same = published.comparable(set(read.cells["base"]), set(read.scores["task"]), set(read.scores["protocol"]))
        note = (
            "Drawn in the figure. "
            if same
            else "Another base model, tasks or protocol: not comparable with the scores above. "
        )
        heads = ["method", "base", "rank", "average", "source"]
        found.append(Table("Published numbers", heads, rows, note + published.DISAGREEMENTS))
    return found


def _by_task(read: frames.Frames) -> Table:
    """Accuracy by task, a row a cell, with the majority class and chance beneath."""
    tasks = list(dict.fromkeys(read.scores["task"]))
    by_cell = {key: rows.set_index("task") for key, rows in read.scores.groupby("folder")}
    rows = []
    for cell in read.cells[read.cells["status"] == "done"].itertuples():
        mine = by_cell[cell.folder]["score"]
        label = (
            cell.name
            if cell.series == cell.method
            else f"{cell.name} ({cell.series.removeprefix(cell.method).strip()})"
        )
        rows.append([label, f"{cell.average:.1f}", *(_number(mine.get(task), ".1f") for task in tasks)])
    first = read.scores.drop_duplicates("task").set_index("task")
    for name in ("majority", "chance") if rows else ():
        values = [first.loc[task, name] for task in tasks]
        rows.append([name, f"{sum(values) / len(values):.1f}", *(f"{value:.1f}" for value in values)])
    heads = ["cell", "average", *(f"{task} ({first.loc[task, 'metric']}, n={first.loc[task, 'n']})" for task in tasks)]
    protocols = ", ".join(sorted(set(read.scores["protocol"])))
    merged = "merged before scoring where the method can" if read.scores["merged"].any() else "scored unmerged"
    return Table("Accuracy by task", heads, rows, f"Per cent. Protocol {protocols}; adapters {merged}.")


def _costs(cells: pd.DataFrame) -> Table:
    rows = [
        [
            cell.name,
            _number(cell.trainable, ",.0f"),
            _number(cell.percent, ".3f"),
            _number(cell.training_seconds, ",.0f"),
            _number(cell.tokens_per_second, ",.0f"),
            _number(cell.evaluation_seconds, ",.0f"),
            _megabytes(cell.base_bytes),
            _megabytes(cell.optimizer_bytes),
            _megabytes(cell.adapter_bytes),
            _number(cell.final_loss, ".3f"),
        ]
        for cell in cells[cells["status"] == "done"].itertuples()
    ]
    heads = ["cell", "trainable", "% of all", "training s", "tokens/s", "scoring s", "base MB", "optimizer MB"]
    heads += ["adapter MB", "last loss"]
    note = (
        "Trainable parameters as a share of base and adapter together. Seconds of this machine, one cell at a time. "
        "Base: the weights as this method loads them (quantized, or in float32 where they are trained); optimizer: "
        "what it remembers between steps; both in memory. Adapter: the file."
    )
    return Table("Costs", heads, rows, note)


def _merging(cells: pd.DataFrame) -> list[Table]:
    """How exact each merge is, or why there is none; no table where no cell recorded it."""
    done = cells[cells["status"] == "done"]
    if not (done["merge_half"].notna() | (done["merge_reason"] != "")).any():
        return []
    rows = [
        [
            cell.name,
            _number(cell.merge_float32, ".1e"),
            _number(cell.merge_half, ".2f"),
            cell.merge_half_dtype or "-",
            cell.merge_reason or "-",
        ]
        for cell in done.itertuples()
    ]
    heads = ["cell", "float32", "half precision", "half is", "cannot be merged because"]
    note = (
        "The largest difference of a logit between the merged and the unmerged model, on a few questions of each task. "
        "float32: both computed in float32; more than its rounding means a merge that is not exact. Half precision: "
        "the unmerged model under autocast, the merged one with its weights rounded to the dtype (of a float32 cell, "
        "both under autocast). The base's own row, where nothing is merged, shows by how much these two arithmetics "
        "alone differ: the others are to be read against it."
    )
    return [Table("Merging", heads, rows, note)]


def _number(value: Any, form: str) -> str:
    return "-" if value is None or pd.isna(value) else format(value, form)


def _megabytes(size: Any) -> str:
    if pd.isna(size):
        return "-"
    return format(size / 1e6, ",.1f" if size >= 1e6 else ".2g")
