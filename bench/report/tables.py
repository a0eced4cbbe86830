"""The report's tables: every value a text, and a dash where there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.analysis.comparison import difference_rows
from bench.analysis.result_tables import LOAD_DEPENDENT, ResultTables, averaged_scores
from bench.evaluation.workload import LATENCY_BATCHES
from bench.report import published
from bench.report.finding import p_text, points_text, seeds_text, verdict_text
from bench.report.ranking import TASK
from bench.statistics import SINGLE

EXACT = 1e-3
"""A difference of logits in float32 above which a merge is named: rounding alone leaves about 1e-4."""


@dataclass(frozen=True)
class Table:
    """A table as it is shown: every value a text."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    note: str = ""
    folded: bool = False
    """Shown in the page when it is asked for: detail, not result."""
    prose: bool = False
    """Its values are words, not figures."""
    keys: list[dict[str, str]] | None = None
    """What each row can be filtered by in the page."""
    tasks: list[str] | None = None
    """The task of each column; empty for a column of no task."""


def duplicates(plan: dict[str, Any]) -> list[Table]:
    """What of the training data stands in what is asked."""
    rows = [
        [name, str(one["by_question"]), str(one["by_question_and_choices"]), str(one["removed"])]
        for name, one in plan["overlap"].items()
    ]
    note = "Training rows whose question stands in a test or development set of this sweep."
    heads = ["training set", "same question", "same question and choices", "removed"]
    return [Table("Duplicates", heads, rows, note)] if rows else []


def published_table(read: ResultTables) -> list[Table]:
    """The papers' averages over the commonsense tasks, where any of these was scored."""
    if not set(read.scores["task"]) & published.COMMONSENSE:
        return []
    rows = [
        [row.method, row.base, str(row.rank), f"{row.average:.1f}", row.source]
        for row in published.rank_table().itertuples()
    ]
    scores = averaged_scores(read.scores)
    same = published.comparable(set(read.cells["base"]), set(scores["task"]), set(scores["protocol"]))
    note = (
        "Drawn in the figure. "
        if same
        else "Another base model, tasks or protocol: not comparable with the scores here. "
    )
    heads = ["method", "base", "rank", "average", "source"]
    return [Table("Published numbers", heads, rows, note + published.DISAGREEMENTS, folded=True)]


def methods(plan: dict[str, Any]) -> list[Table]:
    """What the methods of the sweep are; none for a plan of before this was kept."""
    rows = [
        [name, one["summary"], one["rank"] or "it has none", one["source"]]
        for name, one in plan.get("methods", {}).items()
    ]
    heads = ["method", "what it trains", "its rank is", "source"]
    note = "Equal ranks of two methods are equal numbers, not equal sizes."
    return [Table("What the methods are", heads, rows, note, folded=True, prose=True)] if rows else []


