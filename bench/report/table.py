"""A table as the report shows it: every value a text, and a dash where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from bench.analysis.interval_text import interval_text


@dataclass(frozen=True)
class ReportTable:
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


def filled_table(title: str, columns: Mapping[str, list[str]], note: str) -> ReportTable:
    """A table of those columns in which a value is known."""
    filled = {head: values for head, values in columns.items() if set(values) != {"-"}}
    return ReportTable(title, list(filled), [list(row) for row in zip(*filled.values(), strict=True)], note)


def number_text(value: float | None, form: str) -> str:
    return "-" if value is None or pd.isna(value) else format(value, form)


def column_text(values: Iterable[float | None], form: str) -> list[str]:
    return [number_text(value, form) for value in values]


def ranges_text(low: Iterable[float | None], high: Iterable[float | None], form: str) -> list[str]:
    return [interval_text(least, most, form) for least, most in zip(low, high, strict=True)]


def megabytes_text(size: float | None) -> str:
    if size is None or pd.isna(size):
        return "-"
    return format(size / 1e6, ",.1f" if size >= 1e6 else ".2g")


def done_names(cells: pd.DataFrame) -> dict[str, str]:
    """The names of the done cells by folder."""
    done = cells[cells["status"] == "done"]
    return dict(zip(done["folder"], done["name"], strict=True))
