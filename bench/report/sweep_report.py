"""The report of a sweep, section by section.

The order is that of a reader's questions: what was found, of how much, how it looks, by setting, how surely, at what
cost, how steadily, whether merging and judging can be trusted, what failed, and where it all comes from.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pandas as pd

from bench.analysis.contrasts import SweepComparisons
from bench.analysis.judged_sweep import judge_sweep
from bench.analysis.judgments import JudgmentTables, read_judgments
from bench.analysis.levels import with_intervals
from bench.analysis.result_tables import (
    ResultTables,
    averaged_scores,
    majority_average,
    trained_cells,
)
from bench.analysis.robustness import Robustness, compare_by_probability, with_probability
from bench.analysis.tie_margin import TieMargin
from bench.report.best_finding import best_sentences
from bench.report.content import ReportContent, ReportSection, UnfinishedCell
from bench.report.contrast_table import contrast_section, contrast_sentences, margin_sentence
from bench.report.cost_tables import cost_tables, inexact_merges, merging_table
from bench.report.difference_table import differences_table
from bench.report.figures import (
    accuracy_by_method,
    cost,
    differences,
    learning_rates,
    rank_vs_accuracy,
    samples,
    training_curves,
)
from bench.report.figures.cost import setting_costs
from bench.report.finding import ONE_SEED, comparison_sentences, near_chance_sentences, noise_text, uncompared
from bench.report.judge_check_table import check_table
from bench.report.judge_panels import JudgePanel, judge_panels
from bench.report.judged_finding import judge_warnings, judged_finding
from bench.report.length_table import length_section
from bench.report.look_sentences import changed_looks, look_sentences
from bench.report.open_answer_tables import open_answer_tables
from bench.report.provenance import duplicate_table, environment_table, machine_warning, method_table
from bench.report.ranking import rank_settings
from bench.report.rate_table import rate_tables
from bench.report.robustness_table import rows_sentence
from bench.report.score_tables import (
    interval_table,
    parse_rate_table,
    published_table,
    ranked_table,
    seed_spread_table,
    task_tables,
)
from bench.report.trial_table import read_trials, trial_table
from bench.store.folder import Results
from bench.store.recorded_sweep import SweepFile, read_sweep_file
from bench.store.records import PlanRecord

FIGURES = (
    *(rank_vs_accuracy.NAME, accuracy_by_method.NAME, *samples.NAMES, differences.NAME, cost.NAME),
    *(*training_curves.NAMES, learning_rates.NAME),
)
"""The names of all figures that a report may have."""
TABLES = ("cells", "scores", "differences", "contrasts", "settings", "judged", "judged_differences")
"""The names of all tables that a report may write."""


@dataclass(frozen=True)
class _Sweep:
    """What the sections are made of."""

    results: Results
    plan: PlanRecord
    """With a baseline that is done."""
    planned_baseline: str | None
    tables: ResultTables
    comparisons: SweepComparisons
    robustness: Robustness
    margin: TieMargin
    """Of a tie between accuracies."""
    ranked: pd.DataFrame
    judgments: JudgmentTables
    panels: list[JudgePanel]
    trials: pd.DataFrame
    logs: training_curves.TrainingLogs
    file: SweepFile


def sweep_report(results: Results) -> ReportContent:
    """The report of a results folder.

    Raises UserError for a folder that holds no sweep, and for a file of a newer version.
    """
    judged_sweep, sweep_file = judge_sweep(results), read_sweep_file(results)
    plan, tables, compared = judged_sweep.plan, judged_sweep.tables, judged_sweep.comparisons
    judgments = read_judgments(results, plan)
    sweep = _Sweep(
        results,
        plan,
        judged_sweep.planned_baseline,
        tables,
        compared,
        compare_by_probability(tables, plan, judged_sweep.margin, judged_sweep.boundaries),
        judged_sweep.margin,
        rank_settings(tables, compared.differences, plan.baseline),
        judgments,
        judge_panels(tables, judgments, plan.baseline, plan.report),
        read_trials(results, plan, tables.trials),
        training_curves.read_training_logs(results, tables.cells),
        sweep_file,
    )
    sections = [
        _finding(sweep),
        contrast_section(
            sweep.comparisons,
            sweep.margin,
            sweep.robustness,
            look_sentences(results, plan),
            changed_looks(results, sweep.comparisons),
        ),
        _coverage(sweep),
        _figures(sweep),
        _settings(sweep),
        _answers(sweep),
        _differences(sweep),
        _costs(sweep),
        _stability(sweep),
        _trust(sweep),
        _failures(sweep),
        ReportSection("published", "Published numbers", tables=published_table(tables, plan)),
        ReportSection("duplicates", "Duplicates", tables=duplicate_table(plan)),
        length_section(results, plan),
        ReportSection("provenance", "Provenance", tables=environment_table(results, plan)),
    ]
    unfinished = tables.cells[tables.cells["status"] != "done"]
    return ReportContent(
        plan.name,
        [section for section in sections if not section.empty],
        sweep_file.text,
        f"bench run {shlex.quote(f'results/{plan.name}/sweep.yaml')}",
        plan.notes,
        [UnfinishedCell(row.name, row.status, row.reason, row.traceback) for row in unfinished.itertuples()],
        _downloads(sweep),
    )


def _finding(sweep: _Sweep) -> ReportSection:
    majority = majority_average(averaged_scores(sweep.tables.scores))
    sentences = [
        *best_sentences(sweep.comparisons.against_best, setting_costs(sweep.tables.cells), sweep.margin.points),
        *contrast_sentences(sweep.comparisons, sweep.margin, sweep.robustness),
        *comparison_sentences(
            sweep.tables.cells, sweep.comparisons.differences, sweep.margin.points, bool(sweep.panels), majority
        ),
        *rows_sentence(sweep.comparisons.differences, sweep.robustness),
        *near_chance_sentences(sweep.tables.near_chance, len(set(sweep.tables.cells["base"])) > 1),
        *judged_finding(sweep.panels, sweep.plan.report, sweep.plan),
    ]
    if sweep.planned_baseline != sweep.plan.baseline:
        sentences.append(
            f"No run of {sweep.planned_baseline} is done, so the methods are compared with {sweep.plan.baseline}."
        )
    return ReportSection("finding", "The finding", sentences)


def _coverage(sweep: _Sweep) -> ReportSection:
    tables = sweep.tables
    counts, pending = tables.cells["status"].value_counts(), len(sweep.plan.pending)
    other = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "done")
    waiting = f" {pending} cells are pending until their learning rates are tuned." if pending else ""
    beside = f" Beside them lie {tables.unplanned} recorded cells of other settings." if tables.unplanned else ""
    sentence = f"{len(tables.cells)} cells planned, {counts.get('done', 0)} done{f', {other}' if other else ''}."
    notes = [
        *(f"not run: {refusal}" for refusal in sweep.plan.refused),
        *tables.problems,
        *judge_warnings(sweep.panels, sweep.judgments),
        *([sweep.file.problem] if sweep.file.problem else []),
        *sweep.logs.problems,
        *tables.warnings,
        *inexact_merges(tables.cells, tables.scores),
    ]
    return ReportSection("coverage", "Coverage", [f"{sentence}{waiting}{beside}"], notes)


def _figures(sweep: _Sweep) -> ReportSection:
    scores = sweep.tables.scores
    cells = with_intervals(sweep.tables.cells, sweep.tables.answers)
    figures = [
        *rank_vs_accuracy.draw(cells, scores, sweep.plan),
        *accuracy_by_method.draw(cells, scores),
        *samples.draw(cells, sweep.panels),
    ]
    return ReportSection("figures", "By rank, samples and method", figures=figures)


def _settings(sweep: _Sweep) -> ReportSection:
    tables = [
        *ranked_table(sweep.ranked, sweep.tables.scores),
        *task_tables(sweep.tables),
        *interval_table(sweep.tables),
        *method_table(sweep.plan),
    ]
    return ReportSection("settings", "All settings", tables=tables)


def _answers(sweep: _Sweep) -> ReportSection:
    tables = open_answer_tables(sweep.tables, sweep.panels, sweep.judgments, sweep.plan, sweep.plan.report)
    return ReportSection("answers", "Open answers", tables=tables)


def _differences(sweep: _Sweep) -> ReportSection:
    scores, margin = sweep.tables.scores, sweep.margin.points
    several = scores["protocol"].nunique() > 1
    protocol = f" ({averaged_scores(scores)['protocol'].iloc[0]})" if several else ""
    return ReportSection(
        "differences",
        "Paired differences",
        [
            *uncompared(sweep.tables.cells, sweep.comparisons.differences, sweep.plan.baseline),
            *([margin_sentence(sweep.margin)] if sweep.comparisons.differences["low"].notna().any() else []),
        ],
        figures=differences.draw(sweep.comparisons.differences, margin),
        tables=differences_table(sweep.comparisons.differences, f"Points of average accuracy{protocol}", margin),
    )


def _costs(sweep: _Sweep) -> ReportSection:
    fronts = cost.draw(sweep.tables.cells)
    return ReportSection(
        "cost",
        "Quality against cost" if fronts else "Costs",
        cost.front_sentences(sweep.tables.cells),
        machine_warning(sweep.results, sweep.plan),
        fronts,
        cost_tables(sweep.tables),
    )


def _stability(sweep: _Sweep) -> ReportSection:
    cells = sweep.tables.cells
    done = trained_cells(cells)
    # What a seed alone does to every kind of score; that it is not known is said once.
    noise = [noise_text(done)] if len(done) else []
    noise += [noise_text(trained, panel.title) for panel in sweep.panels if len(trained := trained_cells(panel.cells))]
    return ReportSection(
        "stability",
        "Stability",
        [sentence for sentence in noise if sentence != ONE_SEED] or noise[:1],
        figures=[*training_curves.draw(sweep.logs), *learning_rates.draw(sweep.trials)],
        tables=[
            *seed_spread_table(cells),
            *trial_table(sweep.trials, max(cells["samples"])),
            *rate_tables(sweep.comparisons.rates),
        ],
    )


def _trust(sweep: _Sweep) -> ReportSection:
    tables = [
        *merging_table(sweep.tables.cells),
        *parse_rate_table(sweep.tables),
        *check_table(sweep.judgments),
    ]
    return ReportSection("trust", "Merging, parsing, judging", tables=tables)


def _failures(sweep: _Sweep) -> ReportSection:
    status = sweep.tables.cells["status"]
    failed = status[~status.isin(["done", "missing", "trained"])]
    sentences = []
    if len(failed):
        counts = ", ".join(f"{count} {name}" for name, count in failed.value_counts().items())
        sentences = [
            f"The last lines of each cell that was begun and is not done ({counts}); --retry-failed runs failed ones "
            "again."
        ]
    return ReportSection("failures", "Failures", sentences)


def _downloads(sweep: _Sweep) -> dict[str, pd.DataFrame]:
    """The tables to download; those without a row are left out."""
    contrasts, differences = with_probability(sweep.comparisons, sweep.robustness)
    tables = {
        "cells": sweep.tables.cells,
        "scores": sweep.tables.scores,
        "differences": differences,
        "contrasts": contrasts,
        "settings": sweep.ranked,
    }
    tables = {name: table for name, table in tables.items() if name == "cells" or len(table)}
    if sweep.panels:
        tables["judged"] = sweep.judgments.scores()
        judged = [
            panel.differences.assign(judge=panel.judge, set=panel.set)
            for panel in sweep.panels
            if len(panel.differences)
        ]
        tables["judged_differences"] = pd.concat(judged or [sweep.comparisons.differences.iloc[:0]])
    return tables
