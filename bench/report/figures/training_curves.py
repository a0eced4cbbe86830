"""How steadily each method trains: loss and gradient norm by step, and the spread of scores over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from bench.analysis.result_tables import trained_cells
from bench.analysis.series import setting_labels
from bench.report.figures.accuracy import STYLE, Drawn, drawn, look_beside_its_name
from bench.report.tables import Table
from bench.statistics import standard_deviation
from bench.store.folder import Results

LOSSES, NORMS = NAMES = ("losses", "gradient_norms")
"""The figures' files."""
MOST = 24
"""Panels of a figure."""
POINTS = 120
"""Of a line, so that a page of a hundred cells stays small."""


def draw(results: Results, cells: pd.DataFrame) -> list[Drawn]:
    """Loss and gradient norm against the step, a panel a setting, a line a seed; of failed cells up to their end."""
    panels = _panels(results, cells)
    if not panels:
        return []
    shown = dict(list(panels.items())[:MOST])
    left = "" if len(panels) == len(shown) else f" The first {MOST} of {len(panels)} settings."
    smoothed = (
        "Running means over a tenth of the steps; a line a seed. Batches by length differ in kind, and one may have "
        "another loss for that alone."
    )
    found = []
    for name, column, title, says in (
        (LOSSES, "loss", "Training loss", "Training loss by step, one panel a setting"),
        (NORMS, "grad_norm", "Gradient norms", "Gradient norm by step, one panel a setting"),
    ):
        lines = {label: [line for log in logs if len(line := _line(log, column))] for label, logs in shown.items()}
        lines = {label: own for label, own in lines.items() if own}
        if lines:
            begun = cells[cells["method"] != "base"]
            methods = dict(zip(setting_labels(begun), begun["method"], strict=True))
            words = "before clipping, on a log axis" if column == "grad_norm" else "of the supervised tokens"
            caption = f"{title}, {words}. {smoothed}{left}"
            found.append(drawn(name, title, says, caption, _figure(lines, methods, title, column)))
    return found


def _panels(results: Results, cells: pd.DataFrame) -> dict[str, list[list[dict[str, Any]]]]:
    """The logs of each setting's cells, by its label."""
    begun = cells[cells["method"] != "base"]
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for label, folder in zip(setting_labels(begun), begun["folder"], strict=True):
        log = list(_log(results, folder))
        if len(log) > 1:
            found.setdefault(label, []).append(log)
    return found


def _log(results: Results, folder: str) -> Iterator[dict[str, Any]]:
    """A cell's logged steps; a last line that a kill cut off is left out."""
    text = results.folder_named(folder).read_text("training.jsonl") or ""
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def _line(log: list[dict[str, Any]], column: str) -> np.ndarray:  # (points, 2): step, running mean
    rows = [(row["step"], row[column]) for row in log if isinstance(row.get(column), (int, float))]
    rows = [row for row in rows if math.isfinite(row[1])]
    if len(rows) < 2:
        return np.empty((0, 2))
    steps, values = np.array(rows, dtype=float).T
    width = max(1, len(values) // 10)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - width)
    means = (sums[ends] - sums[begins]) / (ends - begins)
    kept = np.unique(np.linspace(0, len(values) - 1, min(POINTS, len(values))).round().astype(int))
    return np.column_stack([steps[kept], means[kept]])


def _figure(lines: dict[str, list[np.ndarray]], methods: dict[str, str], title: str, column: str) -> Figure:
    columns = min(4, len(lines))
    rows = math.ceil(len(lines) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 2.3 * columns, 0.6 + 1.75 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, (label, own) in zip(axes, lines.items(), strict=False):
            colour, _ = look_beside_its_name(methods[label])
            for place, line in enumerate(own):
                ax.plot(*line.T, color=colour, lw=1.2, alpha=1.0 if len(own) == 1 else 0.4 + 0.6 * place / len(own))
            ax.set_title(label, fontsize=8.5)
            if column == "grad_norm":
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                ax.minorticks_off()  # marks without a number, which took most of the time to draw
        for ax in axes[len(lines) :]:
            ax.set_axis_off()
        figure.supxlabel("step", fontsize=9.5)
        figure.supylabel(title.lower(), fontsize=9.5)
    return figure


def table(cells: pd.DataFrame) -> list[Table]:
    """The spread of the average over the seeds of each setting; none where no setting has two."""
    done = trained_cells(cells)
    rows = []
    for label, own in done.assign(label=setting_labels(done)).groupby("label", sort=False):
        scores = list(own["average"])
        if len(scores) > 1:
            values = (np.mean(scores), standard_deviation(scores), min(scores), max(scores))
            rows.append([label, str(len(scores)), *(f"{value:.2f}" for value in values)])
    if not rows:
        return []
    note = "Average accuracy (%) over the seeds of a setting: each seed draws examples, order, start and dropout anew."
    return [Table("Spread over seeds", ["setting", "seeds", "mean", "s.d.", "least", "most"], rows, note)]
