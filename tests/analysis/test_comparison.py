"""Paired differences: what is compared with what, and how surely."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.tables import asked, baseline_of, cells_of, compared, copied, said, two_runs
from scipy import stats

from bench import statistics
from bench.analysis import comparison
from bench.analysis.cell_answers import cell_answers
from bench.analysis.rescoring import QUESTIONS, differing_questions
from bench.analysis.result_tables import read_results
from bench.report.difference_table import differences_table
from bench.report.finding import comparisons
from bench.store.folder import Results
from bench.sweep.sections import ReportConfig

PAIR = (("lora", 50.0), ("dora", 62.5))


def test_differences_are_paired_by_seed() -> None:
    lora = [60.0, 50.0, 70.0]
    rows = [{"method": "lora", "rank": 4, "seed": s, "average": lora[s]} for s in range(3)]
    rows += [{"method": "dora", "rank": 4, "seed": s, "average": lora[s] + 3 + 0.1 * s} for s in range(3)]
    rows += [{"method": "dora", "rank": 8, "seed": 0, "average": 99.0}]  # no LoRA at rank 8 to compare with
    rows += [{"method": "dora", "rank": 4, "seed": 7, "average": 99.0}]  # nor at seed 7
    found = compared(cells_of(rows))
    assert len(found) == 1
    row = next(found.itertuples())
    assert (row.seeds, row.verdict) == (3, "better")
    assert row.difference == pytest.approx(3.1)
    # The seeds' own spread (10 points) would have hidden it: pairing is what resolves it.
    assert row.high - row.low < 1


def test_a_rank_of_the_baseline_meets_every_setting() -> None:
    """Once each; equal ranks meet as well, and the family of the p values is all of them."""
    leads = {("lora", 8): 1.0, ("lora", 16): 0.0, ("dora", 8): 2.0, ("dora", 16): 3.0, ("full", None): -4.0}
    rows = [
        {"method": method, "rank": rank, "seed": s, "average": 50 + 10 * s + lead + 0.1 * s * (rank or 1)}
        for (method, rank), lead in leads.items()
        for s in range(3)
    ]
    found = compared(cells_of(rows), rules=ReportConfig(baseline="lora", baseline_rank=16))
    assert [(row.series, row.rank, row.baseline_label) for row in comparison.difference_rows(found)] == [
        ("dora", 8, "lora"),
        ("dora", 16, "lora"),
        ("lora", 8, "lora r16"),
        ("dora", 8, "lora r16"),
        ("full", None, "lora r16"),
    ]
    average = pd.DataFrame(rows).pivot_table(index="seed", columns=["method", "rank"], values="average")
    half = (average["dora", 8] - average["lora", 16]).to_numpy()
    row = found.iloc[3]
    assert row["difference"] == pytest.approx(half.mean())
    assert row["p"] == pytest.approx(stats.ttest_1samp(half, 0).pvalue)
    told = found[found["p"].notna()]
    assert list(told["p_adjusted"]) == pytest.approx(statistics.holm(list(told["p"])))
    text = " ".join(comparisons(found[found["series"] == "dora"]))
    assert "dora beats lora at rank 8 by 1.0 points [0.9, 1.1] and at rank 16 by 3.0" in text
    assert "dora and lora r16 differ by at most 3.2 points at rank 8 (+1.2" in text
    (table,) = differences_table(found, "Points", 1.0)
    assert table.rows and "baseline's rank" in table.heads
    (table,) = differences_table(found.head(2), "Points", 1.0)
    assert "baseline's rank" not in table.heads


def test_two_runs_are_tested_by_their_questions_and_stay_two_runs() -> None:
    lora, dora = [1] * 40 + [0] * 60, [0] * 2 + [1] * 58 + [0] * 40
    (row,) = compared(two_runs(), asked({"c0": lora, "c1": dora})).itertuples()
    assert row.mcnemar_p == row.mcnemar_p_adjusted == pytest.approx(stats.binomtest(20, 22).pvalue)
    assert row.verdict == "these two runs" and row.low is None and row.p is None
    # The bootstrap's own s.d. of the difference is 4.3 points; an end strays by a tenth of that.
    theirs = stats.bootstrap((pd.Series(dora) - pd.Series(lora),), lambda x, axis: x.mean(axis), method="percentile")
    ends = theirs.confidence_interval
    assert (row.question_low, row.question_high) == pytest.approx((100 * ends.low, 100 * ends.high), abs=1.2)
    assert comparisons(pd.DataFrame([row])) == [
        f"Beside lora, dora scored +10.0 points [{row.question_low:.1f}, {row.question_high:.1f}] at rank 4; with one "
        "run each this speaks of these runs, not of the methods (100 samples; intervals: 95 % over questions alone)."
    ]


def test_equal_differences_are_known_to_one_answer() -> None:
    """One of five answers moves the average over two tasks by 10 points, one of four by 12.5."""
    rows = [{"method": name, "rank": 4, "seed": s, "average": at} for s in range(3) for name, at in PAIR]
    answers = {f"c{i}": [i % 2, 0, 1, 1] for i in range(6)}
    others = {f"c{i}": [1, 0, 1, 0, 0] for i in range(6)}
    questions = pd.concat([asked(answers), asked(others, "u")])
    (row,) = compared(cells_of(rows), questions).itertuples()
    assert row.seed_half == pytest.approx(stats.t.ppf(0.975, 2) * 10 / math.sqrt(12 * 3))
    assert row.high - row.difference == pytest.approx(math.hypot(row.seed_half, row.question_half))
    (row,) = compared(cells_of(rows)).itertuples()  # the answers are not known: to the tenth that is shown
    assert row.high - row.difference == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(12 * 3))


def test_mcnemar_has_a_family_of_its_own() -> None:
    cells = two_runs({"method": "vera", "rank": 4, "average": 50.0})
    answers = {"c0": [1] * 40 + [0] * 60, "c1": [0] * 2 + [1] * 58 + [0] * 40, "c2": [1] * 44 + [0] * 56}
    found = compared(cells, asked(answers))
    alone = list(found["mcnemar_p"])
    assert list(found["mcnemar_p_adjusted"]) == statistics.holm(alone) != alone
    assert found["p_adjusted"].isna().all()


def test_tasks_weigh_alike_and_clusters_are_drawn_whole() -> None:
    """The mean of two tasks of unequal size; a task of two clusters has only three outcomes."""
    cells = two_runs()
    large = asked({"c0": [0] * 300, "c1": [1] * 300}, "large")
    small = asked({"c0": [0] * 10, "c1": [1] * 5 + [0] * 5}, "small", ["a"] * 5 + ["b"] * 5)
    (row,) = compared(cells, pd.concat([large, small])).itertuples()
    assert (row.question_low, row.question_high) == (50.0, 100.0)
    alone = asked({"c0": [0] * 10, "c1": [1] * 5 + [0] * 5}, "small")
    (row,) = compared(cells, pd.concat([large, alone])).itertuples()
    assert 55 < row.question_low < row.question_high < 95
    # Rows of an older cell name no cluster; the other's do.
    older = pd.concat([large, small[small["folder"] == "c0"], alone[alone["folder"] == "c1"]])
    (row,) = compared(cells, older).itertuples()
    assert (row.question_low, row.question_high) == (50.0, 100.0)


def test_one_cluster_has_no_interval() -> None:
    """Nothing can be drawn anew: the interval would be a point, of one task as of an average with it."""
    one = asked({"c0": [1] * 10, "c1": [1] * 5 + [0] * 5}, "small", ["a"] * 10)
    large = asked({"c0": [0] * 300, "c1": [1] * 300}, "large")
    for rows in (one, pd.concat([large, one])):
        (row,) = compared(two_runs(), rows).itertuples()
        assert (row.question_low, row.question_high) == (None, None) and row.mcnemar_p is not None


def test_the_questions_interval_is_of_the_mean_over_seeds() -> None:
    rows = [{"method": m, "rank": 4, "seed": s, "average": 50.0} for s in range(3) for m in ("lora", "dora")]
    random = np.random.default_rng(0)
    answers = {f"c{place}": list(random.random(200) < 0.6) for place in range(6)}
    (row,) = compared(cells_of(rows), asked(answers)).itertuples()
    mean = sum(np.array(answers[f"c{s + 1}"], float) - np.array(answers[f"c{s}"], float) for s in (0, 2, 4)) / 3
    deviation = 100 * mean.std() / math.sqrt(200)
    assert row.question_high - row.question_low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert (row.seeds, row.mcnemar_p) == (3, None)
    # Three equal averages, of runs whose answers have nothing to do with one another.
    assert row.floored and row.verdict == "unresolved"


def test_cells_with_other_questions_are_not_compared() -> None:
    cells = two_runs({"method": "vera", "rank": 4, "average": 50.0})
    answers = asked({"c0": [1, 0, 1], "c1": [1, 1, 1], "c2": [0, 0, 1, 1]})
    found = compared(cells, answers)
    assert list(found["series"]) == ["dora"]
    assert differing_questions(answers) == [
        "c2: of t (loglikelihood-v1) it answered other questions (4) than most cells (3); it is not compared with them"
    ]
    # What is not known to differ is compared, without what its questions would say.
    found = compared(cells, answers[answers["folder"] != "c2"]).set_index("series")
    assert found.loc["vera", "difference"] == 0 and pd.isna(found.loc["vera", "question_low"])
    assert pd.notna(found.loc["dora", "question_low"])


def test_verdicts_are_adjusted_for_the_rows_of_the_table() -> None:
    leads = {"dora": (2.0, 3.5, 2.6), "vera": (-4.0, 0.0, 5.0), "single": (9.0,)}
    rows = [{"method": "lora", "rank": 4, "seed": s, "average": 50.0} for s in range(3)]
    rows += [
        {"method": name, "rank": 4, "seed": s, "average": 50 + lead}
        for name, mine in leads.items()
        for s, lead in enumerate(mine)
    ]
    found = compared(cells_of(rows)).set_index("series")
    dora = found.loc["dora"]
    assert dora["p"] < 0.05 < dora["p_adjusted"] == pytest.approx(2 * dora["p"])
    assert dora["low"] > 0 and dora["verdict"] == "unresolved"
    spread = statistics.standard_deviation(leads["dora"])
    assert dora["detectable"] == pytest.approx(statistics.detectable_difference(spread, 3))
    assert dora["seeds_needed"] == statistics.seeds_needed(2.7, spread, 2) > 3
    assert found.loc["single", "verdict"] == "these two runs"
    assert found.loc["single", ["p", "p_adjusted", "detectable", "seeds_needed"]].isna().all()
    text = " ".join(said(rows))
    assert "dora and lora differ by at most 4.6 points at rank 4 (+2.7 [0.8, 4.6], adjusted p 0.0" in text
    assert f"; {dora['seeds_needed']:.0f} seeds would tell, if difference and spread stayed so" in text
    (table,) = differences_table(found.reset_index(), "", 1.0)
    assert table.heads[5:] == [
        "difference", "95 % (unadjusted)", "± seeds", "adjusted p", "adjusted p of a tie", "detectable",
        "seeds to tell", "verdict",
    ]  # fmt: skip
    assert "adjusted for the number of comparisons (Holm)" in table.note


def test_two_bases_of_one_name_are_compared_apart() -> None:
    rows = [
        {"method": method, "rank": 4, "average": average, "base": base, "series": f"{method} on {base}"}
        for base, lora, dora in (("x (r, float32)", 50.0, 51.0), ("x (r, bfloat16)", 60.0, 63.0))
        for method, average in (("lora", lora), ("dora", dora))
    ]
    found = compared(cells_of(rows))
    assert dict(zip(found["base"], found["difference"], strict=True)) == {"x (r, float32)": 1.0, "x (r, bfloat16)": 3.0}
    assert set(found["seeds"]) == {1}


def test_cells_are_compared_at_equal_training_settings() -> None:
    rows = [
        {"method": method, "rank": 4, "average": 50.0 + epochs + lead, "training": {"epochs": epochs}}
        for epochs in (1, 2)
        for method, lead in (("lora", 0), ("dora", 3))
    ]
    cells = cells_of(rows).assign(
        series=lambda c: [f"{m} {t}" for m, t in zip(c["method"], c["training"], strict=True)]
    )
    found = compared(cells)
    assert list(found["difference"]) == [3.0, 3.0]


def test_rows_that_cannot_be_read_leave_the_comparison_over_seeds(finished: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    next(copy.glob("cells/dora-r2-*/items/world_two@*")).unlink()
    read = read_results(Results(copy))
    assert "is missing; its score is the recorded one" in read.problems[0]
    found = compared(read.cells, read.questions).set_index("rank")
    assert pd.isna(found.loc[2, "question_low"]) and pd.notna(found.loc[4, "question_low"])
    assert found["difference"].notna().all()


@pytest.mark.parametrize("categories", [False, True])
def test_each_cell_is_resampled_as_it_would_be_alone(categories: bool) -> None:
    random = np.random.default_rng(1)
    answers = {f"c{place}": list(random.integers(0, 2, 60)) for place in range(3)}
    small = asked({"c2": [0, 1, 1], "c0": [1, 1, 0], "c1": [1, 0, 0]}, "a", ["x", "x", "y"])
    other = asked({"c3": [1] * 50})
    rows = pd.concat([asked(answers, "z"), small, other]).sample(frac=1, random_state=0)
    if categories:
        rows = rows.astype(dict.fromkeys(QUESTIONS[:-1], "category"))
    found = cell_answers(rows)
    assert found["c0"].question_set == found["c1"].question_set == found["c2"].question_set != found["c3"].question_set
    for folder, one in found.items():
        mine = rows[rows["folder"] == folder].astype({"task": str, "question_id": str, "cluster": object})
        mine = mine.sort_values(["task", "question_id"])
        assert list(one.correct) == list(mine["correct"])
        alone = {
            task: statistics.TaskAnswers(
                part[["correct"]].to_numpy(dtype=float).T, part["cluster"].fillna(part["question_id"]).to_numpy(str)
            )
            for task, part in mine.groupby("task")
        }
        np.testing.assert_allclose(one.averages, statistics.resampled_averages(alone)[:, 0])


def test_the_baseline_is_the_plan_s_whichever_cells_are_done() -> None:
    """Of full, DoRA and VeRA it is DoRA, the first with a rank; nothing takes its place until it is done."""
    rows = [{"method": "full", "rank": None, "average": 55.0}]
    rows += [{"method": method, "rank": 4, "average": 50.0} for method in ("dora", "vera")]
    cells = cells_of(rows)
    assert baseline_of(cells) == "dora"
    found = comparison.differences(cells, "dora")
    assert list(found["series"]) == ["full", "vera"] and set(found["baseline"]) == {"dora"}
    assert comparison.differences(cells.assign(status=["done", "failed", "done"]), "dora").empty
    assert comparison.differences(cells, None).empty


def test_series_of_the_only_method_are_compared_with_its_first() -> None:
    """Three initialisations of LoRA at two ranks; and types of PEFT, none of which has a rank."""
    rows = [
        {"method": "lora", "series": f"lora init={init}", "rank": rank, "seed": seed, "average": 50.0 + better + seed}
        for init, better in (("None", 0.0), ("olora", 1.0), ("orthogonal", 2.0))
        for rank in (4, 8)
        for seed in (0, 1, 2)
    ]
    found = comparison.difference_rows(comparison.differences(cells_of(rows), "lora"))
    assert {(row.series, row.baseline, row.rank, row.difference) for row in found} == {
        (f"lora init={init}", "lora init=None", rank, better)
        for init, better in (("olora", 1.0), ("orthogonal", 2.0))
        for rank in (4, 8)
    }
    without_rank = cells_of([{**row, "rank": None} for row in rows if row["rank"] == 4])
    (first, second) = comparison.difference_rows(comparison.differences(without_rank, "lora"))
    assert (first.difference, second.difference) == (1.0, 2.0)
    assert comparison.differences(cells_of(rows[:6]), "lora").empty  # a single series
