"""The methods of a sweep against one another: paired differences, their intervals and verdicts.

By seed: two cells at equal base, rank, samples and training settings saw the same examples in the same order and
answered the same questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench import statistics
from bench.analysis.frames import PLACE, Frames, trained
from bench.statistics import TaskAnswers
from bench.sweep.sections import ReportConfig

DIFFERENCES = ("series", "baseline", "base", "rank", "baseline_rank", "samples", "seeds", "difference", "low", "high")
DIFFERENCES += ("p", "p_adjusted")
DIFFERENCES += ("question_low", "question_high", "mcnemar_p", "mcnemar_p_adjusted", "detectable", "seeds_needed")
DIFFERENCES += ("verdict",)
"""The columns of `differences`."""

RULES = ReportConfig()
"""How cells are compared where a sweep says nothing of it."""


def baseline_of(cells: pd.DataFrame, chosen: str | None = None) -> str | None:
    """The method that the others are compared with: the chosen one, else LoRA, else the first trained one with a rank;
    None without one."""
    done = trained(cells)
    if chosen in set(done["method"]):
        return chosen
    methods = list(dict.fromkeys(done[done["rank"].notna()]["method"]))
    return "lora" if "lora" in methods else methods[0] if methods else None


def differences(
    cells: pd.DataFrame,
    questions: pd.DataFrame | None = None,
    rules: ReportConfig = RULES,
) -> pd.DataFrame:
    """Each series against the baseline method (`baseline_of`) at equal base, rank, samples and training settings, by
    the average (points). Where every series has one rank, or none, and not all the same, each is compared at its own,
    and `rank` and `baseline_rank` are missing. With `rules.baseline_rank` every setting is compared with the baseline
    at that rank, too.

    Over seeds: the mean of the per-seed differences, its t interval (`low`, `high`), p, Holm's p over all rows that
    have one, the difference that so many seeds detect, the seeds that would bring an unresolved one to a verdict, and
    the verdict. Over `questions` (of `Frames`), apart: the bootstrap's interval and, of a row with one seed, McNemar's
    p, pooled over the questions of all tasks and adjusted among its like. Two cells that answered other questions are
    not compared. At equal ranks, a method without one has no equal and is not in it."""
    done = trained(cells).assign(rank=lambda own: pd.to_numeric(own["rank"]))
    baseline = baseline_of(cells, rules.baseline)
    # Of all cells that are planned: which of them are done must not decide what is compared with what.
    planned = cells[cells["method"] != "base"]
    one_each = planned.groupby("series")["rank"].nunique().max() <= 1
    if one_each and planned["rank"].nunique(dropna=False) > 1:
        done = ranked = done.assign(rank=float("nan"))
    else:
        ranked = done[done["rank"].notna()]
    against = dict.fromkeys(ranked[ranked["method"] == baseline]["series"])
    sides = [
        (ranked[ranked["series"] == series], _baseline(ranked[ranked["series"] == reference]))
        for series in dict.fromkeys(ranked[ranked["method"] != baseline]["series"])
        for reference in against
    ]
    fixed = done[(done["method"] == baseline) & (done["rank"] == rules.baseline_rank)]
    sides += [
        (own, _baseline(fixed[fixed["series"] == reference], rank))
        for (series, method, rank), own in done.groupby(["series", "method", "rank"], sort=False, dropna=False)
        for reference in dict.fromkeys(fixed["series"])
        if rank != rules.baseline_rank and (method != baseline or series == reference)
    ]
    return _compared(sides, questions, rules.tie_margin)


def between(first: Frames, second: Frames, margin: float = statistics.TIE_MARGIN) -> pd.DataFrame:
    """The columns of `differences` for two sweeps, or two versions of one: each setting of the second against the same
    setting (method and its settings, base, rank, samples, training settings) of the first, paired by seed. `series` and
    `baseline` are the setting's names in the second and in the first."""
    cells = [
        trained(one.cells).assign(
            folder=lambda own, place=place: f"{place}/" + own["folder"].astype(str),
            exactly=lambda own: own["method"] + own["options"].map(repr),
            rank=lambda own: pd.to_numeric(own["rank"]),
        )
        for place, one in enumerate((first, second))
    ]
    questions = [
        one.questions.assign(folder=f"{place}/" + one.questions["folder"].astype(str))
        for place, one in enumerate((first, second))
    ]
    sides = [
        (cells[1][cells[1]["exactly"] == one], _baseline(cells[0][cells[0]["exactly"] == one]))
        for one in dict.fromkeys(cells[1]["exactly"])
    ]
    return _compared(sides, pd.concat(questions).reset_index(drop=True), margin, unread=False)


def baseline_text(row: Any) -> str:
    """The baseline of a row of `differences`, with its rank where that is not the row's own."""
    equal = pd.isna(row.baseline_rank) or row.baseline_rank == row.rank
    return row.baseline if equal else f"{row.baseline} r{row.baseline_rank:g}"


def _baseline(cells: pd.DataFrame, rank: float | None = None) -> pd.DataFrame:
    """Cells to be compared with, those of `rank` where it is given, whatever their own."""
    moved = cells.assign(baseline_rank=cells["rank"])
    return moved if rank is None else moved.assign(rank=rank)


