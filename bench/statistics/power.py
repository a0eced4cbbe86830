"""Power of the t test over seeds: which difference is detectable, and how many seeds it takes.

Exact, by the noncentral t. statsmodels' `TTestPower` gives the same to 1e-15 where it gives a number; far from zero,
where scipy's noncentral t is NaN, it gives none.
"""

from __future__ import annotations

import math

from scipy import optimize, special

from bench.statistics.intervals import LEVEL, SEEDS

TIE_MARGIN = 1.0
"""Points: a difference whose interval lies inside plus or minus this is a tie."""
POWER = 0.8
"""The probability with which a difference called detectable is detected."""
MOST_SEEDS = 1000
"""`seeds_needed` looks no further than this."""


def detection_power(difference: float, deviation: float, n: int, level: float = LEVEL) -> float:
    """The probability that a two-sided t test over `n` seeds finds a true difference (points) whose seeds have this
    s.d."""
    if deviation == 0:
        return 1.0 if difference else 1 - level
    limit = float(special.stdtrit(n - 1, (1 + level) / 2))
    shift = abs(difference) / deviation * math.sqrt(n)
    return 1 - _noncentral_t(n - 1, shift, limit) + _noncentral_t(n - 1, shift, -limit)


def _noncentral_t(degrees: int, shift: float, at: float) -> float:
    """Distribution function. scipy's gives NaN far below the shift, where the value is 0 to ten digits."""
    value = float(special.nctdtr(degrees, shift, at))
    return 0.0 if math.isnan(value) else value


def tie_power(difference: float, deviation: float, n: int, margin: float = TIE_MARGIN, level: float = LEVEL) -> float:
    """The probability that the t interval over `n` seeds lies inside the margin. A lower bound, by the noncentral t of
    either end: close where it is large."""
    if abs(difference) >= margin:
        return 0.0
    if deviation == 0:
        return 1.0
    limit = float(special.stdtrit(n - 1, (1 + level) / 2))
    missed = sum(
        _noncentral_t(n - 1, room / deviation * math.sqrt(n), limit)
        for room in (margin - difference, margin + difference)
    )
    return max(0.0, 1 - missed)


def detectable_difference(deviation: float, n: int, power: float = POWER) -> float:
    """The minimum detectable difference (points): what a single two-sided t test at 5 % over `n` seeds finds with
    80 % power, where the seeds' differences have this s.d. Raises ValueError below two seeds."""
    if n < 2:
        raise ValueError("one seed detects nothing")
    if deviation == 0:
        return 0.0
    # In units of the s.d. of the mean; the smallest number of seeds, 2, needs 18.
    shift = float(optimize.brentq(lambda at: detection_power(at / math.sqrt(n), 1.0, n) - power, 0.0, 100.0))
    return shift * deviation / math.sqrt(n)


def seeds_needed(
    difference: float, deviation: float, comparisons: int = 1, margin: float = TIE_MARGIN, lasting_error: float = 0.0
) -> int | None:
    """The fewest seeds with which this comparison would come to a verdict with 80 % power, if the true difference and
    the s.d. of its seeds (points) were these: significant among so many comparisons (Bonferroni, Holm's hardest step),
    or shown as a tie. A margin of 0 leaves out ties. None where 1,000 seeds would not be enough, as where the standard
    error that no seeds reduce (`lasting_error`: of the questions and of the choice of learning rates) is too large:
    that calls for more questions.

    An interval whose half-width is sqrt(h_seeds^2 + h_lasting^2) excludes a difference where h_seeds is below
    sqrt(difference^2 - h_lasting^2), so that is the difference which the seeds have to detect.
    """
    level = 1 - (1 - LEVEL) / comparisons
    lasting = float(special.ndtri((1 + level) / 2)) * lasting_error
    to_detect = math.sqrt(max(0.0, difference**2 - lasting**2))
    room = margin - abs(difference)
    room = math.sqrt(room**2 - lasting**2) if room > lasting else 0.0

    def enough(n: int) -> bool:
        detected = detection_power(to_detect, deviation, n, level) if to_detect > 0 else 0.0
        tied = tie_power(difference, deviation, n, abs(difference) + room, level) if room > 0 else 0.0
        return max(detected, tied) >= POWER

    if not enough(MOST_SEEDS):
        return None
    few, many = SEEDS - 1, MOST_SEEDS  # the answer is above few and at most many: both powers grow with n
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many
