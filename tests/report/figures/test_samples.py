"""Accuracy and judged scores against samples: what is drawn, what is compared, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.analysis.judgments import COMPARISONS, JUDGMENTS, Judged
from bench.analysis.result_tables import ResultTables
from bench.judging.judge_check import CheckResult
from bench.judging.measures import noise_of_mean
from bench.report import open_answers, published
from bench.report.figures import samples
from bench.statistics import mean_interval
from bench.store.records import JudgeRecord
from bench.sweep.sections import ReportConfig

RANKS = {"lora": 8, "dvora": 128}
COUNTS, SEEDS, QUESTIONS = (100, 400), (0, 1, 2), 20
NOTHING: dict[str, Any] = {"cells": []}
"""A plan of which nothing matters."""


def cells(ranks: dict[str, tuple[int, ...]] | None = None, base: str = "tiny") -> pd.DataFrame:
    """Done cells of each method, rank, count and seed, and the untuned base."""
    ranks = ranks or {name: (rank,) for name, rank in RANKS.items()}
    rows = [{"method": "base", "rank": None, "samples": 0, "seed": 0}]
    rows += [
        {"method": method, "rank": rank, "samples": count, "seed": seed}
        for method, own in ranks.items()
        for rank in own
        for count in COUNTS
        for seed in SEEDS
    ]
    frame = pd.DataFrame(rows)
    frame["folder"] = [f"{row.method}-{row.rank}-{row.samples}-{row.seed}" for row in frame.itertuples()]
    places = np.arange(len(frame))
    return frame.assign(
        name=frame["folder"],
        base=base,
        series=frame["method"],
        status="done",
        average=40.0 + places,
        question_noise=2.0,
        training=[{}] * len(frame),
        answers=40,
        answers_cut=1,
        answer_tokens=400,
    )


def judgments(frame: pd.DataFrame, name: str = "mt_bench", judge: str = "judge-1") -> pd.DataFrame:
    """Two turns of each question, scored by each cell's number, the question's and the turn's."""
    rows = [
        (judge, name, folder, question, "math" if question % 2 else "writing", turn, 0, score, score)
        for number, folder in enumerate(frame["folder"])
        for question in range(QUESTIONS)
        for turn in (1, 2)
        for score in [3 + 0.05 * number + 0.1 * question + 0.5 * turn]
    ]
    return pd.DataFrame(rows, columns=list(JUDGMENTS))


def frames_of(frame: pd.DataFrame) -> ResultTables:
    empty = pd.DataFrame()
    return ResultTables(frame, empty, (), 0, empty, ())


def judged_of(rows: pd.DataFrame, kind: str = "openai", name: str = "judge", **more: Any) -> Judged:
    scale = (1.0, 10.0) if kind == "openai" else (0.0, 100.0)
    judges = {label: JudgeRecord(kind=kind, name=name, scale=scale, settings={}) for label in rows["judge"].unique()}
    sizes = rows.groupby(["judge", "set", "folder"]).size().to_dict()
    wanted = {key: more.get("wanted", count) for key, count in sizes.items()}
    checks, served = more.get("checks", {}), more.get("served", {})
    return Judged(judges, rows, pd.DataFrame(columns=list(COMPARISONS)), checks, wanted, served, ())


def panels(frame: pd.DataFrame, told: Judged) -> list[open_answers.Panel]:
    return open_answers.panels(frames_of(frame), told, "lora", ReportConfig())


def test_methods_of_one_rank_each_are_compared_at_their_own_ranks() -> None:
    frame = cells()
    rows = judgments(frame)
    (panel,) = panels(frame, judged_of(rows))
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
        interval = mean_interval(gaps)
        assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert panel.differences["rank"].isna().all() and panel.differences["mcnemar_p"].isna().all()
    table = next(
        one for one in open_answers.tables(frames_of(frame), [panel], judged_of(rows), NOTHING) if "Paired" in one.title
    )
    assert "each method at its own rank" in table.note and "rank" not in table.heads


def test_cells_are_compared_on_what_all_of_them_have_a_judgment_of() -> None:
    frame = cells()
    rows = judgments(frame)
    whole = panels(frame, judged_of(rows))[0].differences["difference"]
    lacking = rows.copy()
    one = (lacking["folder"] == "dvora-128.0-100-0") & (lacking["question_id"] >= 17)
    lacking.loc[one, ["score", "fastchat"]] = None
    (panel,) = panels(frame, judged_of(lacking))
    assert panel.left_out == 6 and panel.partial == ()  # three questions of two turns
    # Its mean over easier questions is another one, but nothing is drawn or compared by it.
    scores, drawn = panel.scores.set_index("folder"), panel.cells.set_index("folder")["average"]
    assert scores.loc["dvora-128.0-100-0", "missing"] == 6
    assert scores.loc["dvora-128.0-100-0", "mean"] < scores.loc["lora-8.0-400-2", "mean"]
    assert drawn["dvora-128.0-100-0"] > drawn["lora-8.0-400-2"]
    assert panel.differences["difference"].tolist() == pytest.approx(whole.tolist())


