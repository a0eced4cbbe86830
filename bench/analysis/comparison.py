"""The methods of a sweep compared with one another: paired differences, their intervals and verdicts.

By seed: two cells at equal base, rank, samples and training settings saw the same examples in the same order and
answered the same questions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

import pandas as pd

from bench import statistics
from bench.analysis.cell_answers import CellAnswers, cell_answers, least_step, over_questions, weighted_spread
from bench.analysis.result_tables import ResultTables, trained_cells
from bench.statistics import SINGLE, Correction, SeedComparison, SeedEstimate, Verdict
from bench.sweep.baseline import choose_baseline
from bench.sweep.sections import ReportConfig


@dataclass(frozen=True)
class PairedDifference:
    """A series against a baseline at one place: a row of the paired differences. In points; None where unknown."""

    series: str
    baseline: str
    """The baseline's series."""
    base: str
    rank: float | None
    """None where each series is compared at its own rank."""
    baseline_rank: float | None
    samples: int
    seeds: int
    difference: float
    """The mean over the seeds."""
    low: float | None = None
    """Of the interval over seeds and questions, unadjusted."""
    high: float | None = None
    adjusted_low: float | None = None
    """Of the interval at the level of the verdict (`SeedComparison.adjusted`)."""
    adjusted_high: float | None = None
    seed_half: float | None = None
    """Its half-width over seeds alone."""
    question_half: float | None = None
    """Its half-width over the choice of questions alone; None where the answers are not known."""
    choice_half: float | None = None
    """Its half-width over the choice of learning rates; None where no rate is chosen, or it is not known."""
    floored: bool = False
    """The spread over seeds is smaller than the churn of the answers, which took its place."""
    p: float | None = None
    p_adjusted: float | None = None
    """Over all rows of its family that have a p."""
    tie_p_adjusted: float | None = None
    """Of a difference of the margin or more."""
    question_low: float | None = None
    """Of the bootstrap's interval over questions."""
    question_high: float | None = None
    mcnemar_p: float | None = None
    """Of a row with one seed, over the questions of all tasks."""
    mcnemar_p_adjusted: float | None = None
    """Holm's, over all rows that have one."""
    detectable: float | None = None
    """The difference that so many seeds detect."""
    seeds_needed: float | None = None
    """The seeds that would bring an unresolved row to a verdict; None where 1,000 would not."""
    rates: str = ""
    """Learning rates, where they are equal in every pair or both sides have one: `0.001`, or `0.001 ≠ 0.003` of the
    series and the baseline."""
    correction: Correction = "holm"
    """Of the p values. Under Benjamini-Hochberg's a verdict is exploratory."""
    verdict: Verdict = SINGLE

    @property
    def bound(self) -> float | None:
        """The difference is at most this either way, at 95 %."""
        return None if self.low is None or self.high is None else max(abs(self.low), abs(self.high))

    @property
    def exploratory(self) -> bool:
        return self.correction != "holm"

    @property
    def baseline_label(self) -> str:
        """The baseline's series, with its rank where that is not the row's own."""
        equal = self.baseline_rank is None or self.baseline_rank == self.rank
        return self.baseline if equal else f"{self.baseline} r{self.baseline_rank:g}"


DIFFERENCES = tuple(column.name for column in fields(PairedDifference))
"""The columns of `differences`."""

RULES = ReportConfig()
"""How cells are compared where a sweep does not say."""


def done_baseline(cells: pd.DataFrame, planned: str | None) -> str | None:
    """The baseline of a plan; while none of its cells is done (it failed, say), the one that the rule chooses among the
    methods that are done."""
    done = trained_cells(cells)
    ranks = [None if pd.isna(rank) else int(rank) for rank in done["rank"]]
    methods = list(zip(done["method"], ranks, strict=True))
    return planned if done.empty or planned in set(done["method"]) else choose_baseline(methods)


def difference_rows(differences: pd.DataFrame) -> list[PairedDifference]:
    """The rows of a table of paired differences."""
    columns = differences[list(DIFFERENCES)].astype(object)
    return [PairedDifference(**row) for row in columns.where(columns.notna(), None).to_dict("records")]


