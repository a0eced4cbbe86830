"""What a report consists of; the page and the Markdown file only typeset it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from bench.report.figures.rendering import ReportFigure
from bench.report.table import ReportTable


@dataclass(frozen=True)
class ReportSection:
    """A heading and what follows it, in this order."""

    id: str
    """Of its anchor in the page."""
    title: str
    sentences: Sequence[str] = ()
    notes: Sequence[str] = ()
    """What must not be overlooked."""
    figures: Sequence[ReportFigure] = ()
    tables: Sequence[ReportTable] = ()

    @property
    def empty(self) -> bool:
        return not (self.sentences or self.notes or self.figures or self.tables)


@dataclass(frozen=True)
class UnfinishedCell:
    """A cell that is not done."""

    name: str
    status: str
    reason: str
    traceback: Sequence[str]
    """The last lines of what it printed."""


@dataclass(frozen=True)
class ReportContent:
    """A report."""

    name: str
    sections: Sequence[ReportSection]
    sweep: str
    """The sweep file as it was resolved (YAML)."""
    command: str
    """Runs it again."""
    notes: Sequence[str] = ()
    unfinished: Sequence[UnfinishedCell] = ()
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """The tables to download, by the name of their file."""

    @property
    def figures(self) -> list[ReportFigure]:
        return [figure for section in self.sections for figure in section.figures]
