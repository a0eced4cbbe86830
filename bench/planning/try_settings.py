"""Leaves out of a plan what cannot run: each base and each setting that waits is tried on a tiny copy of its base.

What has passed is kept in the cache folder, so that a plan of the same settings is made without trying them again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from bench.errors import UserError
from bench.methods.learning_rate_grid import without_learning_rate
from bench.methods.parameter_count import picks_layers
from bench.models.code_cache import keep_text, read_kept
from bench.models.load import load_skeleton
from bench.planning.plan import Pending, Plan, PlannedCell, Refusal, status_of
from bench.progress import Listener
from bench.store.folder import Results
from bench.store.records import Status

KIND = "dry_runs"
"""Of what is kept."""


def try_settings(
    plan: Plan,
    results: Results,
    progress: Listener,
    strict: bool = False,
    wanted: Callable[[PlannedCell], bool] = lambda planned: True,
) -> Plan:
    """The plan without the cells of settings that fail on a tiny copy of their base.

    Tried are the settings of cells that are `wanted` and not trained yet. Raises UserError if nothing is left to train,
    and with `strict` for the first setting that fails.
    """
    waiting = [planned for planned in plan.cells if status_of(planned, results) in (Status.TODO, Status.KILLED)]
    waiting = [planned for planned in (*waiting, *plan.further) if wanted(planned)]
    by_base: dict[tuple[str, str | None], dict[str, PlannedCell]] = {}
    for planned in waiting:
        by_base.setdefault((planned.base.id, planned.base.revision), {}).setdefault(setting_key(planned), planned)
    failed: dict[str, Refusal] = {}
    for settings in by_base.values():
        failed |= _try_base(settings, progress)
    if not failed:
        return plan
    refused = (*plan.refused, *dict.fromkeys(failed.values()))
    out = {planned.cell.id for planned in waiting if setting_key(planned) in failed}
    cells = tuple(planned for planned in plan.cells if planned.cell.id not in out)
    pending = tuple(pending for pending in plan.pending if setting_key(pending.template) not in failed)
    later = tuple(
        entry
        for entry in plan.later
        if setting_key(entry.template if isinstance(entry, Pending) else entry) not in failed
    )
    if strict or not (pending or any(planned.cell.data is not None for planned in cells)):
        raise refused[0].error
    return replace(plan, cells=cells, pending=pending, refused=refused, later=later)


def setting_key(planned: PlannedCell) -> str:
    """What decides whether a cell can run, as text: not its learning rate, samples or seed."""
    cell = planned.cell
    content = {
        "base": cell.base.model_dump(),
        "method": [cell.method, cell.method_version, without_learning_rate(cell.options)],
        "training": planned.training.model_dump(mode="json", exclude={"epochs", "report_to", "checkpoint_minutes"}),
        "trained": cell.data is not None,
    }
    return json.dumps(content, sort_keys=True)


def _try_base(settings: dict[str, PlannedCell], progress: Listener) -> dict[str, Refusal]:
    """The settings of one base that fail, by `setting_key`; all of them if the untuned base does."""
    untried = {key: planned for key, planned in settings.items() if read_kept(KIND, key) is None}
    if not untried:
        return {}
    base = next(iter(untried.values())).base
    from bench.planning.dry_run import DryRun

    failed: dict[str, Refusal] = {}
    advance = progress.stage(f"trying the settings on a tiny copy of {base.id}")
    skeleton = load_skeleton(base.id, base.revision, base.trust_remote_code)
    with DryRun(skeleton, base.trust_remote_code) as dry_run:
        for done, (key, planned) in enumerate(untried.items()):
            advance(done, len(untried), planned.cell.name)
            try:
                if not dry_run.try_setting(planned, picks_layers(planned.cell.options)):
                    progress.line(f"{base.id} has no tiny copy, so that its settings are not tried before they run")
                    return failed
            except UserError as error:
                failed[key] = Refusal(_name(planned), error.problem, error.fix)
                if planned.cell.data is None:
                    return dict.fromkeys(settings, failed[key])
            else:
                if ":" not in planned.cell.method:  # a user's own may call other code, which changes
                    keep_text(KIND, key, "passed")
    advance(len(untried), len(untried), "")
    return failed


def _name(planned: PlannedCell) -> str:
    cell = planned.cell
    if cell.data is None:
        return f"base model {cell.base.id}"
    rank = f" at rank {cell.rank}" if cell.rank is not None else ""
    return f"{cell.method}{rank} on {cell.base.id}"
