"""What a report says, section by section; the page and the Markdown file only set it.

The order is that of a reader's questions: what was found, of how much, how it looks, by setting, how surely, at what
cost, how steadily, whether merging and judging can be trusted, what failed, and where it all comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.analysis import comparison, judgments
from bench.analysis.result_tables import ResultTables, averaged_scores, majority_average, read_results, trained_cells
from bench.report import open_answers, provenance, ranking, tables
from bench.report.figures import accuracy, cost, learning_rates, samples, training_curves
from bench.report.figures import differences as forest
from bench.report.figures.accuracy import Drawn
from bench.report.finding import ONE_SEED, best_sentence, finding, noise_text, uncompared
from bench.report.tables import Table
from bench.store.folder import Results
from bench.sweep.sections import ReportConfig

FIGURES = (*accuracy.NAMES, *samples.NAMES, forest.NAME, cost.NAME, *training_curves.NAMES, learning_rates.NAME)
"""All files of figures that a report may have."""


TABLES = ("cells", "scores", "differences", "settings", "judged", "judged_differences")
"""All tables that a report may write."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands beneath it, in this order."""

    id: str
    """Of its anchor in the page."""
    title: str
    sentences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What must not be overlooked."""
    figures: list[Drawn] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.sentences or self.notes or self.figures or self.tables)


@dataclass(frozen=True)
class Content:
    """A report."""

    name: str
    notes: list[str]
    sections: list[Section]
    left: list[dict[str, Any]]
    """Name, status, reason and the last lines of each cell that is not done."""
    sweep: str
    """The sweep file as it was resolved (YAML)."""
    command: str
    """What runs it again."""
    written: dict[str, pd.DataFrame]
    """The tables to download, by the name of their file."""

    @property
    def figures(self) -> list[Drawn]:
        return [one for section in self.sections for one in section.figures]


def content(results: Results) -> Content:
    """All that a results folder has to say.

    Raises UserError for a folder that holds no sweep or a record that cannot be believed.
    """
    plan = results.plan()
    baseline = results.plan_record().baseline
    read = read_results(results)
    rules = ReportConfig.model_validate(plan.get("report", {}))
    differences = comparison.differences(read.cells, baseline, read.questions, rules)
    said = judgments.read(results, plan)
    panels = open_answers.panels(read, said, baseline, rules)
    trials = learning_rates.trials(results, plan)
    ranked = ranking.ranking(read, differences, baseline)
    failures = read.cells[~read.cells["status"].isin(["done", "missing", "trained"])]
    left = read.cells[read.cells["status"] != "done"]
    several = read.scores["protocol"].nunique() > 1
    protocol = f" ({averaged_scores(read.scores)['protocol'].iloc[0]})" if several else ""
    sentences = [
        *best_sentence(ranked),
        *finding(read.cells, differences, rules, bool(panels), majority_average(averaged_scores(read.scores))),
        *open_answers.finding(panels, rules, plan),
    ]
    fronts = cost.draw(read.cells)
    sections = [
        Section("finding", "The finding", sentences),
        Section(
            "coverage",
            "Coverage",
            [_coverage(read, len(plan.get("pending", ())))],
            [
                *read.problems,
                *open_answers.warnings(panels, said),
                *read.warnings,
                *tables.inexact(read.cells, read.scores),
            ],
        ),
        Section(
            "figures",
            "By rank, samples and method",
            figures=[*accuracy.draw(read.cells, read.scores), *samples.draw(read.cells, panels, plan)],
        ),
        Section(
            "settings",
            "All settings",
            tables=[
                *tables.ranked(ranked, read.scores),
                *tables.by_task(read),
                *tables.intervals(read),
                *tables.methods(plan),
            ],
        ),
        Section("answers", "Open answers", tables=open_answers.tables(read, panels, said, plan, rules)),
        Section(
            "differences",
            "Paired differences",
            uncompared(read.cells, differences, baseline),
            figures=forest.draw(differences, rules.tie_margin),
            tables=tables.differences_table(differences, f"Points of average accuracy{protocol}", rules.tie_margin),
        ),
        Section(
            "cost",
            "Quality against cost" if fronts else "Costs",
            cost.sentences(read.cells),
            provenance.mixed(results, plan),
            fronts,
            tables.costs(read),
        ),
        Section(
            "stability",
            "Stability",
            _noise(read.cells, panels),
            figures=[*training_curves.draw(results, read.cells), *learning_rates.figure(trials)],
            tables=[*training_curves.table(read.cells), *learning_rates.table(trials, max(read.cells["samples"]))],
        ),
        Section(
            "trust",
            "Merging, parsing, judging",
            tables=[*tables.merging(read.cells), *tables.parsing(read), *open_answers.checks(said)],
        ),
        Section("failures", "Failures", [] if len(failures) == 0 else [_failed(failures)]),
        Section("published", "Published numbers", tables=tables.published_table(read)),
        Section("duplicates", "Duplicates", tables=tables.duplicates(plan)),
        Section("provenance", "Provenance", tables=provenance.tables(results, plan)),
    ]
    return Content(
        plan["name"],
        plan["notes"],
        [section for section in sections if not section.empty],
        left[["name", "status", "reason", "traceback"]].to_dict("records"),
        (results.path / "sweep.yaml").read_text(encoding="utf-8"),
        f"bench run results/{plan['name']}/sweep.yaml",
        _written(read, differences, ranked, panels, said),
    )


def _noise(cells: pd.DataFrame, panels: list[open_answers.Panel]) -> list[str]:
    """What a seed alone does to every kind of score; what is not known is said once."""
    done = trained_cells(cells)
    found = [noise_text(done)] if len(done) else []
    found += [noise_text(own, panel.title) for panel in panels if len(own := trained_cells(panel.cells))]
    return [one for one in found if one != ONE_SEED] or found[:1]


def _written(
    read: ResultTables,
    differences: pd.DataFrame,
    ranked: pd.DataFrame,
    panels: list[open_answers.Panel],
    said: judgments.Judged,
) -> dict[str, pd.DataFrame]:
    written = {"cells": read.cells, "scores": read.scores, "differences": differences, "settings": ranked}
    written = {name: table for name, table in written.items() if name == "cells" or len(table)}
    if panels:
        written["judged"] = said.scores()
        written["judged_differences"] = pd.concat(
            [one.differences.assign(judge=one.judge, set=one.set) for one in panels if len(one.differences)]
            or [differences.iloc[:0]]
        )
    return written


def _failed(failures: pd.DataFrame) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in failures["status"].value_counts().items())
    return (
        f"The last lines of each cell that was begun and is not done ({counts}); --retry-failed runs failed ones again."
    )


def _coverage(read: ResultTables, pending: int) -> str:
    cells, counts = read.cells, read.cells["status"].value_counts()
    other = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "done")
    beside = f" Beside them lie {read.unplanned} recorded cells of other settings." if read.unplanned else ""
    waiting = f" {pending} cells are pending until their learning rates are tuned." if pending else ""
    return f"{len(cells)} cells planned, {counts.get('done', 0)} done{f', {other}' if other else ''}.{waiting}{beside}"
