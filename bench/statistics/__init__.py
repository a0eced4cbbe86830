"""Intervals, tests and the verdicts made from them: numbers in, numbers out. Nothing here reads a file.

Two kinds of chance move a difference between two methods:

- the **seed** (which examples, their order, the initialisation): Student's t over the paired differences of seeds;
- the **questions** that happened to be asked: the question component of the layout question x seed, which no number of
  seeds removes.

The interval of a verdict has both parts (`SeedEstimate`), its p values are adjusted for the number of comparisons
(`compare_family`). The question bootstrap and McNemar's test speak of single runs: they exclude seed variance.

Differences, standard deviations and margins are in points (0 to 100), shares of right answers in 0 to 1.
"""

from bench.statistics.best import AgainstBest, compare_with_best
from bench.statistics.bootstrap import RESAMPLES, TaskAnswers, percentile_interval, resampled_averages
from bench.statistics.estimates import SeedEstimate
from bench.statistics.intervals import (
    LEVEL,
    ROUNDING,
    SEEDS,
    UNKNOWN_STEP,
    Interval,
    NoiseFloor,
    mean_interval,
    noise_floor,
    question_half_width,
    standard_deviation,
    wilson,
)
from bench.statistics.later_looks import LATER_SHARE, compare_at_look
from bench.statistics.layout import AnswerSpread, TaskValues, answer_spread
from bench.statistics.power import (
    MOST_SEEDS,
    POWER,
    TIE_MARGIN,
    detectable_difference,
    detection_power,
    seeds_needed,
    tie_power,
)
from bench.statistics.rate_choice import best_rate, changes_of_choice
from bench.statistics.sequential import LOOKS, SequentialDesign
from bench.statistics.significance import above_zero, benjamini_hochberg, holm, mcnemar, sign_test
from bench.statistics.verdicts import SINGLE, Correction, SeedComparison, Verdict, compare_family

__all__ = [
    "LATER_SHARE",
    "LEVEL",
    "LOOKS",
    "MOST_SEEDS",
    "POWER",
    "RESAMPLES",
    "ROUNDING",
    "SEEDS",
    "SINGLE",
    "TIE_MARGIN",
    "UNKNOWN_STEP",
    "AgainstBest",
    "AnswerSpread",
    "Correction",
    "Interval",
    "NoiseFloor",
    "SeedComparison",
    "SeedEstimate",
    "SequentialDesign",
    "TaskAnswers",
    "TaskValues",
    "Verdict",
    "above_zero",
    "answer_spread",
    "benjamini_hochberg",
    "best_rate",
    "changes_of_choice",
    "compare_at_look",
    "compare_family",
    "compare_with_best",
    "detectable_difference",
    "detection_power",
    "holm",
    "mcnemar",
    "mean_interval",
    "noise_floor",
    "percentile_interval",
    "question_half_width",
    "resampled_averages",
    "seeds_needed",
    "sign_test",
    "standard_deviation",
    "tie_power",
    "wilson",
]
