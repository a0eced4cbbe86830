"""How sensitive each method is to its learning rate: the trials that chose it, as curves and as a table."""

from __future__ import annotations

import json
import math
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from bench.methods.learning_rates import without_learning_rate
from bench.report.figures.accuracy import GREY, STYLE, Drawn, drawn, looks
from bench.report.tables import Table
from bench.store.folder import CellFolder, Results

NAME = "learning_rates"
COLUMNS = ("setting", "method", "rank", "lr", "samples", "score", "loss", "status", "chosen", "edge")


def trials(results: Results, plan: dict[str, Any]) -> pd.DataFrame:
    """One row a trial: its development accuracy (points), its last loss, whether its rate was chosen, and whether a
    chosen one lies at the edge of those that were tried."""
    taken: dict[str, set[float]] = {}
    for cell in plan["cells"]:
        if cell.get("tuned"):
            taken.setdefault(_setting(cell), set()).add(cell["options"]["lr"])
    rows = []
    for one in plan.get("trials", ()):
        folder = CellFolder(results.path / "cells" / one["folder"])
        metrics = folder.metrics() if folder.exists() else {}
        found = [metrics.get("evaluations", {}).get(id) for id in one["evaluations"]]
        own = [row["score"] for row in found if row is not None and row["protocol"] == (found[0] or row)["protocol"]]
        whole = bool(found) and None not in found
        rows.append(
            {
                "setting": _setting(one),
                "method": one["method"],
                "rank": one["rank"],
                "lr": one["lr"],
                "samples": one["samples"],
                "score": 100 * sum(own) / len(own) if whole else math.nan,
                "loss": metrics.get("costs", {}).get("final_loss", math.nan),
                "status": metrics.get("status", "missing"),
                "chosen": one["lr"] in taken.get(_setting(one), ()),
            }
        )
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "edge"])
    ends = frame.groupby("setting")["lr"].transform("min"), frame.groupby("setting")["lr"].transform("max")
    return frame.assign(edge=frame["chosen"] & (frame["lr"].eq(ends[0]) | frame["lr"].eq(ends[1])))


def _setting(cell: dict[str, Any]) -> str:
    return json.dumps(
        [cell["base"], cell["method"], without_learning_rate(cell["options"]), cell["training"]], sort_keys=True
    )


def table(frame: pd.DataFrame, largest: int) -> list[Table]:
    """A row a setting; no table where nothing was tuned. `largest`: the most samples of a final cell."""
    if frame.empty:
        return []
    rows = []
    for _, mine in frame.groupby("setting", sort=False):
        mine = mine.sort_values("lr")
        tried = [
            f"{one.lr:g}: {'-' if math.isnan(one.score) else format(one.score, '.1f')}"
            + (f" ({one.status})" if one.status not in ("done", "missing") else "")
            for one in mine.itertuples()
        ]
        best = mine[mine["chosen"]]
        rank = mine["rank"].iloc[0]
        rows.append(
            [
                mine["method"].iloc[0],
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
    return [Table("Learning rates tried", ["method", "rank", "rate: score", "chosen", "at the edge"], rows, note)]


def figure(frame: pd.DataFrame) -> list[Drawn]:
    """Development accuracy against the learning rate: a panel a method, a line a setting, the chosen rates ringed."""
    scored = frame[frame["score"].notna()]
    if scored.empty:
        return []
    methods = list(dict.fromkeys(scored["method"]))
    look = looks(methods)
    columns = min(3, len(methods))
    lines = math.ceil(len(methods) / columns)
    with matplotlib.rc_context(STYLE):
        sheet = Figure(figsize=(1.2 + 2.7 * columns, 0.6 + 2.3 * lines), layout="constrained")
        axes = sheet.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        for ax, method in zip(axes, methods, strict=False):
            settings = scored[scored["method"] == method].groupby("setting", sort=False)
            for place, (_, mine) in enumerate(settings):
                mine = mine.sort_values("lr")
                colour, marker = look[method]
                shade = 1.0 if len(settings) == 1 else 0.4 + 0.6 * place / (len(settings) - 1)
                rank = mine["rank"].iloc[0]
                label = None if pd.isna(rank) else f"r={rank:g}"
                ax.plot(mine["lr"], mine["score"], color=colour, marker=marker, ms=4, lw=1.4, alpha=shade, label=label)
                best = mine[mine["chosen"]]
                ax.plot(best["lr"], best["score"], ls="none", marker="o", ms=10, mfc="none", mec=GREY)
            ax.set_xscale("log")
            tried = sorted(scored.loc[scored["method"] == method, "lr"].unique())
            ax.set_xticks(tried, [f"{rate:g}" for rate in tried], fontsize=8, rotation=30 if len(tried) > 3 else 0)
            ax.minorticks_off()
            ax.margins(x=0.15)
            ax.set_title(method, fontsize=10)
            if len(settings) > 1:
                ax.legend(frameon=False, fontsize=8)
        for ax in axes[len(methods) :]:
            ax.set_axis_off()
        sheet.supxlabel("learning rate", fontsize=9.5)
        sheet.supylabel("development accuracy (%)", fontsize=9.5)
    caption = "One trial a point, one seed; ringed: the rate at which the final cells run."
    says = "Development accuracy against learning rate, one panel a method"
    return [drawn(NAME, "Learning rates", says, caption, sheet)]
