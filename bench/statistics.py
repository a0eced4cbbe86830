"""Intervals, tests and the verdicts made from them.

Two kinds of chance move a difference between two methods, and each has its own interval here, never mixed:

- the **seed** (which examples, their order, the initialisation): Student's t over the paired differences of seeds.
  The verdicts are made of this one, their p values adjusted by Holm for the number of comparisons;
- the **questions** that happened to be asked: the question bootstrap, and McNemar's test where there is one run of
  each. It knows nothing of seeds. Alone it covers about half of what it claims where seeds vary by a point.

Differences, spreads and margins are in points (0 to 100), shares of right answers in 0 to 1. Nothing here reads a file
or draws a figure.

Letters: R resamples, C clusters of a task, Q its questions, M rows (runs).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special, stats

Verdict = Literal["better", "worse", "tie", "unresolved", "these two runs"]

TIE_MARGIN = 1.0
"""Points: a difference whose interval lies inside plus or minus this is a tie."""
LEVEL = 0.95
"""Of every interval; a p value below 1 - LEVEL is a verdict."""
POWER = 0.8
"""The chance with which a difference called detectable is detected."""
SEEDS = 3
"""Fewer seeds than this speak of their own runs only."""
RESAMPLES = 2000
"""Enough that the ends of a percentile interval move by about a fiftieth of its width."""
WEIGHTS = 4_000_000
"""Weights of the bootstrap held at a time: 32 MB."""
MOST_SEEDS = 1000
"""More seeds than this are not counted."""
ROUNDING = 1e-9
"""Points: averages of the same accuracies differ by less than this, from the order of their sums."""


@dataclass(frozen=True)
class Interval:
    """A closed interval."""

    low: float
    high: float


# --- One score


def wilson(correct: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share, in 0 to 1: `correct` of `n` questions (Wilson 1927, without the continuity
    correction). Raises ValueError for counts that are none."""
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"{correct} right answers of {n} questions")
    z = float(special.ndtri((1 + level) / 2))
    share, scale = correct / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula gives 0 and 1, up to rounding.
    return Interval(0.0 if correct == 0 else middle - half, 1.0 if correct == n else middle + half)


def question_noise(scores: Sequence[tuple[float, int]], level: float = LEVEL) -> float:
    """Half-width of the interval that the sampling of questions alone gives an average over tasks.

    `scores`: (accuracy in 0..1, questions) a task. It knows nothing of seeds, so it covers too little.
    """
    variance = sum(p * (1 - p) / n for p, n in scores) / len(scores) ** 2
    return float(special.ndtri((1 + level) / 2)) * math.sqrt(variance)


# --- Differences over seeds


def spread(values: Sequence[float], step: float = 0.0) -> float:
    """Standard deviation with n - 1. NaN below two.

    Values that differ by rounding only have none, where they are known exactly. Accuracies come in steps of one right
    answer: by those, equal ones may be apart by what rounding to `step` hides, its s.d. of step / sqrt(12).
    """
    if len(values) < 2:
        return math.nan
    found = float(np.std(values, ddof=1))
    return max(found if found > ROUNDING else 0.0, step / math.sqrt(12))


def mean_interval(values: Sequence[float], level: float = LEVEL, step: float = 0.0) -> Interval | None:
    """Student's t interval of a mean over seeds; None below three values, where it says nothing. `step`: `spread`'s."""
    n = len(values)
    if n < SEEDS:
        return None
    mean = sum(values) / n
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * spread(values, step) / math.sqrt(n)
    return Interval(mean - half, mean + half)