def ranked(settings: pd.DataFrame, scores: pd.DataFrame) -> list[Table]:
    """The ranked table (`ranking.ranking`) in texts; a column that no row fills is left out. None where nothing is
    scored."""
    if settings.empty:
        return []
    tasks = list(dict.fromkeys(averaged_scores(scores)["task"]))
    columns = {
        "method": list(settings["series"]),
        "rank": _column(settings["rank"], "g"),
        "samples": _column(settings["samples"], ",.0f"),
        "seeds": _column(settings["seeds"], ".0f"),
        "average": _column(settings["average"], ".1f"),
        "95 %": [
            "-" if pd.isna(row.low) else f"[{row.low:.1f}, {row.high:.1f}]{'' if row.interval == 'seeds' else ' q'}"
            for row in settings.itertuples()
        ],
        "against the baseline": [value if isinstance(value, str) and value else "-" for value in settings["verdict"]],
        **{f"{TASK}{task}": _column(settings[f"{TASK}{task}"], ".1f") for task in tasks},
        "development": _column(settings["development"], ".1f"),
        "trainable": _column(settings["trainable"], ",.0f"),
        "peak MB": _column(settings["memory"], ",.0f"),
        "training s": _column(settings["seconds"], ",.0f"),
        "answer s": _column(settings["latency"], ".2f"),
    }
    note = (
        "Per cent; the best average first, which is no verdict: rows whose intervals overlap are not told apart by it."
    )
    if (settings["interval"] == "questions").any():
        note += " q: over questions alone, of fewer than three seeds."
    if (settings["interval"] == "seeds").any():
        note += " Intervals without q: over seeds (t)."
    explained = {
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
    shown = _filled("Ranked", columns, note)
    of_tasks = [head.removeprefix(TASK) if head.startswith(TASK) else "" for head in shown.heads]
    heads = [head.removeprefix(TASK) for head in shown.heads]
    return [replace(shown, heads=heads, keys=keys, tasks=of_tasks)]


def differences_table(
    differences: pd.DataFrame,
    what: str,
    tie_margin: float,
    title: str = "Paired differences",
    paired: str | None = None,
) -> list[Table]:
    """The paired differences; a column that no row fills is left out. `what`: the quantity that differs, and its
    unit. `paired`: how rows came to be pairs; default: methods by seed."""
    if differences.empty:
        return []
    rows = difference_rows(differences)
    across = any(row.baseline_label != row.baseline for row in rows)
    columns = {
        "series": differences["series"],
        "baseline": differences["baseline"],
        "rank": _column(differences["rank"], "g"),
        **({"baseline's rank": _column(differences["baseline_rank"], "g")} if across else {}),
        "samples": _column(differences["samples"], ","),
        "seeds": _column(differences["seeds"], "d"),
        "difference": _column(differences["difference"], "+.2f"),
        "95 % over seeds (unadjusted)": _ranges(differences["low"], differences["high"], "+.2f"),
        "adjusted p": ["-" if pd.isna(p) else p_text(p) for p in differences["p_adjusted"]],
        "95 % over questions (unadjusted)": _ranges(differences["question_low"], differences["question_high"], "+.2f"),
        "McNemar's p": ["-" if pd.isna(p) else p_text(p) for p in differences["mcnemar_p"]],
        "McNemar's p, adjusted": ["-" if pd.isna(p) else p_text(p) for p in differences["mcnemar_p_adjusted"]],
        "detectable": _column(differences["detectable"], ".2f"),
        "seeds to tell": ["-" if row.verdict != "unresolved" else seeds_text(row.seeds_needed) for row in rows],
        "verdict": [verdict_text(row.verdict, row.seeds) for row in rows],
    }
    reach = "An" if across else "What has no rank, or no equal to be paired with, is not in it; an"
    note = (
        f"{what}, paired by seed (same examples, same questions). {reach} equal rank is an equal number, not an equal "
        "size (`bench methods` says what it counts). "
        if differences["rank"].notna().any()
        else f"{what}, paired by seed (same examples, same questions), each method at its own rank, if it has one. "
    )
    if paired is not None:
        note = f"{what}, {paired} "
    if differences["p"].notna().any():
        note += (
            "Over seeds: Student's t, unadjusted; p is adjusted for the number of comparisons (Holm). Detectable: what "
            "a single comparison with this spread and so many seeds finds with 80 % power (5 %, two-sided). A tie is "
            f"an interval over seeds within {points_text(tie_margin)} of zero; better and worse have an adjusted p "
            "below 0.05; seeds to tell brings an unresolved one to either with 80 % power, if difference and spread "
            "stayed so. "
        )
    if (differences["verdict"] == SINGLE).any():
        note += "Below three seeds there is no interval over seeds and no verdict on the methods. "
    if differences["question_low"].notna().any():
        note += "Over questions: the bootstrap, by task and in whole clusters; it knows nothing of seeds. "
    if differences["mcnemar_p"].notna().any():
        note += (
            "McNemar's exact test, on the questions of all tasks together, says whether two single runs answer "
            "differently, not whether their methods do; adjusted: for the number of these tests (Holm)."
        )
    return [_filled(title, columns, note.strip())]


def _labels(cells: pd.DataFrame) -> dict[str, str]:
    """The done cells' names by folder."""
    done = cells[cells["status"] == "done"]
    return dict(zip(done["folder"], done["name"], strict=True))


def by_task(read: ResultTables) -> list[Table]:
    """Accuracy by task, a row a cell, with the majority class and chance beneath; a table a protocol."""
    found = []
    for protocol, scores in read.scores.groupby("protocol", sort=False):
        tasks = list(dict.fromkeys(scores["task"]))
        by_cell = scores.pivot(index="folder", columns="task", values="score")
        rows = []
        for folder, label in _labels(read.cells).items():
            if folder in by_cell.index:
                mine = by_cell.loc[folder, tasks]
                rows.append([label, _number(mine.mean(skipna=False), ".1f"), *(_number(one, ".1f") for one in mine)])
        first = scores.drop_duplicates("task").set_index("task").loc[tasks]
        for name in ("majority", "chance") if rows else ():
            values = first[name].astype(float)
            if values.notna().any():
                average = _number(values.mean(skipna=False), ".1f")
                rows.append([name, average, *(_number(value, ".1f") for value in values)])
        heads = ["cell", "average", *(f"{row.Index} ({row.metric}, n={row.n})" for row in first.itertuples())]
        merged = "merged before scoring where the method can" if scores["merged"].any() else "scored unmerged"
        title = "Accuracy by task" if read.scores["protocol"].nunique() == 1 else f"Accuracy by task, {protocol}"
        found.append(Table(title, heads, rows, f"Per cent. Protocol {protocol}; adapters {merged}."))
    if found or read.cells["answers"].notna().any():
        return found
    return [Table("Accuracy by task", ["cell", "average"], [], "No cell is scored yet.")]


def intervals(read: ResultTables) -> list[Table]:
    """Wilson's interval of every score."""
    labels = _labels(read.cells)
    scores = read.scores[read.scores["folder"].isin(labels)]
    if scores.empty:
        return []
    several = scores["protocol"].nunique() > 1
    heads = scores["task"] + (" " + scores["protocol"] if several else "")
    shown = scores.assign(head=heads, shown=_ranges(scores["low"], scores["high"], ".1f"))
    wide = shown.pivot(index="folder", columns="head", values="shown")[list(dict.fromkeys(heads))]
    rows = [[label, *(_text(one) for one in wide.loc[folder])] for folder, label in labels.items()]
    note = (
        "Per cent: where the accuracy of this very run would lie on all questions of the kind, 95 % of the time "
        "(Wilson). Two cells answered the same questions, so these say too little of how far they are apart: the "
        "paired differences do."
    )
    return [Table("Intervals by task", ["cell", *wide.columns], rows, note, folded=True)]


def parsing(read: ResultTables) -> list[Table]:
    """How many generated answers could be read, and how good those are; no table where nothing was generated."""
    labels = _labels(read.cells)
    scores = read.scores[read.scores["folder"].isin(labels) & read.scores["parse_rate"].notna()]
    if scores.empty:
        return []
    columns = ("score", "parse_rate", "acc_parsed")
    rows = [
        [labels[row.folder], row.task, row.protocol, *(_number(getattr(row, one), ".1f") for one in columns)]
        for row in scores.itertuples()
    ]
    heads = ["cell", "task", "protocol", "accuracy", "parse rate", "accuracy among parsed"]
    note = "Per cent. An answer that could not be parsed counts as wrong in the accuracy."
    return [Table("Parse rates", heads, rows, note)]


def costs(read: ResultTables) -> list[Table]:
    """What the done cells cost; a column that no cell fills is left out. What was measured beside other work is not
    shown, so that it is not compared."""
    done = read.cells[read.cells["status"] == "done"]
    shared = done["shared"].eq(True)
    labels = _labels(done)
    names = [labels[one] + (" (shared)" if beside else "") for one, beside in zip(done["folder"], shared, strict=True)]
    alone = done.assign(**{one: done[one].mask(shared) for one in LOAD_DEPENDENT})
    columns = {
        "trainable": _column(done["trainable"], ",.0f"),
        "% of all": _column(done["percent"], ".3f"),
        "% of base": _column(done["percent_of_base"], ".3f"),
        "training s": _column(alone["training_seconds"], ",.0f"),
        "tokens/s": _column(alone["tokens_per_second"], ",.0f"),
        "peak MB": [_megabytes(size) for size in alone["training_peak_bytes"]],
        "scoring s": _column(alone["evaluation_seconds"], ",.0f"),
        "answering s": _column(alone["answering_seconds"], ",.0f"),
        "scoring peak MB": [_megabytes(size) for size in alone["evaluation_peak_bytes"]],
        "training kJ": _column(alone["training_joules"] / 1000, ",.2f"),
        "scoring kJ": _column(alone["evaluation_joules"] / 1000, ",.2f"),
        "base MB": [_megabytes(size) for size in done["base_bytes"]],
        "optimizer MB": [_megabytes(size) for size in done["optimizer_bytes"]],
        "adapter MB": [_megabytes(size) for size in done["adapter_bytes"]],
        "training TFLOPs": _column(done["training_flops"] / 1e12, ",.1f"),
        "utilisation %": _column(100 * alone["training_utilisation"], ".1f"),
        "last loss": _column(done["final_loss"], ".3f"),
    }
    note = (
        "Trainable parameters as a share of base and adapter together. Seconds of the machine that ran the cell. "
        "Base: the weights as this method loads them (quantized, or in float32 where they are trained); optimizer: "
        "what it remembers between steps; both in memory. Adapter: the file."
    )
    if done["training_peak_bytes"].notna().any():
        note += (
            " Tokens/s: real ones, after the first step. Peak: the most memory of that stage, on a CPU over what the "
            "process held before the cell. TFLOPs: of the mathematics; utilisation: what they are of the device's "
            "measured speed at a matrix product. docs/costs.md defines every figure."
        )
    if shared.any():
        note += (
            " A cell marked as shared had not its device to itself (other work ran on it, or took more than a tenth of "
            "the processors), so what depends on that is not shown."
        )
    return [_filled("Costs", {"cell": names, **columns}, note), *_latency(alone.assign(shown=names))]


def _latency(cells: pd.DataFrame) -> list[Table]:
    """Seconds of an answer, by how the model is run; no table where no cell was timed."""
    timed = cells[cells["latency_base_1"].notna()]
    if timed.empty:
        return []
    columns = {"cell": list(timed["shown"])}
    for batch in LATENCY_BATCHES:
        base = timed[f"latency_base_{batch}"]
        columns[f"base, {batch} at once"] = _column(base, ".2f")
        for how in ("unmerged", "merged"):
            own = timed[f"latency_{how}_{batch}"]
            columns[f"{how}, {batch} at once"] = [
                "-" if pd.isna(one) else f"{one:.2f} ({one / other:.2f}x)" for one, other in zip(own, base, strict=True)
            ]
    note = (
        "Seconds of greedy generation of 64 tokens, the median of three, and in brackets how many times as long as "
        "the untuned base took in the same run. Of several prompts the seconds are those of all of them together."
    )
    return [_filled("Time to answer", columns, note)]


def _filled(title: str, columns: dict[str, list[str]], note: str) -> Table:
    """A table of those columns in which anything stands."""
    shown = {head: values for head, values in columns.items() if set(values) != {"-"}}
    return Table(title, list(shown), [list(row) for row in zip(*shown.values(), strict=True)], note)


def inexact(cells: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """Merges that float32 does not bear out, each a warning: the merged model is not quite the trained one."""
    done = cells[cells["merge_float32"].astype(float) > EXACT]
    if done.empty:
        return []
    worst = done.sort_values("merge_float32", ascending=False)
    names = ", ".join(f"{row.name} ({row.merge_float32:.1e})" for row in worst.head(3).itertuples())
    more = f" and {len(worst) - 3} more" if len(worst) > 3 else ""
    scored = "; what is scored is the merged model, not quite the trained one" if scores["merged"].any() else ""
    return [f"{names}{more}: merged, logits differ by more than {EXACT:g} in float32{scored} (the table of merging)"]


def merging(cells: pd.DataFrame) -> list[Table]:
    """How exact each merge is, or why there is none; no table where no cell recorded it."""
    done = cells[cells["status"] == "done"]
    if not (done["merge_half"].notna() | (done["merge_reason"] != "") | done["merge_n"].notna()).any():
        return []
    flips = done["merge_n"].gt(0).any()
    labels = _labels(done)
    rows = [
        [
            labels[cell.folder],
            _number(cell.merge_float32, ".1e"),
            _number(cell.merge_half, ".2f"),
            cell.merge_half_dtype or "-",
            *(
                ["-" if pd.isna(count) else f"{count:.0f} of {cell.merge_n:.0f}" for count in _flips(cell)]
                if flips
                else []
            ),
            cell.merge_reason or "-",
        ]
        for cell in done.itertuples()
    ]
    heads = ["cell", "float32", "half precision", "half is"]
    heads += ["answers that flip", "beyond the margin"] if flips else []
    heads.append("cannot be merged because")
    note = (
        "The largest difference of a logit between the merged and the unmerged model, on a few questions of each task. "
        "float32: both computed in float32; more than its rounding means a merge that is not exact. Half precision: "
        "the unmerged model under autocast, the merged one with its weights rounded to the dtype (of a float32 cell, "
        "both under autocast). The base's own row, where nothing is merged, shows by how much these two arithmetics "
        "alone differ: the others are to be read against it."
    )
    if flips:
        margins = ", ".join(f"{margin:g}" for margin in sorted(done["merge_margin"].dropna().unique()))
        note += (
            " Answers that flip: of the probed questions, those that the merged model answers otherwise than the "
            f"unmerged one; beyond the margin: those that were no near tie (margin {margins} nats)."
        )
    return [Table("Merging", heads, rows, note)]


def _flips(cell: Any) -> tuple[Any, Any]:
    return cell.merge_flips, cell.merge_flips_above_margin


def _column(values: pd.Series, form: str) -> list[str]:
    return [_number(value, form) for value in values]


def _ranges(low: pd.Series, high: pd.Series, form: str) -> list[str]:
    return [
        "-" if pd.isna(one) else f"[{format(one, form)}, {format(other, form)}]"
        for one, other in zip(low, high, strict=True)
    ]


def _text(value: Any) -> str:
    return "-" if pd.isna(value) else str(value)


def _number(value: Any, form: str) -> str:
    return "-" if value is None or pd.isna(value) else format(value, form)


def _megabytes(size: Any) -> str:
    if pd.isna(size):
        return "-"
    return format(size / 1e6, ",.1f" if size >= 1e6 else ".2g")
