"""The comparisons of a sweep by its secondary outcome, the probability of the right choice.

It varies less over seeds than accuracy where many answers are nearly tied, and it says whether a verdict hangs on the
threshold between right and wrong. It has no say in the verdicts: its comparisons are a family of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from bench.analysis.comparison import PairedDifference, difference_rows
from bench.analysis.contrast_estimates import ContrastKey
from bench.analysis.contrasts import Contrast, SweepComparisons, compare_sweep
from bench.analysis.look_stages import StoredBoundaries, first_look
from bench.analysis.result_tables import ResultTables
from bench.analysis.tie_margin import TieMargin, tie_margin
from bench.statistics import Interval, Verdict
from bench.store.records import PlanRecord

COLUMNS = ("probability", "probability_low", "probability_high", "probability_verdict")
"""The columns that the tables of contrasts and differences have of it."""


@dataclass(frozen=True)
class SecondaryEstimate:
    """A comparison by the probability of the right choice (points)."""

    mean: float
    interval: Interval | None
    """95 %, not adjusted."""
    verdict: Verdict

    @property
    def row(self) -> dict[str, object]:
        """Its values of `COLUMNS`."""
        ends = (self.interval.low, self.interval.high) if self.interval is not None else (None, None)
        return dict(zip(COLUMNS, (self.mean, *ends, self.verdict), strict=True))


@dataclass(frozen=True)
class Robustness:
    """The comparisons by the secondary outcome; empty where no choices were scored."""

    contrasts: Mapping[ContrastKey, SecondaryEstimate]
    rows: Mapping[tuple[object, ...], SecondaryEstimate]
    """By the place of a row of the paired differences."""
    margin: float = 0.0
    """Of a tie: the share of the gain that the margin of accuracy is."""

    def of_contrast(self, contrast: Contrast) -> SecondaryEstimate | None:
        return self.contrasts.get(contrast.key)

    def of_row(self, row: PairedDifference) -> SecondaryEstimate | None:
        return self.rows.get(_place(row))

    def with_columns(self, table: pd.DataFrame, estimates: Sequence[SecondaryEstimate | None]) -> pd.DataFrame:
        """A table with `COLUMNS`, of the estimate of each row; as it is where none is known."""
        if not self.contrasts and not self.rows:
            return table
        columns = pd.DataFrame(
            [estimate.row if estimate is not None else {} for estimate in estimates], columns=COLUMNS
        )
        return pd.concat([table.reset_index(drop=True), columns], axis=1)


def compare_by_probability(
    tables: ResultTables, plan: PlanRecord, margin: TieMargin, stored: StoredBoundaries | None = None
) -> Robustness:
    """The comparisons of `compare_sweep` with the probability of the right choice in the place of accuracy. `margin`:
    that of accuracy; `stored`: boundaries of looks."""
    by_probability = _by_probability(tables)
    if by_probability.cells["average"].isna().all():
        return Robustness({}, {})
    first = first_look(by_probability, plan).cells
    gain = tie_margin(first, plan.baseline, plan.report).gain
    # Points of one outcome are not those of the other: the margin is the same share of what training gains.
    scaled = margin.points * gain / margin.gain if gain and margin.gain and gain > 0 and margin.gain > 0 else 0.0
    compared = compare_sweep(by_probability, plan, scaled, stored)
    return Robustness(
        {contrast.key: _of_contrast(contrast) for contrast in compared.contrasts},
        {_place(row): _of_row(row) for row in difference_rows(compared.differences)},
        scaled,
    )


def _by_probability(tables: ResultTables) -> ResultTables:
    """The tables with the probability of the right choice in the place of accuracy."""
    return replace(
        tables,
        cells=tables.cells.assign(average=tables.cells["probability"].astype(float)),
        questions=tables.questions.assign(correct=tables.questions["probability"]),
        trials=None if tables.trials is None else _by_probability(tables.trials),
    )


def _of_contrast(contrast: Contrast) -> SecondaryEstimate:
    return SecondaryEstimate(contrast.judged.estimate.mean, contrast.judged.result.interval, contrast.verdict)


def _of_row(row: PairedDifference) -> SecondaryEstimate:
    interval = Interval(row.low, row.high) if row.low is not None and row.high is not None else None
    return SecondaryEstimate(row.difference, interval, row.verdict)


def _place(row: PairedDifference) -> tuple[object, ...]:
    return row.series, row.baseline, row.base, row.rank, row.baseline_rank, row.samples


def with_probability(comparisons: SweepComparisons, robustness: Robustness) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of contrasts and of differences with what the secondary outcome says of each row."""
    contrasts = [robustness.of_contrast(contrast) for contrast in comparisons.contrasts]
    rows = [robustness.of_row(row) for row in difference_rows(comparisons.differences)]
    return (
        robustness.with_columns(comparisons.table(), contrasts),
        robustness.with_columns(comparisons.differences, rows),
    )
