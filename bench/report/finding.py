"""The comparison in sentences; each says how surely."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench import comparison, frames
from bench.report.ranking import best
from bench.statistics import LEVEL, MOST_SEEDS, TIE_MARGIN, noise_floor
from bench.sweep import ReportConfig

ONE_SEED = "No setting was run with two seeds, so nothing here says how far a seed alone moves a score."
MANY = 3
"""More comparisons than this are counted in a sentence or two instead of being said one by one."""


def finding(
    cells: pd.DataFrame, differences: pd.DataFrame, rules: ReportConfig = comparison.RULES, judged: bool = False
) -> list[str]:
    """What the done cells say, and what they do not. `judged`: their open answers are spoken of elsewhere."""
    done = frames.trained(cells)
    if done.empty:
        return [] if judged else ["No trained cell is done yet."]
    if len(differences) > MANY:
        sentences = _counted(differences, comparison.baseline_of(cells, rules.baseline))
    else:
        sentences = [sentence(row, rules.tie_margin) for row in differences.itertuples()]
    sentences += _uncompared(cells, differences, rules.baseline)
    sentences.append(noise_text(done))
    untuned = cells[(cells["status"] == "done") & (cells["method"] == "base")]["average"]
    if len(untuned):
        low, high = done["average"].min(), done["average"].max()
        sentences.append(f"The untuned base scores {untuned.mean():.1f}; the trained cells {low:.1f} to {high:.1f}.")
    return sentences


def best_sentence(ranked: pd.DataFrame) -> list[str]:
    """Which setting is the best by the development questions, and its score on the test questions, which had no part in
    the choice. Nothing where there is no choice."""
    chosen = best(ranked)
    trained = ranked[ranked["kind"] == "trained"]
    if chosen is None or len(trained) < 2:
        return []
    equals = int((trained["development"] == chosen["development"]).sum())
    alike = f" (as {equals - 1} more; of equals, the one with the fewest parameters and samples)" if equals > 1 else ""
    at = f" at rank {chosen['rank']:g}" if pd.notna(chosen["rank"]) else ""
    return [
        f"Chosen by development questions alone, the best setting is {chosen['series']}{at}, "
        f"{chosen['samples']:,.0f} samples: {chosen['development']:.1f} there{alike}, and {chosen['average']:.1f} "
        f"[{chosen['low']:.1f}, {chosen['high']:.1f}] on the test questions (95 % over {chosen['interval']})."
    ]


def _counted(differences: pd.DataFrame, baseline: str | None) -> list[str]:
    """Many comparisons by their verdicts. Those of fewer than three seeds have none and are counted apart."""
    alone = differences[differences["verdict"] == "these two runs"]
    judged = differences.drop(alone.index)
    sentences = []
    if len(judged):
        counts = judged["verdict"].value_counts()
        words = {"better": "better", "worse": "worse", "tie": "tied", "unresolved": "unresolved"}
        verdicts = ", ".join(f"{counts.get(name, 0)} {word}" for name, word in words.items())
        sentences.append(
            f"Of {len(judged)} comparisons with {baseline} at equal rank and samples, over three seeds or more each: "
            f"{verdicts}. Better and worse are adjusted for their number (Holm): that any of them is false has a "
            "chance of one in twenty at most."
        )
        needed = judged[judged["verdict"] == "unresolved"]["seeds_needed"]
        if len(needed):
            least, most = seeds_text(needed.min()), seeds_text(needed.max(skipna=False))
            seeds = least if least == most else f"{least} to {most}"
            sentences.append(
                f"The unresolved would take {seeds} seeds each, if their differences stayed what they are."
            )
    if len(alone):
        above, below = (alone["difference"] > 0).sum(), (alone["difference"] < 0).sum()
        counts = {"above it": above, "below it": below, "level with it": len(alone) - above - below}
        scored = ", ".join(f"{count} {place}" for place, count in counts.items() if count)
        seeds = "one seed" if alone["seeds"].max() == 1 else "one or two seeds"
        sentences.append(
            f"Of {len(alone)} comparisons with {baseline} at equal rank and samples, with {seeds} each: {scored} "
            f"({alone['difference'].min():+.1f} to {alone['difference'].max():+.1f} points). This speaks of these "
            "runs, not of the methods."
        )
        tested = alone["mcnemar_p_adjusted"].dropna()
        if len(tested):
            sentences.append(
                f"Of these pairs of runs, {(tested < 1 - LEVEL).sum()} of {len(tested)} answer their questions "
                f"differently (McNemar's exact test, adjusted p below {1 - LEVEL:.2g}); whether other seeds "
                "would, it does not know."
            )
    sentences.append("Each stands in the table of paired differences.")
    return sentences


def _uncompared(cells: pd.DataFrame, differences: pd.DataFrame, chosen: str | None) -> list[str]:
    """The trained methods that have no equal to be paired with, in one sentence."""
    done = frames.trained(cells)
    baseline = comparison.baseline_of(cells, chosen)
    if done["method"].nunique() < 2:
        return []
    compared = set(zip(differences["series"], differences["rank"], differences["samples"], strict=True))
    places = zip(frames.labels(done), done["method"], done["series"], done["rank"], done["samples"], strict=True)
    names = dict.fromkeys(
        label for label, method, *place in places if method != baseline and tuple(place) not in compared
    )
    if not names:
        return []
    reason = (
        f"without a rank, or without a done {baseline} run at equal rank, samples, seed, settings and questions"
        if baseline
        else "none has a rank"
    )
    return [f"Not compared pairwise ({reason}): {', '.join(names)}."]


def noise_text(done: pd.DataFrame) -> str:
    """What a seed alone does to a score."""
    settings = done.groupby(["series", "base", "rank", "samples"], dropna=False, sort=False)
    floor = noise_floor([list(one) for _, one in settings["average"]])
    if floor is None:
        return ONE_SEED
    return (
        f"The noise floor: by their seed alone two single runs of one setting lie up to {floor.difference:.1f} points "
        f"apart, 95 % of the time (s.d. over seeds {floor.spread:.2f}, {floor.degrees} degrees of freedom)."
    )


def points_text(points: float) -> str:
    """`1 point`, `2.5 points`."""
    return f"{points:g} point{'s' if points != 1 else ''}"


def sentence(row: Any, margin: float = TIE_MARGIN, digits: int = 1) -> str:
    """One row of the differences as a sentence; `margin` is that of a tie (points)."""
    at = f"rank {row.rank:g}, {row.samples:,} samples" if pd.notna(row.rank) else f"{row.samples:,} samples"
    apart = f"{abs(row.difference):.{digits}f} points {'above' if row.difference > 0 else 'below'} {row.baseline}"
    if round(row.difference, digits) == 0:
        apart = f"level with {row.baseline}"
    if row.verdict == "these two runs":
        seeds, runs = ("one seed", "two") if row.seeds == 1 else (f"{row.seeds} seeds", str(2 * row.seeds))
        tested = f" (McNemar's exact p {p_text(row.mcnemar_p)})" if pd.notna(row.mcnemar_p) else ""
        return (
            f"At {at}, {row.series} scored {apart}{tested}; with {seeds} this speaks of these {runs} runs, not of the "
            "methods."
        )
    span = f"[{row.low:.{digits}f}, {row.high:.{digits}f}]"
    interval = f"{row.difference:+.{digits}f} {span} over {row.seeds} seeds"
    if row.verdict == "tie":
        return f"At {at}, {row.series} and {row.baseline} tie: {interval}, within {points_text(margin)}."
    adjusted = f"adjusted p {p_text(row.p_adjusted)}"
    if row.verdict == "unresolved":
        return (
            f"At {at}, {row.series} against {row.baseline} is unresolved: {interval}, {adjusted}. If difference and "
            f"spread stayed so, {seeds_text(row.seeds_needed)} seeds would tell."
        )
    return f"At {at}, {row.series} is {apart}: {interval}, {adjusted}."


def p_text(p: float) -> str:
    """A p value to three places, and no zero."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seeds_text(needed: float | None) -> str:
    """A number of seeds that `statistics.seeds_needed` found."""
    return f"more than {MOST_SEEDS:,}" if needed is None or pd.isna(needed) else f"{needed:.0f}"
