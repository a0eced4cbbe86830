"""Tables of scores: the ranked settings, accuracies by task with intervals, parse rates, published numbers, spread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from bench.analysis.interval_text import interval_text
from bench.analysis.levels import BOTH, QUESTIONS_ALONE, SEEDS_ALONE
from bench.analysis.result_tables import ResultTables, averaged_scores, trained_cells
from bench.analysis.series import setting_labels
from bench.report import published
from bench.report.ranking import TASK
from bench.report.table import ReportTable, column_text, done_names, filled_table, number_text, ranges_text
from bench.statistics import standard_deviation
from bench.store.records import PlanRecord

MARKS = {BOTH: "", SEEDS_ALONE: " s", QUESTIONS_ALONE: " q"}
"""Behind an interval: what it is over."""
LEVEL_NOTE = (
    "over seeds and the choice of questions, of a setting by itself; methods meet at the same questions, so their "
    "differences are known more surely than these intervals are wide."
)


def ranked_table(settings: pd.DataFrame, scores: pd.DataFrame) -> list[ReportTable]:
    """The ranked table (`ranking.rank_settings`) in texts; a column that no row fills is left out. No table where
    nothing is scored."""
    if settings.empty:
        return []
    tasks = list(dict.fromkeys(averaged_scores(scores)["task"]))
    columns = {
        "method": list(settings["series"]),
        "rank": column_text(settings["rank"], "g"),
        "samples": column_text(settings["samples"], ",.0f"),
        "seeds": column_text(settings["seeds"], ".0f"),
        "learning rate": [rate if isinstance(rate, str) and rate else "-" for rate in settings["lr"]],
        "average": column_text(settings["average"], ".1f"),
        "95 %": [
            text if (text := interval_text(row.low, row.high, ".1f")) == "-" else f"{text}{MARKS[row.interval]}"
            for row in settings.itertuples()
        ],
        "against the baseline": [value if isinstance(value, str) and value else "-" for value in settings["verdict"]],
        **{f"{TASK}{task}": column_text(settings[f"{TASK}{task}"], ".1f") for task in tasks},
        "p(right)": column_text(settings["probability"], ".1f"),
        "development": column_text(settings["development"], ".1f"),
        "trainable": column_text(settings["trainable"], ",.0f"),
        "peak MB": column_text(settings["memory"], ",.0f"),
        "training s": column_text(settings["seconds"], ",.0f"),
        "answer s": column_text(settings["latency"], ".2f"),
    }
    note = (
        "Per cent; the best average first, which is no verdict: rows whose intervals overlap are not told apart by it."
    )
    if left_out := _left_out(averaged_scores(scores)):
        note += f" The average is without {', '.join(left_out)} (near chance); settings.csv has it with all tasks, too."
    if (settings["interval"] == QUESTIONS_ALONE).any():
        note += " q: over questions alone, of fewer than three seeds."
    if (settings["interval"] == SEEDS_ALONE).any():
        note += " s: over seeds alone."
    if (settings["interval"] == BOTH).any():
        note += f" Intervals without {'q' if (settings['interval'] != BOTH).any() else 'a mark'}: {LEVEL_NOTE}"
    explained = {
        "p(right)": " p(right): the probability of the right choice (docs/statistics.md), over the same tasks.",
        "development": " Development: of a few questions of the training sets' development split.",
        "peak MB": " Peak MB: of training.",
        "answer s": " Answer s: 64 tokens for one prompt, merged where the method merges.",
    }
    note += "".join(text for head, text in explained.items() if set(columns[head]) != {"-"})
    if settings["rank"].nunique() > 1:
        note += " What a rank is differs by method: equal ranks are equal numbers, not equal sizes."
    keys = [
        {"method": row.series, "rank": "" if pd.isna(row.rank) else f"{row.rank:g}"} for row in settings.itertuples()
    ]
    table = filled_table("Ranked", columns, note)
    of_tasks = [head.removeprefix(TASK) if head.startswith(TASK) else "" for head in table.heads]
    near = _near_chance_texts(averaged_scores(scores))
    heads = [head.removeprefix(TASK) + near.get(head.removeprefix(TASK), "") for head in table.heads]
    return [replace(table, heads=heads, keys=keys, tasks=of_tasks)]


def _near_chance_texts(scores: pd.DataFrame) -> dict[str, str]:
    """By task, what its column says where it is near chance."""
    return {str(task): " (near chance)" for task in dict.fromkeys(scores[scores["near_chance"]]["task"])}


def _left_out(scores: pd.DataFrame) -> list[str]:
    """The tasks that do not count in the averages of some base."""
    return list(dict.fromkeys(scores[~scores["counted"]]["task"]))


def task_tables(read: ResultTables) -> list[ReportTable]:
    """Accuracy by task, a row a cell, with the majority class and chance beneath; a table a protocol."""
    tables = []
    for protocol, scores in read.scores.groupby("protocol", sort=False):
        tasks = list(dict.fromkeys(scores["task"]))
        by_cell = scores.pivot(index="folder", columns="task", values="score")
        counted = scores.pivot(index="folder", columns="task", values="counted")
        near = _near_chance_texts(scores)
        rows = []
        for folder, label in done_names(read.cells).items():
            if folder in by_cell.index:
                accuracies = by_cell.loc[folder, tasks]
                # A task that the cell was not scored on is missing in its average.
                average = number_text(accuracies[counted.loc[folder, tasks].ne(False)].mean(skipna=False), ".1f")
                rows.append([label, average, *column_text(accuracies, ".1f")])
        first = scores.drop_duplicates("task").set_index("task").loc[tasks]
        for name in ("majority", "chance") if rows else ():
            values = first[name].astype(float)
            if values.notna().any():
                alike = counted[tasks].nunique().max() == 1
                average = number_text(values[first["counted"]].mean(skipna=False) if alike else None, ".1f")
                rows.append([name, average, *column_text(values, ".1f")])
        heads = ["cell", "average"]
        heads += [f"{row.Index} ({row.metric}, n={row.n}){near.get(row.Index, '')}" for row in first.itertuples()]
        merged = "merged before scoring where the method can" if scores["merged"].any() else "scored unmerged"
        title = "Accuracy by task" if read.scores["protocol"].nunique() == 1 else f"Accuracy by task, {protocol}"
        without = f" The average is without {', '.join(left_out)}." if (left_out := _left_out(scores)) else ""
        tables.append(ReportTable(title, heads, rows, f"Per cent. Protocol {protocol}; adapters {merged}.{without}"))
    if tables or read.cells["answers"].notna().any():
        return tables
    return [ReportTable("Accuracy by task", ["cell", "average"], [], "No cell is scored yet.")]


def interval_table(read: ResultTables) -> list[ReportTable]:
    """Wilson's interval of every score."""
    labels = done_names(read.cells)
    scores = read.scores[read.scores["folder"].isin(labels)]
    if scores.empty:
        return []
    several = scores["protocol"].nunique() > 1
    heads = scores["task"] + (" " + scores["protocol"] if several else "")
    labelled = scores.assign(head=heads, interval=ranges_text(scores["low"], scores["high"], ".1f"))
    wide = labelled.pivot(index="folder", columns="head", values="interval")[list(dict.fromkeys(heads))]
    rows = [
        [label, *("-" if pd.isna(interval) else interval for interval in wide.loc[folder])]
        for folder, label in labels.items()
    ]
    note = (
        "Per cent: where the accuracy of this very run would lie on all questions of the kind, 95 % of the time "
        "(Wilson). Two cells answered the same questions, so these say too little of how far they are apart: the "
        "paired differences do."
    )
    return [ReportTable("Intervals by task", ["cell", *wide.columns], rows, note, folded=True)]


