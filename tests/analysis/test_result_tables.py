"""A results folder read back as tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.paths import RESULTS
from helpers.tables import copied, right_by_hand
from scipy import stats

from bench.analysis.cost_columns import merge_columns
from bench.analysis.rescoring import QUESTIONS
from bench.analysis.result_tables import averaged_scores, read_results
from bench.store.folder import Results
from bench.store.records import CellRecord


def test_scores_have_wilson_intervals_and_questions(finished: tuple[Path, Path]) -> None:
    read = read_results(Results(finished[1]))
    for row in read.scores.itertuples():
        theirs = stats.binomtest(round(row.score * row.n / 100), row.n).proportion_ci(method="wilson")
        assert (row.low, row.high) == pytest.approx((100 * theirs.low, 100 * theirs.high))
    text = (finished[1] / "report" / "report.md").read_text()
    assert "## Intervals by task" in text and read.warnings == ()
    low, high = read.scores.iloc[0][["low", "high"]]
    assert f"| base | [{low:.1f}, {high:.1f}] |" in text


def test_questions_are_right_by_the_task_s_own_metric() -> None:
    read = read_results(Results(RESULTS / "rank_real_small"))
    assert set(read.scores["metric"]) == {"acc", "acc_norm"}
    again = 100 * read.questions.astype({"correct": float}).groupby(["folder", "task"])["correct"].mean()
    assert again.to_dict() == pytest.approx(read.scores.set_index(["folder", "task"])["score"].to_dict())


def test_what_is_read_by_columns_is_what_the_tables_say() -> None:
    """Scores, questions and answers, against the plain way: a table of pandas a file, put one below the other."""
    results = Results(RESULTS / "rank_real_small")
    read = read_results(results)
    metric = read.scores.set_index(["folder", "task"])["metric"]
    tables, shares = [], {}
    for folder, task in metric.index:
        cell = results.folder_named(folder)
        (file,) = (evaluation.file for evaluation in cell.record().evaluations.values() if evaluation.task == task)
        items = cell.items(file)
        predicted = items["prediction_norm" if metric[folder, task] == "acc_norm" else "prediction"]
        labels = {"folder": folder, "protocol": "loglikelihood-v1", "task": task}
        of_right = [
            right_by_hand(row.loglikelihoods, row.lengths, row.gold, metric[folder, task]) for row in items.itertuples()
        ]
        columns = {**labels, "correct": predicted == items["gold"], "probability": of_right}
        tables.append(items[["question_id", "cluster"]].assign(**columns))
        shares[folder, task] = {
            "acc": 100 * items["acc"].mean(),
            "acc_norm": 100 * (items["prediction_norm"] == items["gold"]).mean(),
            "majority": 100 * items["gold"].value_counts(normalize=True).max(),
            "chance": 100 * (1 / items["loglikelihoods"].map(len)).mean(),
            "probability": 100 * np.mean(of_right),
        }
    table = pd.concat(tables, ignore_index=True)[list(QUESTIONS)]
    pd.testing.assert_frame_equal(read.questions.astype(table.dtypes), table)
    expected = pd.DataFrame.from_dict(shares, orient="index")
    found = read.scores.set_index(["folder", "task"])[list(expected)].astype(float)
    pd.testing.assert_frame_equal(found, expected, check_names=False)


def test_a_merge_that_gave_no_number_is_not_taken_for_missing() -> None:
    found = merge_columns(CellRecord(merge_max_abs_diff={"float32": 0.0, "float16": float("nan")}))
    assert (found["merge_half"], found["merge_half_dtype"]) == (float("inf"), "float16")


def test_averages_are_of_the_plan_s_first_protocol_while_a_sweep_is_scored_anew(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    """The first cell has not been scored by the protocol that the plan now names first."""
    folder = copied(finished, tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    for planned in plan["cells"]:
        path = folder / "cells" / planned["folder"] / "metrics.json"
        metrics = json.loads(path.read_text())
        again = {
            f"new-{id}": {**one, "protocol": "generative-v2", "protocol_version": 2}
            for id, one in metrics["evaluations"].items()
        }
        planned["evaluations"] = [*again, *planned["evaluations"]]
        if planned is not plan["cells"][0]:
            path.write_text(json.dumps({**metrics, "evaluations": metrics["evaluations"] | again}))
    (folder / "plan.json").write_text(json.dumps({**plan, "protocols": ["generative-v2", *plan["protocols"]]}))
    read = read_results(Results(folder))
    assert read.cells["status"][0] == "missing" and set(read.cells["status"][1:]) == {"done"}
    assert set(read.scores["protocol"]) == {"generative-v2", "loglikelihood-v1"}
    assert set(averaged_scores(read.scores)["protocol"]) == {"generative-v2"}


def test_cells_that_differ_in_a_setting_alone_have_names_of_their_own(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = copied(finished, tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    twin = next(one for one in plan["cells"] if one["method"] == "lora")
    plan["cells"].append({**twin, "folder": "twin", "options": {**twin["options"], "lr": 0.5}})
    (folder / "plan.json").write_text(json.dumps(plan))
    names = read_results(Results(folder)).cells["name"]
    assert names.is_unique and f"{twin['name']} (lr=0.5)" in set(names)
