"""The contrasts of a sweep, estimated, and the paired differences judged in their light.

A primary contrast is one number per seed. All of them are one family (Holm, for ties as well). Where the sweep file
names none, each series is compared with the baseline by the mean over all places that both have; the trends of the
series are a family of their own. The cell-by-cell rows are secondary: those of a contrast that is told are one family
under Holm, the others are exploratory (Benjamini-Hochberg).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from bench.analysis.best_setting import RankedSetting, rank_against_best
from bench.analysis.cell_answers import CellAnswers, cell_answers
from bench.analysis.comparison import (
    JudgedEstimate,
    PairedPlace,
    baseline_places,
    difference_table,
    judge_family,
)
from bench.analysis.contrast_estimates import EstimatedContrast, default_contrasts, default_trends, named_contrasts
from bench.analysis.result_tables import ResultTables, trained_cells
from bench.statistics import LATER_SHARE, LOOKS, Correction, Verdict, compare_at_look
from bench.store.records import PlanRecord
from bench.sweep.contrasts import (
    DEFAULT_CONTRASTS,
    ContrastsRecord,
)

CONTRASTS = (
    *("family", "contrast", "base", "unit", "seeds", "estimate", "low", "high", "seed_half", "question_half"),
    *("p", "p_adjusted", "tie_p_adjusted", "bound", "seeds_needed", "verdict", "post_hoc"),
)
"""The columns of `SweepComparisons.table`."""
PRIMARY, TRENDS = "primary", "trends"
"""The families."""
ContrastKey = tuple[str, str | None, str, str, str | None, str]
"""What identifies a contrast at every look: its sides, base, places, slope and family."""


@dataclass(frozen=True)
class Contrast:
    """A question of the sweep, estimated on one base."""

    of: str
    against: str | None
    """None for the trend of one series."""
    base: str
    """Empty where the sweep has a single base."""
    over: str
    """What it is a mean over: "5 ranks", say; empty for a single place."""
    per_doubling: str | None
    """Rank or samples, where it is a slope."""
    family: str
    post_hoc: bool
    """It was not in the plan before the first score."""
    folders: frozenset[str]
    """The cells that it is made of."""
    judged: JudgedEstimate

    @property
    def name(self) -> str:
        """`dora - lora, mean over 5 ranks`."""
        what = self.of if self.against is None else f"{self.of} - {self.against}"
        kind = (
            f"per doubling of {self.per_doubling}"
            if self.per_doubling
            else f"mean over {self.over}"
            if self.over
            else ""
        )
        where = f" on {self.base}" if self.base else ""
        return f"{what}{where}{f', {kind}' if kind else ''}"

    @property
    def key(self) -> ContrastKey:
        return self.of, self.against, self.base, self.over, self.per_doubling, self.family

    @property
    def unit(self) -> str:
        return f"points per doubling of {self.per_doubling}" if self.per_doubling else "points"

    @property
    def verdict(self) -> Verdict:
        return self.judged.result.verdict

    @property
    def answered(self) -> bool:
        """Whether its question is answered."""
        return self.verdict in ("better", "worse", "tie")

    @property
    def bound(self) -> float | None:
        """It is at most this either way, at 95 %."""
        interval = self.judged.result.interval
        return None if interval is None else max(abs(interval.low), abs(interval.high))

    def row(self) -> dict[str, object]:
        """Its row of `SweepComparisons.table`."""
        estimate, result = self.judged.estimate, self.judged.result
        interval = result.interval
        return {
            "family": self.family,
            "contrast": self.name,
            "base": self.base,
            "unit": self.unit,
            "seeds": estimate.seeds,
            "estimate": estimate.mean,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "seed_half": self.judged.seed_half,
            "question_half": estimate.question_half_width() if interval and estimate.spread else None,
            "p": result.p,
            "p_adjusted": result.p_adjusted,
            "tie_p_adjusted": result.tie_p_adjusted if self.per_doubling is None else None,
            "bound": self.bound,
            "seeds_needed": self.judged.seeds_needed,
            "verdict": result.verdict,
            "post_hoc": self.post_hoc,
        }


@dataclass(frozen=True)
class SweepComparisons:
    """All that a sweep's averages say of its methods."""

    contrasts: tuple[Contrast, ...]
    differences: pd.DataFrame
    """As `comparison.differences` returns them, with the verdicts that the contrasts leave to the rows."""
    problems: tuple[str, ...] = ()
    """Contrasts that could not be estimated, each with the reason."""
    look: str = ""
    """A sentence on the look that this is, where seeds were added after the first score."""
    named: bool = False
    """The sweep file names the contrasts."""
    against_best: tuple[RankedSetting, ...] = ()
    """All settings, by the seeds that were planned before the first score."""
    verdicts: Mapping[ContrastKey, Verdict] = field(default_factory=dict)
    """Of all contrasts, those that are rows of the differences too."""

    def table(self) -> pd.DataFrame:
        """One row a contrast."""
        return pd.DataFrame([contrast.row() for contrast in self.contrasts], columns=CONTRASTS)


