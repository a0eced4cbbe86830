"""The comparison in sentences; each says how surely."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench import frames
from bench.statistics import TIE_MARGIN

MANY = 8
"""More comparisons than this are counted in a sentence or two instead of being said one by one."""


def finding(cells: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """What the done cells say, and what they do not."""
    done = frames.trained(cells)
    if done.empty:
        return ["No trained cell is done yet."]
    if len(differences) > MANY:
        sentences = _counted(differences, frames.baseline_of(cells))
    else:
        sentences = [sentence(row) for row in differences.itertuples()]
    sentences += _uncompared(cells, differences)
    untuned = cells[(cells["status"] == "done") & (cells["method"] == "base")]["average"]
    if len(untuned):
        low, high = done["average"].min(), done["average"].max()
        sentences.append(f"The untuned base scores {untuned.mean():.1f}; the trained cells {low:.1f} to {high:.1f}.")
    return sentences


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
            f"{verdicts}. With so many, one in twenty intervals misses by chance: they are not adjusted for that."
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
    sentences.append("Each stands in the table of paired differences.")
    return sentences


def _uncompared(cells: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """The trained methods that have no equal to be paired with, in one sentence."""
    done = frames.trained(cells)
    baseline = frames.baseline_of(cells)
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
        f"without a rank, or without a done {baseline} run at equal rank, samples, seed and training settings"
        if baseline
        else "none has a rank"
    )
    return [f"Not compared pairwise ({reason}): {', '.join(names)}."]


def sentence(row: Any) -> str:
    """One row of the differences as a sentence."""
    at = f"rank {row.rank:g}, {row.samples:,} samples" if pd.notna(row.rank) else f"{row.samples:,} samples"
    apart = f"{abs(row.difference):.1f} points {'above' if row.difference >= 0 else 'below'} {row.baseline}"
    if row.verdict == "these two runs":
        seeds, runs = ("one seed", "two") if row.seeds == 1 else (f"{row.seeds} seeds", str(2 * row.seeds))
        return (
            f"At {at}, {row.series} scored {apart}; with {seeds} this speaks of these {runs} runs, not of the methods."
        )
    interval = f"{row.difference:+.1f} [{row.low:.1f}, {row.high:.1f}] over {row.seeds} seeds"
    if row.verdict == "tie":
        return f"At {at}, {row.series} and {row.baseline} tie: {interval}, within {TIE_MARGIN:g} point."
    if row.verdict == "unresolved":
        return f"At {at}, {row.series} against {row.baseline} is unresolved: {interval}."
    return f"At {at}, {row.series} is {apart}: {interval}."
