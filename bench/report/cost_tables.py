"""Tables of what cells cost, and of how exactly adapters merge."""

from __future__ import annotations

import pandas as pd

from bench.analysis.cost_columns import LOAD_DEPENDENT, MODELS
from bench.analysis.result_tables import ResultTables
from bench.evaluation.workload import LATENCY_BATCHES
from bench.report.table import ReportTable, column_text, done_names, filled_table, megabytes_text, number_text

EXACT = 1e-3
"""A difference of logits in float32 above which a merge is named: rounding alone leaves about 1e-4."""


def cost_tables(read: ResultTables) -> list[ReportTable]:
    """What the done cells cost; a column that no cell fills is left out. What was measured beside other work is not
    shown, so that it is not compared."""
    done = read.cells[read.cells["status"] == "done"]
    shared = done["shared"].eq(True)
    labels = done_names(done)
    names = [
        labels[folder] + (" (shared)" if is_shared else "")
        for folder, is_shared in zip(done["folder"], shared, strict=True)
    ]
    alone = done.assign(**{name: done[name].mask(shared) for name in LOAD_DEPENDENT})
    columns = {
        "trainable": column_text(done["trainable"], ",.0f"),
        "% of all": column_text(done["percent"], ".3f"),
        "% of base": column_text(done["percent_of_base"], ".3f"),
        "training s": column_text(alone["training_seconds"], ",.0f"),
        "tokens/s": column_text(alone["tokens_per_second"], ",.0f"),
        "peak MB": [megabytes_text(size) for size in alone["training_peak_bytes"]],
        "scoring s": column_text(alone["evaluation_seconds"], ",.0f"),
        "answering s": column_text(alone["answering_seconds"], ",.0f"),
        "scoring peak MB": [megabytes_text(size) for size in alone["evaluation_peak_bytes"]],
        "training kJ": column_text(alone["training_joules"] / 1000, ",.2f"),
        "scoring kJ": column_text(alone["evaluation_joules"] / 1000, ",.2f"),
        "base MB": [megabytes_text(size) for size in done["base_bytes"]],
        "optimizer MB": [megabytes_text(size) for size in done["optimizer_bytes"]],
        "adapter MB": [megabytes_text(size) for size in done["adapter_bytes"]],
        "training TFLOPs": column_text(done["training_flops"] / 1e12, ",.1f"),
        "utilisation %": column_text(100 * alone["training_utilisation"], ".1f"),
        "last loss": column_text(done["final_loss"], ".3f"),
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
    return [filled_table("Costs", {"cell": names, **columns}, note), *_latency(alone.assign(shown=names))]


def _latency(cells: pd.DataFrame) -> list[ReportTable]:
    """Seconds of an answer, by how the model is run; no table where no cell was timed."""
    timed = cells[cells[[f"latency_{model}_1" for model in MODELS]].notna().any(axis=1)]
    if timed.empty:
        return []
    untuned = timed[timed["method"] == "base"].set_index("base")
    columns = {"cell": list(timed["shown"])}
    for batch in LATENCY_BATCHES:
        name = f"latency_base_{batch}"
        # Earlier versions timed the base in each of these cells.
        base = timed[name].fillna(timed["base"].map(untuned[name]))
        columns[f"base, {batch} at once"] = column_text(base, ".2f")
        for model in ("unmerged", "merged"):
            columns[f"{model}, {batch} at once"] = [
                "-" if pd.isna(seconds) else f"{seconds:.2f} ({seconds / of_base:.2f}x)"
                for seconds, of_base in zip(timed[f"latency_{model}_{batch}"], base, strict=True)
            ]
    note = (
        "Seconds of greedy generation of 64 tokens, the median of three, and in brackets how many times as long as "
        "the untuned base took, which is timed once. Of several prompts the seconds are those of all of them together."
    )
    return [filled_table("Time to answer", columns, note)]


def merging_table(cells: pd.DataFrame) -> list[ReportTable]:
    """How exact each merge is, or why there is none; no table where no cell recorded it."""
    done = cells[cells["status"] == "done"]
    if not (done["merge_half"].notna() | (done["merge_reason"] != "") | done["merge_n"].notna()).any():
        return []
    flips = done["merge_n"].gt(0).any()
    labels = done_names(done)
    rows = [
        [
            labels[cell.folder],
            number_text(cell.merge_float32, ".1e"),
            number_text(cell.merge_half, ".2f"),
            cell.merge_half_dtype or "-",
            *(
                "-" if pd.isna(count) else f"{count:.0f} of {cell.merge_n:.0f}"
                for count in (cell.merge_flips, cell.merge_flips_above_margin)
                if flips
            ),
            cell.merge_reason or "-",
        ]
        for cell in done.itertuples()
    ]
    heads = ["cell", "float32", "half precision", "half is"]
    heads += ["answers that flip", "beyond the margin"] if flips else []
    heads.append("not merged because")
    note = (
        "The largest difference of a logit between the merged and the unmerged model, on a few questions of each task. "
        "float32: both computed in float32; more than its rounding means a merge that is not exact. Half precision: "
        "the unmerged model under autocast, the merged one with its weights rounded to the dtype (of a float32 cell, "
        "both under autocast). The base's own row, where nothing is merged, shows by how much these two arithmetics "
        "alone differ: the others are to be read against it. One seed of each setting is compared in full, another one "
        "in float32."
    )
    if flips:
        margins = ", ".join(f"{margin:g}" for margin in sorted(done["merge_margin"].dropna().unique()))
        note += (
            " Answers that flip: of the probed questions, those that the merged model answers otherwise than the "
            f"unmerged one; beyond the margin: those that were no near tie (margin {margins} nats)."
        )
    return [ReportTable("Merging", heads, rows, note)]


def inexact_merges(cells: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """Merges that float32 does not bear out, each a warning: the merged model is not quite the trained one."""
    done = cells[cells["merge_float32"].astype(float) > EXACT]
    if done.empty:
        return []
    worst = done.sort_values("merge_float32", ascending=False)
    names = ", ".join(f"{row.name} ({row.merge_float32:.1e})" for row in worst.head(3).itertuples())
    more = f" and {len(worst) - 3} more" if len(worst) > 3 else ""
    scored_merged = scores[scores["folder"].isin(done["folder"])]["merged"].any()
    scored = "; what is scored is the merged model, not quite the trained one" if scored_merged else ""
    return [f"{names}{more}: merged, logits differ by more than {EXACT:g} in float32{scored} (the table of merging)"]
