"""What the probability of the right choice says of each comparison: the robustness of the verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from bench.analysis.comparison import difference_rows
from bench.analysis.contrasts import Contrast
from bench.analysis.interval_text import interval_text
from bench.analysis.robustness import Robustness, SecondaryEstimate
from bench.report.table import ReportTable
from bench.statistics import SINGLE, Verdict

MOST = 2
"""More contrasts that it agrees on are not said one by one; the table has all."""
TOLD = ("better", "worse", "tie")
NOTE = (
    "The probability that a model gives the right choice among all choices of a question (%; docs/statistics.md), over "
    "the same tasks, seeds and questions as the accuracies. A secondary outcome: it has no say in the verdicts, and "
    "its comparisons are a family of their own"
)


def robustness_sentences(contrasts: Sequence[Contrast], robustness: Robustness) -> list[str]:
    """Whether the contrasts have the same verdicts by the secondary outcome, in a sentence; none where it is not
    known."""
    pairs = [(contrast, estimate) for contrast in contrasts if (estimate := robustness.of_contrast(contrast))]
    if len(pairs) > MOST and all(contrast.verdict == estimate.verdict for contrast, estimate in pairs):
        return [f"By the probability of the right choice all of these {len(pairs)} have the same verdict."]
    parts = [
        f"{_name(contrast) if len(pairs) > 1 else ''}{estimate.mean:+.2f} {_interval(estimate)}, "
        f"{agreement(contrast, estimate)}"
        for contrast, estimate in pairs
    ]
    return [f"By the probability of the right choice: {'; '.join(parts)}."] if parts else []


def robustness_table(contrasts: Sequence[Contrast], robustness: Robustness) -> list[ReportTable]:
    """A line for each contrast; no table where the secondary outcome is not known."""
    rows = [
        [contrast.name, f"{estimate.mean:+.2f}", _interval(estimate), agreement(contrast, estimate)]
        for contrast in contrasts
        if (estimate := robustness.of_contrast(contrast))
    ]
    if not rows:
        return []
    tie = f", with a margin of a tie of {robustness.margin:.2g} points (the same share of the gain)"
    heads = ["contrast", "estimate", "95 % (unadjusted)", "beside the verdict by accuracy"]
    note = f"{NOTE}{tie if robustness.margin > 0 else ''}."
    return [ReportTable("By the probability of the right choice", heads, rows, note)]


def rows_sentence(differences: pd.DataFrame, robustness: Robustness) -> list[str]:
    """How many rows of the paired differences have the same verdict by the secondary outcome."""
    pairs = [(row, estimate) for row in difference_rows(differences) if (estimate := robustness.of_row(row))]
    pairs = [(row, estimate) for row, estimate in pairs if SINGLE not in (row.verdict, estimate.verdict)]
    if not pairs:
        return []
    changes = Counter((row.verdict, estimate.verdict) for row, estimate in pairs if row.verdict != estimate.verdict)
    same = len(pairs) - changes.total()
    others = [
        f"{count} {_word(before)} by accuracy and {_word(after)} by it" for (before, after), count in changes.items()
    ]
    different = f"; {', '.join(others)}" if others else ""
    count = f"{same} of these {len(pairs)} comparisons have the same verdict"
    return [f"By the probability of the right choice {count}{different}."]


def agreement(contrast: Contrast, estimate: SecondaryEstimate) -> str:
    """The verdict of the secondary outcome beside that of accuracy."""
    if contrast.verdict == estimate.verdict:
        return "the same verdict" if contrast.verdict in TOLD else "inconclusive, too"
    return f"a different verdict: {_word(estimate.verdict, contrast.per_doubling is not None)}"


def _word(verdict: Verdict, slope: bool = False) -> str:
    words = {"unresolved": "inconclusive", "tie": "a tie"}
    words |= {"better": "rises", "worse": "falls"} if slope else {}
    return words.get(verdict, verdict)


def _name(contrast: Contrast) -> str:
    return f"{contrast.name} " if contrast.against is None else f"{contrast.of} - {contrast.against} "


def _interval(estimate: SecondaryEstimate) -> str:
    ends = estimate.interval
    return interval_text(ends.low, ends.high, "+.2f") if ends is not None else "-"