def differences(
    cells: pd.DataFrame,
    baseline: str | None,
    questions: pd.DataFrame | None = None,
    rules: ReportConfig = RULES,
) -> pd.DataFrame:
    """Each series against the baseline method, by the average (points): a row a `PairedDifference`, all of one family
    (Holm).

    Where and with what is said at `baseline_places`. Without `questions` (those of `ResultTables`) the intervals are
    over seeds alone.
    """
    answers = cell_answers(questions) if questions is not None else {}
    places = baseline_places(cells, baseline, answers, rules)
    judged = judge_family([place.estimate(answers) for place in places], rules.tie_margin)
    return difference_table(places, judged, answers)


def baseline_places(
    cells: pd.DataFrame, baseline: str | None, answers: Mapping[str, CellAnswers], rules: ReportConfig = RULES
) -> list[PairedPlace]:
    """Each series and the baseline method at equal base, rank, samples and training settings.

    `baseline` is that of the plan; without one there are no places. Where every series has one rank, or none, and not
    all the same, each is compared at its own, and `rank` and `baseline_rank` are missing. With `rules.baseline_rank`
    every setting is compared with the baseline at that rank, too. At equal ranks, a method without a rank has no equal
    and is left out. Where the baseline is the only method, its further series (another initialisation, say) are
    compared with its first. Two cells that answered other questions are not compared.
    """
    done = trained_cells(cells).assign(rank=lambda rows: pd.to_numeric(rows["rank"]))
    # Of all cells that are planned: which of them are done must not decide what is compared with what.
    planned = cells[cells["method"] != "base"]
    one_rank_each = planned.groupby("series")["rank"].nunique().max() <= 1
    if one_rank_each and (planned["rank"].nunique(dropna=False) > 1 or planned["rank"].isna().all()):
        done = ranked = done.assign(rank=float("nan"))
    else:
        ranked = done[done["rank"].notna()]
    references = dict.fromkeys(ranked[ranked["method"] == baseline]["series"])
    others = list(dict.fromkeys(ranked[ranked["method"] != baseline]["series"]))
    if set(planned["method"]) == {baseline}:
        first, *others = list(references) or [""]
        references = {first: None}
    sides = [
        (ranked[ranked["series"] == series], _as_baseline(ranked[ranked["series"] == reference]))
        for series in others
        for reference in references
    ]
    fixed = done[(done["method"] == baseline) & (done["rank"] == rules.baseline_rank)]
    sides += [
        (setting, _as_baseline(fixed[fixed["series"] == reference], rank))
        for (series, method, rank), setting in done.groupby(["series", "method", "rank"], sort=False, dropna=False)
        for reference in dict.fromkeys(fixed["series"])
        if rank != rules.baseline_rank and (method != baseline or series == reference)
    ]
    return paired_places(sides, answers)


def between(first: ResultTables, second: ResultTables, margin: float = statistics.TIE_MARGIN) -> pd.DataFrame:
    """The columns of `differences` for two sweeps, or two versions of one: each setting of the second against the same
    setting (method and its settings, base, rank, samples, training settings) of the first, paired by seed. `series` and
    `baseline` are the setting's names in the second and in the first."""
    cells = [
        trained_cells(tables.cells).assign(
            folder=lambda rows, side=side: f"{side}/" + rows["folder"].astype(str),
            setting=lambda rows: rows["method"] + rows["options"].map(repr),
            rank=lambda rows: pd.to_numeric(rows["rank"]),
        )
        for side, tables in enumerate((first, second))
    ]
    questions = [
        tables.questions.assign(folder=f"{side}/" + tables.questions["folder"].astype(str))
        for side, tables in enumerate((first, second))
    ]
    sides = [
        (cells[1][cells[1]["setting"] == setting], _as_baseline(cells[0][cells[0]["setting"] == setting]))
        for setting in dict.fromkeys(cells[1]["setting"])
    ]
    answers = cell_answers(pd.concat(questions).reset_index(drop=True))
    places = paired_places(sides, answers, missing_rows=False)
    return difference_table(places, judge_family([place.estimate(answers) for place in places], margin), answers)


