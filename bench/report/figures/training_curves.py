"""How steadily each method trains: loss and gradient norm by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from bench.analysis.series import setting_labels
from bench.errors import UserError
from bench.report.figures.rendering import ReportFigure, render_figure
from bench.report.figures.style import method_look, styled
from bench.store.folder import Results
from bench.store.records import TrainingLogRow


@dataclass(frozen=True)
class Curve:
    """A quantity of the training log."""

    name: str
    """Of the figure's file."""
    title: str
    says: str
    words: str
    """What the quantity is."""
    value: Callable[[TrainingLogRow], float | None]
    log_scale: bool = False


LOSS = Curve(
    "losses",
    "Training loss",
    "Training loss by step, one panel a setting",
    "of the supervised tokens",
    lambda row: row.loss,
)
GRADIENT_NORM = Curve(
    "gradient_norms",
    "Gradient norms",
    "Gradient norm by step, one panel a setting",
    "before clipping, on a log axis",
    lambda row: row.grad_norm,
    log_scale=True,
)
CURVES = (LOSS, GRADIENT_NORM)
NAMES = tuple(curve.name for curve in CURVES)
"""The figures' files."""
MOST = 24
"""Panels of a figure."""
POINTS = 120
"""Of a line, so that a page of a hundred cells stays small."""


Log = list[TrainingLogRow]


@dataclass(frozen=True)
class TrainingLogs:
    """The training logs of a sweep."""

    settings: dict[str, list[Log]]
    """By the label of a setting, the logs of its cells that have two rows or more."""
    methods: dict[str, str]
    """By the label of a setting."""
    problems: list[str]
    """Logs that cannot be read."""


def read_training_logs(results: Results, cells: pd.DataFrame) -> TrainingLogs:
    """The logs of all trained cells; of failed cells up to their end."""
    begun = cells[cells["method"] != "base"]
    labels = setting_labels(begun)
    settings: dict[str, list[Log]] = {}
    problems = []
    for label, folder in zip(labels, begun["folder"], strict=True):
        try:
            log = results.folder_named(folder).training_log()
        except UserError:
            problems.append(f"{folder}: its training.jsonl cannot be read; the training curves lack it")
            continue
        if len(log) > 1:
            settings.setdefault(label, []).append(log)
    return TrainingLogs(settings, dict(zip(labels, begun["method"], strict=True)), problems)


def draw(logs: TrainingLogs) -> list[ReportFigure]:
    """Loss and gradient norm against the step, a panel a setting."""
    plotted = dict(list(logs.settings.items())[:MOST])
    left = "" if len(logs.settings) == len(plotted) else f" The first {MOST} of {len(logs.settings)} settings."
    smoothed = (
        "Running means over a tenth of the steps; a line a seed. Batches by length differ in kind, and one may have "
        "another loss for that alone."
    )
    figures = []
    for curve in CURVES:
        lines = {
            label: [line for log in logs_of_setting if len(line := _line(log, curve))]
            for label, logs_of_setting in plotted.items()
        }
        lines = {label: of_setting for label, of_setting in lines.items() if of_setting}
        if lines:
            caption = f"{curve.title}, {curve.words}. {smoothed}{left}"
            figure = _figure(lines, logs.methods, curve)
            figures.append(render_figure(curve.name, curve.title, curve.says, caption, figure))
    return figures


def _line(log: Log, curve: Curve) -> np.ndarray:  # (points, 2): step, running mean
    values_by_step = [(row.step, value) for row in log if (value := curve.value(row)) is not None]
    finite = [(step, value) for step, value in values_by_step if math.isfinite(value)]
    if len(finite) < 2:
        return np.empty((0, 2))
    steps, values = np.array(finite, dtype=float).T
    width = max(1, len(values) // 10)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - width)
    means = (sums[ends] - sums[begins]) / (ends - begins)
    indices = np.unique(np.linspace(0, len(values) - 1, min(POINTS, len(values))).round().astype(int))
    return np.column_stack([steps[indices], means[indices]])


def _figure(lines: dict[str, list[np.ndarray]], methods: Mapping[str, str], curve: Curve) -> Figure:
    columns = min(4, len(lines))
    rows = math.ceil(len(lines) / columns)
    with styled():
        figure = Figure(figsize=(0.6 + 2.3 * columns, 0.6 + 1.75 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, (label, seeds) in zip(axes, lines.items(), strict=False):
            colour, _ = method_look(methods[label])
            for place, line in enumerate(seeds):
                ax.plot(*line.T, color=colour, lw=1.2, alpha=1.0 if len(seeds) == 1 else 0.4 + 0.6 * place / len(seeds))
            ax.set_title(label, fontsize=8.5)
            if curve.log_scale:
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                ax.minorticks_off()  # marks without a number, which took most of the time to draw
        for ax in axes[len(lines) :]:
            ax.set_axis_off()
        figure.supxlabel("step", fontsize=9.5)
        figure.supylabel(curve.title.lower(), fontsize=9.5)
    return figure
