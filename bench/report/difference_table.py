"""The table of paired differences."""

from __future__ import annotations

import pandas as pd

from bench.analysis.comparison import difference_rows
from bench.report.finding import p_text, points_text, seeds_text, verdict_text
from bench.report.table import ReportTable, column_text, filled_table, ranges_text
from bench.statistics import SINGLE


def differences_table(
    differences: pd.DataFrame,
    what: str,
    tie_margin: float,
    title: str = "Paired differences",
    paired: str | None = None,
) -> list[ReportTable]:
    """The paired differences; a column that no row fills is left out. `what`: the quantity that differs, and its
    unit. `paired`: how rows came to be pairs; default: methods by seed."""
    if differences.empty:
        return []
    rows = difference_rows(differences)
    across = any(row.baseline_label != row.baseline for row in rows)
    question_low, question_high = ([row.question_low for row in rows], [row.question_high for row in rows])
    columns = {
        "series": [row.series for row in rows],
        "baseline": [row.baseline for row in rows],
        "rank": column_text([row.rank for row in rows], "g"),
        **({"baseline's rank": column_text([row.baseline_rank for row in rows], "g")} if across else {}),
        "samples": column_text([row.samples for row in rows], ","),
        "seeds": column_text([row.seeds for row in rows], "d"),
        "difference": column_text([row.difference for row in rows], "+.2f"),
        "95 % over seeds (unadjusted)": ranges_text([row.low for row in rows], [row.high for row in rows], "+.2f"),
        "adjusted p": [optional_p_text(row.p_adjusted) for row in rows],
        "95 % over questions (unadjusted)": ranges_text(question_low, question_high, "+.2f"),
        "McNemar's p": [optional_p_text(row.mcnemar_p) for row in rows],
        "McNemar's p, adjusted": [optional_p_text(row.mcnemar_p_adjusted) for row in rows],
        "detectable": column_text([row.detectable for row in rows], ".2f"),
        "seeds to tell": ["-" if row.verdict != "unresolved" else seeds_text(row.seeds_needed) for row in rows],
        "verdict": [verdict_text(row.verdict, row.seeds) for row in rows],
    }
    return [filled_table(title, columns, _note(differences, what, tie_margin, across, paired))]


def optional_p_text(p: float | None) -> str:
    return "-" if p is None else p_text(p)


def _note(differences: pd.DataFrame, what: str, tie_margin: float, across: bool, paired: str | None) -> str:
    """What the columns are, as far as they are filled."""
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
    return note.strip()
