"""What happened at the looks of a sweep that is run until its contrasts are told."""

from __future__ import annotations

from bench.analysis.contrasts import SweepComparisons
from bench.analysis.judged_sweep import recorded_looks
from bench.deciding.look_text import look_text
from bench.store.folder import Results
from bench.store.records import PlanRecord


def look_sentences(results: Results, plan: PlanRecord) -> list[str]:
    """A sentence a look, as it was recorded, and what to know of the numbers beside it; none without `decide`."""
    looks = recorded_looks(results).looks
    if plan.decide is None or not looks:
        return []
    late = (
        "; `decide` came after the first score, so its looks share a quarter of the level" if plan.decide.late else ""
    )
    numbers = sorted({cell.seed: cell.seed for cell in plan.cells if cell.seed is not None and cell.method != "base"})
    unequal = (
        " Settings have different numbers of seeds; the intervals of their own averages take no account of the looks, "
        "and neither do comparisons of judged answers."
        if len(numbers) > len(looks[0].seeds)
        else ""
    )
    return [
        *map(look_text, looks),
        f"Seeds were added where a contrast was open{late}. Intervals of contrasts and of paired differences are "
        f"repeated ones, which hold at all looks together.{unequal}",
    ]


def changed_looks(results: Results, comparisons: SweepComparisons) -> list[str]:
    """Looks whose rows say something else now than when they were recorded."""
    notes = []
    stages = {
        tuple(stage.stage.seeds): stage for stage in (*comparisons.earlier, comparisons) if stage.stage is not None
    }
    for look in recorded_looks(results).looks:
        stage = stages.get(tuple(look.seeds))
        now = {contrast.name: contrast.verdict for contrast in stage.primary} if stage is not None else {}
        changed = [
            f"{contrast.contrast} was {contrast.verdict}, and is {now[contrast.contrast]}"
            for contrast in look.contrasts
            if contrast.verdict is not None and now.get(contrast.contrast, contrast.verdict) != contrast.verdict
        ]
        if changed:
            notes.append(
                f"Look {look.number} was decided on other rows than are here now: {'; '.join(changed)}. Cells of it "
                "were run again, or scored on other questions, after it was recorded."
            )
    return notes
