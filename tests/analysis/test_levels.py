"""How surely the average of a setting is known by itself."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from helpers.simulated import COMPONENTS, answers
from helpers.tables import asked, cells_of
from scipy import stats

from bench.analysis.cell_answers import cell_answers
from bench.analysis.levels import BOTH, QUESTIONS_ALONE, SEEDS_ALONE, with_intervals

SEEDS, QUESTIONS = 4, 60


def one_setting(correct: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and questions of one setting, from its answers (seeds, questions)."""
    rows = [
        {"method": "lora", "rank": 4, "seed": seed, "average": 100 * correct[seed].mean()}
        for seed in range(len(correct))
    ]
    cells = cells_of(rows).drop(columns=["half_width", "interval"])
    return cells, asked({folder: list(correct[place]) for place, folder in enumerate(cells["folder"])})


def test_the_interval_of_a_level_is_over_seeds_and_questions() -> None:
    random = np.random.default_rng(3)
    ability = random.random(QUESTIONS)
    correct = (random.random((SEEDS, QUESTIONS)) < ability + random.normal(0, 0.1, (SEEDS, 1))).astype(int)
    cells, questions = one_setting(correct)
    found = with_intervals(cells, cell_answers(questions))
    assert set(found["interval"]) == {BOTH} and found["half_width"].nunique() == 1
    # By hand: a two-way layout without replication, in points.
    values = 100 * correct
    by_question = values.mean(axis=0)
    residual = values - by_question - values.mean(axis=1, keepdims=True) + values.mean()
    residual_square = (residual**2).sum() / ((SEEDS - 1) * (QUESTIONS - 1))
    variance = (SEEDS * by_question.var(ddof=1) - residual_square) / SEEDS / QUESTIONS
    deviation = max(cells["average"].std(), math.sqrt(residual_square / QUESTIONS))
    of_seeds = stats.t.ppf(0.975, SEEDS - 1) * deviation / math.sqrt(SEEDS)
    expected = math.hypot(of_seeds, stats.norm.ppf(0.975) * math.sqrt(variance))
    assert found["half_width"].iloc[0] == pytest.approx(expected)


def test_fewer_seeds_know_questions_alone_and_lost_rows_seeds_alone() -> None:
    cells, questions = one_setting(np.random.default_rng(0).integers(0, 2, (SEEDS, QUESTIONS)))
    few = with_intervals(cells[:2], cell_answers(questions))
    assert set(few["interval"]) == {QUESTIONS_ALONE} and set(few["half_width"]) == {2.0}
    lost = with_intervals(cells, {})
    assert set(lost["interval"]) == {SEEDS_ALONE}
    low, high = stats.t.interval(0.95, SEEDS - 1, scale=cells["average"].std() / math.sqrt(SEEDS))
    assert lost["half_width"].iloc[0] == pytest.approx((high - low) / 2)


def test_it_covers_the_accuracy_on_all_questions_of_the_kind() -> None:
    """Of simulated settings whose accuracy is 50 on all questions: 95 % and a little more, by the floor under the
    spread."""
    runs, covered = 150, 0
    drawn = answers(COMPONENTS[3], runs, 5, np.random.default_rng(5))[:, 0]  # (runs, seeds, tasks, questions)
    for of_run in drawn:
        cells, _ = one_setting(of_run.reshape(5, -1).astype(int))
        tables = [
            asked(
                {folder: list(of_run[place, task].astype(int)) for place, folder in enumerate(cells["folder"])},
                f"t{task}",
            )
            for task in range(of_run.shape[1])
        ]
        found = with_intervals(cells, cell_answers(pd.concat(tables, ignore_index=True)))
        covered += abs(found["average"].mean() - 50) <= found["half_width"].iloc[0]
    assert covered / runs >= 0.93
