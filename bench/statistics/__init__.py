"""Intervals, tests and the verdicts made from them: numbers in, numbers out. Nothing here reads a file.

Two kinds of chance move a difference between two methods, and each has its own interval here, never mixed:

- the **seed** (which examples, their order, the initialisation): Student's t over the paired differences of seeds.
  The verdicts are based on it, their p values adjusted by Holm for the number of comparisons;
- the **questions** that happened to be asked: the question bootstrap, and McNemar's test where there is one run of
  each. It excludes seed variance. Alone it covers about half of what it claims where seeds vary by a point.

Differences, standard deviations and margins are in points (0 to 100), shares of right answers in 0 to 1.
"""

from bench.statistics.bootstrap import RESAMPLES, TaskAnswers, percentile_interval, resampled_averages
from bench.statistics.intervals import (
    LEVEL,
    ROUNDING,
    SEEDS,
    Interval,
    NoiseFloor,
    mean_interval,
    noise_floor,
    question_half_width,
    standard_deviation,
    wilson,
)
from bench.statistics.power import (
    MOST_SEEDS,
    POWER,
    TIE_MARGIN,
    detectable_difference,
    detection_power,
    seeds_needed,
    tie_power,
)
from bench.statistics.significance import holm, mcnemar, t_test
from bench.statistics.verdicts import SINGLE, SeedComparison, Verdict, compare_family

__all__ = [
    "LEVEL",
    "MOST_SEEDS",
    "POWER",
    "RESAMPLES",
    "ROUNDING",
    "SEEDS",
    "SINGLE",
    "TIE_MARGIN",
    "Interval",
    "NoiseFloor",
    "SeedComparison",
    "TaskAnswers",
    "Verdict",
    "compare_family",
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
    "standard_deviation",
    "t_test",
    "tie_power",
    "wilson",
]
