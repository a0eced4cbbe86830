"""Tables of judged open answers: scores by cell and by category, lengths of answers, published scores."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.analysis import comparison
from bench.analysis.interval_text import interval_text
from bench.analysis.judgments import JudgmentTables
from bench.analysis.result_tables import ResultTables
from bench.report import published
from bench.report.difference_table import differences_table
from bench.report.judge_panels import JudgePanel
from bench.report.pairwise_table import pairwise_tables
from bench.report.table import ReportTable, number_text
from bench.store.records import PlanRecord
from bench.sweep.sections import MT_BENCH, ReportConfig


def open_answer_tables(
    results: ResultTables,
    panels: Sequence[JudgePanel],
    judgments: JudgmentTables,
    plan: PlanRecord,
    rules: ReportConfig = comparison.RULES,
) -> list[ReportTable]:
    """Scores by cell and by category, differences, comparisons in pairs, and published scores."""
    tables: list[ReportTable] = []
    names = dict(zip(results.cells["folder"], results.cells["name"], strict=True))
    for panel in panels:
        tables.append(_scores(panel, names))
        tables += _categories(panel, names, judgments)
        tables += differences_table(
            panel.differences,
            f"{panel.doubt}Points from {panel.scale}",
            rules.tie_margin * panel.hundredth,
            f"Paired differences: {panel.title}",
        )
    tables += [*_answer_lengths(results), *pairwise_tables(results, judgments, plan.baseline)]
    if MT_BENCH in plan.open_questions:
        tables.append(_published())
    return tables


def _scores(panel: JudgePanel, names: dict[str, str]) -> ReportTable:
    turns = sorted(name for name in panel.scores if name.startswith("turn_") and panel.scores[name].notna().any())
    common = dict(zip(panel.cells["folder"], panel.cells["average"], strict=True))
    heads = ["cell", f"mean ({panel.scale})", "95 % over questions"]
    heads += ["mean of what all have"] if panel.left_out or panel.partial else []
    heads += [f"turn {name.removeprefix('turn_')}" for name in turns if len(turns) > 1] + ["judgments", "missing"]
    heads += ["by FastChat's parser", "missing to it", "parsers disagree"] if panel.kind == "openai" else []
    rows = []
    for row in panel.scores.itertuples():
        line = [names[row.folder], _two(row.mean), interval_text(row.low, row.high, ".2f")]
        line += [_two(common[row.folder])] if panel.left_out or panel.partial else []
        line += [_two(getattr(row, name)) for name in turns if len(turns) > 1] + [str(row.n), str(row.missing)]
        line += [_two(row.fastchat), str(row.fastchat_missing), str(row.disagree)] if panel.kind == "openai" else []
        rows.append(line)
    note = (
        f"{panel.doubt}Scores from {panel.scale} that {panel.name} gave; an axis of its own, comparable with no other "
        "judge's. The interval resamples questions with all of their turns; it knows nothing of seeds. A judgment that "
        "could not be had or read is missing, and no zero."
    )
    if panel.left_out or panel.partial:
        note += (
            f" Cells are drawn and compared by what all of them have a judgment of: {panel.left_out} judgments that "
            "some cell lacks count for none, and a cell that lacks more than a fifth is left out."
        )
    if panel.kind == "reference":
        note += (
            " It is the likeness to a reference answer (chrF and ROUGE-L), not quality: a right answer in other words "
            "scores low, and so does a long one."
        )
    return ReportTable(f"Open answers: {panel.title}", heads, rows, note)


def _two(value: float | None) -> str:
    """To two decimals."""
    return number_text(value, ".2f")


def _categories(panel: JudgePanel, names: dict[str, str], judgments: JudgmentTables) -> list[ReportTable]:
    means = judgments.by_category()
    means = means[(means["judge"] == panel.judge) & (means["set"] == panel.set)]
    if means["category"].nunique() < 2:
        return []
    counts = means.groupby("category", sort=False)["count"].max()
    texts = {
        (row.folder, row.category): f"{row.mean:.2f} {interval_text(row.low, row.high, '.1f')}".removesuffix(" -")
        for row in means.itertuples()
    }
    rows = [
        [names[folder], *(texts.get((folder, category), "-") for category in counts.index)]
        for folder in panel.scores["folder"]
    ]
    note = f"{panel.doubt}Means from {panel.scale}, with 95 % over questions; n: judgments, in the cell that has most."
    heads = ["cell", *(f"{name} (n={count})" for name, count in counts.items())]
    return [ReportTable(f"By category: {panel.title}", heads, rows, note)]


def _answer_lengths(results: ResultTables) -> list[ReportTable]:
    """How long the answers are: every judge rates long answers differently."""
    done = results.cells[results.cells["answers"].notna()]
    if done.empty:
        return []
    rows = [
        [
            row.name,
            f"{row.answers:.0f}",
            "-" if pd.isna(row.answer_tokens) else f"{row.answer_tokens / row.answers:.0f}",
            f"{row.answers_cut:.0f}",
        ]
        for row in done.itertuples()
    ]
    note = (
        "Tokens of an answer on the mean, and how many answers ended at the limit of tokens instead of by themselves."
    )
    return [ReportTable("Length of the answers", ["cell", "answers", "tokens each", "cut off"], rows, note)]


def _published() -> ReportTable:
    scores = published.read_published("dora_mt_bench")
    margins = published.read_published("dora_mt_bench_margins")
    rows = [
        [row.method, row.base, f"{row.samples:,}", f"{row.score:.1f}", published.SOURCES["dora_mt_bench"]]
        for row in scores.itertuples()
    ]
    rows += [
        [f"{row.method} over {row.baseline}", row.base, f"{row.samples:,}", f"{row.margin:+.2f}", "section 5.4"]
        for row in margins.itertuples()
    ]
    return ReportTable(
        "Published MT-Bench scores", ["method", "base", "samples", "score", "source"], rows, published.MT_BENCH_NOTE
    )