def _as_baseline(cells: pd.DataFrame, rank: float | None = None) -> pd.DataFrame:
    """Cells to be compared with, those of `rank` where it is given, whatever their own."""
    moved = cells.assign(baseline_rank=cells["rank"])
    return moved if rank is None else moved.assign(rank=rank)


@dataclass(frozen=True)
class CellPair:
    """A cell and the cell of the baseline that it is paired with."""

    folder: str
    baseline: str
    difference: float
    """Of their averages (points)."""


@dataclass(frozen=True)
class PairedPlace:
    """The pairs of two series at one base, rank, number of samples and training settings."""

    row: PairedDifference
    """Without what is computed from the pairs."""
    pairs: Mapping[int, CellPair]
    """By seed."""

    @property
    def folders(self) -> frozenset[str]:
        """Of all of its cells."""
        return frozenset(folder for pair in self.pairs.values() for folder in (pair.folder, pair.baseline))

    def of_seeds(self, seeds: Collection[int]) -> PairedPlace:
        """The pairs of these seeds."""
        pairs = {seed: pair for seed, pair in self.pairs.items() if seed in seeds}
        if len(pairs) == len(self.pairs):
            return self
        mean = SeedEstimate(tuple(pair.difference for pair in pairs.values())).mean
        return PairedPlace(replace(self.row, seeds=len(pairs), difference=mean), pairs)

    def of_folders(self, folders: Collection[str]) -> PairedPlace:
        """The pairs of these cells."""
        return self.of_seeds([seed for seed, pair in self.pairs.items() if pair.folder in folders])

    def estimate(self, answers: Mapping[str, CellAnswers]) -> SeedEstimate:
        """The differences by seed, with what the answers say of their spread."""
        sides = [answers.get(folder) for pair in self.pairs.values() for folder in (pair.folder, pair.baseline)]
        return SeedEstimate(
            tuple(pair.difference for pair in self.pairs.values()),
            weighted_spread(
                {
                    seed: [(1.0, answers.get(pair.folder)), (-1.0, answers.get(pair.baseline))]
                    for seed, pair in self.pairs.items()
                }
            ),
            least_step(sides),
        )


def paired_places(
    sides: Iterable[tuple[pd.DataFrame, pd.DataFrame]], answers: Mapping[str, CellAnswers], missing_rows: bool = True
) -> list[PairedPlace]:
    """The places at which cells of both sides can be paired. Two cells that answered other questions are no pair.
    `missing_rows`: cells whose rows could not be read are paired as well, because they are of one sweep and had the
    same questions."""
    keys = ["base", "rank", "samples", "settings"]
    places: list[PairedPlace] = []
    for series, references in sides:
        paired = series.assign(settings=series["training"].map(repr)).merge(
            references.assign(settings=references["training"].map(repr)),
            on=[*keys, "seed"],
            suffixes=("", "_baseline"),
            validate="one_to_one",
        )
        for (base, rank, samples, _), group in paired.groupby(keys, sort=False, dropna=False):
            pairs: dict[int, CellPair] = {}
            for row in group.itertuples():
                treatment, reference = answers.get(row.folder), answers.get(row.folder_baseline)
                if treatment is None or reference is None:
                    paired_up = missing_rows
                else:
                    paired_up = treatment.question_set == reference.question_set
                if paired_up:
                    pairs[row.seed] = CellPair(row.folder, row.folder_baseline, row.average - row.average_baseline)
            if pairs:
                first = group.iloc[0]
                values = [pair.difference for pair in pairs.values()]
                row = PairedDifference(
                    series=first["series"],
                    baseline=first["series_baseline"],
                    base=base,
                    rank=None if pd.isna(rank) else rank,
                    baseline_rank=None if pd.isna(first["baseline_rank"]) else first["baseline_rank"],
                    samples=samples,
                    seeds=len(values),
                    difference=SeedEstimate(tuple(values)).mean,
                    rates=_pair_rates(group),
                )
                places.append(PairedPlace(row, pairs))
    return places


def rates_text(rates: pd.Series) -> str:
    """The learning rates of the cells of a setting: `0.001`, or `0.0003 (2), 0.001 (1)` with how many cells have each;
    empty where none is recorded."""
    counts = rates.dropna().value_counts().sort_index()
    if len(counts) < 2:
        return "".join(f"{rate:g}" for rate in counts.index)
    return ", ".join(f"{rate:g} ({count})" for rate, count in counts.items())


