"""The comparison in sentences; each says how surely."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.analysis import comparison
from bench.analysis.average_tasks import NearChance
from bench.analysis.comparison import PairedDifference
from bench.analysis.interval_text import interval_text
from bench.analysis.result_tables import trained_cells
from bench.analysis.series import setting_labels
from bench.statistics import LEVEL, MOST_SEEDS, ROUNDING, SINGLE, TIE_MARGIN, UNKNOWN_STEP, noise_floor

ONE_SEED = "No setting was run with two seeds, so nothing here says how far a seed alone moves a score."
SETTING = ["series", "base", "rank", "samples"]
"""What the cells of one setting have in common: all but the seed."""
SERIES, ROWS, RUNS = 3, 6, 3
"""More series, more comparisons, or more comparisons of fewer than three seeds, than these are counted instead of being
said one by one."""
NAMED = 4
"""Of the counted ones, so many of each verdict that tells methods apart are named."""


def comparison_sentences(
    cells: pd.DataFrame,
    differences: pd.DataFrame,
    margin: float = TIE_MARGIN,
    judged: bool = False,
    majority: float | None = None,
) -> list[str]:
    """What the done cells say. `judged`: their open answers are spoken of elsewhere. `majority`: the average of
    answering every task with its majority class (points)."""
    done = trained_cells(cells)
    if done.empty:
        return [] if judged else ["No trained cell is done yet."]
    return [*comparisons(differences, margin), span(cells, majority)]


def span(cells: pd.DataFrame, majority: float | None = None, digits: int = 1) -> str:
    """From where to where the trained cells score, and how many lie no higher than what needs no training: their own
    base, and the majority class."""
    done = trained_cells(cells)
    untuned = cells[(cells["status"] == "done") & (cells["method"] == "base") & cells["average"].notna()]
    by_base = untuned.groupby("base")["average"].mean()
    several = done.groupby(SETTING, dropna=False)["seed"].nunique().max() > 1
    seeds = "" if several else "; one seed each, so how far a seed alone moves a score is not known"
    beside = ""
    if len(by_base):
        bases = "the untuned base" if len(by_base) == 1 else "the untuned bases"
        beside += _without_training(done["average"], bases, done["base"].map(by_base), by_base, digits)
    if majority is not None:
        each = pd.Series(majority, done.index, dtype=float)
        beside += _without_training(done["average"], "the majority class", each, each.iloc[:1], digits)
    count = "trained cell scores" if len(done) == 1 else f"{len(done)} trained cells score"
    return f"The {count} {_reach(done['average'], digits)}{beside}{seeds}."


def _without_training(averages: pd.Series, name: str, references: pd.Series, values: pd.Series, digits: int) -> str:
    """`values`: of what needs no training; `references`: the value that each cell is to be compared with."""
    beneath = int((averages <= references + ROUNDING).sum())
    which = "it is" if len(averages) == 1 else f"{beneath} of them"
    return f", {name} {_reach(values, digits)}{f' ({which} no higher)' if beneath else ''}"


def _reach(values: pd.Series, digits: int) -> str:
    low, high = values.min(), values.max()
    return f"{low:.{digits}f}" if len(values) == 1 else f"{low:.{digits}f} to {high:.{digits}f}"


def comparisons(differences: pd.DataFrame, margin: float = TIE_MARGIN, digits: int = 1) -> list[str]:
    """The rows of the paired differences in sentences, one a series; many are counted by their verdicts. `margin` is
    that of a tie (points)."""
    rows = comparison.difference_rows(differences)
    several = len({row.samples for row in rows}) > 1
    series: dict[tuple[str, str], list[PairedDifference]] = {}
    for row in rows:
        series.setdefault((row.series, row.baseline_label), []).append(row)
    single = [row for row in rows if row.verdict == SINGLE]
    if len(series) <= SERIES and len(rows) <= ROWS and len(single) <= RUNS:
        return [_series_sentence(members, margin, digits, several) for members in series.values()]
    judged = [row for row in rows if row.verdict != SINGLE]
    sentences = [_counted(judged, margin, digits, several)] if judged else []
    return [*sentences, _counted_runs(single, digits)] if single else sentences


def _series_sentence(rows: Sequence[PairedDifference], margin: float, digits: int, several: bool) -> str:
    """One series against its baseline, verdict by verdict; the first clause names them both."""
    clauses: list[str] = []
    for verdict in ("better", "worse", "tie", "unresolved", SINGLE):
        members = [row for row in rows if row.verdict == verdict]
        if not members:
            continue
        names = None if clauses else (rows[0].series, rows[0].baseline_label)
        clauses.append(
            _tie_clause(members, margin, several, names)
            if verdict == "tie"
            else _runs_clause(members, digits, several, names)
            if verdict == SINGLE
            else _difference_clause(members, verdict, digits, several, names)
        )
    judged = [row for row in rows if row.verdict != SINGLE]
    terms = [f"{rows[0].samples:,} samples"] if not several else []
    if judged:
        repeated = "repeated " if all(row.p is None for row in judged) else ""
        over = f"{_range([row.seeds for row in judged])} seeds{_and_questions(judged)}"
        terms.append(f"{repeated}intervals: 95 % over {over}")
    if any(row.verdict == SINGLE and row.question_low is not None for row in rows):
        terms.append("of single runs: 95 % over questions alone" if judged else "intervals: 95 % over questions alone")
    if any(row.p is not None and row.p_adjusted is not None and row.p < row.p_adjusted for row in judged):
        terms.append("verdicts adjusted for their number")
    if any(row.exploratory for row in judged):
        terms.append("exploratory, by Benjamini and Hochberg")
    listed = f" ({'; '.join(terms)})" if terms else ""
    return f"{'; '.join(clauses)}{listed}."


def _difference_clause(
    rows: Sequence[PairedDifference], verdict: str, digits: int, several: bool, names: tuple[str, str] | None
) -> str:
    """The comparisons that are better, worse or unresolved, each with its interval."""
    parts = []
    for row in rows:
        # A verdict on methods has both.
        assert row.low is not None and row.high is not None
        if verdict == "unresolved":
            gap = f"{row.difference:+.{digits}f} {interval_text(row.low, row.high, f'.{digits}f')}"
            more = more_seeds_text(row.seeds_needed, row.question_half)
            bound = f"{row.bound:.{digits}f} points {_place(row, several)}"
            parts.append(f"{bound}({gap}{adjusted_text(row.p_adjusted)}; {more})")
        else:
            least, most = sorted((abs(row.low), abs(row.high)))
            by = f"by {abs(row.difference):.{digits}f} points {interval_text(least, most, f'.{digits}f')}"
            parts.append(f"{_place(row, several)}{by}")
    if names is None:
        return f"{'they differ by at most' if verdict == 'unresolved' else f'it is {verdict}'} {_listed(parts)}"
    series, baseline = names
    heads = {
        "better": f"{series} beats {baseline}",
        "worse": f"{series} is worse than {baseline}",
        "unresolved": f"{series} and {baseline} differ by at most",
    }
    return f"{heads[verdict]} {_listed(parts)}"


def _tie_clause(rows: Sequence[PairedDifference], margin: float, several: bool, names: tuple[str, str] | None) -> str:
    places = _listed([place for row in rows if (place := _place(row, several).strip())])
    head = "it is a tie" if names is None else f"{names[0]} and {names[1]} tie"
    return f"{head}{f' {places}' if places else ''} (within {points_text(margin)})"


def _runs_clause(rows: Sequence[PairedDifference], digits: int, several: bool, names: tuple[str, str] | None) -> str:
    """Comparisons of fewer than three seeds: of runs, not of methods."""
    parts = []
    for row in rows:
        interval = f" {interval_text(row.question_low, row.question_high, f'.{digits}f')}".removesuffix(" -")
        parts.append(f"{row.difference:+.{digits}f} points{interval} {_place(row, several)}".strip())
    most = max(row.seeds for row in rows)
    seeds = {1: "one run", 2: "one or two runs"}.get(most, f"at most {most} runs")
    head = "it scored" if names is None else f"Beside {names[1]}, {names[0]} scored"
    return f"{head} {_listed(parts)}; with {seeds} each this speaks of these runs, not of the methods"


def _place(row: PairedDifference, several: bool) -> str:
    """Where two series were compared, as far as there is a choice: `at rank 4, 400 samples `."""
    parts = [f"rank {row.rank:g}"] if row.rank is not None else []
    parts += [f"{row.samples:,} samples"] if several else []
    return f"at {', '.join(parts)} " if parts else ""


def _listed(parts: Sequence[str]) -> str:
    """`at a, at b and at c`."""
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _and_questions(rows: Sequence[PairedDifference]) -> str:
    """Whether the intervals have a part of the questions."""
    return " and questions" if all(row.question_half is not None for row in rows) else ""


def _counted(rows: Sequence[PairedDifference], margin: float, digits: int, several: bool) -> str:
    """Many comparisons by their verdicts; the significant ones are named."""
    baselines = list(dict.fromkeys(row.baseline_label for row in rows))
    words = {"better": "better", "worse": "worse", "tie": f"tied (within {points_text(margin)})"}
    counts = []
    for verdict, word in {**words, "unresolved": "inconclusive"}.items():
        members = [row for row in rows if row.verdict == verdict]
        names = [
            f"{row.series} {f'against {row.baseline_label} ' if len(baselines) > 1 else ''}{_place(row, several)}"
            f"{row.difference:+.{digits}f}"
            for row in members[:NAMED]
        ]
        more = f" and {len(members) - NAMED} more" if len(members) > NAMED else ""
        named = f" ({', '.join(names)}{more})" if names and verdict in ("better", "worse") else ""
        if members and verdict == "unresolved":
            bounds = [row.bound for row in members if row.bound is not None]
            ends = dict.fromkeys(f"{bound:.{digits}f}" for bound in (min(bounds), max(bounds)))
            named = f" (at most {' to '.join(ends)} points either way)"
        counts.append(f"{len(members)} {word}{named}")
    return (
        f"Of {len(rows)} comparisons with {_listed(baselines)} over "
        f"{_range([row.seeds for row in rows])} seeds each: {', '.join(counts)}. Verdicts are adjusted for their "
        f"number ({_corrections(rows)})."
    )


def _corrections(rows: Sequence[PairedDifference]) -> str:
    exploratory = sum(row.exploratory for row in rows)
    if not exploratory:
        return "Holm"
    return f"Holm; the {exploratory} exploratory ones by Benjamini and Hochberg"


def _counted_runs(rows: Sequence[PairedDifference], digits: int) -> str:
    """Many comparisons of fewer than three seeds."""
    most = max(row.seeds for row in rows)
    seeds = {1: "one run", 2: "two runs or fewer"}.get(most, f"{most} runs or fewer")
    tested = [row.mcnemar_p_adjusted for row in rows if row.mcnemar_p_adjusted is not None]
    apart = (
        f" McNemar's exact test tells {sum(p < 1 - LEVEL for p in tested)} of {len(tested)} of these pairs of runs "
        f"apart, up or down (p below {1 - LEVEL:.2g}, adjusted for their number)."
        if tested
        else ""
    )
    gaps = [row.difference for row in rows]
    return (
        f"Of {len(rows)} comparisons with {_listed(list(dict.fromkeys(row.baseline_label for row in rows)))}, of "
        f"{seeds} each: {min(gaps):+.{digits}f} to {max(gaps):+.{digits}f} points. This speaks of these runs, not of "
        f"the methods.{apart}"
    )


def uncompared(cells: pd.DataFrame, differences: pd.DataFrame, baseline: str | None) -> list[str]:
    """The trained methods that have no equal to be paired with, in one sentence. `baseline` is that of the plan."""
    done = trained_cells(cells)
    if done["method"].nunique() < 2:
        return []
    rows = comparison.difference_rows(differences)
    at_own_ranks = bool(rows) and all(row.rank is None for row in rows)
    compared = {(row.series, row.rank, row.samples) for row in rows}
    ranks = [None if at_own_ranks or pd.isna(rank) else float(rank) for rank in done["rank"]]
    places = zip(setting_labels(done), done["method"], done["series"], ranks, done["samples"], strict=True)
    names = dict.fromkeys(
        label
        for label, method, series, rank, samples in places
        if method != baseline and (series, rank, samples) not in compared
    )
    if not names:
        return []
    equal = "samples" if at_own_ranks else "rank, samples"
    reason = f"without a done {baseline} run at equal {equal}, seed, settings and questions"
    return [f"Not compared pairwise ({reason}): {', '.join(names)}."]


def near_chance_sentences(tasks: Sequence[NearChance], several: bool) -> list[str]:
    """The tasks that are near chance, and whether averages are without them. `several`: bases."""
    sentences = []
    for task in tasks:
        where = f" on {task.base}" if several else ""
        trained = "" if task.trained is None else f" and the trained cells {task.trained:.1f}"
        counts = "but it is in the averages all the same" if task.counted else "so the averages are without it"
        sentences.append(
            f"{task.task} is near chance{where}, {counts}: the untuned model scores {task.untuned:.1f}{trained}, not "
            f"significantly above its majority class, {task.majority:.1f}."
        )
    return sentences


def noise_text(done: pd.DataFrame, of: str = "") -> str:
    """What a seed alone does to a score; `of` says to which, where it is not the accuracy."""
    settings = done.groupby(SETTING, dropna=False, sort=False)
    floor = noise_floor([list(averages) for _, averages in settings["average"]], step=UNKNOWN_STEP)
    if floor is None:
        return ONE_SEED
    where = f" ({of})" if of else ""
    return (
        f"The noise floor{where}: by their seed alone two single runs of one setting lie up to {floor.difference:.1f} "
        f"points apart, 95 % of the time (s.d. over seeds {floor.deviation:.2f}, {floor.degrees} degrees of freedom)."
    )


def lowered(sentence: str) -> str:
    """A sentence as it goes on after a colon."""
    return sentence[:1].lower() + sentence[1:]


def points_text(points: float) -> str:
    """`1 point`, `2.5 points`."""
    shown = f"{points:.3g}"
    return f"{shown} point{'s' if shown != '1' else ''}"


def verdict_text(row: PairedDifference, digits: int = 1) -> str:
    """A verdict as tables have it; what is inconclusive has a bound."""
    if row.verdict == SINGLE:
        return f"none ({row.seeds} seed{'s' if row.seeds != 1 else ''})"
    if row.verdict == "unresolved":
        return bound_text(row.bound, digits)
    return f"{row.verdict}, exploratory" if row.exploratory else row.verdict


def bound_text(bound: float | None, digits: int = 1) -> str:
    """`at most 2.2 either way`: the end of the interval that is further from zero."""
    return "-" if bound is None else f"at most {bound:.{digits}f} either way"


def adjusted_text(p: float | None) -> str:
    """`, adjusted p 0.012`; empty where a boundary decides, not a p value."""
    return "" if p is None else f", adjusted p {p_text(p)}"


def p_text(p: float) -> str:
    """A p value to three places, and no zero."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seeds_text(needed: float | None) -> str:
    """A number of seeds that `statistics.seeds_needed` found."""
    return f"more than {MOST_SEEDS:,}" if needed is None else f"{needed:.0f}"


def more_seeds_text(needed: float | None, question_half: float | None) -> str:
    """What would bring an inconclusive comparison to a verdict."""
    if needed is None and question_half:
        return "more questions would have to tell, not more seeds alone"
    return f"{seeds_text(needed)} seeds would tell, if difference and spread stayed so"