def _compared(
    sides: Iterable[tuple[pd.DataFrame, pd.DataFrame]],
    questions: pd.DataFrame | None,
    margin: float,
    unread: bool = True,
) -> pd.DataFrame:
    """A row for each place at which cells of both sides can be paired; the p values are of one family. `unread`: cells
    whose rows could not be read are compared as well, for they are of one sweep and were asked the same."""
    keys = ["base", "rank", "samples", "settings"]
    answered = _answered(questions) if questions is not None else {}
    rows, family, steps = [], [], []
    for own, others in sides:
        paired = own.assign(settings=own["training"].map(repr)).merge(
            others.assign(settings=others["training"].map(repr)),
            on=[*keys, "seed"],
            suffixes=("", "_baseline"),
            validate="one_to_one",
        )
        for (base, rank, samples, _), group in paired.groupby(keys, sort=False, dropna=False):
            pairs = [(row, answered.get(row.folder), answered.get(row.folder_baseline)) for row in group.itertuples()]
            pairs = [(row, a, b) for row, a, b in pairs if (unread if a is None or b is None else a.asked == b.asked)]
            if not pairs:
                continue
            values = [row.average - row.average_baseline for row, _, _ in pairs]
            first = pairs[0][0]
            row = {"series": first.series, "baseline": first.series_baseline, "base": base, "rank": rank}
            row |= {
                "baseline_rank": first.baseline_rank,
                "samples": samples,
                "seeds": len(values),
                "difference": _mean(values),
            }
            rows.append(row | _over_questions([(a, b) for _, a, b in pairs]))
            family.append(values)
            steps.append(min(one.step if one is not None else 0.0 for _, a, b in pairs for one in (a, b)))
    adjusted = statistics.holm([row["mcnemar_p"] for row in rows])
    comparisons = sum(len(values) >= statistics.SEEDS for values in family)
    verdicts = statistics.compare_family(family, margin, steps)
    for row, values, step, judged, p in zip(rows, family, steps, verdicts, adjusted, strict=True):
        row |= _over_seeds(values, step, judged, comparisons, margin) | {"mcnemar_p_adjusted": p}
    return pd.DataFrame(rows, columns=DIFFERENCES)


def _mean(values: Sequence[float]) -> float:
    """Without what floating point leaves of zero."""
    return round(sum(values) / len(values), 9) + 0.0


def _over_seeds(
    values: Sequence[float], step: float, judged: statistics.SeedComparison, comparisons: int, margin: float
) -> dict[str, Any]:
    interval, deviation = judged.interval, statistics.standard_deviation(values, step)
    needed = statistics.seeds_needed(sum(values) / len(values), deviation, comparisons, margin) if interval else None
    return {
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "p": judged.p,
        "p_adjusted": judged.p_adjusted,
        "detectable": statistics.detectable_difference(deviation, len(values)) if interval else None,
        "seeds_needed": needed if judged.verdict == "unresolved" else None,
        "verdict": judged.verdict,
    }


@dataclass(frozen=True)
class _Answered:
    """What one cell answered."""

    asked: int
    """Which questions: cells that were asked the same have the same number."""
    correct: np.ndarray  # (questions,) in the order of (protocol, task, question)
    averages: np.ndarray  # (resamples,) 0 to 1, on questions drawn alike for all cells that were asked the same
    step: float
    """Points: the least by which two averages over these questions can differ."""


def _over_questions(pairs: Sequence[tuple[_Answered | None, _Answered | None]]) -> dict[str, Any]:
    """The second component of a difference, from the cells of each seed: the bootstrap's interval of its mean over
    seeds (points) and, of one seed, McNemar's p. None where the rows of a cell could not be read."""
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < len(pairs):
        return dict.fromkeys(("question_low", "question_high", "mcnemar_p"))
    interval = statistics.percentile_interval(100 * np.mean([a.averages - b.averages for a, b in known], axis=0))
    p = None
    if len(known) == 1:
        ((a, b),) = known
        p = statistics.mcnemar(int((a.correct > b.correct).sum()), int((a.correct < b.correct).sum()))
    return {"question_low": interval.low, "question_high": interval.high, "mcnemar_p": p}


def _answered(questions: pd.DataFrame) -> dict[str, _Answered]:
    """By cell; the cells that were asked the same are resampled together."""
    places = questions.groupby(PLACE, observed=True)
    place = places.ngroup().to_numpy()  # (rows,)
    # A question is in its cluster, whichever cell's rows say so. One row a place, as those are numbered.
    known = places["cluster"].first().astype(object).reset_index()
    labels = known["cluster"].fillna(known["question_id"].astype(object)).to_numpy(dtype=str)
    of_task = known["task"].to_numpy(dtype=object)
    cell, folders = pd.factorize(questions["folder"])
    order = np.lexsort((place, cell))
    ends = np.cumsum(np.bincount(cell, minlength=len(folders)))[:-1]
    answers = questions["correct"].to_numpy(dtype=float)
    alike: dict[bytes, dict[str, np.ndarray]] = {}
    for folder, rows in zip(folders, np.split(order, ends) if len(order) else [], strict=True):
        alike.setdefault(place[rows].tobytes(), {})[folder] = answers[rows]
    found = {}
    for number, (asked, by_folder) in enumerate(alike.items()):
        correct = np.stack(list(by_folder.values()))  # (M, Q)
        mine = np.frombuffer(asked, dtype=place.dtype)
        tasks = of_task[mine]
        averages = statistics.resampled_averages(
            {
                task: TaskAnswers(correct[:, tasks == task], labels[mine][tasks == task])
                for task in dict.fromkeys(tasks.tolist())
            }
        )
        step = _step(correct, tasks)
        for at, folder in enumerate(by_folder):
            found[folder] = _Answered(number, correct[at], averages[:, at], step)
    return found


def _step(correct: np.ndarray, tasks: np.ndarray) -> float:
    """Of averages over tasks, from how near two answers' scores came: 1 apart where they are right or wrong."""
    names = list(dict.fromkeys(tasks.tolist()))
    steps = [
        100 * np.diff(np.unique(correct[:, tasks == task])).min(initial=1.0) / (tasks == task).sum() for task in names
    ]
    return float(min(steps)) / len(names)
