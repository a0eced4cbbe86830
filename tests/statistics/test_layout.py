"""The two-way layout question x seed, against its definition and a known truth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from helpers.tables import within
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from bench.statistics import TaskValues, answer_spread


def alone(values: np.ndarray) -> TaskValues:
    return TaskValues(values, np.arange(values.shape[1]))


def test_the_components_are_those_of_an_analysis_of_variance() -> None:
    random = np.random.default_rng(0)
    seeds, sizes = 4, (12, 20)
    tasks = [random.normal(0, 50, (seeds, size)) + random.normal(0, 30, size) for size in sizes]
    question, churn = 0.0, 0.0
    for values in tasks:
        rows = pd.DataFrame(
            [(s, q, values[s, q]) for s in range(seeds) for q in range(values.shape[1])], columns=list("sqx")
        )
        table = anova_lm(ols("x ~ C(s) + C(q)", rows).fit())["mean_sq"]
        question += (table["C(q)"] - table["Residual"]) / (seeds * values.shape[1]) / len(sizes) ** 2
        churn += table["Residual"] / values.shape[1] / len(sizes) ** 2
    found = answer_spread([alone(values) for values in tasks])
    assert found.question_variance == pytest.approx(question, rel=1e-9)
    assert found.churn == pytest.approx(math.sqrt(churn), rel=1e-9)


def test_questions_of_one_cluster_fall_together() -> None:
    """Every question asked twice says nothing more: the error of the questions is that of the single ones."""
    values = np.random.default_rng(1).normal(0, 50, (3, 40)) + np.random.default_rng(2).normal(0, 30, 40)
    once = answer_spread([alone(values)])
    twice = TaskValues(np.repeat(values, 2, axis=1), np.repeat(np.arange(40), 2))
    assert answer_spread([twice]).question_variance == pytest.approx(once.question_variance)
    assert answer_spread([twice]).churn == pytest.approx(once.churn)
    assert answer_spread([alone(twice.values)]).question_variance < 0.6 * once.question_variance


def test_what_the_layout_cannot_say() -> None:
    values = np.random.default_rng(3).normal(size=(3, 10))
    assert answer_spread([]) is None
    assert answer_spread([alone(values[:1])]) is None
    assert answer_spread([TaskValues(values, np.zeros(10))]) is None
    assert answer_spread([alone(np.ones((3, 10)))]).question_error == 0


def test_the_question_component_is_found_whatever_the_seeds_do() -> None:
    runs, seeds, questions = 400, 3, 100
    random = np.random.default_rng(4)
    effects = random.normal(0, 20, (runs, 1, questions))
    values = effects + random.normal(0, 3, (runs, seeds, 1)) + random.normal(0, 40, (runs, seeds, questions))
    squares = [answer_spread([alone(of_run)]).question_variance for of_run in values]
    # v_q is 20^2 / 100 = 4; negative estimates count as 0, which moves the mean up by little here.
    assert np.mean(squares) == pytest.approx(4, abs=0.5)
    covered = (np.abs(effects.mean(axis=(1, 2))) <= 1.96 * np.sqrt(squares)).mean()
    assert covered > 0.95 - within(0.95, runs) - 0.03