def test_a_cell_that_is_half_judged_spoils_no_comparison() -> None:
    """Judging that was stopped (a spending limit, a night's end) leaves no row for what is missing."""
    frame = cells()
    rows = judgments(frame)
    stopped = rows[~((rows["folder"] == "dvora-128.0-400-2") & (rows["question_id"] >= 5))]
    told = judged_of(stopped, wanted=40)
    (panel,) = panels(frame, told)
    assert panel.partial == ("dvora-128.0-400-2",) and panel.left_out == 0
    scores = panel.scores.set_index("folder")
    assert (scores.loc["dvora-128.0-400-2", "n"], scores.loc["dvora-128.0-400-2", "missing"]) == (40, 30)
    assert panel.differences["seeds"].tolist() == [3, 2]
    assert any("dvora-128.0-400-2 lack more than a fifth" in one for one in open_answers.warnings([panel], told))


def test_both_parsers_are_told_of() -> None:
    frame = cells()
    rows = judgments(frame)
    rows.loc[rows["question_id"] == 0, "fastchat"] = None  # [[8/10]]: only the strict one reads it
    rows.loc[rows["question_id"] == 1, "fastchat"] = 95.0
    told = judged_of(rows, served={"judge-1": ["judge-2024-05", "judge-2024-08"]})
    (panel,) = panels(frame, told)
    row = panel.scores.iloc[0]
    assert (row["disagree"], row["fastchat_missing"], row["missing"]) == (4, 2, 0)
    assert any("these are several judges under one name" in one for one in open_answers.warnings([panel], told))
    rows["fastchat"] = None
    table = open_answers.tables(frames_of(frame), panels(frame, judged_of(rows)), judged_of(rows), NOTHING)[0]
    assert table.rows[0][-3:] == ["-", "40", "40"]


def test_turns_categories_and_intervals() -> None:
    frame = cells()
    (panel,) = panels(frame, judged_of(judgments(frame)))
    row = panel.scores.set_index("folder").loc["base-nan-0-0"]
    assert (row["turn_1"], row["turn_2"], row["mean"]) == pytest.approx((4.45, 4.95, 4.7))
    assert row["low"] < 4.7 < row["high"] and row["n"] == 40 and row["missing"] == 0
    found = {
        one.title: one for one in open_answers.tables(frames_of(frame), [panel], judged_of(judgments(frame)), NOTHING)
    }
    table = found["By category: mt_bench, judged by judge"]
    assert table.heads == ["cell", "writing (n=20)", "math (n=20)"]
    assert [one.split(" [")[0] for one in table.rows[0][1:]] == ["4.65", "4.75"] and "[" in table.rows[0][1]


def test_a_tie_lies_within_a_hundredth_of_the_scale() -> None:
    frame = cells()
    rows = judgments(frame)
    rows["score"] = 5 + 0.1 * (rows["question_id"] % 3) + rows["folder"].str.endswith("-1") * 0.02
    (panel,) = panels(frame, judged_of(rows))
    assert set(panel.differences["verdict"]) == {"tie"} and panel.hundredth == 0.09
    said = open_answers.finding([panel], ReportConfig(), NOTHING)
    assert any("dvora and lora tie" in one and "within 0.09 points" in one for one in said)
    rows["score"] += rows["folder"].str.startswith("dvora") * (0.12 + 0.001 * rows["question_id"])
    (panel,) = panels(frame, judged_of(rows))
    assert set(panel.differences["verdict"]) == {"better"}


