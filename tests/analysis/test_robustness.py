"""The comparisons by the probability of the right choice."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pandas as pd
import pytest
from helpers.paths import RESULTS

from bench.analysis.contrasts import SweepComparisons, compare_sweep
from bench.analysis.result_tables import ResultTables, read_results
from bench.analysis.robustness import COLUMNS, Robustness, compare_by_probability, with_probability
from bench.analysis.tie_margin import TieMargin, tie_margin
from bench.report.robustness_table import robustness_sentences, robustness_table, rows_sentence
from bench.store.folder import Results
from bench.store.recorded_sweep import recorded_plan
from bench.store.records import PlanRecord


@cache
def committed(name: str) -> tuple[ResultTables, PlanRecord, TieMargin, SweepComparisons, Robustness]:
    results = Results(RESULTS / name)
    tables, plan = read_results(results), recorded_plan(results)
    margin = tie_margin(tables.cells, plan.baseline, plan.report)
    return (
        tables,
        plan,
        margin,
        compare_sweep(tables, plan, margin.points),
        compare_by_probability(tables, plan, margin),
    )


def test_the_tie_of_dora_and_lora_holds_by_the_probability_of_the_right_choice() -> None:
    tables, _, margin, comparisons, robustness = committed("rank_smollm2")
    contrast = comparisons.contrasts[0]
    found = robustness.of_contrast(contrast)
    # By hand: the difference of the mean probabilities, over ranks and seeds.
    by_method = tables.cells.astype({"probability": float}).groupby("method")["probability"].mean()
    assert found.mean == pytest.approx(by_method["dora"] - by_method["lora"], abs=1e-6)
    assert found.verdict == contrast.verdict == "tie"
    gains = [
        best.max() - of_base
        for best, of_base in (
            (tables.cells.astype({name: float}).query("method == 'lora'").groupby("rank")[name].mean(), by)
            for name in ("average", "probability")
            for by in [float(tables.cells.query("method == 'base'")[name].iloc[0])]
        )
    ]
    assert robustness.margin == pytest.approx(margin.points * gains[1] / gains[0])
    (said,) = robustness_sentences([contrast], robustness)
    assert said.startswith(f"By the probability of the right choice: {found.mean:+.2f} [") and said.endswith(
        "], the same verdict."
    )


def test_another_verdict_is_said() -> None:
    _, _, _, comparisons, robustness = committed("rank_smollm2")
    contrast = comparisons.contrasts[0]
    changed = replace(robustness, contrasts={contrast.key: replace(robustness.of_contrast(contrast), verdict="worse")})
    assert robustness_sentences([contrast], changed)[0].endswith("], a different verdict: worse.")
    assert robustness_table([contrast], changed)[0].rows[0][-1] == "a different verdict: worse"


def test_it_has_no_say_in_the_verdicts() -> None:
    """The comparisons by accuracy are the same without any probabilities."""
    tables, plan, margin, comparisons, _ = committed("rank_smollm2")
    without = replace(
        tables,
        cells=tables.cells.assign(probability=None),
        questions=tables.questions.assign(probability=float("nan")),
    )
    pd.testing.assert_frame_equal(compare_sweep(without, plan, margin.points).table(), comparisons.table())
    silent = compare_by_probability(without, plan, margin)
    assert silent == Robustness({}, {})
    assert robustness_sentences(comparisons.contrasts, silent) == []
    assert rows_sentence(comparisons.differences, silent) == []
    assert with_probability(comparisons, silent)[0].equals(comparisons.table())


def test_the_tables_to_download_have_it_beside_each_comparison() -> None:
    _, _, _, comparisons, robustness = committed("rank_smollm2")
    contrasts, rows = with_probability(comparisons, robustness)
    assert list(contrasts.columns[-4:]) == list(rows.columns[-4:]) == list(COLUMNS)
    assert contrasts[list(COLUMNS)].notna().all().all() and rows["probability"].notna().all()
    (said,) = rows_sentence(comparisons.differences, robustness)
    same = int((rows["verdict"] == rows["probability_verdict"]).sum())
    assert f"{same} of these {len(rows)} comparisons have the same verdict" in said