def p_value(values: Sequence[float], step: float = 0.0) -> float | None:
    """Two-sided p of Student's one-sample t test of a mean of zero; None below three values. `step` is `spread`'s.

    Values without any spread have the limit: 1 where they are zero, else 0.
    """
    n = len(values)
    if n < SEEDS:
        return None
    mean, deviation = sum(values) / n, spread(values, step)
    if deviation == 0:
        return 1.0 if abs(mean) <= ROUNDING else 0.0
    return float(2 * special.stdtr(n - 1, -abs(mean) / deviation * math.sqrt(n)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted so that the chance of any false one among them is kept (Holm 1979), whatever their
    dependence. None stays None and does not count."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for step, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - step) * p))
        adjusted[place] = largest
    return adjusted


@dataclass(frozen=True)
class Comparison:
    """What the paired differences of one comparison say within its family."""

    interval: Interval | None
    """t over seeds, not adjusted."""
    p: float | None
    p_adjusted: float | None
    """Holm's, over the family."""
    verdict: Verdict


def judge(
    family: Sequence[Sequence[float]], margin: float = TIE_MARGIN, steps: Sequence[float] | None = None
) -> list[Comparison]:
    """The verdicts of all comparisons of one table; each is given by its per-seed differences (points), and by the
    steps that these can come in, where they are not known exactly.

    With three seeds or more: a tie where the unadjusted interval lies inside the margin; else better or worse where
    the adjusted p is below 5 %; else unresolved. Fewer seeds speak of their own runs only, and count for nothing in
    the adjustment. A tie is judged first and its interval is not adjusted: each of two one-sided tests at 2.5 % says
    that a difference is small, which is no discovery that a family of comparisons would multiply.
    """
    steps = [0.0] * len(family) if steps is None else steps
    p_values = [p_value(values, step) for values, step in zip(family, steps, strict=True)]
    found = []
    for values, step, p, adjusted in zip(family, steps, p_values, holm(p_values), strict=True):
        interval = mean_interval(values, step=step)
        found.append(Comparison(interval, p, adjusted, _verdict(values, interval, adjusted, margin)))
    return found


def _verdict(values: Sequence[float], interval: Interval | None, p_adjusted: float | None, margin: float) -> Verdict:
    if interval is None or p_adjusted is None:
        return "these two runs"
    if -margin <= interval.low and interval.high <= margin:
        return "tie"
    if p_adjusted < 1 - LEVEL:
        return "better" if sum(values) > 0 else "worse"
    return "unresolved"


# --- What more seeds would tell


def detection_power(difference: float, deviation: float, n: int, level: float = LEVEL) -> float:
    """The chance that a two-sided t test over `n` seeds finds a true difference (points) whose seeds have this s.d.
    Exact, by the noncentral t."""
    if deviation == 0:
        return 1.0 if difference else 1 - level
    limit = special.stdtrit(n - 1, (1 + level) / 2)
    shift = abs(difference) / deviation * math.sqrt(n)
    return 1 - _noncentral_t(n - 1, shift, limit) + _noncentral_t(n - 1, shift, -limit)


def _noncentral_t(degrees: int, shift: float, at: float) -> float:
    """Distribution function. scipy's gives NaN far below the shift, where the value is 0 to ten digits."""
    found = float(special.nctdtr(degrees, shift, at))
    return 0.0 if math.isnan(found) else found


def tie_power(difference: float, deviation: float, n: int, margin: float = TIE_MARGIN) -> float:
    """The chance that the t interval over `n` seeds lies inside the margin. A lower bound, by the noncentral t of
    either end: close where it is large."""
    if abs(difference) >= margin:
        return 0.0
    if deviation == 0:
        return 1.0
    limit = special.stdtrit(n - 1, (1 + LEVEL) / 2)
    missed = sum(
        _noncentral_t(n - 1, room / deviation * math.sqrt(n), limit)
        for room in (margin - difference, margin + difference)
    )
    return max(0.0, 1 - missed)


def detectable(deviation: float, n: int, power: float = POWER) -> float:
    """The minimum detectable difference (points): what a single two-sided t test at 5 % over `n` seeds finds with
    80 % power, where the seeds' differences have this s.d. Raises ValueError below two seeds."""
    if n < 2:
        raise ValueError("one seed detects nothing")
    if deviation == 0:
        return 0.0
    # In units of the s.d. of the mean; the smallest number of seeds, 2, needs 18.
    shift = optimize.brentq(lambda at: detection_power(at / math.sqrt(n), 1.0, n) - power, 0.0, 100.0)
    return shift * deviation / math.sqrt(n)


def seeds_needed(difference: float, deviation: float, comparisons: int = 1, margin: float = TIE_MARGIN) -> int | None:
    """The fewest seeds with which this comparison would come to a verdict with 80 % power, if the true difference and
    the s.d. of its seeds (points) were these: told from zero among so many comparisons (Bonferroni, Holm's hardest
    step), or shown as a tie. A margin of 0 asks for the former alone. None where 1,000 seeds would not do."""

    def enough(n: int) -> bool:
        told = detection_power(difference, deviation, n, 1 - (1 - LEVEL) / comparisons)
        return max(told, tie_power(difference, deviation, n, margin)) >= POWER

    if not enough(MOST_SEEDS):
        return None
    few, many = SEEDS - 1, MOST_SEEDS  # the answer is above few and at most many: both powers grow with n
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


@dataclass(frozen=True)
class NoiseFloor:
    """How much a seed alone moves a score."""

    spread: float
    """s.d. over seeds (points), pooled over the series."""
    degrees: int
    """Degrees of freedom: seeds less series."""
    difference: float
    """Two single runs of the same thing lie within this of each other (points), 95 % of the time."""


def noise_floor(series: Iterable[Sequence[float]], level: float = LEVEL) -> NoiseFloor | None:
    """From the scores (points) of all series with two seeds or more; None without one.

    The difference is a prediction limit: t, not z, for the s.d. is an estimate itself.
    """
    seeded = [values for values in series if len(values) > 1]
    if not seeded:
        return None
    degrees = sum(len(values) - 1 for values in seeded)
    pooled = math.sqrt(sum((len(values) - 1) * spread(values) ** 2 for values in seeded) / degrees)
    limit = float(special.stdtrit(degrees, (1 + level) / 2))
    return NoiseFloor(pooled, degrees, limit * math.sqrt(2) * pooled)


# --- Differences over questions


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test: of the questions that two single runs answer differently, how many only
    the first and only the second got right. 1 where there are none.

    It takes questions for independent (clusters are not known to it) and speaks of these two runs, not of methods.
    """
    n = only_first + only_second
    return float(stats.binomtest(only_first, n).pvalue) if n else 1.0


@dataclass(frozen=True)
class Answers:
    """The same questions of one task, answered by several runs."""

    correct: np.ndarray  # (M, Q) 0 or 1
    clusters: np.ndarray  # (Q,) the label of each question's cluster; a label of its own where it has none


def resampled_averages(tasks: Mapping[str, Answers], resamples: int = RESAMPLES) -> np.ndarray:  # (R, M)
    """The question bootstrap: average accuracy (0 to 1) of each run over the tasks, on questions drawn anew with
    replacement, within each task, whole clusters at a time.

    The draws are the same for all runs, and for a task of this name and these clusters always: differences of columns
    are paired by question, and a report comes out the same twice.
    """
    return np.mean([_resampled(name, one, resamples) for name, one in tasks.items()], axis=0)


def _resampled(task: str, answers: Answers, resamples: int) -> np.ndarray:  # (R, M)
    labels, member = np.unique(np.asarray(answers.clusters), return_inverse=True)  # sorted: rows may come in any order
    clusters = len(labels)
    sums = np.stack([np.bincount(member, weights=row, minlength=clusters) for row in answers.correct], axis=1)  # (C, M)
    sizes = np.bincount(member, minlength=clusters)  # (C,)
    random = np.random.default_rng(zlib.crc32(task.encode()))
    found = []
    block = max(1, WEIGHTS // clusters)  # the stream of draws goes on from block to block
    for begin in range(0, resamples, block):
        draws = min(block, resamples - begin)
        weights = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws).astype(float)  # (R, C)
        found.append(weights @ sums / (weights @ sizes)[:, None])
    return np.concatenate(found)


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """The middle of a bootstrap's values (R,)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
