"""Runs a sweep look by look: its cells, a look at the contrasts, the cells that this adds, and so on to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from bench.deciding.look import take_look
from bench.deciding.look_text import look_text
from bench.deciding.planned_contrasts import planned_contrasts
from bench.planning.later_seeds import with_recorded
from bench.planning.plan import Plan
from bench.planning.try_settings import try_settings
from bench.progress import Progress
from bench.runner.options import RunOptions, matches
from bench.runner.run_sweep import SweepOutcome, run_sweep
from bench.store.folder import Results


def run_looks(
    plan: Plan,
    results: Results,
    progress: Progress,
    options: RunOptions | None = None,
    refresh: Callable[[], object] = lambda: None,
) -> SweepOutcome:
    """Run a sweep as `run_sweep` does; with `decide`, look by look until it ends. Raises as `run_sweep`, and UserError
    where there is nothing to decide."""
    options = options or RunOptions()
    if plan.sweep.decide is None or not options.train:
        return run_sweep(plan, results, progress, options, refresh)
    planned_contrasts(plan)
    only = options.only
    plan = try_settings(plan, results, progress, options.strict, lambda planned: matches(planned, only))
    started, seconds = time.monotonic(), options.seconds
    while True:
        plan = with_recorded(plan, results)
        outcome = run_sweep(plan, results, progress, options, refresh)
        if seconds is not None:
            options = replace(options, seconds=max(0.0, seconds - (time.monotonic() - started)))
        options = replace(options, retry_failed=False)  # once is enough
        if len(with_recorded(plan, results).later) < len(plan.later):
            continue  # another process has taken the look
        decision = take_look(plan, results)
        if decision is None:
            progress.line("the next look is taken when all cells are done")
            return outcome
        progress.line(look_text(decision.look))
        if decision.plan is None or (options.fail_fast and outcome.failed) or options.seconds == 0:
            return outcome
        plan = decision.plan