def compare_sweep(tables: ResultTables, plan: PlanRecord, margin: float) -> SweepComparisons:
    """The contrasts and the paired differences of a sweep. `margin`: of a tie (points); 0 leaves none.

    The verdicts of the seeds that were planned before the first score stand. Seeds that were added later count at the
    next of the default looks, where what is open is judged by the boundary of a sequential design.
    """
    if not plan.looks:
        return _compared(tables, plan, margin, None)
    planned = list(plan.looks[0])
    seeds = list(dict.fromkeys([*planned, *(cell.seed for cell in plan.cells if cell.method != "base")]))
    comparisons = _compared(_of_seeds(tables, planned), plan, margin, None)
    against_best = comparisons.against_best
    reached = [look for look in LOOKS if len(planned) < look <= len(seeds)]
    for look in reached:
        comparisons = _compared(_of_seeds(tables, seeds[:look]), plan, margin, comparisons.verdicts)
    comparisons = replace(comparisons, against_best=against_best)
    if len(seeds) == len(planned):
        return comparisons
    following = next((look for look in LOOKS if look > len(seeds)), None)
    counted = f"the first {reached[-1]} seeds, a look" if reached else f"the {len(planned)} planned seeds"
    sentence = (
        f"{len(seeds) - len(planned)} seeds were added after the first score. Comparisons are those of {counted}; "
        "verdicts of the planned seeds stand, and what they left open is judged by the boundaries of a sequential "
        f"design at a quarter of the level{f' (next at {following} seeds)' if following else ''}."
    )
    return replace(comparisons, look=sentence)


def _of_seeds(tables: ResultTables, seeds: Sequence[int | None]) -> ResultTables:
    """The tables with trained cells of these seeds alone."""
    cells = tables.cells
    return replace(tables, cells=cells[(cells["method"] == "base") | cells["seed"].isin(list(seeds))])


def _compared(
    tables: ResultTables, plan: PlanRecord, margin: float, earlier: Mapping[ContrastKey, Verdict] | None
) -> SweepComparisons:
    """The comparisons of one look; `earlier` has the verdicts of the looks before it, if there were any."""
    answers = cell_answers(tables.questions)
    places = baseline_places(tables.cells, plan.baseline, answers, plan.report)
    record = plan.contrasts if plan.contrasts is not None else ContrastsRecord()
    post_hoc = DEFAULT_CONTRASTS not in record.planned
    problems: list[str] = []
    estimated = (
        named_contrasts(tables, plan, record, answers, problems)
        if record.named
        else default_contrasts(places, answers, post_hoc)
    )
    primary = _judged(estimated, PRIMARY, margin, earlier)
    trends: tuple[Contrast, ...] = ()
    if not record.named:
        trends = _judged(default_trends(trained_cells(tables.cells), answers, post_hoc), TRENDS, 0.0, earlier)
    differences = _judged_rows(places, primary, answers, margin, bool(record.named))
    verdicts = {contrast.key: contrast.verdict for contrast in (*primary, *trends)}
    # A default contrast of a single place is a row of the differences.
    shown = [contrast for contrast in primary if record.named or contrast.over]
    return SweepComparisons(
        (*shown, *trends),
        differences,
        tuple(problems),
        named=bool(record.named),
        against_best=tuple(rank_against_best(tables.cells, answers, margin)),
        verdicts=verdicts,
    )


def _judged(
    estimated: Sequence[EstimatedContrast], family: str, margin: float, earlier: Mapping[ContrastKey, Verdict] | None
) -> tuple[Contrast, ...]:
    """The contrasts of one family. A slope has another unit than the margin, so it has no ties."""
    margins = [margin if contrast.per_doubling is None else 0.0 for contrast in estimated]
    judged = judge_family([contrast.estimate for contrast in estimated], margins)
    contrasts = [
        Contrast(
            contrast.of,
            contrast.against,
            contrast.base,
            contrast.over,
            contrast.per_doubling,
            family,
            contrast.post_hoc,
            contrast.folders,
            of_contrast,
        )
        for contrast, of_contrast in zip(estimated, judged, strict=True)
    ]
    if earlier is None:
        return tuple(contrasts)
    # A contrast that lacks a cell of the look is judged at a later one.
    ready = [number for number, contrast in enumerate(contrasts) if contrast.judged.estimate.seeds in LOOKS]
    decided = [_told_before(earlier.get(contrasts[number].key)) for number in ready]
    results = compare_at_look(
        [estimated[number].estimate for number in ready], decided, [margins[number] for number in ready], LATER_SHARE
    )
    for number, result in zip(ready, results, strict=True):
        contrasts[number] = replace(contrasts[number], judged=replace(judged[number], result=result))
    return tuple(contrasts)


def _told_before(verdict: Verdict | None) -> Verdict | None:
    return verdict if verdict in ("better", "worse", "tie") else None


def _judged_rows(
    places: Sequence[PairedPlace],
    primary: Sequence[Contrast],
    answers: Mapping[str, CellAnswers],
    margin: float,
    named: bool,
) -> pd.DataFrame:
    """The rows: by their own contrast where they are the whole of a default one, else as secondary comparisons."""
    estimates = [place.estimate(answers) for place in places]
    single = {} if named else {contrast.folders: contrast.judged for contrast in primary if not contrast.over}
    answered = [contrast.folders for contrast in primary if contrast.answered and contrast.per_doubling is None]
    judged: dict[int, JudgedEstimate] = {}
    families: dict[Correction, list[int]] = {"holm": [], "benjamini-hochberg": []}
    for number, place in enumerate(places):
        if place.folders in single:
            judged[number] = single[place.folders]
        else:
            families["holm" if any(place.folders <= of for of in answered) else "benjamini-hochberg"].append(number)
    for correction, members in families.items():
        of_family = judge_family([estimates[number] for number in members], margin, correction)
        judged |= dict(zip(members, of_family, strict=True))
    return difference_table(places, [judged[number] for number in range(len(places))], answers)
