"""The contrasts of a sweep, estimated, and the paired differences judged in their light.

A primary contrast is one number per seed. All of them are one family (Holm, for ties as well). Where the sweep file
names none, each series is compared with the baseline by the mean over all places that both have; the trends of the
series are a family of their own. The cell-by-cell rows are secondary: those of a contrast that is told are one family
under Holm, the others are exploratory (Benjamini-Hochberg).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from bench.analysis.best_setting import RankedSetting, rank_against_best
from bench.analysis.cell_answers import CellAnswers
from bench.analysis.comparison import (
    JudgedEstimate,
    PairedPlace,
    baseline_places,
    difference_table,
    judge_family,
)
from bench.analysis.contrast_estimates import (
    ContrastKey,
    EstimatedContrast,
    default_contrasts,
    default_trends,
    named_contrasts,
)
from bench.analysis.look_stages import LookStage, StoredBoundaries, later_seeds_sentence, look_stages, of_seeds
from bench.analysis.rate_contrasts import (
    RateStudy,
    differences_at_rates,
    lost_when_off,
    rate_cells,
    robustness_contrasts,
)
from bench.analysis.result_tables import ResultTables, trained_cells
from bench.statistics import SINGLE, Correction, SeedComparison, SeedEstimate, Verdict, compare_at_look
from bench.store.records import PlanRecord
from bench.sweep.contrasts import (
    DEFAULT_CONTRASTS,
    ContrastsRecord,
)

CONTRASTS = (
    *("family", "contrast", "base", "unit", "seeds", "estimate", "low", "high", "seed_half", "question_half"),
    "choice_half",
    *("p", "p_adjusted", "tie_p_adjusted", "bound", "seeds_needed", "verdict", "post_hoc"),
)
"""The columns of `SweepComparisons.table`."""
PRIMARY, TRENDS, RATES = "primary", "trends", "learning rates"
"""The families."""


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
    measure: str = ""
    """What is compared, where that is not the score itself: how it changes when the learning rate is off."""

    @classmethod
    def of_estimate(cls, estimated: EstimatedContrast, judged: JudgedEstimate, family: str) -> Contrast:
        return cls(
            estimated.of,
            estimated.against,
            estimated.base,
            estimated.over,
            estimated.per_doubling,
            family,
            estimated.post_hoc,
            estimated.folders,
            judged,
            estimated.measure,
        )

    @property
    def name(self) -> str:
        """`dora - lora, mean over 5 ranks`."""
        what = self.of if self.against is None else f"{self.of} - {self.against}"
        kind = (
            f"per doubling of {self.per_doubling}"
            if self.per_doubling
            else f"mean over {self.over}"
            if self.over
            else self.measure
        )
        where = f" on {self.base}" if self.base else ""
        return f"{what}{where}{f', {kind}' if kind else ''}"

    @property
    def key(self) -> ContrastKey:
        """What identifies it at every look."""
        return self.of, self.against, self.base, self.over or self.measure, self.per_doubling, self.family

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
            "choice_half": estimate.choice_half_width() if interval and estimate.choice_error else None,
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
    """All settings, by the seeds that were planned before the first score, or those of the first look."""
    judged: tuple[Contrast, ...] = ()
    """All contrasts, those that are rows of the differences too."""
    unjudged: tuple[EstimatedContrast, ...] = ()
    """Primary contrasts that have too few seeds for the first look of a sequential design."""
    stage: LookStage | None = None
    """The last look."""
    earlier: tuple[SweepComparisons, ...] = ()
    """Those of the looks before it."""
    rates: RateStudy | None = None
    """Of a crossed design."""

    @property
    def sequential(self) -> bool:
        """Whether the seeds were added in the light of earlier looks."""
        return self.stage is not None and self.stage.design is not None

    @property
    def primary(self) -> list[Contrast]:
        return [contrast for contrast in self.judged if contrast.family == PRIMARY]

    def table(self) -> pd.DataFrame:
        """One row a contrast."""
        return pd.DataFrame([contrast.row() for contrast in self.contrasts], columns=CONTRASTS)


def compare_sweep(
    tables: ResultTables, plan: PlanRecord, margin: float, stored: StoredBoundaries | None = None
) -> SweepComparisons:
    """The contrasts and the paired differences of a sweep, after all of its looks. `margin`: of a tie (points); 0
    leaves none. `stored`: boundaries that are stored with the results.

    What one look has told stands at the next ones, with its estimate and interval. The trials of a crossed design, all
    with the first seeds, say how far each method depends on its learning rate.
    """
    stages = look_stages(tables, plan, stored)
    looks: list[SweepComparisons] = []
    for stage in stages:
        before = looks[-1] if looks else None
        looks.append(_compared(of_seeds(tables, stage.seeds), tables.answers, plan, margin, stage, before))
    last = replace(
        looks[-1],
        look=later_seeds_sentence(plan, stages),
        against_best=looks[0].against_best,
        earlier=tuple(looks[:-1]),
    )
    return last if tables.trials is None else _with_rates(last, tables.trials, plan, margin)


def _with_rates(
    comparisons: SweepComparisons, trials: ResultTables, plan: PlanRecord, margin: float
) -> SweepComparisons:
    """The comparisons with what the trials of a crossed design say of learning rates, a family of its own."""
    cells, answers = rate_cells(trials, plan), trials.answers
    post_hoc = plan.contrasts is None or DEFAULT_CONTRASTS not in plan.contrasts.planned
    estimated = robustness_contrasts(cells, plan.baseline, answers, post_hoc)
    judged = judge_family([contrast.estimate for contrast in estimated], margin)
    contrasts = map(Contrast.of_estimate, estimated, judged, [RATES] * len(judged))
    study = RateStudy(differences_at_rates(cells, plan.baseline, answers), lost_when_off(cells))
    return replace(comparisons, contrasts=(*comparisons.contrasts, *contrasts), rates=study)


def _compared(
    tables: ResultTables,
    answers: Mapping[str, CellAnswers],
    plan: PlanRecord,
    margin: float,
    stage: LookStage,
    earlier: SweepComparisons | None,
) -> SweepComparisons:
    """The comparisons of one look; `earlier` has those of the look before it, if there was one."""
    places = baseline_places(tables.cells, plan.baseline, answers, plan.report)
    record = plan.contrasts if plan.contrasts is not None else ContrastsRecord()
    post_hoc = DEFAULT_CONTRASTS not in record.planned
    problems: list[str] = []
    estimated = (
        named_contrasts(tables, plan, record, answers, problems, stage.counted)
        if record.named
        else default_contrasts(places, answers, post_hoc, stage.counted)
    )
    before = {contrast.key: contrast for contrast in earlier.judged} if earlier is not None else {}
    primary, unjudged = _judged(estimated, PRIMARY, margin, stage, before, len(problems))
    trends: tuple[Contrast, ...] = ()
    if not record.named:
        of_series = default_trends(trained_cells(tables.cells), answers, post_hoc, stage.counted)
        trends, _ = _judged(of_series, TRENDS, 0.0, stage, before)
    differences = _judged_rows(places, primary, answers, margin, bool(record.named), stage)
    # A default contrast of a single place is a row of the differences.
    shown = [contrast for contrast in primary if record.named or contrast.over]
    return SweepComparisons(
        (*shown, *trends),
        differences,
        (*problems, *(_unjudged_text(contrast, stage) for contrast in unjudged)),
        named=bool(record.named),
        against_best=tuple(rank_against_best(tables.cells, answers, margin)) if earlier is None else (),
        judged=(*primary, *trends),
        unjudged=tuple(unjudged),
        stage=stage,
    )


def _judged(
    estimated: Sequence[EstimatedContrast],
    family: str,
    margin: float,
    stage: LookStage,
    before: Mapping[ContrastKey, Contrast],
    missing: int = 0,
) -> tuple[tuple[Contrast, ...], list[EstimatedContrast]]:
    """The contrasts of one family, and those that have too few seeds for a look. A slope has another unit than the
    margin, so it has no ties. `missing`: contrasts that cannot be estimated, which keep their part of the level."""
    margins = [margin if contrast.per_doubling is None else 0.0 for contrast in estimated]
    if stage.design is None:
        judged = judge_family([contrast.estimate for contrast in estimated], margins)
        return tuple(map(Contrast.of_estimate, estimated, judged, [family] * len(judged))), []
    ready = [number for number, contrast in enumerate(estimated) if stage.is_look(contrast.estimate.seeds)]
    decided = [contrast for contrast in before.values() if contrast.family == family and contrast.answered]
    decided_keys = {contrast.key for contrast in decided}
    fresh = [number for number in ready if estimated[number].key(family) not in decided_keys]
    results = compare_at_look(
        [*(contrast.judged.estimate for contrast in decided), *(estimated[number].estimate for number in fresh)],
        [*(contrast.verdict for contrast in decided), *(None for _ in fresh)],
        [*(contrast.judged.margin for contrast in decided), *(margins[number] for number in fresh)],
        stage.share,
        stage.design,
        len(estimated) - len(ready) + missing,
    )
    by_key = {contrast.key: contrast for contrast in decided}
    for number, result in zip(fresh, results[len(decided) :], strict=True):
        estimate = JudgedEstimate(estimated[number].estimate, result, len(estimated), margins[number], "holm")
        contrast = Contrast.of_estimate(estimated[number], estimate, family)
        by_key[contrast.key] = contrast
    order = dict.fromkeys([*(contrast.key(family) for contrast in estimated), *by_key])
    unjudged = [contrast for contrast in estimated if contrast.key(family) not in by_key]
    return tuple(by_key[key] for key in order if key in by_key), unjudged


def _unjudged_text(contrast: EstimatedContrast, stage: LookStage) -> str:
    first = stage.design.looks[0] if stage.design is not None else 0
    names = " and ".join(filter(None, (contrast.of, contrast.against)))
    return (
        f"{names} are not judged yet: all of their cells are done at {contrast.estimate.seeds} seeds, and the first "
        f"look is at {first}"
    )


def _judged_rows(
    places: Sequence[PairedPlace],
    primary: Sequence[Contrast],
    answers: Mapping[str, CellAnswers],
    margin: float,
    named: bool,
    stage: LookStage,
) -> pd.DataFrame:
    """The rows: by their own contrast where they are the whole of a default one, else as secondary comparisons."""
    single = [] if named else [contrast for contrast in primary if not contrast.over]
    answered = [contrast.folders for contrast in primary if contrast.answered and contrast.per_doubling is None]
    places = [place.of_seeds(sorted(place.pairs)[: stage.counted(len(place.pairs))]) for place in places]
    judged: dict[int, JudgedEstimate] = {}
    families: dict[Correction, list[int]] = {"holm": [], "benjamini-hochberg": []}
    for number, place in enumerate(places):
        row_contrast = next((contrast for contrast in single if contrast.folders <= place.folders), None)
        if row_contrast is not None:
            places[number] = place.of_folders(row_contrast.folders)
            judged[number] = row_contrast.judged
        else:
            families["holm" if any(place.folders <= of for of in answered) else "benjamini-hochberg"].append(number)
    for correction, members in families.items():
        estimates = [places[number].estimate(answers) for number in members]
        of_family = (
            judge_family(estimates, margin, correction)
            if stage.design is None
            else _judged_at_look(estimates, margin, stage)
        )
        judged |= dict(zip(members, of_family, strict=True))
    return difference_table(places, [judged[number] for number in range(len(places))], answers)


def _judged_at_look(family: Sequence[SeedEstimate], margin: float, stage: LookStage) -> list[JudgedEstimate]:
    """Rows whose seeds were added in the light of earlier ones: by the repeated interval, which holds however a sweep
    is stopped, and Holm."""
    assert stage.design is not None
    ready = [estimate for estimate in family if stage.is_look(estimate.seeds)]
    results = compare_at_look(
        ready, [None] * len(ready), [margin] * len(ready), stage.share, stage.design, len(family) - len(ready)
    )
    by_place = dict(zip(map(id, ready), results, strict=True))
    none = SeedComparison(None, None, None, None, None, SINGLE)
    return [
        JudgedEstimate(estimate, by_place.get(id(estimate), none), len(family), margin, "holm") for estimate in family
    ]
