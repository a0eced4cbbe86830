"""Repeated looks at growing numbers of seeds: boundaries of the t statistic that keep the error rate over all looks.

The level is spent in proportion to the seeds (linear spending): by look k, with S_k of at most S_K seeds,
alpha S_k / S_K of it. The repeated interval is mean +- c_k s / sqrt(S_k) (Jennison and Turnbull 1991, Biometrika
78). As it covers at all looks together, it controls false verdicts and false ties whatever rule stops the sweep.

The boundaries c_k come from the exact null distribution. For normal differences around 0 let R_n^2 be the sum of n
squares and U_n = sum / (R_n sqrt(n)); then t = U sqrt((n - 1) / (1 - U^2)), U_n is independent of R_n, and after m
more values

    U_{n+m} = U_n sqrt(n / (n + m)) sqrt(B) + V sqrt(m / (n + m)) sqrt(1 - B),

B ~ Beta(n / 2, m / 2) and (V + 1) / 2 ~ Beta((m - 1) / 2, (m - 1) / 2), all independent: the null path of t has no
parameter. Paths (U, B) are simulated and the last step is integrated over V exactly, which leaves far tails a small
error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, special

from bench.statistics.boundaries import BOUNDARIES
from bench.statistics.intervals import LEVEL

LOOKS = (5, 7, 10, 14, 20)
"""Seeds at the looks. Looks at three and four seeds are nearly worthless: their boundaries are too wide."""
PATHS, SEED = 2_000_000, 20_240
"""Of the stored boundaries."""
FEWER_PATHS = 400_000
"""Of the boundaries of other looks, which are simulated when they are needed: standard errors of 0.004 for one
comparison and 0.03 for 20."""


@dataclass(frozen=True)
class Boundary:
    """The boundary of one look."""

    critical: float
    """c_k."""
    error: float
    """Its Monte Carlo standard error; 0 at the first look, which is exact."""


def boundaries(
    level: float = LEVEL, looks: Sequence[int] = LOOKS, paths: int = PATHS, seed: int = SEED
) -> list[Boundary]:
    """c_k of every look, by simulation; two-sided. `looks` rise by at least two seeds.

    Raises ValueError for looks that do not.
    """
    if min(looks) < 2 or any(after - before < 2 for before, after in itertools.pairwise(looks)):
        raise ValueError(f"looks at {list(looks)}: each needs two seeds or more than the one before")
    alpha, most = 1 - level, looks[-1]
    random = np.random.default_rng(seed)
    critical = -float(special.stdtrit(looks[0] - 1, alpha * looks[0] / most / 2))
    per_look = [Boundary(critical, 0.0)]
    u = _cosines(random, looks[0], paths)
    share = 1.0
    open_paths = np.abs(u) <= _cosine(critical, looks[0])
    for before, now in itertools.pairwise(looks):
        u, share = u[open_paths], share * float(open_paths.mean())
        more = now - before
        b = random.beta(before / 2, more / 2, len(u))
        centre, width = u * np.sqrt(before / now * b), np.sqrt(more / now * (1 - b))
        spent = alpha * more / most
        critical = _solve(centre, width, more, now, spent / share)
        per_look.append(Boundary(critical, _error(centre, width, more, now, critical)))
        u = centre + width * _cosines(random, more, len(u))
        open_paths = np.abs(u) <= _cosine(critical, now)
    return per_look


def _cosine(t: float, n: int) -> float:
    """U of a t statistic over n values."""
    return t / math.sqrt(t * t + n - 1)


def _cosines(random: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Cosines between n independent normal values and the vector of ones."""
    return 2 * random.beta((n - 1) / 2, (n - 1) / 2, size) - 1


def _crossing(centre: np.ndarray, width: np.ndarray, more: int, now: int, critical: float) -> np.ndarray:
    """The probability of each path to cross +-critical at this look, exact over V."""
    u = _cosine(critical, now)
    shape = (more - 1) / 2
    beyond = ((1 + np.clip(side, -1, 1)) / 2 for side in ((-u - centre) / width, (-u + centre) / width))
    return np.asarray(sum(special.betainc(shape, shape, place) for place in beyond))


def _solve(centre: np.ndarray, width: np.ndarray, more: int, now: int, share: float) -> float:
    def excess(critical: float) -> float:
        return float(_crossing(centre, width, more, now, critical).mean()) - share

    return float(optimize.brentq(excess, 0.5, 1000.0, xtol=1e-4))


def _error(centre: np.ndarray, width: np.ndarray, more: int, now: int, critical: float) -> float:
    """Standard error of a boundary from the paths of its own look: the error of the probability over its slope."""
    crossing = _crossing(centre, width, more, now, critical)
    step = 0.01 * critical
    slope = (crossing.mean() - _crossing(centre, width, more, now, critical + step).mean()) / step
    return float(crossing.std() / math.sqrt(len(crossing)) / slope)


@dataclass(frozen=True)
class SequentialDesign:
    """The looks of a sequential design, with their boundaries."""

    looks: tuple[int, ...] = LOOKS
    """Seeds."""
    stored: Mapping[int, Sequence[float]] = field(default_factory=lambda: BOUNDARIES)
    """Boundaries that are known, by the number of comparisons that share a level of 5 %."""

    @classmethod
    def of(cls, looks: Sequence[int], stored: Mapping[int, Sequence[float]] | None = None) -> SequentialDesign:
        """A design of these looks. `stored`: boundaries that an earlier process has computed."""
        return cls() if tuple(looks) == LOOKS else cls(tuple(looks), stored or {})

    def reached(self, seeds: int) -> int | None:
        """The last look that so many seeds allow, in seeds; None before the first."""
        return max((look for look in self.looks if look <= seeds), default=None)

    def critical(self, look: int, comparisons: int = 1) -> float:
        """c_k of a look at a level of 5 % over so many comparisons (Bonferroni); of numbers that are not stored the
        next larger. Infinite beyond the largest number stored. Raises ValueError for seeds that are no look."""
        if look not in self.looks:
            raise ValueError(f"{look} seeds are no look; the looks are at {', '.join(map(str, self.looks))}")
        rows = [number for number in BOUNDARIES if number >= comparisons]
        return self.row(min(rows))[self.looks.index(look)] if rows else math.inf

    def row(self, comparisons: int) -> Sequence[float]:
        """The boundaries of all looks: stored ones, or by simulation (a second), once in a process."""
        return self.stored[comparisons] if comparisons in self.stored else _simulated(self.looks, comparisons)

    def computed(self) -> dict[int, Sequence[float]]:
        """The boundaries that are stored or have been simulated by this process."""
        simulated = {number: row for (looks, number), row in _SIMULATED.items() if looks == self.looks}
        return {**self.stored, **simulated}


_SIMULATED: dict[tuple[tuple[int, ...], int], tuple[float, ...]] = {}
"""By looks and number of comparisons."""


def _simulated(looks: tuple[int, ...], comparisons: int) -> tuple[float, ...]:
    if (looks, comparisons) not in _SIMULATED:
        simulated = boundaries(1 - (1 - LEVEL) / comparisons, looks, FEWER_PATHS)
        _SIMULATED[looks, comparisons] = tuple(round(boundary.critical, 3) for boundary in simulated)
    return _SIMULATED[looks, comparisons]
