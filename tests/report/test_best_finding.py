"""Which setting the finding names: none that is inside the noise, and of equals the cheapest."""

from __future__ import annotations

import pandas as pd

from bench.analysis.best_setting import RankedSetting
from bench.report.best_finding import best_sentences
from bench.statistics import AgainstBest

COSTS = pd.DataFrame(
    {
        "label": ["lora r8", "lora r32", "dora r8"],
        "seconds": [60.0, 90.0, 120.0],
        "memory": [800.0, 1000.0, 1200.0],
        "trainable": [1e6, 4e6, 1.1e6],
    }
)


def setting(label: str, average: float, worse: bool, p: float | None, bound: float, seeds: int = 5) -> RankedSetting:
    return RankedSetting(label, "base", average, seeds, AgainstBest(worse, p, bound))


def said(*settings: RankedSetting, costs: pd.DataFrame = COSTS) -> str:
    (sentence,) = best_sentences(settings, costs, 1.0)
    return sentence


def test_a_setting_that_all_others_are_worse_than_is_the_best() -> None:
    sentence = said(setting("lora r32", 46.0, False, 0.001, 0.0), setting("lora r8", 42.0, True, 1.0, 6.0))
    assert (
        sentence == "The best setting is lora r32 (46.0): every other one is worse (95 % over 5 seeds and questions)."
    )


def test_of_equals_the_cheapest_is_named_with_the_reason() -> None:
    settings = [
        setting("lora r32", 45.2, False, 0.01, 0.4),
        setting("lora r8", 45.0, False, 0.02, 0.9),
        setting("dora r8", 44.1, False, 0.20, 2.0),
    ]
    assert said(*settings) == (
        "Take lora r8 (45.0): it is not worse than the best by 1 point (adjusted p 0.020; at most 0.9, 95 % over 5 "
        "seeds and questions), and of 2 such settings the cheapest: 33 % less training time and 20 % less memory than "
        "lora r32 (45.2), the highest average."
    )


def test_without_times_the_fewest_parameters_are_the_cheapest() -> None:
    costs = COSTS.assign(seconds=[float("nan"), 90.0, 120.0], memory=float("nan"))
    sentence = said(setting("dora r8", 45.2, False, 0.01, 0.4), setting("lora r8", 45.0, False, 0.02, 0.9), costs=costs)
    assert sentence.startswith("Take lora r8") and sentence.endswith("of 2 such settings the cheapest.")


def test_inside_the_noise_none_is_named() -> None:
    sentence = said(
        setting("lora r32", 45.2, False, 0.3, 2.4),
        setting("lora r8", 45.0, False, 0.4, 2.6),
        setting("dora r8", 40.1, True, 1.0, 7.0),
    )
    assert sentence == (
        "No setting is named the best: 2 of 3 cannot be told apart from it. The highest average is that of lora r32 "
        "(45.2): who takes it loses at most 2.4 points to the best (95 % over 5 seeds and questions)."
    )


def test_few_seeds_and_single_settings_name_none() -> None:
    sentence = said(setting("lora r32", 45.2, False, None, 2.4, 1), setting("lora r8", 45.0, False, None, 2.6, 1))
    assert sentence == "No setting is named the best: that takes 3 seeds of each, and some have fewer."
    assert best_sentences([setting("lora r8", 45.0, False, None, 0.0)], COSTS, 1.0) == []
