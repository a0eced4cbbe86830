"""What happened at a look, in words: on the screen and in the report."""

from __future__ import annotations

from bench.analysis.interval_text import interval_text
from bench.store.look_records import ContrastLook, LookRecord

NAMED = 5
"""Of cells without scores; of further ones the number."""


def look_text(look: LookRecord) -> str:
    """`Look 2 (7 seeds): dora - lora told: tie, +0.10 [-0.42, +0.62]; vera - lora open: ...; 2 more seeds, 4 cells.`"""
    fresh = [contrast for contrast in look.contrasts if not contrast.told_before]
    parts = [_contrast_text(contrast, len(look.seeds)) for contrast in fresh]
    before = len(look.contrasts) - len(fresh)
    if before:
        parts.append(f"{before} told before")
    if look.missing:
        more = f" and {len(look.missing) - NAMED} more" if len(look.missing) > NAMED else ""
        parts.append(f"without scores: {', '.join(look.missing[:NAMED])}{more}")
    parts.append(_followed_text(look))
    return f"Look {look.number} ({len(look.seeds)} seeds): {'; '.join(parts)}."


def _contrast_text(contrast: ContrastLook, seeds: int) -> str:
    if contrast.verdict is None:
        return f"{contrast.contrast} not judged yet, with {contrast.seeds} seeds that have all of its cells"
    numbers = ""
    if contrast.estimate is not None and contrast.low is not None and contrast.high is not None:
        numbers = f" {contrast.estimate:+.2f} {interval_text(contrast.low, contrast.high, '+.2f')}"
    by = f" by {contrast.seeds} seeds" if contrast.seeds != seeds else ""
    word = f"told: {contrast.verdict}," if contrast.answered else "open:"
    return f"{contrast.contrast} {word}{numbers}{by}"


def _followed_text(look: LookRecord) -> str:
    if look.added:
        return f"{look.added_seeds} more seeds where it is open, {len(look.added)} cells"
    return {
        "told": "all contrasts are told",
        "looks": "the looks are used up",
        "budget": f"the next look would exceed the budget of {look.budget}",
        "nothing": "no contrast can be estimated",
        None: "cells of the next look are running",
    }[look.ended]
