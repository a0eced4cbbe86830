"""What a cell's average would be, had other development questions chosen its learning rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench.analysis.cell_answers import CellAnswers, cell_answers, weighted_spread
from bench.analysis.rate_choice import ScoredTrial, choice_changes
from bench.store.records import PlannedRecord

RATES, SEEDS = (1e-3, 3e-3), (0, 1, 2)
QUESTIONS = 40


def planned(rate: float, seed: int, tuned: bool = False) -> PlannedRecord:
    folder = f"lora-{rate:g}-s{seed}"
    options = {"rank": 4, "lr": rate}
    return PlannedRecord(
        folder=folder, name=folder, base="b", method="lora", rank=4, samples=8, seed=seed, options=options,
        tuned=tuned, evaluations=["test"], development=["development"],
    )  # fmt: skip


def development(right: dict[tuple[float, int], np.ndarray]) -> dict[str, CellAnswers]:
    rows = [
        {
            "folder": planned(*key).folder,
            "protocol": "loglikelihood",
            "task": "boolq",
            "question_id": f"{question:03d}",
            "cluster": None,
            "correct": bool(answer),
            "probability": np.nan,
        }
        for key, answers in right.items()
        for question, answer in enumerate(answers)
    ]
    return cell_answers(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def trials() -> list[ScoredTrial]:
    """Rates that are alike on the development questions, and 2 points apart on the test questions."""
    rng = np.random.default_rng(3)
    right = {(rate, seed): rng.random(QUESTIONS) < 0.6 for rate in RATES for seed in SEEDS}
    answers = development(right)
    return [
        ScoredTrial(of, 50.0 + 2 * (rate == 3e-3) + seed, answers[of.folder], 1.0)
        for rate, seed in right
        for of in [planned(rate, seed)]
    ]


def test_each_draw_takes_the_trial_that_the_other_seeds_choose(trials: list[ScoredTrial]) -> None:
    cells = [planned(1e-3, 0, tuned=True), planned(3e-3, 1, tuned=True), planned(1e-3, 7, tuned=True)]
    changes = choice_changes(cells, trials)
    scores = {(of.planned.lr, of.planned.seed): of.development.averages for of in trials}
    for cell, judges, step in zip(cells, ((1, 2), (0, 2), SEEDS), (2.0, -2.0, 2.0), strict=True):
        means = {rate: np.mean([scores[rate, seed] for seed in judges], axis=0).round(9) for rate in RATES}
        other = means[3e-3] > means[1e-3] if step > 0 else means[1e-3] >= means[3e-3]
        assert changes[cell.folder].tolist() == np.where(other, step, 0.0).tolist()
        assert 0.02 < np.mean(other) < 0.98


def test_cells_that_nothing_is_known_of_have_no_changes(trials: list[ScoredTrial]) -> None:
    assert choice_changes([planned(1e-3, 0)], trials) == {}  # its rate was given
    assert choice_changes([planned(1e-2, 0, tuned=True)], trials) == {}  # no trial has its rate
    assert choice_changes([planned(1e-3, 0, tuned=True)], []) == {}
    unscored = [replace(of, average=float("nan")) if of.planned.seed == 0 else of for of in trials]
    assert choice_changes([planned(1e-3, 0, tuned=True)], unscored) == {}
    other = replace(trials[0], development=replace(trials[0].development, question_set=9))
    assert choice_changes([planned(1e-3, 0, tuned=True)], [other, *trials[1:]]) == {}


def test_the_choices_of_both_sides_are_drawn_together(trials: list[ScoredTrial]) -> None:
    answers = {of.planned.folder: of.development for of in trials}
    cells = [planned(1e-3, seed, tuned=True) for seed in SEEDS]
    changes = choice_changes(cells, trials)
    of_seeds = {
        seed: [
            (1.0, replace(answers[cell.folder], choice_changes=changes[cell.folder])),
            (-1.0, answers[planned(3e-3, seed).folder]),
        ]
        for seed, cell in zip(SEEDS, cells, strict=True)
    }
    spread = weighted_spread(of_seeds)
    assert spread is not None
    assert spread.choice_error == pytest.approx(np.std(np.mean([changes[cell.folder] for cell in cells], axis=0)))
    both = {seed: [(1.0, pair[0][1]), (-1.0, pair[0][1])] for seed, pair in of_seeds.items()}
    alike = weighted_spread(both)
    assert alike is not None and alike.choice_error == 0.0
