"""Intervals as they are printed, on the screen and in the report."""

from __future__ import annotations

import math

import pandas as pd

from bench.statistics import ROUNDING

MOST_DIGITS = 6


def interval_text(low: float | None, high: float | None, form: str) -> str:
    """`[66.2, 67.1]`, in a form such as `.1f` or `+.2f`; a dash where there is none.

    It is never printed as a point: digits are added until its ends differ. An interval without any width is none: a
    bootstrap of equal values does not know how much they vary.
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high) or high - low <= ROUNDING:
        return "-"
    sign, digits = form.removesuffix("f").split(".")
    shown = int(digits)
    while shown < MOST_DIGITS and float(f"{low:.{shown}f}") == float(f"{high:.{shown}f}"):
        shown += 1
    return f"[{low:{sign}.{shown}f}, {high:{sign}.{shown}f}]"


def half_width_text(half: float | None, digits: int) -> str:
    """`0.42`; with as many more digits as it takes to show that it is not 0; a dash where there is none."""
    if half is None or pd.isna(half):
        return "-"
    shown = digits
    while half > ROUNDING and shown < MOST_DIGITS and not float(f"{half:.{shown}f}"):
        shown += 1
    return f"{half:.{shown}f}"
