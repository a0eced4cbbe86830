"""The contrasts of a sweep file: what they take, their identity, and what they say of bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.paths import loose_copy
from pydantic import ValidationError

from bench.store.folder import Results
from bench.sweep.contrasts import ContrastConfig, ContrastsRecord
from bench.sweep.schema import Sweep, describe

SWEEP: dict[str, Any] = {
    "name": "x",
    "base_model": "smollm2-135m-instruct",
    "methods": [{"method": "lora", "rank": [4, 8]}, {"method": "dora", "rank": [4, 8]}],
    "samples": 10,
    "seeds": [0, 1, 2],
}
PAIR = {"of": "dora", "against": "lora"}


def problem_of(**changes: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Sweep.model_validate({**SWEEP, **changes})
    return describe(caught.value)


def test_a_sweep_without_contrasts_is_written_as_before() -> None:
    written = Sweep.model_validate(SWEEP).resolved()
    assert "contrasts" not in written and "tie_share" not in written["report"]
    named = Sweep.model_validate({**SWEEP, "contrasts": [PAIR], "report": {"tie_share": 0.1}})
    assert named.resolved()["contrasts"] == [PAIR] and named.resolved()["report"]["tie_share"] == 0.1
    assert Sweep.model_validate(named.resolved()) == named
    null = Sweep.model_validate({**SWEEP, "report": {"tie_share": None}})
    assert Sweep.model_validate(null.resolved()) == null


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"contrasts": [{"of": "vera", "against": "lora"}]},
            "contrasts.0: 'vera' is not one of the methods",
        ),
        (
            {"contrasts": [{"of": "lora"}]},
            "lora is compared with nothing; give against: another method",
        ),
        ({"contrasts": [{"of": "lora", "against": "lora"}]}, "lora is compared with itself; give another method"),
        ({"contrasts": [PAIR, PAIR]}, "the same contrast twice"),
        ({"contrasts": [{**PAIR, "ranks": 4}]}, "unknown key 'ranks'"),
        ({"contrasts": [{"of": {"rank": 4}, "against": "lora"}]}, "a side is a method, or {method: name"),
        ({"contrasts": [PAIR], "seeds": [0, 1]}, "at least 3, and this sweep has 2; set seeds to [0, 1, 2] or more"),
        ({"contrasts": [{**PAIR, "at_ranks": rank} for rank in range(1, 7)]}, "at most 5 items"),
        ({"report": {"tie_margin": 0}}, "a margin of 0 points leaves no ties; give the largest difference"),
    ],
)
def test_bad_input_is_one_sentence_with_its_fix(changes: dict[str, object], problem: str) -> None:
    assert problem in problem_of(**changes)


def test_the_identity_is_that_of_the_content() -> None:
    first = ContrastConfig(of="dora", against="lora")
    assert first.id == ContrastConfig.model_validate(PAIR).id != ContrastConfig(of="lora", against="dora").id
    assert first.id != ContrastConfig(of="dora", against="lora", at_ranks=8).id


def test_a_plan_that_is_written_again_says_what_came_late(tmp_path: Path) -> None:
    """A folder of before there were contrasts, with scores: whatever is asked of it now is post hoc, and more seeds are
    another look."""
    results = Results(loose_copy("rank_real_small", tmp_path / "copy"))
    plan = results.plan_record()
    assert plan.contrasts is None and plan.looks == []
    named = ContrastsRecord(named=(ContrastConfig(of="dora", against="lora"),))
    more = plan.cells[-1].model_copy(update={"seed": 77, "folder": "new"})
    results.write_plan({}, plan.model_copy(update={"contrasts": named, "cells": [*plan.cells, more]}))
    written = results.plan_record()
    assert written.contrasts == named and written.looks == [[0]]
    (results.path / "plan.json").write_text("{")
    results.write_plan({}, plan.model_copy(update={"contrasts": named}))  # in the place of a damaged one
    assert results.plan_record().contrasts.planned == ()
    fresh = Results(tmp_path / "fresh")
    fresh.path.mkdir()
    fresh.write_plan({}, plan.model_copy(update={"contrasts": named}))
    assert fresh.plan_record().contrasts.planned == (named.named[0].id,) and fresh.plan_record().looks == []