def parse_rate_table(read: ResultTables) -> list[ReportTable]:
    """How many generated answers could be read, and how good those are; no table where nothing was generated."""
    labels = done_names(read.cells)
    scores = read.scores[read.scores["folder"].isin(labels) & read.scores["parse_rate"].notna()]
    if scores.empty:
        return []
    rows = [
        [labels[row.folder], row.task, row.protocol, *column_text((row.score, row.parse_rate, row.acc_parsed), ".1f")]
        for row in scores.itertuples()
    ]
    heads = ["cell", "task", "protocol", "accuracy", "parse rate", "accuracy among parsed"]
    note = "Per cent. An answer that could not be parsed counts as wrong in the accuracy."
    return [ReportTable("Parse rates", heads, rows, note)]


def published_table(read: ResultTables, plan: PlanRecord) -> list[ReportTable]:
    """The papers' averages over the commonsense tasks, where any of these was scored."""
    if not set(read.scores["task"]) & set(published.COMMONSENSE):
        return []
    rows = [
        [row.method, row.base, str(row.rank), f"{row.average:.1f}", row.source]
        for row in published.rank_table().itertuples()
    ]
    scores = averaged_scores(read.scores)
    done = read.cells[read.cells["status"] == "done"]
    panels = [
        published.rank_differences(plan, done[(done["samples"] == samples) | (done["method"] == "base")], scores)
        for samples in sorted(done.loc[done["method"] != "base", "samples"].unique())
    ]
    nearest = min(panels, key=len, default=["no finished cell"])
    note = (
        f"Not drawn over the scores here, which are of another experiment (the paper's in brackets): "
        f"{'; '.join(nearest)}. "
        if nearest
        else "The same experiment as here, drawn in the figure of ranks. "
    )
    heads = ["method", "base", "rank", "average", "source"]
    return [ReportTable("Published numbers", heads, rows, note + published.DISAGREEMENTS, folded=True)]


def seed_spread_table(cells: pd.DataFrame) -> list[ReportTable]:
    """The spread of the average over the seeds of each setting; none where no setting has two."""
    done = trained_cells(cells)
    rows = []
    for label, cells_of_setting in done.assign(label=setting_labels(done)).groupby("label", sort=False):
        scores = list(cells_of_setting["average"])
        if len(scores) > 1:
            values = (np.mean(scores), standard_deviation(scores), min(scores), max(scores))
            rows.append([label, str(len(scores)), *(f"{value:.2f}" for value in values)])
    if not rows:
        return []
    note = "Average accuracy (%) over the seeds of a setting: each seed draws examples, order, start and dropout anew."
    return [ReportTable("Spread over seeds", ["setting", "seeds", "mean", "s.d.", "least", "most"], rows, note)]
