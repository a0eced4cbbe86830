"""The primary contrasts of a plan, before anything is run: which settings each of them needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from bench.analysis.comparison import baseline_places
from bench.analysis.contrast_estimates import default_contrasts
from bench.analysis.series import series_names
from bench.errors import UserError
from bench.planning.later_seeds import seedless_key
from bench.planning.plan import Plan, PlannedCell
from bench.sweep.contrasts import weighted_cells


@dataclass(frozen=True)
class PlannedContrast:
    """A primary contrast, by the settings that it is made of."""

    settings: frozenset[str]
    """Keys of `seedless_key`."""
    places: int
    """The settings that each side is an average over."""
    slope: bool


def planned_contrasts(plan: Plan) -> list[PlannedContrast]:
    """Those that the sweep names, or the default ones. Raises UserError where there are none, so nothing to decide."""
    # A cell whose learning rate is yet to be chosen stands with the first one that is tried.
    complete = replace(
        plan,
        cells=tuple(
            [planned for planned in plan.cells if planned.final] + [pending.template for pending in plan.pending]
        ),
        pending=(),
    )
    record = complete.record()
    cells = [cell for cell in record.cells if cell.method != "base"]
    by_folder = {planned.cell.folder: planned for planned in complete.cells}
    tuned = plan.sweep.tune is not None
    contrasts: list[PlannedContrast] = []
    for contrast in plan.sweep.contrasts:
        for weighted in weighted_cells(contrast, cells):
            of_seed = next(iter(weighted.cells.values()))
            sides = 1 if contrast.against is None else 2
            folders = [folder for _, folder in of_seed]
            contrasts.append(
                PlannedContrast(
                    setting_keys(folders, by_folder, tuned), len(of_seed) // sides, contrast.per_doubling is not None
                )
            )
    if not plan.sweep.contrasts:
        rows = [
            {**cell.model_dump(), "lr": cell.lr, "series": series, "status": "done", "average": 0.0}
            for cell, series in zip(cells, series_names(cells), strict=True)
        ]
        places = baseline_places(pd.DataFrame(rows), record.baseline, {}, record.report) if rows else []
        for estimated in default_contrasts(places, {}, post_hoc=False):
            keys = setting_keys(estimated.folders, by_folder, tuned)
            contrasts.append(PlannedContrast(keys, estimated.estimate.places, False))
    if not contrasts:
        raise UserError(
            f"decide adds seeds where a contrast is open, and this sweep has none: {record.baseline or 'no method'} is "
            "compared with nothing",
            "Name contrasts, add a method at an equal rank, or leave decide out.",
        )
    return contrasts


def setting_keys(folders: Collection[str], by_folder: Mapping[str, PlannedCell], tuned: bool) -> frozenset[str]:
    """The settings of these cells."""
    return frozenset(seedless_key(by_folder[folder], tuned) for folder in folders if folder in by_folder)


def baseline_settings(
    contrasts: Collection[frozenset[str]], methods: Mapping[str, str], baseline: str | None
) -> frozenset[str]:
    """The settings of the baseline that other methods are compared with: they get all seeds. `methods`: by setting."""
    between_methods = [settings for settings in contrasts if len({methods[key] for key in settings}) > 1]
    return frozenset(key for settings in between_methods for key in settings if methods[key] == baseline)
