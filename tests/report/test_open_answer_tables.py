"""What judges say of open answers: what is compared, what is shown, and what is warned of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.judged_cells import (
    COUNTS,
    NOTHING,
    QUESTIONS,
    RANKS,
    SEEDS,
    judged_cells,
    judgments_of,
    panels_of,
    ratings,
    tables_of_cells,
)
from helpers.tables import baseline_of, cells_of

from bench.analysis.judgments import PAIRS, JudgmentTables
from bench.analysis.result_tables import ResultTables
from bench.judging.judge_check import CheckResult
from bench.judging.measures import noise_of_mean
from bench.report.figures import samples
from bench.report.judge_panels import JudgePanel, judge_panels
from bench.report.judged_finding import judge_warnings, judged_finding
from bench.report.open_answer_tables import open_answer_tables
from bench.report.pairwise_table import pairwise_tables
from bench.statistics import mean_interval
from bench.store.judge_record import JudgeRecord
from bench.store.records import OpenSetRecord
from bench.sweep.sections import ReportConfig


def test_methods_of_one_rank_each_are_compared_at_their_own_ranks() -> None:
    frame = judged_cells()
    rows = ratings(frame)
    (panel,) = panels_of(frame, judgments_of(rows))
    found = panel.differences.set_index("samples")
    for count in COUNTS:
        mean = {
            (method, seed): rows[rows["folder"] == f"{method}-{float(rank)}-{count}-{seed}"]["score"].mean()
            for method, rank in RANKS.items()
            for seed in SEEDS
        }
        gaps = [mean["dvora", seed] - mean["lora", seed] for seed in SEEDS]
        row = found.loc[count]
        assert row["difference"] == pytest.approx(np.mean(gaps)) and row["seeds"] == 3
        # The gaps are equal, so their spread is what rounding to a point of one of the judgments hides.
        interval = mean_interval(gaps, step=1 / (2 * QUESTIONS))
        assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert panel.differences["rank"].isna().all() and panel.differences["mcnemar_p"].isna().all()
    table = next(
        one
        for one in open_answer_tables(tables_of_cells(frame), [panel], judgments_of(rows), NOTHING)
        if "Paired" in one.title
    )
    assert "each method at its own rank" in table.note and "rank" not in table.heads


def test_cells_are_compared_on_what_all_of_them_have_a_judgment_of() -> None:
    frame = judged_cells()
    rows = ratings(frame)
    whole = panels_of(frame, judgments_of(rows))[0].differences["difference"]
    lacking = rows.copy()
    one = (lacking["folder"] == "dvora-128.0-100-0") & (lacking["question_id"] >= 17)
    lacking.loc[one, ["score", "fastchat"]] = None
    (panel,) = panels_of(frame, judgments_of(lacking))
    assert panel.left_out == 6 and panel.partial == ()  # three questions of two turns
    # Its mean over easier questions is another one, but nothing is drawn or compared by it.
    scores, drawn = panel.scores.set_index("folder"), panel.cells.set_index("folder")["average"]
    assert scores.loc["dvora-128.0-100-0", "missing"] == 6
    assert scores.loc["dvora-128.0-100-0", "mean"] < scores.loc["lora-8.0-400-2", "mean"]
    assert drawn["dvora-128.0-100-0"] > drawn["lora-8.0-400-2"]
    assert panel.differences["difference"].tolist() == pytest.approx(whole.tolist())


def test_a_cell_that_is_half_judged_spoils_no_comparison() -> None:
    """Judging that was stopped (a spending limit, a night's end) leaves no row for what is missing."""
    frame = judged_cells()
    rows = ratings(frame)
    stopped = rows[~((rows["folder"] == "dvora-128.0-400-2") & (rows["question_id"] >= 5))]
    told = judgments_of(stopped, wanted=40)
    (panel,) = panels_of(frame, told)
    assert panel.partial == ("dvora-128.0-400-2",) and panel.left_out == 0
    scores = panel.scores.set_index("folder")
    assert (scores.loc["dvora-128.0-400-2", "n"], scores.loc["dvora-128.0-400-2", "missing"]) == (40, 30)
    assert panel.differences["seeds"].tolist() == [3, 2]
    assert any("dvora-128.0-400-2 lack more than a fifth" in one for one in judge_warnings([panel], told))


def test_both_parsers_are_told_of() -> None:
    frame = judged_cells()
    rows = ratings(frame)
    rows.loc[rows["question_id"] == 0, "fastchat"] = None  # [[8/10]]: only the strict one reads it
    rows.loc[rows["question_id"] == 1, "fastchat"] = 95.0
    told = judgments_of(rows, served={"judge-1": ["judge-2024-05", "judge-2024-08"]})
    (panel,) = panels_of(frame, told)
    row = panel.scores.iloc[0]
    assert (row["disagree"], row["fastchat_missing"], row["missing"]) == (4, 2, 0)
    assert any("these are several judges under one name" in one for one in judge_warnings([panel], told))
    rows["fastchat"] = None
    table = open_answer_tables(
        tables_of_cells(frame), panels_of(frame, judgments_of(rows)), judgments_of(rows), NOTHING
    )[0]
    assert table.rows[0][-3:] == ["-", "40", "40"]


def test_turns_categories_and_intervals() -> None:
    frame = judged_cells()
    (panel,) = panels_of(frame, judgments_of(ratings(frame)))
    row = panel.scores.set_index("folder").loc["base-nan-0-0"]
    assert (row["turn_1"], row["turn_2"], row["mean"]) == pytest.approx((4.45, 4.95, 4.7))
    assert row["low"] < 4.7 < row["high"] and row["n"] == 40 and row["missing"] == 0
    found = {
        one.title: one
        for one in open_answer_tables(tables_of_cells(frame), [panel], judgments_of(ratings(frame)), NOTHING)
    }
    table = found["By category: mt_bench, judged by judge"]
    assert table.heads == ["cell", "writing (n=20)", "math (n=20)"]
    assert [one.split(" [")[0] for one in table.rows[0][1:]] == ["4.65", "4.75"] and "[" in table.rows[0][1]


def test_a_tie_lies_within_a_hundredth_of_the_scale() -> None:
    frame = judged_cells()
    rows = ratings(frame)
    rows["score"] = 5 + 0.1 * (rows["question_id"] % 3) + rows["folder"].str.endswith("-1") * 0.02
    (panel,) = panels_of(frame, judgments_of(rows))
    assert set(panel.differences["verdict"]) == {"tie"} and panel.hundredth == 0.09
    said = judged_finding([panel], ReportConfig(), NOTHING)
    assert any("dvora and lora tie" in one and "within 0.09 points" in one for one in said)
    rows["score"] += rows["folder"].str.startswith("dvora") * (0.12 + 0.001 * rows["question_id"])
    (panel,) = panels_of(frame, judgments_of(rows))
    assert set(panel.differences["verdict"]) == {"better"}


def test_the_judges_noise_is_a_band_and_a_failed_check_a_warning() -> None:
    frame = judged_cells()
    rows = ratings(frame)
    check = CheckResult("mt_bench", {}, 0.8, wanted=40, rated=40)
    (panel,) = panels_of(frame, judgments_of(rows, checks={"judge-1": [check]}))
    assert panel.noise == pytest.approx(noise_of_mean(0.8, 40)) and not panel.failed_check
    drawn = {one.name: one for one in samples.draw(frame, [panel])}
    assert "Bands: what the judge's own noise does to a mean" in drawn["samples_vs_score"].caption
    (silent,) = panels_of(frame, judgments_of(rows))
    assert "The noise of judge is not known" in samples.draw(frame, [silent])[-1].caption
    assert judge_warnings([silent], judgments_of(rows)) == [
        "judge was not checked: `bench judge FOLDER --check` says whether it can judge"
    ]
    begun = {"judge-1": [CheckResult("mt_bench", {}, None, wanted=40, rated=12)]}
    (stopped,) = panels_of(frame, judgments_of(rows, checks=begun))
    assert any("has 12 of 40 judgments" in one for one in judge_warnings([stopped], judgments_of(rows, checks=begun)))
    mute = {"judge-1": [CheckResult("mt_bench", {}, None, wanted=40, rated=0)]}
    (said,) = panels_of(frame, judgments_of(rows, checks=mute))
    assert said.failed_check and all("failed its check" in one.note for one in _of(said, frame, rows, mute))


def _of(panel: JudgePanel, frame: pd.DataFrame, rows: pd.DataFrame, checks: Any) -> list[Any]:
    """The tables of a panel's own scores."""
    made = open_answer_tables(tables_of_cells(frame), [panel], judgments_of(rows, checks=checks), NOTHING)
    return [one for one in made if "mt_bench, judged by" in one.title]


def test_a_tie_margin_of_ones_own_is_said() -> None:
    frame = judged_cells()
    rules = ReportConfig(tie_margin=2.0)
    (panel,) = judge_panels(tables_of_cells(frame), judgments_of(ratings(frame)), "lora", rules)
    made = open_answer_tables(tables_of_cells(frame), [panel], judgments_of(ratings(frame)), NOTHING, rules)
    assert any("a difference of 0.18 points or more" in one.note for one in made)


def test_two_judges_never_share_a_panel() -> None:
    frame = judged_cells()
    rows = pd.concat([ratings(frame), ratings(frame, judge="judge-2"), ratings(frame, "held_out")])
    assert [(one.judge, one.set) for one in panels_of(frame, judgments_of(rows))] == [
        ("judge-1", "mt_bench"),
        ("judge-2", "mt_bench"),
        ("judge-1", "held_out"),
    ]


def test_the_papers_mt_bench_points_are_never_drawn_over_grades_of_single_answers() -> None:
    """Whatever base, data, questions and judge: the paper's judge saw two answers in one prompt."""
    questions = OpenSetRecord(n=80, turns=160, with_reference=40, references="", fingerprint="9ce50ff00905cc52")
    plan = NOTHING.model_copy(update={"open_questions": {"mt_bench": questions}, "instructions": ["alpaca, the hub's"]})
    frame = judged_cells(base="meta-llama/Llama-2-7b-hf")
    panels = panels_of(frame, judgments_of(ratings(frame), name="gpt-4"))
    drawn = samples.draw(frame, panels)[-1]
    assert drawn.name == "samples_vs_score" and "Table 5" not in drawn.svg
    table = open_answer_tables(tables_of_cells(frame), panels, judgments_of(ratings(frame)), plan)[-1]
    assert table.note.startswith("Not drawn in the figure, because") and "two answers in one prompt" in table.note
    assert table.title == "Published MT-Bench scores" and ["dora", "LLaMA2-7B", "10,000", "6.0"] in [
        row[:4] for row in table.rows
    ]


@pytest.fixture
def cells() -> pd.DataFrame:
    """Full fine-tuning, DoRA and VeRA, in this order."""
    rows = [{"method": "full", "rank": None, "average": 1.0}]
    return cells_of(rows + [{"method": method, "rank": 8, "average": 1.0} for method in ("dora", "vera")])


def judged(games: list[tuple[str, str, str]]) -> JudgmentTables:
    """Two games of each (model_1, model_2, winner of both), in both orders."""
    other = {"A": "B", "B": "A", "tie": "tie"}
    rows = [
        ("j", "held_out", question, 1, game, *models, result)
        for question, (first, second, winner) in enumerate(games)
        for game, models, result in ((1, (first, second), winner), (2, (second, first), other[winner]))
    ]
    judge = JudgeRecord(kind="openai", name="judge", scale=(1.0, 10.0), settings={})
    return JudgmentTables({"j": judge}, pd.DataFrame(), pd.DataFrame(rows, columns=PAIRS), {}, {}, {}, ())


def test_strengths_are_relative_to_the_plan_s_baseline(cells: pd.DataFrame) -> None:
    """The same that accuracies are compared with: of these methods DoRA, the first with a rank."""
    tables = ResultTables(cells, pd.DataFrame(), (), 0, pd.DataFrame(), ())
    games = [("c0", "c1", "A"), ("c1", "c2", "A"), ("c0", "c2", "tie")]
    (table,) = pairwise_tables(tables, judged(games), baseline_of(cells))
    assert table.title == "Compared in pairs: held_out, by judge" and "on Elo's scale, dora r8 at 0" in table.note
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["dora r8"][4] == "+0" and rows["full"][:4] == ["75.0", "1", "1", "0"]
    assert rows["vera r8"][:4] == ["25.0", "0", "1", "1"]


def test_without_a_game_of_the_baseline_the_first_series_takes_its_place(cells: pd.DataFrame) -> None:
    tables = ResultTables(cells, pd.DataFrame(), (), 0, pd.DataFrame(), ())
    (table,) = pairwise_tables(tables, judged([("c0", "c2", "A")]), "dora")
    assert "full at 0" in table.note
    assert pairwise_tables(tables, judged([]), "dora") == []
