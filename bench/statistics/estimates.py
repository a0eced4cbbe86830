"""One number per seed: its mean, the interval that holds for the tasks, and the p values that belong to it.

The half-width at a level is

    sqrt(h_seeds^2 + h_questions^2 + h_choice^2),  h_seeds = t_{S-1} s / sqrt(S),  h_questions = z sqrt(v_q),

so that the interval covers what the methods differ by on all questions of the kind, not on those that were asked.
h_choice = z sqrt(v_c) is of the learning rates: the seeds share the development questions that chose them, so the noise
of the choice is hardly part of the spread over seeds (`bench.statistics.rate_choice`). A p value is one less the level
at which the interval reaches its hypothesis: verdicts, p values and bars are of one interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy import optimize, special

from bench.statistics.intervals import LEVEL, ROUNDING, SEEDS, Interval, standard_deviation
from bench.statistics.layout import AnswerSpread

SMALLEST_P = 1e-12
"""Below it a p value is 0."""


@dataclass(frozen=True)
class SeedEstimate:
    """A comparison, or a slope, that has one value a seed (points)."""

    values: tuple[float, ...]  # (S,)
    spread: AnswerSpread | None = None
    """None where the answers are not known: the interval is then over seeds alone, without a floor."""
    step: float = 0.0
    """Points: the steps that the values come in."""
    places: int = 1
    """The settings that each value is an average over."""

    @property
    def seeds(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """Without what floating point leaves of zero."""
        return round(sum(self.values) / len(self.values), 9) + 0.0

    @property
    def reversed(self) -> SeedEstimate:
        """The same comparison from the other side."""
        return replace(self, values=tuple(-value for value in self.values))

    @property
    def own_deviation(self) -> float:
        """s.d. of the values, not below the rounding of their steps."""
        return standard_deviation(self.values, self.step)

    @property
    def churn(self) -> float:
        """s.d. that the churn of the answers implies; 0 where it is not known."""
        return self.spread.churn if self.spread is not None else 0.0

    @property
    def deviation(self) -> float:
        """s.d. of the values, not below the churn."""
        return max(self.own_deviation, self.churn)

    @property
    def question_error(self) -> float:
        return self.spread.question_error if self.spread is not None else 0.0

    @property
    def choice_error(self) -> float:
        return self.spread.choice_error if self.spread is not None else 0.0

    @property
    def lasting_error(self) -> float:
        """Standard error that further seeds leave as it is: of the questions and the choice of learning rates."""
        return math.hypot(self.question_error, self.choice_error)

    def seed_half_width(self, level: float = LEVEL, critical: float | None = None) -> float:
        """h_seeds. `critical` takes the place of the t quantile: a boundary of a sequential design.

        It is never below what churn alone gives. Of a single setting the s.d. is floored: its values come in steps of
        an answer, there are many such rows, and one whose spread happens to be tiny would be picked among them. Of an
        average over settings the half-width is floored, by z: churn is known from all answers, so the t quantile of a
        few seeds does not apply to it.
        """
        quantile = -float(special.stdtrit(self.seeds - 1, (1 - level) / 2)) if critical is None else critical
        if self.places == 1:
            half = quantile * self.deviation
        else:
            half = max(quantile * self.own_deviation, _normal(level) * self.churn)
        return half / math.sqrt(self.seeds)

    def question_half_width(self, level: float = LEVEL) -> float:
        """h_questions."""
        return _normal(level) * self.question_error

    def choice_half_width(self, level: float = LEVEL) -> float:
        """h_choice."""
        return _normal(level) * self.choice_error

    def lasting_half_width(self, level: float = LEVEL) -> float:
        """Of what further seeds leave as it is."""
        return _normal(level) * self.lasting_error

    def half_width(self, level: float = LEVEL, critical: float | None = None) -> float:
        return math.hypot(self.seed_half_width(level, critical), self.lasting_half_width(level))

    def interval(self, level: float = LEVEL, critical: float | None = None) -> Interval | None:
        """None below three seeds."""
        if self.seeds < SEEDS:
            return None
        half = self.half_width(level, critical)
        return Interval(self.mean - half, self.mean + half)

    def p(self) -> float | None:
        """Two-sided p of no difference; None below three seeds."""
        return self._p_at(abs(self.mean))

    def tie_p(self, margin: float) -> float | None:
        """p of a difference of the margin or more: one less the largest level at which the interval lies inside it.
        Two-sided as the interval is, so half of it is that of two one-sided tests (Schuirmann 1987)."""
        return self._p_at(margin - abs(self.mean))

    def reaching_p(self, limit: float) -> float:
        """One-sided p of a difference of `limit` or more. Raises ValueError below three seeds."""
        p = self._p_at(limit - self.mean)
        if p is None:
            raise ValueError(f"{self.seeds} seeds have no p value; it takes {SEEDS}")
        return p / 2 if self.mean < limit else 1.0

    def _p_at(self, distance: float) -> float | None:
        """One less the level whose half-width is this distance."""
        if self.seeds < SEEDS:
            return None
        if distance <= ROUNDING:
            return 1.0
        if self.spread is None:  # as the search below finds it, and far faster
            deviation = self.own_deviation
            quantile = math.inf if deviation == 0 else distance / deviation * math.sqrt(self.seeds)
            return float(2 * special.stdtr(self.seeds - 1, -quantile))

        def excess(logarithm: float) -> float:
            return self.half_width(1 - math.exp(logarithm)) - distance

        if excess(math.log(SMALLEST_P)) <= 0:
            return 0.0
        return float(math.exp(optimize.brentq(excess, math.log(SMALLEST_P), -1e-12)))


def _normal(level: float) -> float:
    return -float(special.ndtri((1 - level) / 2))
