"""The comparison in sentences; each says how surely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.analysis import comparison, frames
from bench.report.ranking import best
from bench.statistics import LEVEL, MOST_SEEDS, ROUNDING, TIE_MARGIN, noise_floor
from bench.sweep.sections import ReportConfig

ONE_SEED = "No setting was run with two seeds, so nothing here says how far a seed alone moves a score."
SETTING = ["series", "base", "rank", "samples"]
"""What the cells of one setting have in common: all but the seed."""
SINGLE = "these two runs"
"""The verdict of fewer than three seeds: none on methods."""
SERIES, ROWS, RUNS = 3, 6, 3
"""More series, more comparisons, or more comparisons of fewer than three seeds, than these are counted instead of being
said one by one."""
NAMED = 4
"""Of the counted ones, so many of each verdict that tells methods apart are named."""


def finding(
    cells: pd.DataFrame,
    differences: pd.DataFrame,
    rules: ReportConfig = comparison.RULES,
    judged: bool = False,
    majority: float | None = None,
) -> list[str]:
    """What the done cells say. `judged`: their open answers are spoken of elsewhere. `majority`: the average of
    answering every task with its majority class (points)."""
    done = frames.trained(cells)
    if done.empty:
        return [] if judged else ["No trained cell is done yet."]
    return [*comparisons(differences, rules.tie_margin), span(cells, majority)]


def span(cells: pd.DataFrame, majority: float | None = None, digits: int = 1) -> str:
    """From where to where the trained cells score, and how many lie no higher than what needs no training: their own
    base, and the majority class."""
    done = frames.trained(cells)
    untuned = cells[(cells["status"] == "done") & (cells["method"] == "base") & cells["average"].notna()]
    own = untuned.groupby("base")["average"].mean()
    several = done.groupby(SETTING, dropna=False)["seed"].nunique().max() > 1
    seeds = "" if several else "; one seed each, so how far a seed alone moves a score is not known"
    bases = "the untuned base" if len(own) == 1 else "the untuned bases"
    beside = [
        _without_training(done["average"], name, scores, known, digits)
        for name, scores, known in (
            (bases, done["base"].map(own), own),
            ("the majority class", pd.Series(majority, done.index, dtype=float), pd.Series([majority], dtype=float)),
        )
        if known.notna().any()
    ]
    cells_score = "trained cell scores" if len(done) == 1 else f"{len(done)} trained cells score"
    return f"The {cells_score} {_reach(done['average'], digits)}{''.join(beside)}{seeds}."


def _without_training(averages: pd.Series, name: str, scores: pd.Series, known: pd.Series, digits: int) -> str:
    beneath = int((averages <= scores + ROUNDING).sum())
    which = "it is" if len(averages) == 1 else f"{beneath} of them"
    return f", {name} {_reach(known, digits)}{f' ({which} no higher)' if beneath else ''}"


def _reach(values: pd.Series, digits: int) -> str:
    low, high = values.min(), values.max()
    return f"{low:.{digits}f}" if len(values) == 1 else f"{low:.{digits}f} to {high:.{digits}f}"


def best_sentence(ranked: pd.DataFrame) -> list[str]:
    """Which setting the development questions choose, and its score on the test questions, which had no part in the
    choice. Nothing where there is no choice."""
    chosen = best(ranked)
    trained = ranked[ranked["kind"] == "trained"]
    if len(trained) < 2:
        return []
    if chosen is None:
        return [
            "No setting is named the best: these cells answered no development questions, and test scores may not "
            "choose."
        ]
    equals = int((trained["development"] == chosen["development"]).sum())
    alike = f", as had {equals - 1} of no fewer parameters or samples" if equals > 1 else ""
    at = f" at rank {chosen['rank']:g}" if pd.notna(chosen["rank"]) else ""
    count = f"{chosen['development_n']:.0f} " if pd.notna(chosen["development_n"]) else ""
    return [
        f"The development questions ({count}a cell) choose {chosen['series']}{at}, {chosen['samples']:,.0f} samples: "
        f"{chosen['development']:.1f} there{alike}, and {chosen['average']:.1f} [{chosen['low']:.1f}, "
        f"{chosen['high']:.1f}] on the test questions (95 % over {chosen['interval']})."
    ]


def comparisons(differences: pd.DataFrame, margin: float = TIE_MARGIN, digits: int = 1) -> list[str]:
    """The rows of the paired differences in sentences, one a series; many are counted by their verdicts. `margin` is
    that of a tie (points)."""
    several = differences["samples"].nunique() > 1
    differences = differences.assign(baseline=[comparison.baseline_text(row) for row in differences.itertuples()])
    series = [own for _, own in differences.groupby(["series", "baseline"], sort=False)]
    alone = differences["verdict"] == SINGLE
    if len(series) <= SERIES and len(differences) <= ROWS and alone.sum() <= RUNS:
        return [_of_series(own, margin, digits, several) for own in series]
    found = []
    if not alone.all():
        found.append(_counted(differences[~alone], margin, digits, several))
    if alone.any():
        found.append(_counted_runs(differences[alone], digits))
    return found


def _of_series(rows: pd.DataFrame, margin: float, digits: int, several: bool) -> str:
    """One series against its baseline, verdict by verdict; the first clause names them both."""
    first = rows.iloc[0]
    clauses: list[str] = []
    for verdict in ("better", "worse", "tie", "unresolved", SINGLE):
        own = list(rows[rows["verdict"] == verdict].itertuples())
        if not own:
            continue
        names = None if clauses else (first["series"], first["baseline"])
        clauses.append(
            _tie(own, margin, several, names)
            if verdict == "tie"
            else _runs(own, digits, several, names)
            if verdict == SINGLE
            else _apart(own, verdict, digits, several, names)
        )
    judged = rows[rows["verdict"] != SINGLE]
    under = [f"{first['samples']:,} samples"] if not several else []
    if len(judged):
        under.append(f"intervals: 95 % over {_range(judged['seeds'])} seeds")
    if rows.loc[rows["verdict"] == SINGLE, "question_low"].notna().any():
        under.append(
            "of single runs: 95 % over questions alone" if len(judged) else "intervals: 95 % over questions alone"
        )
    if (judged["p"].astype(float) < judged["p_adjusted"].astype(float)).any():
        under.append("verdicts adjusted for their number")
    terms = f" ({'; '.join(under)})" if under else ""
    return f"{'; '.join(clauses)}{terms}."


def _apart(rows: list[Any], verdict: str, digits: int, several: bool, names: tuple[str, str] | None) -> str:
    """The comparisons that are better, worse or unresolved, each with its interval."""
    told = []
    for row in rows:
        span = f"[{row.low:.{digits}f}, {row.high:.{digits}f}]"
        if verdict == "unresolved":
            seeds = f"{seeds_text(row.seeds_needed)} seeds would tell, if difference and spread stayed so"
            found = f"{row.difference:+.{digits}f} {span}, adjusted p {p_text(row.p_adjusted)}"
            told.append(f"{_place(row, several)}({found}; {seeds})")
        else:
            low, high = sorted((abs(row.low), abs(row.high)))
            by = f"by {abs(row.difference):.{digits}f} points [{low:.{digits}f}, {high:.{digits}f}]"
            told.append(f"{_place(row, several)}{by}")
    listed = _listed(told)
    if names is None:
        return f"it is {verdict} {listed}"
    series, baseline = names
    heads = {
        "better": f"{series} beats {baseline}",
        "worse": f"{series} is worse than {baseline}",
        "unresolved": f"{series} against {baseline} is unresolved",
    }
    return f"{heads[verdict]} {listed}"


def _tie(rows: list[Any], margin: float, several: bool, names: tuple[str, str] | None) -> str:
    places = _listed([place for row in rows if (place := _place(row, several).strip())])
    head = "it is a tie" if names is None else f"{names[0]} and {names[1]} tie"
    return f"{head}{f' {places}' if places else ''} (within {points_text(margin)})"


def _runs(rows: list[Any], digits: int, several: bool, names: tuple[str, str] | None) -> str:
    """Comparisons of fewer than three seeds: of runs, not of methods."""
    told = []
    for row in rows:
        known = pd.notna(row.question_low)
        interval = f" [{row.question_low:.{digits}f}, {row.question_high:.{digits}f}]" if known else ""
        told.append(f"{row.difference:+.{digits}f} points{interval} {_place(row, several)}".strip())
    seeds = "one run" if max(row.seeds for row in rows) == 1 else "one or two runs"
    head = "it scored" if names is None else f"Beside {names[1]}, {names[0]} scored"
    return f"{head} {_listed(told)}; with {seeds} each this speaks of these runs, not of the methods"


def _place(row: Any, several: bool) -> str:
    """Where two series were compared, as far as there is a choice: `at rank 4, 400 samples `."""
    parts = [f"rank {row.rank:g}"] if pd.notna(row.rank) else []
    parts += [f"{row.samples:,} samples"] if several else []
    return f"at {', '.join(parts)} " if parts else ""


def _listed(parts: Sequence[str]) -> str:
    """`at a, at b and at c`."""
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _counted(rows: pd.DataFrame, margin: float, digits: int, several: bool) -> str:
    """Many comparisons by their verdicts; those that tell methods apart are named."""
    told = []
    baselines = list(dict.fromkeys(rows["baseline"]))

    def _beside(row: Any) -> str:
        return f"against {row.baseline} " if len(baselines) > 1 else ""

    words = {"better": "better", "worse": "worse", "tie": f"tied (within {points_text(margin)})"}
    for verdict, word in {**words, "unresolved": "unresolved"}.items():
        own = rows[rows["verdict"] == verdict]
        names = [
            f"{row.series} {_beside(row)}{_place(row, several)}{row.difference:+.{digits}f}"
            for row in own.head(NAMED).itertuples()
        ]
        more = f" and {len(own) - NAMED} more" if len(own) > NAMED else ""
        named = f" ({', '.join(names)}{more})" if names and verdict in ("better", "worse") else ""
        told.append(f"{len(own)} {word}{named}")
    return (
        f"Of {len(rows)} comparisons with {_listed(baselines)} over "
        f"{_range(rows['seeds'])} seeds each: {', '.join(told)}. Better and worse are adjusted for their number (Holm)."
    )


def _counted_runs(rows: pd.DataFrame, digits: int) -> str:
    """Many comparisons of fewer than three seeds."""
    seeds = "one run" if rows["seeds"].max() == 1 else "two runs or fewer"
    tested = rows["mcnemar_p_adjusted"].dropna()
    apart = (
        f" McNemar's exact test tells {(tested < 1 - LEVEL).sum()} of {len(tested)} of these pairs of runs apart, up "
        f"or down (p below {1 - LEVEL:.2g}, adjusted for their number)."
        if len(tested)
        else ""
    )
    return (
        f"Of {len(rows)} comparisons with {_listed(list(dict.fromkeys(rows['baseline'])))}, of {seeds} each: "
        f"{rows['difference'].min():+.{digits}f} to {rows['difference'].max():+.{digits}f} points. This speaks of "
        f"these runs, not of the methods.{apart}"
    )


def uncompared(cells: pd.DataFrame, differences: pd.DataFrame, chosen: str | None = None) -> list[str]:
    """The trained methods that have no equal to be paired with, in one sentence."""
    done = frames.trained(cells)
    baseline = comparison.baseline_of(cells, chosen)
    if done["method"].nunique() < 2:
        return []
    own_ranks = differences["rank"].isna().all()
    ranks = pd.Series(float("nan"), done.index) if own_ranks and len(differences) else done["rank"].astype(float)
    compared = {
        (one, repr(rank), count)
        for one, rank, count in zip(
            differences["series"], differences["rank"].astype(float), differences["samples"], strict=True
        )
    }
    places = zip(frames.labels(done), done["method"], done["series"], ranks.map(repr), done["samples"], strict=True)
    names = dict.fromkeys(
        label for label, method, *place in places if method != baseline and tuple(place) not in compared
    )
    if not names:
        return []
    equal = "samples" if own_ranks and len(differences) else "rank, samples"
    reason = (
        f"without a done {baseline} run at equal {equal}, seed, settings and questions"
        if baseline
        else "none has a rank"
    )
    return [f"Not compared pairwise ({reason}): {', '.join(names)}."]


def noise_text(done: pd.DataFrame, of: str = "") -> str:
    """What a seed alone does to a score; `of` says to which, where it is not the accuracy."""
    settings = done.groupby(SETTING, dropna=False, sort=False)
    floor = noise_floor([list(one) for _, one in settings["average"]])
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
    return f"{points:g} point{'s' if points != 1 else ''}"


def verdict_text(verdict: str, seeds: int) -> str:
    """A verdict as tables have it."""
    return verdict if verdict != SINGLE else f"none ({seeds} seed{'s' if seeds != 1 else ''})"


def p_text(p: float) -> str:
    """A p value to three places, and no zero."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seeds_text(needed: float | None) -> str:
    """A number of seeds that `statistics.seeds_needed` found."""
    return f"more than {MOST_SEEDS:,}" if needed is None or pd.isna(needed) else f"{needed:.0f}"
