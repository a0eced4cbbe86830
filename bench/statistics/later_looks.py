"""Verdicts at a look that follows an earlier one: a sweep that is run until it is told, or that got seeds later."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.statistics.estimates import SeedEstimate
from bench.statistics.intervals import LEVEL, Interval
from bench.statistics.sequential import SequentialDesign
from bench.statistics.verdicts import SeedComparison, Verdict

DEFAULT_DESIGN = SequentialDesign()
LATER_SHARE = 4
"""Seeds that nobody planned are judged at a quarter of the level: the planned look has had all of it already."""


def compare_at_look(
    family: Sequence[SeedEstimate],
    decided: Sequence[Verdict | None],
    margins: Sequence[float],
    share: int = 1,
    design: SequentialDesign = DEFAULT_DESIGN,
    waiting: int = 0,
) -> list[SeedComparison]:
    """The verdicts at a look. `decided`: those of earlier looks, which stand; None where a comparison is open.
    `margins`: of ties (points), 0 for none. `share`: 5 % divided by it is the level of all looks together. `waiting`:
    comparisons of the family that cannot be judged yet, to which Holm's steps leave their part of the level.

    The interval is the repeated one at 95 %, not adjusted. Holm's steps over each kind of verdict, each at the boundary
    of its own level (sequential p values: arXiv 2311.15498); there are no p values. Raises ValueError where the seeds
    of an open comparison are no look of the design.
    """
    verdicts: list[Verdict | None] = list(decided)
    halves = _half_widths(family, share, design)
    tied = [verdict == "tie" for verdict in decided]
    apart = [verdict in ("better", "worse") for verdict in decided]

    def is_tie(place: int, comparisons: int) -> bool:
        # What is told stays in the family, but its seeds may be no look any more.
        half = halves(place, comparisons) if decided[place] is None else math.inf
        return margins[place] > 0 and abs(family[place].mean) + half <= margins[place]

    def is_apart(place: int, comparisons: int) -> bool:
        return decided[place] is None and abs(family[place].mean) > halves(place, comparisons)

    ties = _steps(tied, [margin > 0 for margin in margins], is_tie, waiting)
    differences = _steps(apart, [True] * len(family), is_apart, waiting)
    for place in ties:
        if verdicts[place] is None:
            verdicts[place] = "tie"
    for place in differences:
        if verdicts[place] is None:
            verdicts[place] = "better" if family[place].mean > 0 else "worse"
    # The steps that were not taken are those that intervals are drawn at.
    open_ties = max(1, sum(margin > 0 for margin in margins) - len(ties) + waiting)
    open_differences = max(1, len(family) - len(differences) + waiting)
    steps = {"tie": open_ties, "better": open_differences, "worse": open_differences}
    comparisons = []
    for place, (estimate, before, verdict) in enumerate(zip(family, decided, verdicts, strict=True)):
        interval = adjusted = None  # of what was told before, those of that look stand
        if before is None:
            half = halves(place, steps.get(verdict or "", max(open_ties, open_differences)))
            interval = estimate.interval(critical=design.critical(estimate.seeds))
            adjusted = Interval(estimate.mean - half, estimate.mean + half)
        comparisons.append(SeedComparison(interval, None, None, None, None, verdict or "unresolved", adjusted))
    return comparisons


def _steps(
    rejected: Sequence[bool], counted: Sequence[bool], test: Callable[[int, int], bool], waiting: int
) -> list[int]:
    """Holm: the places that are rejected, with those of earlier looks; the level of each step is shared by the rest."""
    done = {place for place, is_done in enumerate(rejected) if is_done}
    open_places = {place for place, counts in enumerate(counted) if counts} - done
    while open_places:
        more = {place for place in open_places if test(place, len(open_places) + waiting)}
        if not more:
            break
        done |= more
        open_places -= more
    return sorted(done)


def _half_widths(family: Sequence[SeedEstimate], share: int, design: SequentialDesign) -> Callable[[int, int], float]:
    def half_width(place: int, comparisons: int) -> float:
        number = comparisons * share
        critical = design.critical(family[place].seeds, number)
        return family[place].half_width(1 - (1 - LEVEL) / number, critical)

    return half_width
