"""Simulated sweeps of a known truth, with the components of variance that real ones have.

A component is a part of the paired difference of two methods: of the seed (setting x seed), of the churn of answers,
and of the method x question effects, which stay however many seeds there are. Letters: F families, M comparisons,
S seeds, Q questions of a task.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from bench.statistics import AnswerSpread, SeedEstimate, TaskValues, answer_spread, sequential
from bench.statistics.boundaries import BOUNDARIES

TASKS = 4
ALPHA = 0.05


@dataclass(frozen=True)
class Components:
    """Of the paired difference of two methods, in points of the average over four tasks."""

    name: str
    questions: int
    """A task."""
    seed: float
    """s.d. over seeds, without churn."""
    churn: float
    """s.d. over seeds that the churn of answers adds."""
    question: float
    """Standard error of the questions."""

    @property
    def deviation(self) -> float:
        """s.d. over seeds."""
        return math.hypot(self.seed, self.churn)


COMPONENTS = (
    Components("alike at equal rates, 500 questions", 500, 0.39, 0.26, 0.09),
    Components("ranks of two methods, 500 questions", 500, 0.71, 0.47, 0.16),
    Components("unlike methods, 250 questions", 250, 0.70, 0.96, 0.42),
    Components("unlike methods, 100 questions", 100, 0.30, 1.57, 0.79),
)
"""As the committed sweeps have them: the first as LoRA and DoRA at one learning rate, the others as the rows of
`rank_smollm2`, `samples_smollm2` and `methods_smollm2`."""


def answers(
    parts: Components, runs: int, seeds: int, random: np.random.Generator, difference: float = 0.0
) -> np.ndarray:
    """Answers (runs, 2 methods, seeds, tasks, questions), right or wrong, of two methods that differ by so many points
    on all questions of the kind.

    An answer is right where a standard normal value lies below a threshold. The value is the sum of a question's
    difficulty, which all share, a method x question effect and churn. Half of the questions are answered right, where
    the covariance of two answers with correlation r is arcsin(r) / (2 pi).
    """
    per_question = TASKS * parts.questions / 1e4
    of_churn = 0.25 - parts.churn**2 * per_question / 2
    of_method = of_churn - parts.question**2 * per_question / 2
    same, other = (math.sin(2 * math.pi * covariance) for covariance in (of_churn, of_method))
    shape = (runs, 2, seeds, TASKS, parts.questions)
    latent = math.sqrt(other) * random.standard_normal((runs, 1, 1, *shape[3:]), dtype=np.float32)
    latent = latent + math.sqrt(same - other) * random.standard_normal((runs, 2, 1, *shape[3:]), dtype=np.float32)
    latent = latent + math.sqrt(1 - same) * random.standard_normal(shape, dtype=np.float32)
    accuracy = 0.5 + random.normal(0, parts.seed / math.sqrt(2) / 100, shape[:3])
    accuracy += np.array([-difference, difference])[:, None] / 200
    return np.asarray(latent < special.ndtri(accuracy)[..., None, None])


@dataclass(frozen=True)
class Families:
    """Simulated families: each method against one baseline."""

    parts: Components
    values: np.ndarray  # (F, M, S) paired differences
    random: np.random.Generator

    @classmethod
    def of(cls, parts: Components, families: int, differences: list[float], seeds: int, seed: int) -> Families:
        """The sums of squares of the answers need no answers: they are drawn from their own distributions."""
        random = np.random.default_rng(seed)
        settings = random.normal(0, parts.deviation / math.sqrt(2), (families, len(differences) + 1, seeds))
        settings += random.normal(0, parts.question / math.sqrt(2), (families, len(differences) + 1, 1))
        values = settings[:, 1:] - settings[:, :1] + np.array(differences)[:, None]
        return cls(parts, values, random)

    def look(self, seeds: int, naive: bool = False) -> Look:
        """The first so many seeds. `naive`: the seeds alone, without floor and questions."""
        seen = self.values[:, :, :seeds]
        deviation = seen.std(axis=2, ddof=1)
        shape = deviation.shape
        if naive:
            return Look(seen.mean(axis=2), deviation, np.zeros(shape), seeds)
        degrees = TASKS * (self.parts.questions - 1)
        residual = self.parts.churn**2 * self.random.chisquare(degrees * (seeds - 1), shape) / degrees / (seeds - 1)
        between = self.parts.churn**2 + seeds * self.parts.question**2
        variance = (between * self.random.chisquare(degrees, shape) / degrees - residual) / seeds
        return Look(seen.mean(axis=2), np.maximum(deviation, np.sqrt(residual)), np.sqrt(variance.clip(0)), seeds)


@dataclass(frozen=True)
class Look:
    """What a report sees of families at a number of seeds."""

    mean: np.ndarray  # (F, M)
    deviation: np.ndarray  # (F, M) with the floor
    question: np.ndarray  # (F, M) standard error
    seeds: int

    def half_width(self, level: float, critical: float | None = None) -> np.ndarray:
        """As `SeedEstimate.half_width` of single settings."""
        quantile = -special.stdtrit(self.seeds - 1, level / 2) if critical is None else critical
        return np.hypot(quantile * self.deviation / math.sqrt(self.seeds), special.ndtri(level / 2) * self.question)

    def told(self, margin: float) -> np.ndarray:
        """Verdicts (F, M): 1 better, -1 worse, 0 tie, nan inconclusive; by Holm over each kind, as `compare_family`."""
        size = np.abs(self.mean)
        differs = holm(lambda number: size > self.half_width(ALPHA / number), np.zeros(size.shape, dtype=bool))
        ties = holm(lambda number: size + self.half_width(ALPHA / number) <= margin, np.zeros(size.shape, dtype=bool))
        return np.where(ties, 0.0, np.where(differs, np.sign(self.mean), np.nan))


def holm(rejected_at: Callable[[int], np.ndarray], rejected: np.ndarray) -> np.ndarray:
    """Holm's steps (F, M) over those that are not rejected yet: `rejected_at` says which are rejected at the level of
    so many comparisons."""
    comparisons = rejected.shape[1]
    by_number = {number: rejected_at(number) for number in range(1, comparisons + 1)}
    while True:
        left = comparisons - rejected.sum(axis=1)
        more = rejected.copy()
        for number, at_level in by_number.items():
            more |= at_level & (left == number)[:, None]
        if (more == rejected).all():
            return more
        rejected = more


@dataclass(frozen=True)
class Outcome:
    """What a design comes to, of families of simulated sweeps."""

    verdicts: np.ndarray  # (F, M)
    seeds: np.ndarray  # (F, M) that each method had in the end

    def told(self) -> float:
        """Share of comparisons that have a verdict."""
        return float(np.isfinite(self.verdicts).mean())

    def false_verdicts(self, equal: np.ndarray) -> float:
        """Share of families in which a method that is equal to the baseline is called better or worse."""
        return float(((self.verdicts != 0) & np.isfinite(self.verdicts) & equal).any(axis=1).mean())

    def false_ties(self, apart: np.ndarray) -> float:
        """Share of families in which a difference of the margin or more is called a tie."""
        return float(((self.verdicts == 0) & apart).any(axis=1).mean())


def fixed(families: Families, seeds: int, margin: float) -> Outcome:
    """One look, as planned."""
    verdicts = families.look(seeds).told(margin)
    return Outcome(verdicts, np.full(verdicts.shape, seeds))


def look_again(families: Families, margin: float, first: int = 3) -> Outcome:
    """A seed is added until every comparison is told, and each look is reported as if it had been the plan, by t
    intervals over seeds alone, ties unadjusted: what this harness did before."""
    most = families.values.shape[2]
    verdicts = np.full(families.values.shape[:2], np.nan)
    seeds = np.full(verdicts.shape, most)
    for number in range(first, most + 1):
        look = families.look(number, naive=True)
        now = look.told(0.0)
        now = np.where(np.abs(look.mean) + look.half_width(ALPHA) <= margin, 0.0, now)
        fresh = np.isnan(verdicts) & np.isfinite(now)
        verdicts[fresh], seeds[fresh] = now[fresh], number
    return Outcome(verdicts, seeds)


def decide(families: Families, margin: float, share: int = 1) -> Outcome:
    """Seeds are added at the default looks, where a comparison is open; repeated intervals, Holm over each kind, at a
    level of 5 % over `share`."""
    shape = families.values.shape[:2]
    verdicts, seeds = np.full(shape, np.nan), np.full(shape, sequential.LOOKS[-1])
    for look_number, number in enumerate(sequential.LOOKS):
        look = families.look(number)
        size, open_now = np.abs(look.mean), np.isnan(verdicts)

        def half_width(comparisons: int, look: Look = look, place: int = look_number) -> np.ndarray:
            stored = min(number for number in BOUNDARIES if number >= share * comparisons)
            return look.half_width(ALPHA / share / comparisons, BOUNDARIES[stored][place])

        differs = holm(
            lambda count, size=size, half=half_width, mine=open_now: mine & (size > half(count)), np.abs(verdicts) == 1
        )
        ties = holm(
            lambda count, size=size, half=half_width, mine=open_now: mine & (size + half(count) <= margin),
            verdicts == 0,
        )
        now = np.where(ties, 0.0, np.where(differs, np.sign(look.mean), np.nan))
        fresh = open_now & np.isfinite(now)
        verdicts[fresh], seeds[fresh] = now[fresh], number
    return Outcome(verdicts, seeds)


def added_seeds(families: Families, margin: float, planned: int = 3, sequel: bool = True) -> Outcome:
    """A sweep of so many planned seeds is reported, and seeds are added while a comparison is open. The plan's own
    verdicts stand; what was open is judged at the default looks by their boundaries, at a quarter of the level
    (`sequel`), or not at all."""
    verdicts = families.look(planned).told(margin)
    if not sequel:
        return Outcome(verdicts, np.full(verdicts.shape, planned))
    later = decide(families, margin, share=4)
    open_ones = np.isnan(verdicts)
    return Outcome(np.where(open_ones, later.verdicts, verdicts), np.where(open_ones, later.seeds, planned))


@dataclass(frozen=True)
class Coverage:
    """Shares of simulated sweeps whose 95 % interval holds the true difference of the tasks."""

    over_seeds: float
    """Of Student's t over seeds alone."""
    both: float
    """Of the interval over seeds and questions, without a floor."""
    average: float
    """With the floor of an average over settings."""
    row: float
    """With the floor of a single setting."""


def coverage(parts: Components, seeds: int, runs: int, seed: int = 0) -> Coverage:
    """From the answers of simulated sweeps, by the functions of the report."""
    random, labels = np.random.default_rng(seed), np.arange(parts.questions)
    covered = np.zeros(4)
    block = max(1, 2_000_000 // (2 * seeds * TASKS * parts.questions))
    for begin in range(0, runs, block):
        correct = answers(parts, min(block, runs - begin), seeds, random, difference=1.0)
        for run in 100 * (correct[:, 1].astype(float) - correct[:, 0]):  # (S, tasks, Q)
            values = tuple(run.mean(axis=(1, 2)).tolist())
            spread = answer_spread([TaskValues(run[:, task], labels) for task in range(TASKS)])
            assert spread is not None
            estimates = (
                SeedEstimate(values),
                SeedEstimate(values, AnswerSpread(spread.question_variance, 0.0)),
                SeedEstimate(values, spread, places=2),
                SeedEstimate(values, spread),
            )
            covered += [abs(estimate.mean - 1.0) <= estimate.half_width() for estimate in estimates]
    return Coverage(*(covered / runs))
