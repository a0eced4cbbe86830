"""The usual spread, which `bench plan` expects of a sweep without cells: that of the committed sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.paths import RESULTS

from bench.analysis.comparison import baseline_places
from bench.analysis.result_tables import read_results
from bench.deciding.expectation import USUAL, UsualSpread
from bench.statistics import SEEDS
from bench.store.folder import Results


@pytest.mark.slow
@pytest.mark.parametrize("usual", USUAL, ids=lambda usual: usual.sweep)
def test_it_is_that_of_the_committed_sweep(usual: UsualSpread) -> None:
    results = Results(RESULTS / usual.sweep)
    plan, tables = results.plan_record(), read_results(results)
    answers = tables.answers
    places = baseline_places(tables.cells, plan.baseline, answers, plan.report)
    estimates = [estimate for place in places if (estimate := place.estimate(answers)).seeds >= SEEDS]
    assert estimates and all(estimate.spread is not None for estimate in estimates)
    deviation, churn, question = (
        np.mean([getattr(estimate, name) ** 2 for estimate in estimates])
        for name in ("own_deviation", "churn", "question_error")
    )
    assert usual.seed == pytest.approx(max(0.0, deviation - churn) ** 0.5, abs=0.005)
    assert usual.churn == pytest.approx(churn**0.5, abs=0.005)
    assert usual.question == pytest.approx(question**0.5, abs=0.005)
    questions = tables.questions.groupby(["folder", "task"], observed=True).size()
    assert set(questions) == {usual.questions}
