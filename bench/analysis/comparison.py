"""The methods of a sweep compared with one another: paired differences, their intervals and verdicts.

By seed: two cells at equal base, rank, samples and training settings saw the same examples in the same order and
answered the same questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import pandas as pd

from bench import statistics
from bench.analysis.rescoring import QUESTION_KEY
from bench.analysis.result_tables import ResultTables, trained_cells
from bench.statistics import SINGLE, TaskAnswers, Verdict
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
    """Of the t interval over seeds, unadjusted."""
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    """Holm's, over all rows that have a p."""
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
    verdict: Verdict = SINGLE

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
    """Each series against the baseline method at equal base, rank, samples and training settings, by the average
    (points): a row a `PairedDifference`.

    `baseline` is that of the plan; without one there are no rows. Where every series has one rank, or none, and not all
    the same, each is compared at its own, and `rank` and `baseline_rank` are missing. With `rules.baseline_rank` every
    setting is compared with the baseline at that rank, too. At equal ranks, a method without a rank has no equal and is
    left out. Two cells that answered other questions are not compared; without `questions` (those of `ResultTables`)
    there are no intervals over questions.
    """
    done = trained_cells(cells).assign(rank=lambda rows: pd.to_numeric(rows["rank"]))
    # Of all cells that are planned: which of them are done must not decide what is compared with what.
    planned = cells[cells["method"] != "base"]
    one_rank_each = planned.groupby("series")["rank"].nunique().max() <= 1
    if one_rank_each and planned["rank"].nunique(dropna=False) > 1:
        done = ranked = done.assign(rank=float("nan"))
    else:
        ranked = done[done["rank"].notna()]
    references = dict.fromkeys(ranked[ranked["method"] == baseline]["series"])
    sides = [
        (ranked[ranked["series"] == series], _as_baseline(ranked[ranked["series"] == reference]))
        for series in dict.fromkeys(ranked[ranked["method"] != baseline]["series"])
        for reference in references
    ]
    fixed = done[(done["method"] == baseline) & (done["rank"] == rules.baseline_rank)]
    sides += [
        (setting, _as_baseline(fixed[fixed["series"] == reference], rank))
        for (series, method, rank), setting in done.groupby(["series", "method", "rank"], sort=False, dropna=False)
        for reference in dict.fromkeys(fixed["series"])
        if rank != rules.baseline_rank and (method != baseline or series == reference)
    ]
    return _compared(sides, questions, rules.tie_margin)


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
    return _compared(sides, pd.concat(questions).reset_index(drop=True), margin, missing_rows=False)


def _as_baseline(cells: pd.DataFrame, rank: float | None = None) -> pd.DataFrame:
    """Cells to be compared with, those of `rank` where it is given, whatever their own."""
    moved = cells.assign(baseline_rank=cells["rank"])
    return moved if rank is None else moved.assign(rank=rank)


def _compared(
    sides: Iterable[tuple[pd.DataFrame, pd.DataFrame]],
    questions: pd.DataFrame | None,
    margin: float,
    missing_rows: bool = True,
) -> pd.DataFrame:
    """A row for each place at which cells of both sides can be paired; the p values are of one family. `missing_rows`:
    cells whose rows could not be read are compared as well, because they are of one sweep and had the same
    questions."""
    keys = ["base", "rank", "samples", "settings"]
    answers = _cell_answers(questions) if questions is not None else {}
    rows: list[PairedDifference] = []
    family: list[list[float]] = []
    steps: list[float] = []
    for series, references in sides:
        paired = series.assign(settings=series["training"].map(repr)).merge(
            references.assign(settings=references["training"].map(repr)),
            on=[*keys, "seed"],
            suffixes=("", "_baseline"),
            validate="one_to_one",
        )
        for (base, rank, samples, _), group in paired.groupby(keys, sort=False, dropna=False):
            pairs = [(row, answers.get(row.folder), answers.get(row.folder_baseline)) for row in group.itertuples()]
            pairs = [
                (row, treatment, reference)
                for row, treatment, reference in pairs
                if (
                    missing_rows
                    if treatment is None or reference is None
                    else treatment.question_set == reference.question_set
                )
            ]
            if not pairs:
                continue
            values = [row.average - row.average_baseline for row, _, _ in pairs]
            first = pairs[0][0]
            answer_pairs = [(treatment, reference) for _, treatment, reference in pairs]
            low, high, p = _over_questions(answer_pairs)
            rows.append(
                PairedDifference(
                    series=first.series,
                    baseline=first.series_baseline,
                    base=base,
                    rank=rank,
                    baseline_rank=first.baseline_rank,
                    samples=samples,
                    seeds=len(values),
                    difference=_mean(values),
                    question_low=low,
                    question_high=high,
                    mcnemar_p=p,
                )
            )
            family.append(values)
            steps.append(min(side.step if side is not None else 0.0 for pair in answer_pairs for side in pair))
    adjusted = statistics.holm([row.mcnemar_p for row in rows])
    rows = [replace(row, mcnemar_p_adjusted=p) for row, p in zip(rows, adjusted, strict=True)]
    rows = _over_seeds(rows, family, steps, margin)
    return pd.DataFrame([asdict(row) for row in rows], columns=DIFFERENCES)


def _mean(values: Sequence[float]) -> float:
    """Without what floating point leaves of zero."""
    return round(sum(values) / len(values), 9) + 0.0


