"""A results folder read back as tables."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from helpers.paths import RESULTS
from helpers.tables import cells_of, copied
from scipy import stats

from bench.analysis import frames
from bench.store.folder import Results


def test_series_split_where_a_setting_varies() -> None:
    def series(options: list[dict]) -> list[str]:
        cells = cells_of([{"method": "lora", "rank": one["rank"], "average": 1.0} for one in options])
        return frames._series(cells.assign(options=options))

    assert series([{"rank": 4, "alpha": 8, "lr": 1e-4}, {"rank": 8, "alpha": 16, "lr": 1e-4}]) == ["lora", "lora"]
    assert series([{"rank": 4, "alpha": 8, "lr": 1e-4}, {"rank": 4, "alpha": 8, "lr": 1e-3}]) == [
        "lora lr=0.0001",
        "lora lr=0.001",
    ]
    assert series([{"rank": 4, "alpha": 8}, {"rank": 4, "alpha": 4}]) == ["lora alpha=8", "lora alpha=4"]


def test_a_rank_in_peft_s_own_words_starts_no_new_series() -> None:
    def series(options: list[dict], method: str = "adalora") -> list[str]:
        cells = cells_of([{"method": method, "rank": one["rank"], "average": 1.0} for one in options])
        return frames._series(cells.assign(options=options))

    def peft(rank: int, **changed: object) -> dict:
        own = {"target_r": rank, "init_r": -(-3 * rank // 2), "lora_alpha": 2 * rank, "lora_dropout": 0.0}
        return {"lr": 0.001, "rank": rank, "peft": {**own, **changed}}

    assert series([peft(1), peft(3), peft(32)]) == ["adalora"] * 3
    assert series([peft(8), peft(16, lora_dropout=0.1)]) == ["adalora lora_dropout=0.0", "adalora lora_dropout=0.1"]
    assert series([peft(8), peft(8, init_r=9)]) == ["adalora init_r=12", "adalora init_r=9"]
    # A rate chosen for each rank is a choice, and so a line of its own.
    assert series([{"rank": 4, "lr": 0.002}, {"rank": 8, "lr": 0.004}]) == ["adalora lr=0.002", "adalora lr=0.004"]

    def pair(rank: int, lr: float = 0.1, edit: int = 4) -> dict:
        return {"rank": rank, "lr": lr, "loreft": {"rank": edit, "lr": 0.2}, "lora": {"rank": rank, "lr": lr}}

    assert series([pair(4), pair(8)], "loreft+lora") == ["loreft+lora"] * 2
    assert series([pair(4), pair(4, lr=0.3)], "loreft+lora") == ["loreft+lora lora.lr=0.1", "loreft+lora lora.lr=0.3"]
    assert series([pair(4), pair(4, edit=8)], "loreft+lora") == [
        "loreft+lora loreft.rank=4",
        "loreft+lora loreft.rank=8",
    ]


def test_what_a_base_s_size_decides_is_no_setting() -> None:
    cells = cells_of([{"method": "loreft", "rank": 4, "average": 1.0, "base": base} for base in ("small", "large")])
    cells = cells.assign(options=[{"rank": 4, "layers": [0, 1]}, {"rank": 4, "layers": [0, 1, 2]}])
    assert frames._series(cells) == ["loreft on small", "loreft on large"]


def test_scores_have_wilson_intervals_and_questions(finished: tuple[Path, Path]) -> None:
    read = frames.read(Results(finished[1]))
    for row in read.scores.itertuples():
        theirs = stats.binomtest(round(row.score * row.n / 100), row.n).proportion_ci(method="wilson")
        assert (row.low, row.high) == pytest.approx((100 * theirs.low, 100 * theirs.high))
    text = (finished[1] / "report" / "report.md").read_text()
    assert "## Intervals by task" in text and read.warnings == ()
    low, high = read.scores.iloc[0][["low", "high"]]
    assert f"| base | [{low:.1f}, {high:.1f}] |" in text


def test_questions_are_right_by_the_task_s_own_metric() -> None:
    read = frames.read(Results(RESULTS / "rank_real_small"))
    assert set(read.scores["metric"]) == {"acc", "acc_norm"}
    again = 100 * read.questions.astype({"correct": float}).groupby(["folder", "task"])["correct"].mean()
    assert again.to_dict() == pytest.approx(read.scores.set_index(["folder", "task"])["score"].to_dict())


def test_what_is_read_by_columns_is_what_the_tables_say() -> None:
    """Scores, questions and answers, against the plain way: a table of pandas a file, put one below the other."""
    results = Results(RESULTS / "rank_real_small")
    read = frames.read(results)
    metric = read.scores.set_index(["folder", "task"])["metric"]
    tables, shares = [], {}
    for folder, task in metric.index:
        cell = results.folder_named(folder)
        (file,) = (file for file in cell.items_files() if file.startswith(f"{task}@"))
        items = cell.items(file)
        predicted = items["prediction_norm" if metric[folder, task] == "acc_norm" else "prediction"]
        labels = {"folder": folder, "protocol": "loglikelihood-v1", "task": task}
        tables.append(items[["question_id", "cluster"]].assign(**labels, correct=predicted == items["gold"]))
        shares[folder, task] = {
            "acc": 100 * items["acc"].mean(),
            "acc_norm": 100 * (items["prediction_norm"] == items["gold"]).mean(),
            "majority": 100 * items["gold"].value_counts(normalize=True).max(),
            "chance": 100 * (1 / items["loglikelihoods"].map(len)).mean(),
        }
    table = pd.concat(tables, ignore_index=True)[list(frames.QUESTIONS)]
    pd.testing.assert_frame_equal(read.questions.astype(table.dtypes), table)
    expected = pd.DataFrame.from_dict(shares, orient="index")
    found = read.scores.set_index(["folder", "task"])[list(expected)].astype(float)
    pd.testing.assert_frame_equal(found, expected, check_names=False)


def test_a_merge_that_gave_no_number_is_not_taken_for_missing() -> None:
    found = frames._merging({"merge_max_abs_diff": {"float32": 0.0, "float16": float("nan")}})
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
    read = frames.read(Results(folder))
    assert read.cells["status"][0] == "missing" and set(read.cells["status"][1:]) == {"done"}
    assert set(read.scores["protocol"]) == {"generative-v2", "loglikelihood-v1"}
    assert set(frames.averaged(read.scores)["protocol"]) == {"generative-v2"}


def test_cells_that_differ_in_a_setting_alone_have_names_of_their_own(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = copied(finished, tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    twin = next(one for one in plan["cells"] if one["method"] == "lora")
    plan["cells"].append({**twin, "folder": "twin", "options": {**twin["options"], "lr": 0.5}})
    (folder / "plan.json").write_text(json.dumps(plan))
    names = frames.read(Results(folder)).cells["name"]
    assert names.is_unique and f"{twin['name']} (lr=0.5)" in set(names)