def test_the_judges_noise_is_a_band_and_a_failed_check_a_warning() -> None:
    frame = cells()
    rows = judgments(frame)
    check = CheckResult("mt_bench", {}, 0.8, wanted=40, rated=40)
    (panel,) = panels(frame, judged_of(rows, checks={"judge-1": [check]}))
    assert panel.noise == pytest.approx(noise_of_mean(0.8, 40)) and not panel.useless
    drawn = {one.name: one for one in samples.draw(frame, [panel], {})}
    assert "Bands: what the judge's own noise does to a mean" in drawn["samples_vs_score"].caption
    (silent,) = panels(frame, judged_of(rows))
    assert "The noise of judge is not known" in samples.draw(frame, [silent], {})[-1].caption
    assert open_answers.warnings([silent], judged_of(rows)) == [
        "judge was not checked: `bench judge FOLDER --check` says whether it can judge"
    ]
    begun = {"judge-1": [CheckResult("mt_bench", {}, None, wanted=40, rated=12)]}
    (stopped,) = panels(frame, judged_of(rows, checks=begun))
    assert any(
        "has 12 of 40 judgments" in one for one in open_answers.warnings([stopped], judged_of(rows, checks=begun))
    )
    mute = {"judge-1": [CheckResult("mt_bench", {}, None, wanted=40, rated=0)]}
    (said,) = panels(frame, judged_of(rows, checks=mute))
    assert said.useless and all("failed its check" in one.note for one in _of(said, frame, rows, mute))


def _of(panel: open_answers.Panel, frame: pd.DataFrame, rows: pd.DataFrame, checks: Any) -> list[Any]:
    """The tables of a panel's own scores."""
    made = open_answers.tables(frames_of(frame), [panel], judged_of(rows, checks=checks), NOTHING)
    return [one for one in made if "mt_bench, judged by" in one.title]


def test_a_tie_margin_of_ones_own_is_said() -> None:
    frame = cells()
    rules = ReportConfig(tie_margin=2.0)
    (panel,) = open_answers.panels(frames_of(frame), judged_of(judgments(frame)), "lora", rules)
    made = open_answers.tables(frames_of(frame), [panel], judged_of(judgments(frame)), NOTHING, rules)
    assert any("within 0.18 points" in one.note for one in made)


def test_two_judges_never_share_a_panel() -> None:
    frame = cells()
    rows = pd.concat([judgments(frame), judgments(frame, judge="judge-2"), judgments(frame, "held_out")])
    assert [(one.judge, one.set) for one in panels(frame, judged_of(rows))] == [
        ("judge-1", "mt_bench"),
        ("judge-2", "mt_bench"),
        ("judge-1", "held_out"),
    ]


def test_heat_maps_need_two_ranks_and_two_counts() -> None:
    names = [one.name for one in samples.draw(cells(), [], {})]
    assert names == ["samples_vs_accuracy"]
    several = samples.draw(cells({"lora": (4, 8), "dora": (4, 8)}), [], {})
    assert [one.name for one in several] == ["samples_vs_accuracy", "rank_by_samples"]
    one_count = cells()
    assert samples.draw(one_count[one_count["samples"].isin((0, 100))], [], {}) == []


@pytest.mark.parametrize(
    ("base", "learnt", "asked", "judge", "fits"),
    [
        ("meta-llama/Llama-2-7b-hf", "alpaca, the hub's", published.MT_BENCH_FINGERPRINT, "gpt-4", True),
        ("meta-llama/Llama-2-7b-hf", "alpaca, the hub's", published.MT_BENCH_FINGERPRINT, "gpt-4-0613", True),
        ("meta-llama/Llama-2-7b-hf", "alpaca, own file", published.MT_BENCH_FINGERPRINT, "gpt-4", False),
        ("meta-llama/Llama-2-7b-hf", "alpaca, the hub's", "0" * 16, "gpt-4", False),
        ("meta-llama/Llama-2-7b-hf", "alpaca, the hub's", published.MT_BENCH_FINGERPRINT, "gpt-4o-mini", False),
        ("smollm2-135m-instruct", "alpaca, the hub's", published.MT_BENCH_FINGERPRINT, "gpt-4", False),
    ],
)
def test_the_papers_points_are_drawn_only_over_the_papers_experiment(
    base: str, learnt: str, asked: str, judge: str, fits: bool
) -> None:
    plan = {**NOTHING, "open_questions": {"mt_bench": {"fingerprint": asked}}, "instructions": [learnt]}
    assert published.comparable_scores({base}, plan, "mt_bench", "openai", judge) is fits
    frame = cells(base=base)
    (panel,) = panels(frame, judged_of(judgments(frame), name=judge))
    drawn = samples.draw(frame, [panel], plan)[-1]
    assert (b"dvora, DoRA, Table 5" in drawn.svg.encode()) is fits
    table = open_answers.tables(frames_of(frame), [panel], judged_of(judgments(frame)), plan)[-1]
    assert table.note.startswith("Drawn in the figure.") is fits
    assert table.title == "Published MT-Bench scores" and ["dora", "LLaMA2-7B", "10,000", "6.0"] in [
        row[:4] for row in table.rows
    ]