def _pair_rates(pairs: pd.DataFrame) -> str:
    of, against = rates_text(pairs["lr"]), rates_text(pairs["lr_baseline"])
    return of if pairs["lr"].equals(pairs["lr_baseline"].rename("lr")) else f"{of} ≠ {against}"


@dataclass(frozen=True)
class JudgedEstimate:
    """An estimate with what it says within its family."""

    estimate: SeedEstimate
    result: SeedComparison
    comparisons: int
    """Estimates of the family that have a p."""
    margin: float
    """Of a tie (points); 0 where none is possible."""
    correction: Correction

    @property
    def seed_half(self) -> float | None:
        """The part of the interval's half-width that is over seeds."""
        interval = self.result.interval
        if interval is None:
            return None
        half, lasting = (interval.high - interval.low) / 2, self.estimate.lasting_half_width()
        return math.sqrt(max(0.0, half**2 - lasting**2))

    @property
    def seeds_needed(self) -> int | None:
        """That would bring an unresolved one to a verdict."""
        if self.result.verdict != "unresolved":
            return None
        estimate = self.estimate
        return statistics.seeds_needed(
            estimate.mean, estimate.deviation, self.comparisons, self.margin, estimate.lasting_error
        )

    @property
    def detectable(self) -> float | None:
        """The difference (points) that so many seeds detect in a single comparison."""
        if self.result.interval is None:
            return None
        over_seeds = statistics.detectable_difference(self.estimate.deviation, self.estimate.seeds)
        return math.hypot(over_seeds, self.estimate.lasting_half_width())


def judge_family(
    family: Sequence[SeedEstimate], margin: float | Sequence[float], correction: Correction = "holm"
) -> list[JudgedEstimate]:
    """The estimates of one family with their verdicts, as `compare_family` gives them."""
    margins = [margin] * len(family) if isinstance(margin, (int, float)) else margin
    comparisons = sum(estimate.seeds >= statistics.SEEDS for estimate in family)
    results = statistics.compare_family(family, margins, correction)
    return [
        JudgedEstimate(estimate, result, comparisons, of_one, correction)
        for estimate, result, of_one in zip(family, results, margins, strict=True)
    ]


def difference_table(
    places: Sequence[PairedPlace], judged: Sequence[JudgedEstimate], answers: Mapping[str, CellAnswers]
) -> pd.DataFrame:
    """A row of `differences` for each place."""
    rows = [_completed(place.row, of_place) for place, of_place in zip(places, judged, strict=True)]
    for number, place in enumerate(places):
        pairs = [(answers.get(pair.folder), answers.get(pair.baseline)) for pair in place.pairs.values()]
        low, high, p = over_questions(pairs)
        rows[number] = replace(rows[number], question_low=low, question_high=high, mcnemar_p=p)
    adjusted = statistics.holm([row.mcnemar_p for row in rows])
    rows = [replace(row, mcnemar_p_adjusted=p) for row, p in zip(rows, adjusted, strict=True)]
    return pd.DataFrame([asdict(row) for row in rows], columns=DIFFERENCES)


def _completed(row: PairedDifference, judged: JudgedEstimate) -> PairedDifference:
    estimate, interval, adjusted = judged.estimate, judged.result.interval, judged.result.adjusted
    return replace(
        row,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        adjusted_low=adjusted.low if adjusted else None,
        adjusted_high=adjusted.high if adjusted else None,
        seed_half=judged.seed_half,
        question_half=estimate.question_half_width() if interval and estimate.spread is not None else None,
        choice_half=estimate.choice_half_width() if interval and estimate.choice_error else None,
        floored=interval is not None and estimate.churn > estimate.own_deviation,
        p=judged.result.p,
        p_adjusted=judged.result.p_adjusted,
        tie_p_adjusted=judged.result.tie_p_adjusted,
        detectable=judged.detectable,
        seeds_needed=judged.seeds_needed,
        correction=judged.correction,
        verdict=judged.result.verdict,
    )