def _over_seeds(
    rows: Sequence[PairedDifference], family: Sequence[Sequence[float]], steps: Sequence[float], margin: float
) -> list[PairedDifference]:
    """The rows with what their differences by seed (points) say within their family."""
    comparisons = sum(len(values) >= statistics.SEEDS for values in family)
    results = statistics.compare_family(family, margin, steps)
    completed = []
    for row, values, step, result in zip(rows, family, steps, results, strict=True):
        interval, deviation = result.interval, statistics.standard_deviation(values, step)
        needed = None
        if result.verdict == "unresolved":
            needed = statistics.seeds_needed(sum(values) / len(values), deviation, comparisons, margin)
        completed.append(
            replace(
                row,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                p=result.p,
                p_adjusted=result.p_adjusted,
                detectable=statistics.detectable_difference(deviation, len(values)) if interval else None,
                seeds_needed=needed,
                verdict=result.verdict,
            )
        )
    return completed


@dataclass(frozen=True)
class _CellAnswers:
    """The answers of one cell."""

    question_set: int
    """Cells that answered the same questions have the same number."""
    correct: np.ndarray  # (questions,) in the order of (protocol, task, question)
    averages: np.ndarray | None
    """(resamples,) 0 to 1, on questions drawn alike for all cells of the same questions; None where a task has fewer
    than two clusters, which cannot be resampled."""
    step: float
    """Points: the least by which two averages over these questions can differ."""


def _over_questions(
    pairs: Sequence[tuple[_CellAnswers | None, _CellAnswers | None]],
) -> tuple[float | None, float | None, float | None]:
    """The second component of a difference, from the cells of each seed: the bootstrap's interval of its mean over
    seeds (low and high, points) and, of one seed, McNemar's p. None where the rows of a cell could not be read; no
    interval of fewer than two clusters."""
    readable = [
        (treatment, reference) for treatment, reference in pairs if treatment is not None and reference is not None
    ]
    if len(readable) < len(pairs):
        return None, None, None
    differences = [
        treatment.averages - reference.averages
        for treatment, reference in readable
        if treatment.averages is not None and reference.averages is not None
    ]
    low = high = p = None
    if len(differences) == len(readable):
        interval = statistics.percentile_interval(100 * np.mean(differences, axis=0))
        low, high = interval.low, interval.high
    if len(readable) == 1:
        ((treatment, reference),) = readable
        first, second = treatment.correct, reference.correct
        p = statistics.mcnemar(int((first > second).sum()), int((first < second).sum()))
    return low, high, p


def _cell_answers(questions: pd.DataFrame) -> dict[str, _CellAnswers]:
    """By folder; the cells that answered the same questions are resampled together."""
    places = questions.groupby(QUESTION_KEY, observed=True)
    place = places.ngroup().to_numpy()  # (rows,)
    # A question is in its cluster, whichever cell's rows say so. One row a place, as those are numbered.
    labels = places["cluster"].first().astype(object).reset_index()
    clusters = labels["cluster"].fillna(labels["question_id"].astype(object)).to_numpy(dtype=str)
    task_of_place = labels["task"].to_numpy(dtype=object)
    cell, folders = pd.factorize(questions["folder"])
    order = np.lexsort((place, cell))
    ends = np.cumsum(np.bincount(cell, minlength=len(folders)))[:-1]
    correct = questions["correct"].to_numpy(dtype=float)
    by_question_set: dict[bytes, dict[str, np.ndarray]] = {}
    for folder, rows in zip(folders, np.split(order, ends) if len(order) else [], strict=True):
        by_question_set.setdefault(place[rows].tobytes(), {})[folder] = correct[rows]
    answers: dict[str, _CellAnswers] = {}
    for number, (content, by_folder) in enumerate(by_question_set.items()):
        places_of_set = np.frombuffer(content, dtype=place.dtype)
        answers |= _resampled_together(number, by_folder, task_of_place[places_of_set], clusters[places_of_set])
    return answers


def _resampled_together(
    number: int, by_folder: Mapping[str, np.ndarray], tasks: np.ndarray, clusters: np.ndarray
) -> dict[str, _CellAnswers]:
    """The answers (Q,) of cells to the same questions, whose tasks and clusters are (Q,)."""
    correct = np.stack(list(by_folder.values()))  # (M, Q)
    by_task = {
        task: TaskAnswers(correct[:, tasks == task], clusters[tasks == task]) for task in dict.fromkeys(tasks.tolist())
    }
    enough = all(len(set(answers.clusters.tolist())) > 1 for answers in by_task.values())
    averages = statistics.resampled_averages(by_task) if enough else None  # (resamples, M)
    step = _step(correct, tasks)
    return {
        folder: _CellAnswers(number, correct[place], None if averages is None else averages[:, place], step)
        for place, folder in enumerate(by_folder)
    }


def _step(correct: np.ndarray, tasks: np.ndarray) -> float:
    """Of averages over tasks, from how near two answers' scores came: 1 apart where they are right or wrong."""
    names = list(dict.fromkeys(tasks.tolist()))
    steps = [
        100 * np.diff(np.unique(correct[:, tasks == task])).min(initial=1.0) / (tasks == task).sum() for task in names
    ]
    return float(min(steps)) / len(names)
