"""Whole sweeps of a known truth: coverage for the tasks, false verdicts and false ties.

The full version is tests/simulations/verdicts.py; docs/statistics.md has its tables.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.simulated import (
    ALPHA,
    COMPONENTS,
    Components,
    Families,
    Outcome,
    added_seeds,
    answers,
    coverage,
    decide,
    fixed,
    look_again,
)
from helpers.tables import within

from bench.statistics import AnswerSpread, SeedEstimate, TaskValues, answer_spread, compare_family

FAMILIES, COMPARISONS = 1500, 5
MANY_QUESTIONS, FEW_QUESTIONS = COMPONENTS[0], COMPONENTS[3]


def all_of(outcome: Outcome) -> np.ndarray:
    return np.ones(outcome.verdicts.shape, dtype=bool)


def test_simulated_answers_have_the_components_that_they_claim() -> None:
    parts, runs = FEW_QUESTIONS, 300
    correct = answers(parts, runs, 3, np.random.default_rng(0), difference=1.0)
    runs_of_tasks = 100 * (correct[:, 1].astype(float) - correct[:, 0])  # (runs, S, tasks, Q)
    spreads = [
        answer_spread([TaskValues(run[:, task], np.arange(parts.questions)) for task in range(4)])
        for run in runs_of_tasks
    ]
    values = runs_of_tasks.mean(axis=(2, 3))
    assert np.sqrt(np.mean([spread.churn**2 for spread in spreads])) == pytest.approx(parts.churn, rel=0.03)
    assert np.sqrt(np.mean([spread.question_variance for spread in spreads])) == pytest.approx(parts.question, rel=0.08)
    assert np.sqrt(values.var(axis=1, ddof=1).mean()) == pytest.approx(parts.deviation, rel=0.1)
    assert values.mean() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("seeds", [3, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "parts", [FEW_QUESTIONS, *(pytest.param(one, marks=pytest.mark.slow) for one in COMPONENTS[:3])]
)
def test_the_interval_covers_the_difference_on_all_questions(parts: Components, seeds: int) -> None:
    runs = 400
    found = coverage(parts, seeds, runs)
    for share in (found.both, found.average, found.row):
        assert share > 0.95 - within(0.95, runs)


def test_an_interval_over_seeds_alone_does_not() -> None:
    assert coverage(FEW_QUESTIONS, 10, 300).over_seeds < 0.85


@pytest.mark.parametrize("parts", COMPONENTS, ids=lambda parts: parts.name)
def test_false_verdicts_and_false_ties_are_at_most_one_family_in_twenty(parts: Components) -> None:
    bound = ALPHA + within(ALPHA, FAMILIES)
    for difference in (0.0, 1.0):
        families = Families.of(parts, FAMILIES, [difference] * COMPARISONS, 20, seed=2)
        for outcome in (
            *(fixed(families, seeds, 1.0) for seeds in (3, 5, 10)),
            decide(families, 1.0),
            added_seeds(families, 1.0),
        ):
            wrong = outcome.false_verdicts if difference == 0 else outcome.false_ties
            assert wrong(all_of(outcome)) <= bound


def test_looking_again_as_if_each_look_were_the_plan_is_wrong_far_more_often() -> None:
    families = Families.of(COMPONENTS[1], FAMILIES, [0.0] * COMPARISONS, 20, seed=3)
    again = look_again(families, 1.0)
    assert again.false_verdicts(all_of(again)) > 0.15
    apart = Families.of(COMPONENTS[1], FAMILIES, [1.0] * COMPARISONS, 20, seed=3)
    again = look_again(apart, 1.0)
    assert again.false_ties(all_of(again)) > 0.15


def test_deciding_needs_fewer_seeds_than_a_fixed_design_of_the_same_power() -> None:
    families = Families.of(COMPONENTS[1], FAMILIES, [2.0] * COMPARISONS, 20, seed=4)
    decided = decide(families, 1.0)
    assert decided.told() > 0.98 and decided.seeds.mean() < 10
    assert fixed(families, 5, 1.0).told() < decided.told()


def test_the_simulated_rule_is_the_one_of_the_report() -> None:
    """Verdicts of whole arrays against those of `compare_family`, of the same look."""
    families = Families.of(COMPONENTS[0], 200, [0.0, 0.3, 1.0, 2.0, -2.0], 5, seed=5)
    look = families.look(5)
    words = {0.0: "tie", 1.0: "better", -1.0: "worse"}
    for family, verdicts in enumerate(look.told(1.0)):
        # Without the values' own spread the floor is the s.d. that the look has.
        estimates = [
            SeedEstimate(
                (float(look.mean[family, method]),) * 5,
                AnswerSpread(float(look.question[family, method]) ** 2, float(look.deviation[family, method])),
            )
            for method in range(5)
        ]
        found = [comparison.verdict for comparison in compare_family(estimates)]
        assert found == [words.get(verdict, "unresolved") for verdict in verdicts.tolist()]
