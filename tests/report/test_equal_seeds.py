"""Seeds that score exactly alike: no interval of a report is a point, in tables, sentences and bars."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest
from helpers.judged_cells import NOTHING, judged_cells, judgments_of, panels_of, ratings, tables_of_cells
from helpers.recorded import record_cells
from helpers.sweeps import sweep_file

from bench.analysis.cell_answers import cell_answers
from bench.analysis.interval_text import half_width_text, interval_text
from bench.analysis.levels import BOTH, QUESTIONS_ALONE, SEEDS_ALONE, with_intervals
from bench.analysis.result_tables import read_results, trained_cells
from bench.planning.build import make_plan
from bench.planning.plan import PlannedCell
from bench.report.compare_sweeps import comparison_report
from bench.report.content import ReportContent
from bench.report.figures.samples import _with_intervals
from bench.report.judged_finding import judged_finding
from bench.report.latex import settings_table
from bench.report.open_answer_tables import open_answer_tables
from bench.report.sweep_report import sweep_report
from bench.report.table import ReportTable
from bench.store.folder import Results
from bench.sweep.load import load_sweep
from bench.sweep.sections import ReportConfig

INTERVAL = re.compile(r"\[([-+]?[\d.]+), ([-+]?[\d.]+)\]")
OUTCOMES: dict[str, Callable[[PlannedCell], float]] = {
    "methods differ": lambda planned: {"base": 0.5, "lora": 0.6}.get(planned.cell.method, 0.7),
    "methods alike": lambda planned: 0.5 if planned.cell.method == "base" else 0.7,
    "all right": lambda planned: 0.5 if planned.cell.method == "base" else 1.0,
}


def texts_of(tables: Iterable[ReportTable], sentences: Iterable[str] = ()) -> list[str]:
    return [*(text for table in tables for row in table.rows for text in row), *sentences]


def texts_of_report(report: ReportContent) -> list[str]:
    tables = [table for section in report.sections for table in section.tables]
    return texts_of(tables, [text for section in report.sections for text in (*section.sentences, *section.notes)])


def points_among(texts: Iterable[str]) -> list[str]:
    """The texts with an interval that is printed as a point."""
    return [text for text in texts for low, high in INTERVAL.findall(text) if float(low) == float(high)]


def recorded(folder: Path, model: Path, accuracy: Callable[[PlannedCell], float], *overrides: str) -> Results:
    """A sweep of three methods, two numbers of samples and three seeds whose answers are the same at every seed."""
    folder.mkdir()
    methods = "methods=[{method: lora, rank: 2, lr: 1e-3}, {method: dora, rank: 2, lr: 1e-3}, {method: vera, rank: 2}]"
    path = sweep_file(folder, model)
    plan = make_plan(load_sweep(path, (methods, "samples=[8, 16]", "seeds=[0, 1, 2]", *overrides)))
    results = Results(folder / "tiny")
    results.path.mkdir()
    results.write_plan(plan.sweep.resolved(), plan.record())
    record_cells(plan.cells, results, accuracy, churn=0.0)
    return results


@pytest.mark.parametrize("rows_lost", [False, True], ids=["rows", "rows lost"])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_interval_over_equal_seeds_is_a_point(
    outcome: str, rows_lost: bool, tmp_path: Path, tiny_model: Path
) -> None:
    results = recorded(tmp_path / "now", tiny_model, OUTCOMES[outcome])
    if rows_lost:
        for path in results.path.glob("cells/*/items/*.parquet"):
            path.unlink()
    report, tables = sweep_report(results), read_results(results)
    texts = texts_of_report(report)
    assert points_among(texts) == []
    assert sum(bool(INTERVAL.search(text)) for text in texts) > 10  # there are some to look at
    assert "up to 0.0 points" not in " ".join(texts)
    bars = trained_cells(with_intervals(tables.cells, cell_answers(tables.questions)))
    assert (bars["half_width"] > 0).all() and set(bars["interval"]) == {SEEDS_ALONE if rows_lost else BOTH}
    latex = settings_table(report.tables["settings"], "tiny")
    assert r"\pm" in latex and not re.search(r"\\pm\$ 0(\.0*)? ", latex)


def test_no_interval_between_two_equal_sweeps_is_a_point(tmp_path: Path, tiny_model: Path) -> None:
    outcome = OUTCOMES["methods differ"]
    sides = [recorded(tmp_path / name, tiny_model, outcome) for name in ("before", "after")]
    report = comparison_report(*sides)
    texts = texts_of_report(report)
    assert points_among(texts) == []
    rows = report.tables["differences"]
    assert (rows["seeds"] == 3).all() and (rows["high"] > rows["low"]).all() and (rows["difference"] == 0).all()


SCORES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "one rating of everything": lambda rows: pd.Series(7.0, rows.index),
    "ratings by question": lambda rows: 3.0 + rows["question_id"] % 5,
    "ratings by method": lambda rows: 4.0 + rows["folder"].str.startswith("lora"),
    "continuous": lambda rows: 3.0 + rows["question_id"] / 7 + rows["turn"] / 3,
}


@pytest.mark.parametrize("kind", ["openai", "reference"])
@pytest.mark.parametrize("scores", SCORES)
def test_no_interval_of_equally_judged_seeds_is_a_point(scores: str, kind: str) -> None:
    frame = judged_cells()
    rows = ratings(frame)
    score = SCORES[scores](rows)
    judgments = judgments_of(rows.assign(score=score, fastchat=score), kind=kind)
    (panel,) = panels_of(frame, judgments)
    tables = open_answer_tables(tables_of_cells(frame), [panel], judgments, NOTHING)
    texts = texts_of(tables, judged_finding([panel], ReportConfig(), NOTHING))
    assert points_among(texts) == []
    assert (panel.differences["seeds"] == 3).all() and (panel.differences["high"] > panel.differences["low"]).all()
    bars = _with_intervals(panel)
    of_seeds = bars[bars["interval"] != QUESTIONS_ALONE]
    assert len(of_seeds) == len(trained_cells(frame)) and (of_seeds["half_width"] > 0).all()


def test_an_interval_is_printed_with_the_digits_that_it_needs() -> None:
    assert interval_text(66.2, 67.14, ".1f") == "[66.2, 67.1]"
    assert interval_text(66.701, 66.709, ".1f") == "[66.70, 66.71]"
    assert interval_text(-0.001, 0.001, "+.2f") == "[-0.001, +0.001]"
    assert interval_text(3.0, 41.0, "+.0f") == "[+3, +41]"
    assert interval_text(66.7, 66.7, ".1f") == interval_text(None, None, ".1f") == "-"
    assert interval_text(float("nan"), float("nan"), ".1f") == "-"
    assert [half_width_text(half, 2) for half in (0.421, 0.0042, 0.0, None)] == ["0.42", "0.004", "0.00", "-"]
