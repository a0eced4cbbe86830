"""A look: judges the primary contrasts by the rows that are recorded, and says which cells follow.

A decision is a function of the recorded rows, so a run that was killed, and another process, decide alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.analysis.contrasts import SweepComparisons
from bench.analysis.judged_sweep import JudgedSweep, judge_sweep, recorded_looks
from bench.analysis.look_stages import LookStage, look_ended
from bench.deciding.planned_contrasts import baseline_settings, setting_keys
from bench.planning.later_seeds import seedless_key, template_of, with_later
from bench.planning.plan import Plan, PlannedCell
from bench.planning.tuning import settle
from bench.statistics import sequential
from bench.store.folder import Results
from bench.store.look_records import BoundaryTable, ContrastLook, LookRecord, LooksRecord


@dataclass(frozen=True)
class Decision:
    """What a look came to."""

    look: LookRecord
    plan: Plan | None
    """With the cells that follow; None where the sweep ends."""


def take_look(plan: Plan, results: Results) -> Decision | None:
    """Judge the contrasts by all cells of the plan, record the look and add the cells that follow. None while cells of
    the plan wait to be run."""
    sweep = judge_sweep(results)
    seeds = sorted({cell.seed for cell in sweep.plan.cells if cell.method != "base" and cell.seed is not None})
    if not seeds or not look_ended(sweep.tables, seeds):
        return None
    plan = settle(plan, results)
    stages = [*sweep.comparisons.earlier, sweep.comparisons]
    kept = {tuple(look.seeds): look for look in recorded_looks(results).looks}
    looks: list[LookRecord] = []
    for number, comparisons in enumerate(stages, start=1):
        look = _seen(sweep, comparisons, number)
        if number < len(stages):  # it stands as it was recorded, if it was
            look = kept.get(tuple(look.seeds), _with_added(look, stages[number], sweep))
        looks.append(look)
    last, following = _followed(plan, results, sweep, looks[-1])
    record = LooksRecord(looks=[*looks[:-1], last], boundaries=_boundaries(sweep.comparisons.stage))
    results.write_looks(record)
    return Decision(last, following)


def _seen(sweep: JudgedSweep, comparisons: SweepComparisons, number: int) -> LookRecord:
    """What a look saw."""
    stage = comparisons.stage
    assert stage is not None
    before = sweep.comparisons.earlier[number - 2] if number > 1 else None
    decided = {contrast.key for contrast in before.primary if contrast.answered} if before is not None else set()
    contrasts = [
        ContrastLook(
            contrast=contrast.name,
            verdict=contrast.verdict,
            told_before=contrast.key in decided,
            seeds=contrast.judged.estimate.seeds,
            estimate=contrast.judged.estimate.mean,
            low=contrast.judged.result.interval.low if contrast.judged.result.interval else None,
            high=contrast.judged.result.interval.high if contrast.judged.result.interval else None,
            boundary=stage.design.critical(contrast.judged.estimate.seeds)
            if stage.design is not None and contrast.key not in decided
            else None,
        )
        for contrast in comparisons.primary
    ]
    contrasts += [
        ContrastLook(contrast=" - ".join(filter(None, (contrast.of, contrast.against))), seeds=contrast.estimate.seeds)
        for contrast in comparisons.unjudged
    ]
    cells = sweep.tables.cells
    lacking = cells[cells["seed"].isin(stage.seeds) & (cells["method"] != "base") & (cells["status"] != "done")]
    return LookRecord(
        number=number,
        seeds=list(stage.seeds),
        margin=sweep.margin.points,
        contrasts=contrasts,
        missing=[f"{row.name} ({row.status})" for row in lacking.itertuples(index=False)],
    )


def _with_added(look: LookRecord, following: SweepComparisons, sweep: JudgedSweep) -> LookRecord:
    """An earlier look with the cells that it added, by the plan."""
    assert following.stage is not None
    seeds = set(following.stage.seeds) - set(look.seeds)
    names = [cell.name for cell in sweep.plan.cells if cell.seed in seeds and cell.method != "base"]
    return look.model_copy(update={"added": names, "added_seeds": len(seeds)})


def _followed(plan: Plan, results: Results, sweep: JudgedSweep, look: LookRecord) -> tuple[LookRecord, Plan | None]:
    """The look with what followed, and the plan that has the added cells."""
    config = plan.sweep.decide
    assert config is not None
    comparisons, tuned = sweep.comparisons, plan.sweep.tune is not None
    by_folder = {planned.cell.folder: planned for planned in plan.cells}
    still_open = [contrast.folders for contrast in comparisons.primary if not contrast.answered]
    still_open += [contrast.folders for contrast in comparisons.unjudged]
    if not comparisons.primary and not comparisons.unjudged:
        return look.model_copy(update={"ended": "nothing"}), None
    if not still_open:
        return look.model_copy(update={"ended": "told"}), None
    number = len(look.seeds)
    following = next((further for further in config.looks if further > number), None)
    if following is None:
        return look.model_copy(update={"ended": "looks"}), None
    all_contrasts = [setting_keys(contrast.folders, by_folder, tuned) for contrast in comparisons.primary]
    methods = {seedless_key(planned, tuned): planned.cell.method for planned in plan.cells}
    wanted = baseline_settings(all_contrasts, methods, sweep.plan.baseline)
    wanted = wanted.union(*(setting_keys(folders, by_folder, tuned) for folders in still_open))
    seeds = plan.sweep.all_seeds[:following]
    added = [
        template
        for entry in plan.later
        if (template := template_of(entry)).cell.seed in seeds and seedless_key(template, tuned) in wanted
    ]
    if not added:
        return look.model_copy(update={"ended": "looks"}), None
    if _beyond_budget(plan, results, added):
        return look.model_copy(update={"ended": "budget", "budget": config.budget}), None
    ids = {planned.cell.id for planned in added}
    names = [planned.cell.name for planned in added]
    look = look.model_copy(update={"added": names, "added_seeds": following - number})
    return look, with_later(plan, lambda entry: template_of(entry).cell.id in ids)


def _beyond_budget(plan: Plan, results: Results, added: Sequence[PlannedCell]) -> bool:
    """Whether the trained cells would take more than the budget with these ones. By recorded seconds alone, those of a
    new cell being the mean of its setting's, so that every run decides alike."""
    config = plan.sweep.decide
    trained = [planned for planned in plan.cells if planned.cell.data is not None]
    if config is not None and config.cells is not None:
        return len(trained) + len(added) > config.cells
    if config is None or config.seconds is None:
        return False
    tuned = plan.sweep.tune is not None
    seconds: dict[str, list[float]] = {}
    for planned in trained:
        costs = results.folder(planned.cell).record().costs
        if costs is not None and costs.wall_seconds is not None:
            seconds.setdefault(seedless_key(planned, tuned), []).append(costs.wall_seconds)
    spent = [value for values in seconds.values() for value in values]
    if not spent:
        return False
    usual = fmean(spent)
    expected = [fmean(seconds.get(seedless_key(planned, tuned), [usual])) for planned in added]
    return sum(spent) + sum(expected) > config.seconds


def _boundaries(stage: LookStage | None) -> BoundaryTable | None:
    """Those of the looks that have been computed."""
    design = stage.design if stage is not None else None
    if design is None or design.looks == sequential.LOOKS:
        return None
    return BoundaryTable(
        looks=list(design.looks),
        by_comparisons={number: list(row) for number, row in sorted(design.computed().items())},
        paths=sequential.FEWER_PATHS,
        seed=sequential.SEED,
    )
