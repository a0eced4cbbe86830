"""The `decide` section of a sweep file: what it takes, and what it says of bad input."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bench.sweep.decide import DecideConfig, DecideRecord
from bench.sweep.schema import Sweep, describe

SWEEP: dict[str, Any] = {
    "name": "x",
    "base_model": "b",
    "methods": [{"method": "lora", "rank": 4}, {"method": "dora", "rank": 4}],
    "samples": 10,
}


def test_the_seeds_of_a_sweep_are_those_of_the_first_look() -> None:
    sweep = Sweep.model_validate({**SWEEP, "decide": {}})
    assert sweep.seeds == (0, 1, 2, 3, 4) and sweep.all_seeds == tuple(range(20))
    given = Sweep.model_validate({**SWEEP, "decide": {"looks": [3, 5]}, "seeds": [7, 2, 5], "tune": {"seed": 8}})
    assert given.all_seeds == (7, 2, 5, 9, 10)  # after the largest, without the trials' seed
    assert Sweep.model_validate(given.resolved()) == given


def test_a_sweep_without_it_is_written_and_hashed_as_before() -> None:
    plain = Sweep.model_validate({**SWEEP, "seeds": [0, 1, 2]})
    assert "decide" not in plain.resolved() and plain.all_seeds == (0, 1, 2)
    assert plain.plan_hash() != Sweep.model_validate({**SWEEP, "decide": {"looks": [3, 5]}}).plan_hash()


@pytest.mark.parametrize(
    ("budget", "seconds", "cells"),
    [("8h", 28800, None), ("1.5 h", 5400, None), ("90m", 5400, None), ("40 cells", None, 40), (None, None, None)],
)
def test_a_budget_is_time_or_cells(budget: str | None, seconds: float | None, cells: int | None) -> None:
    config = DecideConfig(budget=budget)
    assert (config.seconds, config.cells) == (seconds, cells)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"decide": {"budget": 8}},
            "decide.budget: a budget is hours or minutes of running cells, or their number: 8h, 90m or 40 cells "
            "(got 8)",
        ),
        ({"decide": {"budget": "8 days"}}, "8h, 90m or 40 cells (got '8 days')"),
        ({"decide": {"budget": "0h"}}, "(got '0h')"),
        ({"decide": {"budget": "1.5 cells"}}, "(got '1.5 cells')"),
        ({"decide": {"looks": [5, 6]}}, "each further one at least two more than the one before; got [5, 6]"),
        ({"decide": {"looks": [2, 5]}}, "the first look has 3 seeds or more"),
        ({"decide": {"looks": [7, 5]}}, "got [7, 5]"),
        (
            {"decide": {"looks": "all"}},
            "a list of numbers of seeds, such as [5, 7, 10, 14, 20]; got 'all'",
        ),
        ({"decide": {"looks": [5, 1000]}}, "at up to 200 seeds"),
        ({"decide": {"lokos": [5, 7]}}, "Did you mean 'looks'?"),
        ({"decide": {}, "seeds": [0, 1, 2]}, "at 5 seeds, and this sweep has 3 seeds; leave seeds out, or give 5, or"),
        ({"decide": {}, "seeds": 0}, "this sweep has 1 seed; leave seeds out, or give 5"),
        ({"decide": {}, "seeds": [0, 1, 2, 3, 3]}, "this sweep has 4 different seeds; leave seeds out, or give 5"),
        ({"decide": {}, "seeds": [0, 1, 2, 3, 4, 5]}, "or set decide.looks to [6, ...]"),
        ({"decide": {}, "seeds": [0, 1, 2, 3, 2**32 - 1]}, "there are too few; give smaller seeds"),
    ],
)
def test_bad_input_is_one_sentence_with_its_fix(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Sweep.model_validate({**SWEEP, **changes})
    assert problem in describe(caught.value)


@pytest.mark.parametrize("decide", [{"looks": list(range(3000))}, {"looks": "7" * 3000}, {"budget": [8] * 3000}])
def test_a_long_value_is_shortened_in_the_message(decide: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        Sweep.model_validate({**SWEEP, "decide": decide})
    assert len(describe(caught.value)) < 400


def test_a_budget_of_very_many_digits_is_refused() -> None:
    with pytest.raises(ValidationError, match="a budget is hours or minutes"):
        DecideConfig(budget="9" * 400 + "h")


def test_looks_do_not_change_after_the_first_score() -> None:
    first = DecideRecord(looks=(5, 7), seeds=tuple(range(7)), budget="2h")
    longer = DecideRecord(looks=(5, 7, 10), seeds=tuple(range(10)), budget="9h")
    assert longer.after(first, begun=False) == longer
    assert longer.after(first, begun=True) == first.model_copy(update={"budget": "9h"})
    assert longer.after(None, begun=True).late
