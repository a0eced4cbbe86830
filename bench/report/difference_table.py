"""The table of paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from bench.analysis.comparison import PairedDifference, difference_rows
from bench.analysis.interval_text import half_width_text
from bench.report.finding import p_text, points_text, seeds_text, verdict_text
from bench.report.table import ReportTable, column_text, filled_table, ranges_text
from bench.statistics import SEEDS, SINGLE


def differences_table(
    differences: pd.DataFrame,
    what: str,
    tie_margin: float,
    title: str = "Paired differences",
    paired: str | None = None,
    digits: int = 1,
) -> list[ReportTable]:
    """The paired differences; a column that no row fills is left out. `what`: the quantity that differs, and its
    unit. `paired`: how rows came to be pairs; default: methods by seed."""
    if differences.empty:
        return []
    rows = difference_rows(differences)
    across = any(row.baseline_label != row.baseline for row in rows)
    # The interval of the verdict has a part of the questions; the bootstrap is for what has no such interval.
    single = [row if row.low is None else replace(row, question_low=None, question_high=None) for row in rows]
    question_low, question_high = ([row.question_low for row in single], [row.question_high for row in single])
    columns = {
        "series": [row.series for row in rows],
        "baseline": [row.baseline for row in rows],
        "rank": column_text([row.rank for row in rows], "g"),
        **({"baseline's rank": column_text([row.baseline_rank for row in rows], "g")} if across else {}),
        "samples": column_text([row.samples for row in rows], ","),
        "seeds": column_text([row.seeds for row in rows], "d"),
        "learning rate": [row.rates or "-" for row in rows],
        "difference": column_text([row.difference for row in rows], "+.2f"),
        "95 % (unadjusted)": ranges_text([row.low for row in rows], [row.high for row in rows], "+.2f"),
        "± seeds": [f"{half_width_text(row.seed_half, 2)}{' c' if row.floored else ''}" for row in rows],
        "± questions": column_text([row.question_half for row in rows], ".2f"),
        "± learning rate": column_text([row.choice_half for row in rows], ".2f"),
        "adjusted p": [optional_p_text(row.p_adjusted) for row in rows],
        "adjusted p of a tie": [optional_p_text(row.tie_p_adjusted) for row in rows],
        "95 % over questions (unadjusted)": ranges_text(question_low, question_high, "+.2f"),
        "McNemar's p": [optional_p_text(row.mcnemar_p) for row in rows],
        "McNemar's p, adjusted": [optional_p_text(row.mcnemar_p_adjusted) for row in rows],
        "detectable": column_text([row.detectable for row in rows], ".2f"),
        "seeds to tell": [needed_text(row.verdict, row.seeds_needed, row.question_half) for row in rows],
        "verdict": [verdict_text(row, digits) for row in rows],
    }
    return [filled_table(title, columns, _note(rows, what, tie_margin, across, paired))]


def optional_p_text(p: float | None) -> str:
    return "-" if p is None else p_text(p)


def needed_text(verdict: str, needed: float | None, question_half: float | None) -> str:
    """The seeds that an inconclusive comparison needs, or that it needs more questions as well."""
    if verdict != "unresolved":
        return "-"
    return "more questions" if needed is None and question_half else seeds_text(needed)


def _note(rows: Sequence[PairedDifference], what: str, tie_margin: float, across: bool, paired: str | None) -> str:
    """What the columns are, as far as they are filled."""
    reach = "An" if across else "What has no rank, or no equal to be paired with, is not in it; an"
    note = (
        f"{what}, paired by seed (same examples, same questions). {reach} equal rank is an equal number, not an equal "
        "size (`bench methods` says what it counts). "
        if any(row.rank is not None for row in rows)
        else f"{what}, paired by seed (same examples, same questions), each method at its own rank, if it has one. "
    )
    if paired is not None:
        note = f"{what}, {paired} "
    if any(row.low is not None for row in rows):
        note += _interval_note(rows, tie_margin)
    if any(row.verdict == SINGLE and row.seeds >= SEEDS for row in rows):
        note += "What has fewer seeds than the first look is not judged yet. "
    elif any(row.verdict == SINGLE for row in rows):
        note += "Below three seeds there is no interval over seeds and no verdict on the methods. "
    if any(row.low is None and row.question_low is not None for row in rows):
        note += "Over questions: the bootstrap, by task and in whole clusters; it knows nothing of seeds. "
    unequal = sum("≠" in row.rates for row in rows)
    if unequal:
        note += (
            f"≠: {unequal} of these pairs differ in the learning rate as well, so that their difference is one of "
            "method and rate together. "
        )
    if any(row.mcnemar_p is not None for row in rows):
        note += (
            "McNemar's exact test, on the questions of all tasks together, says whether two single runs answer "
            "differently, not whether their methods do; adjusted: for the number of these tests (Holm)."
        )
    return note.strip()


def _interval_note(rows: Sequence[PairedDifference], tie_margin: float) -> str:
    """On the interval, the p values and the verdicts."""
    parts = interval_parts(any(row.choice_half is not None for row in rows))
    sequential = all(row.p is None for row in rows)
    interval = "" if sequential else "The interval is Student's t over seeds. "
    if any(row.question_half is not None for row in rows):
        interval = f"The interval holds for the tasks, not for the questions that were asked: {parts}. "
    if any(row.floored for row in rows):
        interval += "c: the seeds vary less than the churn of the answers implies, so the churn is taken. "
    return (
        f"{interval}{_look_rule(tie_margin) if sequential else _p_rule(rows, tie_margin)}; else the verdict is a "
        "bound, the further end of the interval (docs/statistics.md). Detectable: what a single comparison with this "
        "spread and so many seeds finds with 80 % power (5 %, two-sided). Seeds to tell brings an inconclusive one to "
        "a verdict with 80 % power, if difference and spread stayed so. "
    )


def interval_parts(with_choice: bool) -> str:
    """What the half-width of an interval is made of; `with_choice`: learning rates were chosen in a crossed design."""
    if not with_choice:
        return "± seeds and ± questions are the two parts of its half-width, which add up in squares"
    return (
        "± seeds, ± questions and ± learning rate are the parts of its half-width, which add up in squares (± learning "
        "rate: how the result changes where other development questions choose the learning rates)"
    )


def _p_rule(rows: Sequence[PairedDifference], tie_margin: float) -> str:
    """How verdicts are made from p values."""
    adjusted = "Each p is adjusted for the number of comparisons (Holm)"
    if any(row.exploratory for row in rows):
        adjusted = (
            "Rows that are a contrast of their own, or part of one that is told, are adjusted for their number (Holm); "
            "the others are exploratory (Benjamini-Hochberg)"
        )
    tie = (
        f"A tie has an adjusted p of a difference of {points_text(tie_margin)} or more of at most 0.05; "
        if tie_margin > 0
        else ""
    )
    return f"{adjusted}. {tie}{'better' if tie else 'Better'} and worse have an adjusted p below 0.05"


def _look_rule(tie_margin: float) -> str:
    """How verdicts are made where seeds were added in the light of earlier ones."""
    tie = f"A tie lies within {points_text(tie_margin)}, better" if tie_margin > 0 else "Better"
    return (
        "Seeds were added in the light of earlier ones, so there is no p: the interval is the repeated one, which "
        "holds at all looks together. A row is judged by as many of its seeds as the last look has that they reach; "
        f"verdicts are adjusted for their number (Holm). {tie} and worse exclude zero"
    )
