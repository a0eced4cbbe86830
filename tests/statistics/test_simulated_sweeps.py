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

from bench.statistics import (
    AnswerSpread,
    SeedEstimate,
    SequentialDesign,
    TaskValues,
    answer_spread,
    compare_at_look,
    compare_family,
    sequential,
)

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


def run_until_told(
    values: np.ndarray, design: SequentialDesign, present: np.ndarray, most_looks: np.ndarray
) -> tuple[list[list[str | None]], float]:
    """Verdicts of families of values (F, M, S) by the functions that a run decides by, and the cells of a family on
    average. `present`: (F, M, S) seeds whose cells are there; `most_looks`: (F,) looks that the budget allows."""
    families, cells = [], 0
    for family, there, budget in zip(values, present, most_looks.tolist(), strict=True):
        told: list[str | None] = [None] * len(family)
        for number, look in enumerate(design.looks):
            before = design.looks[number - 1] if number else 0
            cells += (look - before) * (1 + told.count(None))
            seen = [of[:look][seeds[:look]] for of, seeds in zip(family, there, strict=True)]
            counted = [design.reached(len(of)) for of in seen]
            ready = [place for place, seeds in enumerate(counted) if seeds is not None]
            found = compare_at_look(
                [SeedEstimate(tuple(seen[place][: counted[place]].tolist())) for place in ready],
                [told[place] for place in ready],
                [1.0] * len(ready),
                design=design,
                waiting=len(family) - len(ready),
            )
            for place, comparison in zip(ready, found, strict=True):
                told[place] = None if comparison.verdict == "unresolved" else comparison.verdict
            if None not in told or number + 1 >= budget:
                break
        families.append(told)
    return families, cells / len(values)


@pytest.mark.parametrize(("true", "wrong"), [(0.0, ("better", "worse")), (1.0, ("tie",))])
def test_other_looks_missing_seeds_and_a_budget_keep_the_error_rate(true: float, wrong: tuple[str, ...]) -> None:
    """Five methods against one baseline, each seed's cell of a method missing in one of twelve cases, and a budget that
    ends some sweeps early, by what they saw."""
    runs, looks = 600, (4, 7, 11)
    fewer_paths = {
        number: [boundary.critical for boundary in sequential.boundaries(1 - ALPHA / number, looks, paths=60_000)]
        for number in range(1, COMPARISONS + 1)
    }
    design = SequentialDesign.of(looks, fewer_paths)
    random = np.random.default_rng(int(true) + 8)
    scores = random.normal(50, 0.7, (runs, COMPARISONS + 1, 11))
    values = scores[:, 1:] - scores[:, :1] + true
    present = random.random(values.shape) > 1 / 12
    most_looks = np.where(np.abs(values[:, 0, :4].mean(axis=1)) > 0.5, 2, 3)
    families, cells = run_until_told(values, design, present, most_looks)
    share = sum(any(verdict in wrong for verdict in family) for family in families) / runs
    print(f"true difference {true}: {wrong[0]} in {share:.1%} of families, {cells:.1f} of 66 cells")
    assert share <= ALPHA + within(ALPHA, runs)
    assert cells < 66


def test_deciding_takes_fewer_cells_than_the_fixed_design() -> None:
    runs, design = 200, SequentialDesign()
    random = np.random.default_rng(9)
    scores = random.normal(50, 0.5, (runs, COMPARISONS + 1, 20))
    values = scores[:, 1:] - scores[:, :1] + np.array([-3.0, -1.5, 0.0, 0.0, 2.0])[:, None]
    everywhere = np.ones(values.shape, dtype=bool)
    families, cells = run_until_told(values, design, everywhere, np.full(runs, 5))
    told = sum(verdict is not None for family in families for verdict in family) / (runs * COMPARISONS)
    print(f"{told:.0%} told with {cells:.0f} cells; with all seeds there are {6 * 20}")
    assert told > 0.9 and cells < 0.75 * 6 * 20
