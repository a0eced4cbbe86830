"""Verdicts at later looks, against their rule and the simulated design."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.simulated import COMPONENTS, Families, decide

from bench.statistics import AnswerSpread, SeedEstimate, compare_at_look, sequential
from bench.statistics.boundaries import BOUNDARIES

FIVE = (3.0, 3.2, 2.8, 3.1, 2.9)


def test_the_interval_is_the_repeated_one() -> None:
    estimate = SeedEstimate(FIVE)
    (found,) = compare_at_look([estimate], [None], [1.0])
    half = BOUNDARIES[1][0] * estimate.deviation / 5**0.5
    assert (found.interval.low, found.interval.high) == pytest.approx((3.0 - half, 3.0 + half))
    assert found.verdict == "better" and found.p is None


def test_what_was_told_stands_and_leaves_the_level_to_the_others() -> None:
    """t = 5.2 lies between the boundaries of one comparison (4.3) and of two (5.2 and more)."""
    estimate = SeedEstimate((1.0, 1.5, 2.0, 0.9, 2.1))
    critical = estimate.mean / estimate.deviation * 5**0.5
    assert BOUNDARIES[1][0] < critical
    noise = SeedEstimate((4.0, -4.0, 3.0, -3.0, 0.5))
    few = compare_at_look([estimate, noise], [None, "worse"], [0.0, 0.0])
    assert [comparison.verdict for comparison in few] == ["better", "worse"]
    many = compare_at_look([estimate, *[noise] * 20], [None] * 21, [0.0] * 21)
    assert {comparison.verdict for comparison in many} == {"unresolved"}
    assert compare_at_look([estimate], [None], [0.0], share=10)[0].verdict == "unresolved"


def test_the_adjusted_interval_agrees_with_the_verdict_of_its_look() -> None:
    random = np.random.default_rng(1)
    told = set()
    for _ in range(40):
        family = [SeedEstimate(tuple(random.normal(mean, 0.5, 7))) for mean in random.normal(0, 1.2, 6)]
        for comparison in compare_at_look(family, [None] * 6, [1.0] * 6, share=4):
            told.add(comparison.verdict)
            interval = comparison.adjusted
            apart = not interval.low <= 0 <= interval.high
            assert apart or comparison.verdict not in ("better", "worse")
            assert not (apart and comparison.verdict == "unresolved")
            within = interval.low >= -1 and interval.high <= 1
            assert within == (comparison.verdict == "tie")
    assert told == {"better", "worse", "tie", "unresolved"}


def test_a_margin_of_none_leaves_no_ties() -> None:
    near = SeedEstimate((0.1, 0.12, 0.08, 0.1, 0.11))
    assert compare_at_look([near], [None], [1.0])[0].verdict == "tie"
    assert compare_at_look([near], [None], [0.0])[0].verdict == "better"


def test_seeds_that_are_no_look_are_refused() -> None:
    with pytest.raises(ValueError, match="4 seeds are no look"):
        compare_at_look([SeedEstimate(FIVE[:4])], [None], [1.0])


def test_a_run_over_all_looks_is_the_simulated_design() -> None:
    families = Families.of(COMPONENTS[0], 60, [0.0, 0.5, 1.0, 2.0], 20, seed=6)
    looks = {number: families.look(number) for number in sequential.LOOKS}

    class Replayed(Families):
        def look(self, seeds: int, naive: bool = False) -> object:
            return looks[seeds]

    expected = decide(Replayed(families.parts, families.values, families.random), 1.0).verdicts
    words = {0.0: "tie", 1.0: "better", -1.0: "worse"}
    for family in range(60):
        decided = [None] * 4
        for number, look in looks.items():
            estimates = [
                SeedEstimate(
                    (float(look.mean[family, method]),) * number,
                    AnswerSpread(float(look.question[family, method]) ** 2, float(look.deviation[family, method])),
                )
                for method in range(4)
            ]
            found = compare_at_look(estimates, decided, [1.0] * 4)
            decided = [comparison.verdict if comparison.verdict != "unresolved" else None for comparison in found]
        assert decided == [words.get(verdict) for verdict in expected[family].tolist()]


def test_comparisons_that_wait_keep_their_part_of_the_level() -> None:
    estimate = SeedEstimate((1.0, 1.5, 2.0, 0.9, 2.1))
    assert compare_at_look([estimate], [None], [0.0])[0].verdict == "better"
    assert compare_at_look([estimate], [None], [0.0], waiting=20)[0].verdict == "unresolved"
